//! `chatnap conversations`: lists, shows, exports, renames and removes stored conversations.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::args::{ConversationsCommand, ExportFormat, TableFormat};
use crate::commands::table::Table;
use crate::conversation::ConversationId;
use crate::failure::{Code, Failure};
use crate::output::{self, Reader};
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::store::{self, Store, StoreError, Summary};
use crate::tui::printed::Printed;
use crate::wording::{short_name, utc};

pub(super) fn run(settings: &Settings, command: ConversationsCommand) -> Result<Reader, Failure> {
    match command {
        ConversationsCommand::List { format } => {
            let found = reading(settings)?.map_or(Ok(Vec::new()), |store| store.list())?;
            note_if_empty(&found, "No conversation is stored yet.");
            list(&found, format)
        }
        ConversationsCommand::Search { text, format } => {
            let found = reading(settings)?.map_or(Ok(Vec::new()), |store| store.search(&text))?;
            note_if_empty(&found, &format!("No stored conversation holds {:?}.", sanitize_line(&text)));
            list(&found, format)
        }
        ConversationsCommand::Show { id } => export(settings, &id, ExportFormat::Markdown, true),
        ConversationsCommand::Export { id, format } => export(settings, &id, format, false),
        ConversationsCommand::Rename { id, title } => rename(settings, &id, &title),
        ConversationsCommand::Remove { ids } => remove(settings, &ids),
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
fn note_if_empty(found: &[Summary], note: &str) {
    if found.is_empty() {
        let _ = writeln!(std::io::stderr(), "{note}");
    }
}

fn list(found: &[Summary], format: TableFormat) -> Result<Reader, Failure> {
    let mut table = Table::new(&["id", "changed", "turns", "model", "title"]).yielding(YIELDING);
    for summary in found {
        let (id, title) = (summary.id.0.clone(), summary.title.clone());
        let turns =
            if summary.answers == 0 { format!("{}, no answer", summary.turns) } else { summary.turns.to_string() };
        table.row([id, utc(summary.changed_ms), turns, short_name(&summary.model), title]);
    }
    let objects: Vec<Value> = found
        .iter()
        .map(|summary| {
            json!({
                "conversation": summary.id.0,
                "title": summary.title,
                "model": summary.model,
                "turns": summary.turns,
                "answers": summary.answers,
                "created_ms": summary.created_ms,
                "changed_ms": summary.changed_ms,
            })
        })
        .collect();
    output::write(&table.render_within(output::columns(), format, &Value::Array(objects)))
}

/// Columns that a narrow terminal shortens and then omits, in this order, with their minimum widths in cells.
const YIELDING: &[(&str, usize)] = &[("model", 12), ("title", 20), ("changed", 20)];

fn export(settings: &Settings, id: &str, format: ExportFormat, rendered: bool) -> Result<Reader, Failure> {
    let mut store = reading(settings)?
        .ok_or_else(|| Failure::usage("There is no conversation yet; nothing has been stored so far."))?;
    let id = store.find(id)?;
    let conversation = store.load(&id)?;
    let summary = summary(&store, &id)?;
    match format {
        ExportFormat::Markdown => write_markdown(settings, &store::markdown(&summary, &conversation), rendered),
        ExportFormat::Json => output::write_json_pretty(&store::json(&summary, &conversation)),
    }
}

/// Writes Markdown: rendered on a terminal, if that is wanted, else as it is.
fn write_markdown(settings: &Settings, text: &str, rendered: bool) -> Result<Reader, Failure> {
    let folder = settings.config_dir.join("themes");
    let printed = output::size()
        .filter(|_| rendered)
        .and_then(|size| Printed::new((&settings.theme, &folder), size, |name| std::env::var(name).ok()));
    match printed {
        Some(mut printed) => output::write(&format!("{}{}\n", printed.push(text), printed.finish())),
        None => output::write_foreign(text),
    }
}

fn summary(store: &Store, id: &ConversationId) -> Result<Summary, Failure> {
    let found = store.list()?.into_iter().find(|summary| summary.id == *id);
    found.ok_or_else(|| Failure::failed("The conversation was removed while it was read."))
}

fn rename(settings: &Settings, id: &str, title: &str) -> Result<Reader, Failure> {
    if title.trim().is_empty() {
        return Err(Failure::usage("A title is wanted, not an empty text."));
    }
    let mut store = Store::open(&settings.data_dir)?.store;
    let id = store.find(id)?;
    store.rename(&id, title)?;
    output::write_foreign(&format!("{} is now {:?}\n", id.0, sanitize_line(title)))
}

/// Finds all before removing any: with one wrong id nothing is removed.
fn remove(settings: &Settings, ids: &[String]) -> Result<Reader, Failure> {
    let mut store = Store::open(&settings.data_dir)?.store;
    let mut found = Vec::new();
    for id in ids {
        let id = store.find(id)?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    for id in &found {
        store.remove(id)?;
    }
    let ids: Vec<_> = found.iter().map(|id| id.0.as_str()).collect();
    output::write_foreign(&format!("removed {}\n", ids.join(", ")))
}
