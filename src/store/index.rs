//! The full-text index of the turns, an FTS5 table that can be made again from them at any time. A turn whose column
//! `indexed` is 0 waits to be indexed; that is done in short steps, so that other jobs of the store do not wait.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::terms::index_text;
use super::{ONE_WAIT, Result, Store, StoreError, cell};
use crate::sanitize::sanitize;

/// One row for each turn, by its key. The first turn of a conversation also holds the title. The text itself is not kept.
const CREATE: &str = "
CREATE VIRTUAL TABLE search USING fts5(
  title, text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0', prefix = '1 2 3');
UPDATE turns SET indexed = 0 WHERE indexed <> 0;
";

/// Turns in one step.
const STEP: i64 = 50;

/// A step ends early after this many bytes of text.
const STEP_BYTES: usize = 1 << 18;

/// Bytes of an attached file that are searched.
const FILE_BYTES: usize = 100_000;

/// Turns that are to be indexed, latest first.
pub(super) const WAITING: &str = "t.indexed = 0 AND t.state <> 'pending'";

struct Waiting {
    key: i64,
    title: String,
    text: String,
    removed: bool,
}

impl Store {
    /// Indexes some of the waiting turns. Returns whether there are more. A damaged index is made again.
    pub(super) fn index_step(&mut self) -> Result<bool> {
        self.db.busy_timeout(Duration::ZERO)?;
        let done = step(&mut self.db);
        self.db.busy_timeout(ONE_WAIT)?;
        match done {
            Err(StoreError::Damaged(why)) if !std::mem::replace(&mut self.index_renewed, true) => {
                tracing::warn!(reason = why, "search index made again");
                let renewed = self.db.execute_batch("DROP TABLE IF EXISTS search").map_err(Into::into);
                self.noted(renewed).map(|()| true)
            }
            done => self.noted(done),
        }
    }

    /// Indexes the waiting turns, as far as that is possible within about `limit`.
    pub fn index_all(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit && self.index_step()? {}
        Ok(())
    }
}

/// Whether the index exists.
pub(super) fn is_there(db: &Connection) -> Result<bool> {
    let found = db.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'search'", [], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

fn step(db: &mut Connection) -> Result<bool> {
    if !is_there(db)? {
        db.execute_batch(&format!("BEGIN IMMEDIATE; {CREATE} COMMIT"))?;
        return Ok(true);
    }
    let waiting = waiting(db)?;
    if waiting.is_empty() {
        return Ok(false);
    }
    // A step that a power cut undoes is done again.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let written = write(db, &waiting);
    db.pragma_update(None, "synchronous", "FULL")?;
    written.map(|()| true)
}

fn waiting(db: &Connection) -> Result<Vec<Waiting>> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT t.key, t.removed, t.prompt, t.answer, t.files, coalesce(c.title, c.first),
           t.key = (SELECT min(key) FROM turns WHERE conversation = t.conversation)
         FROM turns t LEFT JOIN conversations c ON c.id = t.conversation
         WHERE {WAITING} ORDER BY t.key DESC LIMIT ?1"
    ))?;
    let mut rows = statement.query([STEP])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < STEP_BYTES
        && let Some(row) = rows.next()?
    {
        let removed = cell::integer(row, 1)?.is_some_and(|removed| removed != 0);
        let text = if removed { String::new() } else { turn_text(row, 2)? };
        let is_first = cell::integer(row, 6)? == Some(1);
        let title = if is_first { cell::text(row, 5)? } else { String::new() };
        bytes += text.len();
        found.push(Waiting { key: row.get(0)?, title, text, removed });
    }
    Ok(found)
}

/// What is searched of a turn: prompt, answer, and names and beginnings of files, in these columns from `at` on, as a screen
/// shows them: an escape sequence is no part of a word.
pub(super) fn turn_text(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    let mut text = cell::text(row, at)? + "\n" + &cell::text(row, at + 1)?;
    for file in super::columns::files(cell::optional_text(row, at + 2)?) {
        for part in [&file.name, beginning(&file.text)] {
            text.push('\n');
            text.push_str(part);
        }
    }
    Ok(sanitize(&text))
}

/// The first [`FILE_BYTES`] bytes, without a character that they cut.
fn beginning(text: &str) -> &str {
    let end = (0..=FILE_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

fn write(db: &mut Connection, waiting: &[Waiting]) -> Result<()> {
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut delete = tx.prepare_cached("DELETE FROM search WHERE rowid = ?1")?;
        let mut insert = tx.prepare_cached("INSERT INTO search (rowid, title, text) VALUES (?1, ?2, ?3)")?;
        let mut note = tx.prepare_cached("UPDATE turns SET indexed = 1 WHERE key = ?1")?;
        for turn in waiting {
            delete.execute([turn.key])?;
            if !turn.removed || !turn.title.is_empty() {
                insert.execute(params![turn.key, index_text(&sanitize(&turn.title)), index_text(&turn.text)])?;
            }
            note.execute([turn.key])?;
        }
    }
    Ok(tx.commit()?)
}
