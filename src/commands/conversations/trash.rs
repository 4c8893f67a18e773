//! `chatnap conversations remove` and `restore`.

use crate::conversation::ConversationId;
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Finds all before removing any: with one wrong id nothing is removed. `purge`: for good.
pub(super) fn remove(settings: &Settings, ids: &[String], purge: bool) -> Result<Reader, Failure> {
    let mut store = Store::open(&settings.data_dir)?.store;
    let in_trash = |id: &str, error| if purge { store.find_removed(id).map_err(|_| error) } else { Err(error) };
    let found = all(ids, |id| store.find(id).or_else(|error| in_trash(id, error)))?;
    for id in &found {
        if purge { store.purge(id)? } else { store.remove(id)? }
    }
    let ids = joined(&found);
    output::write_foreign(&if purge {
        format!("removed {ids}\n")
    } else {
        format!("removed {ids}; `chatnap conversations restore` brings it back within 30 days\n")
    })
}

/// Finds all before bringing any back.
pub(super) fn restore(settings: &Settings, ids: &[String]) -> Result<Reader, Failure> {
    let mut store = Store::open(&settings.data_dir)?.store;
    let found = all(ids, |id| store.find_removed(id))?;
    for id in &found {
        store.restore(id)?;
    }
    output::write_foreign(&format!("restored {}\n", joined(&found)))
}

fn all(
    ids: &[String],
    find: impl Fn(&str) -> Result<ConversationId, StoreError>,
) -> Result<Vec<ConversationId>, StoreError> {
    let mut found = Vec::new();
    for id in ids {
        let id = find(id)?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    Ok(found)
}

fn joined(ids: &[ConversationId]) -> String {
    ids.iter().map(|id| id.0.as_str()).collect::<Vec<_>>().join(", ")
}
