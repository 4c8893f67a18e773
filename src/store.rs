//! Conversations on disk: one SQLite file in the user's data folder, shared by all running chatnap processes.
//!
//! Stores texts byte for byte; independent of engine and front ends. The calls block, on a locked file for seconds:
//! code that must not wait uses [`StoreHandle`], which also keeps turns that the database cannot store yet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior, params};

use crate::conversation::{Conversation, ConversationId, Ending, TurnId, TurnRecord};
use crate::usage::{Answered, Load};

mod cell;
mod change;
mod columns;
mod continued;
mod data_dir;
mod error;
mod excerpt;
mod export;
mod foreign;
mod handle;
mod id;
mod import;
mod imported;
mod index;
mod load_log;
mod loads;
mod migrate;
mod open;
mod read;
mod repair;
mod resume;
mod schema;
mod search;
mod spool;
mod terms;
mod timing;
mod trace;
mod usage;
mod varints;
mod writer;

pub use error::StoreError;
pub use export::{json, markdown};
pub use handle::{Standing, StoreHandle, Told};
pub use id::new_conversation_id;
pub use import::read_conversations;
pub use imported::{Imported, Origin};
pub use load_log::LoadLog;
pub use loads::LoadKey;
pub use open::{DATABASE, Opened};
pub use read::Summary;
pub use resume::Resume;
pub use search::Hit;
pub use trace::Cached;

use columns::{Columns, Question};

/// Interval at which a streaming answer is saved; at most the text of this time is lost in a crash.
pub const SAVE_EVERY: Duration = Duration::from_millis(200);

/// SQLite's busy handler is not fair: with many writers on a slow disk, one may starve. So each wait is limited to this
/// time and then repeated.
const ONE_WAIT: Duration = Duration::from_millis(250);

/// The row of a turn that this process has neither written nor read.
const UNKNOWN: i64 = 0;

/// The open store.
pub struct Store {
    db: Connection,
    data_dir: PathBuf,
    writer: writer::Writer,
    /// The rows of the turns, in order, of each conversation that this process has read or written.
    rows: HashMap<ConversationId, Vec<i64>>,
    continued: continued::Continued,
    /// Whether the leftovers of earlier processes are cleaned up.
    tidied: bool,
    /// Whether the search index was made again because it was damaged.
    index_renewed: bool,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens the store in `data_dir`; creates or repairs it if needed. Marks answers of ended writers as interrupted.
    pub fn open(data_dir: &Path) -> Result<Opened> {
        open::open(data_dir, open::PATIENCE)
    }

    /// Opens an existing store for reading, also in a read-only folder. `None` if there is no store.
    pub fn open_to_read(data_dir: &Path) -> Result<Option<Self>> {
        open::open_to_read(data_dir)
    }

    fn new(db: Connection, data_dir: &Path) -> Self {
        let writer = writer::Writer::new(data_dir);
        Self {
            db,
            data_dir: data_dir.to_path_buf(),
            writer,
            rows: HashMap::new(),
            continued: continued::Continued::default(),
            tidied: false,
            index_renewed: false,
        }
    }

