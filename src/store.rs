//! Conversations on disk: one SQLite file in the user's data folder, shared by every chatnap that runs.
//!
//! Stores what was written, byte for byte; knows no engine and no screen. The calls block (a busy file for seconds):
//! an interface that must not wait goes through [`StoreHandle`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};

use crate::conversation::{Answer, Conversation, ConversationId, Ending, Turn, TurnId};
use crate::protocol::{FinishReason, SamplingParams, Usage};

mod error;
mod export;
mod handle;
mod id;
mod open;
mod timing;
mod writer;

pub use error::StoreError;
pub use export::{json, markdown};
pub use handle::StoreHandle;
pub use id::new_conversation_id;
pub use open::{DATABASE, Opened};

/// How often a streaming answer has to be saved: what the screen shows is at most this far ahead of the disk.
pub const SAVE_EVERY: Duration = Duration::from_millis(200);

/// A turn that cannot be written down within this time is given up, with a warning.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A conversation as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub id: ConversationId,
    /// What the user calls it, else the beginning of its first question.
    pub title: String,
    /// The model that was asked last.
    pub model: String,
    /// Turns of all branches.
    pub turns: usize,
    /// Those of them to which the model wrote anything.
    pub answers: usize,
    /// When it was started; milliseconds since 1970, UTC.
    pub created_ms: u64,
    /// When it was changed last; milliseconds since 1970, UTC.
    pub changed_ms: u64,
}

/// A turn to be written down, with where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct TurnRecord<'a> {
    /// Of which conversation; it is made where it does not exist.
    pub conversation: &'a ConversationId,
    /// The conversation's system message from now on.
    pub system: Option<&'a str>,
    /// The turn's place.
    pub id: TurnId,
    /// All of it. Only the answer of a turn that is there already is looked at.
    pub turn: &'a Turn,
    /// How its tokens are chosen, where that is known.
    pub sampling: Option<&'a SamplingParams>,
}

/// Stands for a turn that this process never wrote nor read.
const UNKNOWN: i64 = 0;

/// The open store.
pub struct Store {
    db: Connection,
    writer: writer::Writer,
    /// For each conversation that this process has seen: the row of its n-th turn.
    rows: HashMap<ConversationId, Vec<i64>>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens (creates, repairs, upgrades) the store in `data_dir`. Marks answers as interrupted whose writer is gone.
    pub fn open(data_dir: &Path) -> Result<Opened> {
        open::open(data_dir)
    }

    /// Opens an existing store to read it, also in a folder where nothing may be written. `None`: there is none.
    pub fn open_to_read(data_dir: &Path) -> Result<Option<Self>> {
        open::open_to_read(data_dir)
    }

    fn new(db: Connection, data_dir: &Path) -> Self {
        Self { db, writer: writer::Writer::new(data_dir), rows: HashMap::new() }
    }

    /// Writes a turn down: inserts it (and its conversation) at the first call, afterwards saves what was answered so
    /// far. A new turn and an ended answer are on disk when this returns. A partial answer is safe from the end of this
    /// process, and from the end of the machine a little later: it comes five times a second, and waiting for the
    /// disk each time would wear it out for no gain.
    pub fn save(&mut self, record: &TurnRecord<'_>) -> Result<()> {
        let start = Instant::now();
        loop {
            let saved = match self.row(record.conversation, record.id) {
                Ok(row) => self.update(row, record),
                Err(_) => self.insert(record),
            };
            match saved {
                // SQLite's own waiting is not fair: among many writers on a slow disk one may never get its turn.
                Err(StoreError::Busy) if start.elapsed() < LONGEST_WAIT => std::thread::yield_now(),
                done => return done,
            }
        }
    }

