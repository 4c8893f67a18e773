//! The spool file `unstored/NAME.json`: turns that the database cannot store at the moment, stored when the store is
//! opened again. NAME is the writer's name; while that process holds its lock, it stores them itself.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::columns::{self, Columns};
use super::data_dir::create_private_folder;
use super::writer::{self, Writer};
use super::{Result, Store, StoreError, change, now_ms};
use crate::conversation::ConversationId;
use crate::conversation::TurnRecord;
use crate::files::read_text;

const FOLDER: &str = "unstored";
const ENDING: &str = "json";

/// A larger file was not written by this program.
const LARGEST: u64 = 1 << 30;

/// One turn, in the columns of the database.
#[derive(Debug, Serialize, Deserialize)]
struct Unstored {
    conversation: String,
    system: Option<String>,
    #[serde(default)]
    settings: Option<String>,
    /// The turn's number in its conversation.
    place: usize,
    /// Its row, if the question is stored.
    row: Option<i64>,
    /// The row of the turn that it follows, if that one is stored.
    parent_row: Option<i64>,
    /// The number of the turn that it follows, which may be in the same file.
    parent_place: Option<usize>,
    prompt: String,
    model: String,
    sampling: Option<String>,
    #[serde(default)]
    files: Option<String>,
    asked: i64,
    answer: Columns,
}

impl Unstored {
    fn new(record: &TurnRecord, store: Option<&Store>) -> Self {
        let row = |id| store.and_then(|store| store.row(&record.conversation, id).ok());
        let parent = record.turn.parent;
        Self {
            conversation: record.conversation.0.clone(),
            system: record.system.clone(),
            settings: change::settings_text(&record.settings),
            place: record.id.0,
            row: row(record.id),
            parent_row: parent.and_then(row),
            parent_place: parent.map(|parent| parent.0),
            prompt: record.turn.prompt.clone(),
            model: record.turn.model.clone(),
            sampling: columns::sampling(record.sampling.as_ref()),
            files: columns::files_text(&record.turn.files),
            asked: record.asked_ms.unwrap_or_else(now_ms),
            answer: Columns::of(&record.turn.answer),
        }
    }
}

/// This process's file of unstored turns, created at the first write.
pub(super) struct Aside {
    folder: PathBuf,
    writer: Writer,
    path: Option<PathBuf>,
}

impl Aside {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER), writer: Writer::new(data_dir), path: None }
    }

    /// Replaces the content of the file with `records`, oldest first. Returns its path after an fsync.
    pub(super) fn write(&mut self, records: &[TurnRecord], store: Option<&Store>) -> Result<PathBuf> {
        let path = self.folder.join(self.writer.announce()?).with_extension(ENDING);
        create_private_folder(&self.folder)?;
        let turns: Vec<Unstored> = records.iter().map(|record| Unstored::new(record, store)).collect();
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            serde_json::to_writer(&mut file, &turns)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| StoreError::io(&path, &error))?;
        self.path = Some(path.clone());
        Ok(path)
    }

    /// Whether the file exists.
    pub(super) fn is_there(&self) -> bool {
        self.path.is_some()
    }

    /// Removes the file after the database has stored all its turns. Returns whether there was one.
    pub(super) fn clear(&mut self) -> bool {
        let Some(path) = self.path.take() else { return false };
        // A file that remains is harmless: the database has at least as much of each turn.
        let _ = std::fs::remove_file(path);
        true
    }
}

/// Stores the unstored turns of ended processes. A file that cannot be read is renamed, with a notice.
pub(super) fn import(db: &mut Connection, data_dir: &Path, notices: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else { return Ok(()) };
    let files = entries.flatten().map(|entry| entry.path());
    for path in files.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)) {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        if !writer::is_gone(data_dir, name) {
            continue;
        }
        let read = read_text(&path, LARGEST).map_err(|error| error.to_string());
        match read.and_then(|text| serde_json::from_str::<Vec<Unstored>>(&text).map_err(|error| error.to_string())) {
            Ok(turns) => {
                store_all(db, &turns, name)?;
                // If the file remains, storing it again changes nothing.
                let _ = std::fs::remove_file(&path);
            }
            Err(why) => {
                let kept = path.with_extension("damaged");
                let _ = std::fs::rename(&path, &kept);
                notices.push(format!(
                    "Turns that an earlier run could not store cannot be read ({why}); their file is kept as {}.",
                    kept.display()
                ));
            }
        }
    }
    Ok(())
}

fn store_all(db: &mut Connection, turns: &[Unstored], writer: &str) -> Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut rows = HashMap::new();
    for turn in turns {
        let row = match known_row(&tx, turn)? {
            Some(row) => update(&tx, row, turn)?,
            None => insert(&tx, turn, writer, &rows)?,
        };
        rows.insert((turn.conversation.as_str(), turn.place), row);
    }
    Ok(tx.commit()?)
}

/// The turn's row, if it is stored. Compares the prompt too: a new database has other turns in the same rows.
fn known_row(tx: &Transaction<'_>, turn: &Unstored) -> Result<Option<i64>> {
    let found = tx.query_row(
        "SELECT key FROM turns WHERE conversation = ?1 AND prompt = ?2 AND (key = ?3 OR asked = ?4) LIMIT 1",
        params![turn.conversation, turn.prompt, turn.row, turn.asked],
        |row| row.get(0),
    );
    Ok(found.optional()?)
}

/// Updates a stored turn, unless the database has a longer or ended answer.
fn update(tx: &Transaction<'_>, row: i64, turn: &Unstored) -> Result<i64> {
    let newer = tx.query_row(
        "SELECT state IN ('pending', 'interrupted') AND length(answer) <= length(?2) FROM turns WHERE key = ?1",
        params![row, turn.answer.text],
        |found| found.get(0),
    )?;
    if newer {
        turn.answer.write(tx, row, turn.sampling.as_deref())?;
    }
    Ok(row)
}

fn insert(tx: &Transaction<'_>, turn: &Unstored, writer: &str, rows: &HashMap<(&str, usize), i64>) -> Result<i64> {
    let in_file = turn.parent_place.and_then(|place| rows.get(&(turn.conversation.as_str(), place)).copied());
    let stored = || -> Result<Option<i64>> {
        let known = tx.query_row(
            "SELECT key FROM turns WHERE key = ?1 AND conversation = ?2",
            params![turn.parent_row, turn.conversation],
            |row| row.get(0),
        );
        Ok(known.optional()?)
    };
    let parent = if in_file.is_some() { in_file } else { stored()? };
    let question = columns::Question {
        conversation: &ConversationId(turn.conversation.clone()),
        system: turn.system.as_deref(),
        settings: turn.settings.clone(),
        parent,
        prompt: &turn.prompt,
        model: &turn.model,
        sampling: turn.sampling.as_deref(),
        files: turn.files.clone(),
        asked: turn.asked,
        writer,
    };
    let row = question.insert(tx)?;
    turn.answer.write(tx, row, None)?;
    Ok(row)
}