    /// If a statement found the database damaged, makes the next start check all of it.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(StoreError::Damaged(_)) = &result {
            repair::suspect(&self.data_dir);
        }
        result
    }

    /// Saves a turn: the first call inserts it (and its conversation), later calls update its answer. A new turn and an
    /// ended answer are on disk (fsync) when this returns. A partial answer survives a crash of this process at once, a
    /// power cut only after a later fsync: one for each of five saves a second would wear out the disk without benefit.
    /// `Busy` if another process has the database locked for `patience`.
    pub fn save(&mut self, record: &TurnRecord, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = patience.saturating_sub(start.elapsed());
            self.db.busy_timeout(left.min(ONE_WAIT))?;
            let saved = match self.row(&record.conversation, record.id) {
                Ok(row) => self.update(row, record),
                Err(_) => self.insert(record),
            };
            match saved {
                Err(StoreError::Busy) if start.elapsed() < patience => std::thread::yield_now(),
                done => return self.noted(done),
            }
        }
    }

    fn insert(&mut self, record: &TurnRecord) -> Result<()> {
        let writer = self.writer.announce()?;
        let rows = self.rows.entry(record.conversation.clone()).or_default();
        let parent = record.turn.parent.and_then(|parent| rows.get(parent.0).copied()).filter(|row| *row != UNKNOWN);
        let sampling = columns::sampling(record.sampling.as_ref());
        let question = Question {
            conversation: &record.conversation,
            system: record.system.as_deref(),
            settings: change::settings_text(&record.settings),
            parent,
            prompt: &record.turn.prompt,
            model: &record.turn.model,
            sampling: sampling.as_deref(),
            files: columns::files_text(&record.turn.files),
            asked: record.asked_ms.unwrap_or_else(now_ms),
            writer: &writer,
        };
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let continued = continued::has_others(&tx, &record.conversation, rows)?;
        let row = question.insert(&tx)?;
        Columns::of(&record.turn.answer).write(&tx, row, None)?;
        tx.commit()?;
        if continued {
            self.continued.note(&record.conversation);
        }
        rows.resize(rows.len().max(record.id.0 + 1), UNKNOWN);
        rows[record.id.0] = row;
        Ok(())
    }

    fn update(&mut self, row: i64, record: &TurnRecord) -> Result<()> {
        let pending = record.turn.answer.ending == Ending::Pending;
        self.db.pragma_update(None, "synchronous", if pending { "NORMAL" } else { "FULL" })?;
        let sampling = columns::sampling(record.sampling.as_ref());
        let saved = Columns::of(&record.turn.answer).write(&self.db, row, sampling.as_deref());
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

    /// A conversation with all its branches.
    pub fn load(&mut self, id: &ConversationId) -> Result<Conversation> {
        let loaded = read::conversation(&self.db, id);
        let (conversation, rows) = self.noted(loaded)?;
        self.rows.insert(id.clone(), rows);
        self.continued.forget(id);
        Ok(conversation)
    }

    /// The conversation that was changed last.
    pub fn last(&self) -> Result<Option<ConversationId>> {
        self.noted(read::last(&self.db))
    }

    /// The conversation to continue: the last changed one that has an answer, because a failed question leaves nothing
    /// to continue from. The last changed one if none has an answer.
    pub fn last_answered(&self) -> Result<ConversationId> {
        self.noted(read::last_answered(&self.db))?.ok_or_else(|| StoreError::missing("conversation yet"))
    }

    /// The only conversation whose id begins with `prefix`; the last changed one for `last`.
    pub fn find(&self, prefix: &str) -> Result<ConversationId> {
        if prefix == "last" {
            return self.last()?.ok_or_else(|| StoreError::missing("conversation yet"));
        }
        self.only(prefix, false)
    }

    /// The only conversation in the trash whose id begins with `prefix`.
    pub fn find_removed(&self, prefix: &str) -> Result<ConversationId> {
        self.only(prefix, true)
    }

    fn only(&self, prefix: &str, removed: bool) -> Result<ConversationId> {
        // Every id begins with it: an empty variable in a script would select, and remove, the only conversation.
        if prefix.is_empty() {
            return Err(StoreError::NotFound(
                "The beginning of a conversation's id is needed, not an empty text; `chatnap conversations list` shows \
                 them."
                    .into(),
            ));
        }
        match <[String; 1]>::try_from(self.noted(read::ids(&self.db, prefix, removed))?) {
            Ok([id]) => Ok(ConversationId(id)),
            Err(ids) if ids.is_empty() => Err(StoreError::NotFound(format!(
                "There is no conversation {prefix:?}{}; `chatnap conversations list{}` shows what there is.",
                if removed { " in the trash" } else { "" },
                if removed { " --removed" } else { "" },
            ))),
            Err(ids) => Err(StoreError::NotFound(format!(
                "{} conversations begin with {prefix:?}: {}{}; write more of the id.",
                ids.len(),
                ids[..ids.len().min(8)].join(", "),
                if ids.len() > 8 { ", …" } else { "" }
            ))),
        }
    }

    /// All conversations, the last changed first, without those in the trash.
    pub fn list(&self) -> Result<Vec<Summary>> {
        self.noted(read::list(&self.db, None))
    }

    /// The first `most` of [`Self::list`].
    pub fn list_last(&self, most: u32) -> Result<Vec<Summary>> {
        self.noted(read::list(&self.db, Some(most)))
    }

    /// The model of the conversation that was changed last: the one that was chosen in it, else that of its latest turn.
    pub fn last_model(&self) -> Result<Option<String>> {
        self.noted(read::last_model(&self.db))
    }

    /// The conversations in the trash, the last removed first.
    pub fn list_removed(&self) -> Result<Vec<Summary>> {
        self.noted(read::list_removed(&self.db))
    }

    /// All answers and all loads that are stored, those asked first come first.
    pub fn usage(&self) -> Result<(Vec<Answered>, Vec<Load>)> {
        let answers = self.noted(usage::answers(&self.db))?;
        Ok((answers, self.loads()?))
    }

    fn row(&self, id: &ConversationId, turn: TurnId) -> Result<i64> {
        let row = self.rows.get(id).and_then(|rows| rows.get(turn.0)).copied();
        row.filter(|row| *row != UNKNOWN).ok_or_else(|| StoreError::missing("turn"))
    }
}

/// Milliseconds since 1970, UTC.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

#[cfg(test)]
mod tests;