    fn insert(&mut self, record: &TurnRecord<'_>) -> Result<()> {
        let writer = self.writer.announce()?;
        let rows = self.rows.entry(record.conversation.clone()).or_default();
        let parent = record.turn.parent.and_then(|parent| rows.get(parent.0).copied()).filter(|row| *row != UNKNOWN);
        let sampling = record.sampling.and_then(|sampling| serde_json::to_string(sampling).ok());
        let (id, now) = (&record.conversation.0, now_ms());
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "INSERT INTO conversations (id, system, created, changed) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (id) DO UPDATE SET system = excluded.system, changed = excluded.changed",
            params![id, record.system, now],
        )?;
        tx.execute(
            "INSERT INTO turns (conversation, parent, prompt, model, sampling, asked, writer)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, parent, record.turn.prompt, record.turn.model, sampling, now, writer],
        )?;
        let row = tx.last_insert_rowid();
        write_answer(&tx, row, &record.turn.answer)?;
        tx.execute("UPDATE conversations SET head = ?2 WHERE id = ?1", params![id, row])?;
        tx.commit()?;
        rows.resize(rows.len().max(record.id.0 + 1), UNKNOWN);
        rows[record.id.0] = row;
        Ok(())
    }

    fn update(&mut self, row: i64, record: &TurnRecord<'_>) -> Result<()> {
        let pending = record.turn.answer.ending == Ending::Pending;
        self.db.pragma_update(None, "synchronous", if pending { "NORMAL" } else { "FULL" })?;
        let saved = write_answer(&self.db, row, &record.turn.answer);
        self.db.pragma_update(None, "synchronous", "FULL")?;
        if saved? == 0 {
            return Err(StoreError::missing("conversation any more: it was removed while it was answered"));
        }
        if !pending {
            let now = now_ms();
            self.db
                .execute("UPDATE conversations SET changed = ?2 WHERE id = ?1", params![record.conversation.0, now])?;
        }
        Ok(())
    }

    /// Makes `head` the branch that is shown.
    pub fn select(&mut self, id: &ConversationId, head: TurnId) -> Result<()> {
        let row = self.row(id, head)?;
        self.db.execute("UPDATE conversations SET head = ?2 WHERE id = ?1", params![id.0, row])?;
        Ok(())
    }

    /// A whole conversation, every branch of it.
    pub fn load(&mut self, id: &ConversationId) -> Result<Conversation> {
        type Frame = (Option<String>, Option<String>, Option<i64>);
        let frame: Option<Frame> = self
            .db
            .query_row("SELECT title, system, head FROM conversations WHERE id = ?1", [&id.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let (title, system, head) = frame.ok_or_else(|| StoreError::missing("conversation"))?;
        let mut statement = self.db.prepare(
            "SELECT key, parent, prompt, model, reasoning, answer, state, error, prompt_tokens, cached_tokens,
             completion_tokens, timing FROM turns WHERE conversation = ?1 ORDER BY key",
        )?;
        let (mut rows, mut turns) = (Vec::new(), Vec::new());
        let mut found = statement.query([&id.0])?;
        while let Some(row) = found.next()? {
            let turn = read_turn(row, &rows)?;
            rows.push(row.get(0)?);
            turns.push(turn);
        }
        let head = head.and_then(|head| place(&rows, head)).or_else(|| turns.len().checked_sub(1).map(TurnId));
        self.rows.insert(id.clone(), rows);
        Ok(Conversation::restore(id.clone(), title, system, turns, head))
    }

    /// The conversation that was changed last.
    pub fn last(&self) -> Result<Option<ConversationId>> {
        let id = self
            .db
            .query_row("SELECT id FROM conversations ORDER BY changed DESC, rowid DESC LIMIT 1", [], |row| row.get(0))
            .optional()?;
        Ok(id.map(ConversationId))
    }

    /// The conversation to go on with: of those in which anything was ever answered, the one that was changed last; a
    /// question that failed leaves nothing to go on from. Where nothing was answered at all, simply the last.
    pub fn last_answered(&self) -> Result<ConversationId> {
        let id = self
            .db
            .query_row(
                "SELECT id FROM conversations c
                 ORDER BY EXISTS (SELECT 1 FROM turns WHERE conversation = c.id AND answer <> '') DESC,
                   changed DESC, rowid DESC LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        id.map(ConversationId).ok_or_else(|| StoreError::missing("conversation yet"))
    }

    /// The one conversation whose id begins with `prefix`, or the last one for `last`.
    pub fn find(&self, prefix: &str) -> Result<ConversationId> {
        if prefix == "last" {
            return self.last()?.ok_or_else(|| StoreError::missing("conversation yet"));
        }
        // Every id begins with it: a script's empty variable would name, and remove, the only conversation there is.
        if prefix.is_empty() {
            return Err(StoreError::NotFound(
                "The beginning of a conversation's id is wanted, not an empty text; `chatnap conversations list` shows \
                 them."
                    .into(),
            ));
        }
        let mut statement = self.db.prepare("SELECT id FROM conversations WHERE substr(id, 1, length(?1)) = ?1")?;
        let ids: Vec<String> = statement.query_map([prefix], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        match <[String; 1]>::try_from(ids) {
            Ok([id]) => Ok(ConversationId(id)),
            Err(ids) if ids.is_empty() => Err(StoreError::NotFound(format!(
                "There is no conversation {prefix:?}; `chatnap conversations list` shows what there is."
            ))),
            Err(ids) => Err(StoreError::NotFound(format!(
                "{} conversations begin with {prefix:?}: {}{}; write more of the id.",
                ids.len(),
                ids[..ids.len().min(8)].join(", "),
                if ids.len() > 8 { ", …" } else { "" }
            ))),
        }
    }

    /// All conversations, the last changed first.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let mut statement = self.db.prepare(
            "SELECT c.id, c.title, c.created, c.changed, count(t.key),
               (SELECT prompt FROM turns WHERE conversation = c.id ORDER BY key LIMIT 1),
               (SELECT model FROM turns WHERE conversation = c.id ORDER BY key DESC LIMIT 1),
               count(nullif(t.answer, ''))
             FROM conversations c LEFT JOIN turns t ON t.conversation = c.id
             GROUP BY c.id ORDER BY c.changed DESC, c.rowid DESC",
        )?;
        let rows = statement.query_map([], read_summary)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Those in whose title, questions or answers `text` stands, whatever the letter case; the last changed first.
    pub fn search(&self, text: &str) -> Result<Vec<Summary>> {
        let needle = text.to_lowercase();
        let mut hits = std::collections::HashSet::new();
        let mut statement = self.db.prepare(
            "SELECT id, coalesce(title, '') FROM conversations
             UNION ALL SELECT conversation, prompt FROM turns UNION ALL SELECT conversation, answer FROM turns",
        )?;
        let mut rows = statement.query([])?;
        // SQLite's own LIKE folds ASCII only.
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str().is_ok_and(|text| text.to_lowercase().contains(&needle)) {
                hits.insert(row.get::<_, String>(0)?);
            }
        }
        Ok(self.list()?.into_iter().filter(|summary| hits.contains(&summary.id.0)).collect())
    }

    /// Gives a conversation another title.
    pub fn rename(&mut self, id: &ConversationId, title: &str) -> Result<()> {
        match self.db.execute("UPDATE conversations SET title = ?2 WHERE id = ?1", params![id.0, title])? {
            0 => Err(StoreError::missing("conversation")),
            _ => Ok(()),
        }
    }

    /// Removes a conversation with all its turns, for good.
    pub fn remove(&mut self, id: &ConversationId) -> Result<()> {
        self.rows.remove(id);
        match self.db.execute("DELETE FROM conversations WHERE id = ?1", [&id.0])? {
            0 => Err(StoreError::missing("conversation")),
            _ => Ok(()),
        }
    }

    fn row(&self, id: &ConversationId, turn: TurnId) -> Result<i64> {
        let row = self.rows.get(id).and_then(|rows| rows.get(turn.0)).copied();
        row.filter(|row| *row != UNKNOWN).ok_or_else(|| StoreError::missing("turn"))
    }
}

/// An ending as the columns that keep it.
#[derive(Default)]
struct Columns<'a> {
    state: &'static str,
    error: Option<&'a str>,
    usage: Option<&'a Usage>,
    timing: Option<String>,
}

