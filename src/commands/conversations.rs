//! `chatnap conversations`: lists, shows, searches, exports, imports, renames and removes stored conversations.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::cli::args::{ConversationsCommand, TableFormat};
use crate::commands::table::Table;
use crate::failure::{Code, Failure};
use crate::output::{self, Reader};
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::store::{Store, StoreError, Summary};
use crate::wording::{local, short_name, utc};

mod export;
mod import;
mod search;
mod trash;

pub(super) fn run(settings: &Settings, command: ConversationsCommand) -> Result<Reader, Failure> {
    match command {
        ConversationsCommand::List { format, removed } => {
            let wanted = |store: Store| if removed { store.list_removed() } else { store.list() };
            let found = reading(settings)?.map_or(Ok(Vec::new()), wanted)?;
            note_if(found.is_empty(), if removed { "The trash is empty." } else { "No conversation is stored yet." });
            list(&found, format)
        }
        ConversationsCommand::Search { text, format } => search::run(settings, &text, format),
        ConversationsCommand::Show { id } => export::show(settings, &id),
        ConversationsCommand::Export { ids, format, .. } => export::run(settings, &ids, format),
        ConversationsCommand::Import { file } => import::run(settings, &file),
        ConversationsCommand::Rename { id, title } => rename(settings, &id, &title),
        ConversationsCommand::Remove { ids, purge } => trash::remove(settings, &ids, purge),
        ConversationsCommand::Restore { ids } => trash::restore(settings, &ids),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = if matches!(error, StoreError::NotFound(_)) { Code::Usage } else { Code::Failed };
        Self::new(code, error.to_string())
    }
}

fn reading(settings: &Settings) -> Result<Option<Store>, Failure> {
    Ok(Store::open_to_read(&settings.data_dir)?)
}

/// Explains an empty table on stderr; ignores a closed stderr.
fn note_if(is_empty: bool, note: &str) {
    if is_empty {
        let _ = writeln!(std::io::stderr(), "{note}");
    }
}

fn list(found: &[Summary], format: TableFormat) -> Result<Reader, Failure> {
    let mut table = Table::new(&["id", "changed", "turns", "model", "title"]).yielding(YIELDING);
    for summary in found {
        let (id, title) = (summary.id.0.clone(), summary.title.clone());
        let turns = match summary.lack() {
            Some(lack) => format!("{}, {lack}", summary.turns),
            None => summary.turns.to_string(),
        };
        table.row([id, changed(summary), turns, short_name(&summary.model), title]);
    }
    let objects = found.iter().map(object).collect();
    output::write(&table.render_within(output::columns(), format, &Value::Array(objects)))
}

fn object(summary: &Summary) -> Value {
    json!({
        "conversation": summary.id.0,
        "title": summary.title,
        "model": summary.model,
        "turns": summary.turns,
        "answers": summary.answers,
        "created_ms": summary.created_ms,
        "changed_ms": summary.changed_ms,
    })
}

/// When it was changed: local time on a terminal, else UTC.
fn changed(summary: &Summary) -> String {
    if std::io::stdout().is_terminal() { local(summary.changed_ms) } else { utc(summary.changed_ms) }
}

/// Columns that a narrow terminal shortens and then omits, in this order, with their minimum widths in cells.
const YIELDING: &[(&str, usize)] = &[("model", 12), ("title", 20), ("changed", 16)];

fn rename(settings: &Settings, id: &str, title: &str) -> Result<Reader, Failure> {
    if title.trim().is_empty() {
        return Err(Failure::usage("A title is wanted, not an empty text."));
    }
    let mut store = Store::open(&settings.data_dir)?.store;
    let id = store.find(id)?;
    store.rename(&id, title)?;
    output::write_foreign(&format!("{} is now {:?}\n", id.0, sanitize_line(title)))
}
