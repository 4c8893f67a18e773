//! `chatnap conversations`: what is stored, to look at and to tidy up.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::args::{ConversationsCommand, ExportFormat, TableFormat};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{self, Reader};
use crate::cli::table::Table;
use crate::conversation::ConversationId;
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::store::{self, Store, StoreError, Summary};

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
        ConversationsCommand::Show { id } => export(settings, &id, ExportFormat::Markdown),
        ConversationsCommand::Export { id, format } => export(settings, &id, format),
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

/// A table of nothing but its head leaves open whether anything was looked for. Where stderr is closed nobody asks.
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

/// A model's name without the folders of a path; JSON has all of it.
fn short_name(model: &str) -> String {
    let is_path = model.starts_with(['/', '.', '~']) || model.starts_with("scripted:");
    match model.trim_end_matches('/').rsplit_once('/') {
        Some((_, last)) if is_path && !last.is_empty() => last.to_owned(),
        _ => model.to_owned(),
    }
}

/// What a narrow terminal shows less of: a conversation is found by its title.
const YIELDING: &[(&str, usize)] = &[("model", 12), ("title", 20), ("changed", 20)];

fn export(settings: &Settings, id: &str, format: ExportFormat) -> Result<Reader, Failure> {
    let mut store = reading(settings)?
        .ok_or_else(|| Failure::usage("There is no conversation yet; nothing has been stored so far."))?;
    let id = store.find(id)?;
    let conversation = store.load(&id)?;
    let summary = summary(&store, &id)?;
    match format {
        ExportFormat::Markdown => output::write_foreign(&store::markdown(&summary, &conversation)),
        // JSON escapes control characters by itself.
        ExportFormat::Json => output::write(&format!("{:#}\n", store::json(&summary, &conversation))),
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
    output::write(&format!("{} is now {:?}\n", id.0, sanitize_line(title)))
}

/// Finds all before it removes any: one wrong id removes nothing.
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
    output::write(&format!("removed {}\n", ids.join(", ")))
}

/// `2026-11-22 10:34 UTC`, by Howard Hinnant's `civil_from_days` (chrono-compatible low-level date algorithms).
fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_listed_by_its_last_part() {
        assert_eq!(short_name("/models/a/b.gguf"), "b.gguf");
        assert_eq!(short_name("./folder/"), "folder");
        assert_eq!(short_name("owner/repo"), "owner/repo");
        assert_eq!(short_name("/"), "/");
    }

    #[test]
    fn dates_are_right_across_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_640_000), "2000-02-29 12:34 UTC");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28 23:59 UTC");
        assert_eq!(utc(1_795_343_640_000), "2026-11-22 10:34 UTC");
    }
}