impl<'a> Columns<'a> {
    fn of(ending: &'a Ending) -> Self {
        match ending {
            Ending::Pending => Self { state: "pending", ..Self::default() },
            Ending::Interrupted => Self { state: "interrupted", ..Self::default() },
            Ending::Failed { message } => Self { state: "failed", error: Some(message), ..Self::default() },
            Ending::Finished { reason, usage, timing } => Self {
                state: match reason {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Cancelled => "cancelled",
                },
                error: None,
                usage: Some(usage),
                timing: timing.as_ref().map(timing::to_json),
            },
        }
    }
}

/// Writes an answer as it is; gives the number of turns that it found, 0 or 1.
fn write_answer(db: &Connection, row: i64, answer: &Answer) -> rusqlite::Result<usize> {
    let columns = Columns::of(&answer.ending);
    let count = |of: fn(&Usage) -> usize| columns.usage.map(|usage| of(usage) as i64);
    db.execute(
        "UPDATE turns SET reasoning = ?2, answer = ?3, state = ?4, error = ?5, prompt_tokens = ?6,
         cached_tokens = ?7, completion_tokens = ?8, timing = ?9 WHERE key = ?1",
        params![
            row,
            answer.reasoning,
            answer.text,
            columns.state,
            columns.error,
            count(|usage| usage.prompt_tokens),
            count(|usage| usage.cached_tokens),
            count(|usage| usage.completion_tokens),
            columns.timing,
        ],
    )
}

