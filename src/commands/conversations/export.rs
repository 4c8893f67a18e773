//! `chatnap conversations export` and `show`.

use serde_json::Value;

use super::reading;
use crate::cli::args::ExportFormat;
use crate::conversation::ConversationId;
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::settings::Settings;
use crate::store::{self, Store, Summary};
use crate::tui::printed::Printed;

/// Writes one conversation to read: rendered on a terminal, else as Markdown.
pub(super) fn show(settings: &Settings, id: &str) -> Result<Reader, Failure> {
    let mut store = reading(settings)?.ok_or_else(nothing)?;
    let id = store.find(id)?;
    let listed = store.list()?;
    let text = markdown(&mut store, &listed, &id)?;
    let folder = settings.config_dir.join("themes");
    let printed =
        output::size().and_then(|size| Printed::new((&settings.theme, &folder), size, |name| std::env::var(name).ok()));
    match printed {
        Some(mut printed) => output::write(&format!("{}{}\n", printed.push(&text), printed.finish())),
        None => output::write_foreign(&text),
    }
}

fn nothing() -> Failure {
    Failure::usage("There is no conversation yet; nothing has been stored so far.")
}

/// Writes the conversations whose ids begin with `ids`, all if there are none. Finds all before writing any.
pub(super) fn run(settings: &Settings, ids: &[String], format: ExportFormat) -> Result<Reader, Failure> {
    let mut store = reading(settings)?.ok_or_else(nothing)?;
    let listed = store.list()?;
    let found: Vec<ConversationId> = match ids {
        [] => listed.iter().map(|summary| summary.id.clone()).collect(),
        ids => ids.iter().map(|id| store.find(id)).collect::<Result<_, _>>()?,
    };
    match format {
        ExportFormat::Markdown => each(&found, |id| output::write_foreign(&markdown(&mut store, &listed, id)?)),
        ExportFormat::Jsonl => each(&found, |id| output::write_json(&json(&mut store, &listed, id)?)),
        ExportFormat::Json if ids.len() == 1 => output::write_json_pretty(&json(&mut store, &listed, &found[0])?),
        ExportFormat::Json => {
            let all: Vec<Value> = found.iter().map(|id| json(&mut store, &listed, id)).collect::<Result<_, _>>()?;
            output::write_json_pretty(&Value::Array(all))
        }
    }
}

fn each(
    ids: &[ConversationId],
    mut write: impl FnMut(&ConversationId) -> Result<Reader, Failure>,
) -> Result<Reader, Failure> {
    for id in ids {
        if write(id)? == Reader::Gone {
            return Ok(Reader::Gone);
        }
    }
    Ok(Reader::Listening)
}

fn markdown(store: &mut Store, listed: &[Summary], id: &ConversationId) -> Result<String, Failure> {
    Ok(store::markdown(summary(listed, id)?, &store.load(id)?))
}

fn json(store: &mut Store, listed: &[Summary], id: &ConversationId) -> Result<Value, Failure> {
    let conversation = store.load(id)?;
    Ok(store::json(summary(listed, id)?, &conversation, &store.origins(id)?))
}

fn summary<'a>(listed: &'a [Summary], id: &ConversationId) -> Result<&'a Summary, Failure> {
    let found = listed.iter().find(|summary| summary.id == *id);
    found.ok_or_else(|| Failure::failed("The conversation was removed while it was read."))
}
