//! `chatnap conversations import`.

use std::path::Path;

use crate::failure::Failure;
use crate::files::read_text;
use crate::output::{self, Reader};
use crate::settings::Settings;
use crate::store::{self, Store};
use crate::wording::plural;

/// Larger files are refused: they are read into memory as a whole.
const LARGEST: u64 = 1 << 30;

/// Stores all conversations of a file, or none of them.
pub(super) fn run(settings: &Settings, file: &Path) -> Result<Reader, Failure> {
    let unread =
        |why: String| Failure::failed(format!("{} cannot be imported: {why}. Nothing was stored.", file.display()));
    let text = read_text(file, LARGEST).map_err(|error| unread(error.to_string()))?;
    let found = store::read_conversations(&text).map_err(unread)?;
    let stored = Store::open(&settings.data_dir)?.store.import(&found)?;
    let (new, known): (Vec<_>, Vec<_>) = stored.into_iter().partition(|(_, is_new)| *is_new);
    let mut said = format!("imported {} {}", new.len(), plural(new.len(), "conversation"));
    if !new.is_empty() && new.len() <= 8 {
        said += &format!(": {}", new.iter().map(|(id, _)| id.0.as_str()).collect::<Vec<_>>().join(", "));
    }
    if !known.is_empty() {
        said +=
            &format!("; {} stored already, left as {} is", known.len(), if known.len() == 1 { "it" } else { "each" });
    }
    output::write(&(said + "\n"))
}