fn place(rows: &[i64], key: i64) -> Option<TurnId> {
    rows.iter().position(|row| *row == key).map(TurnId)
}

fn read_turn(row: &Row<'_>, before: &[i64]) -> rusqlite::Result<Turn> {
    let count = |column: usize| -> rusqlite::Result<usize> {
        let count: Option<i64> = row.get(column)?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    };
    let state: String = row.get(6)?;
    let reason = match state.as_str() {
        "stop" => Some(FinishReason::Stop),
        "length" => Some(FinishReason::Length),
        "cancelled" => Some(FinishReason::Cancelled),
        _ => None,
    };
    let ending = match (reason, state.as_str()) {
        (Some(reason), _) => {
            let usage = Usage { prompt_tokens: count(8)?, cached_tokens: count(9)?, completion_tokens: count(10)? };
            let timing: Option<String> = row.get(11)?;
            Ending::Finished { reason, usage, timing: timing.and_then(|text| timing::from_json(&text)) }
        }
        (None, "failed") => Ending::Failed { message: row.get::<_, Option<String>>(7)?.unwrap_or_default() },
        (None, "pending") => Ending::Pending,
        (None, _) => Ending::Interrupted,
    };
    let parent: Option<i64> = row.get(1)?;
    Ok(Turn {
        parent: parent.and_then(|key| place(before, key)),
        prompt: row.get(2)?,
        model: row.get(3)?,
        answer: Answer { reasoning: row.get(4)?, text: row.get(5)?, ending },
    })
}

fn read_summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let unsigned = |column: usize| row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0));
    let title: Option<String> = row.get(1)?;
    let prompt: Option<String> = row.get(5)?;
    Ok(Summary {
        id: ConversationId(row.get(0)?),
        title: title.unwrap_or_else(|| shorten(&prompt.unwrap_or_default())),
        model: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        turns: unsigned(4)? as usize,
        answers: unsigned(7)? as usize,
        created_ms: unsigned(2)?,
        changed_ms: unsigned(3)?,
    })
}

/// The first line that says something, at most 60 characters of it.
fn shorten(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.to_owned(),
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Whether the file itself is damaged, as opposed to the call.
fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

#[cfg(test)]
mod tests;
