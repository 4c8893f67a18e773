//! Small changes of stored conversations: title, settings, draft, shown branch, deleted turns, trash.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{Result, Store, StoreError, now_ms};
use crate::conversation::{Change, ConversationId, TurnId};

/// How long the trash keeps a conversation.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Store {
    /// Makes one change.
    pub fn apply(&mut self, id: &ConversationId, change: Change) -> Result<()> {
        match change {
            Change::Title(title) => self.rename(id, &title),
            Change::System(text) => self.set_system(id, &text),
            Change::Settings(settings) => self.set_settings(id, &settings),
            Change::Draft(draft) => self.set_draft(id, &draft),
            Change::Removed(turn, removed) => self.set_removed(id, turn, removed),
            Change::Trash => self.remove(id),
            Change::Restore => self.restore(id),
        }
    }

    /// Shows the branch that ends with `head`.
    pub fn select(&mut self, id: &ConversationId, head: TurnId) -> Result<()> {
        let row = self.row(id, head)?;
        let done = self.db.execute("UPDATE conversations SET head = ?2 WHERE id = ?1", params![id.0, row]);
        self.noted(done.map(drop).map_err(Into::into))
    }

    /// Sets the title of a conversation.
    pub fn rename(&mut self, id: &ConversationId, title: &str) -> Result<()> {
        let done = self.db.execute("UPDATE conversations SET title = ?2 WHERE id = ?1", params![id.0, title]);
        self.noted(one_row(done))?;
        // Its first turn holds the title in the search index.
        let first = "UPDATE turns SET indexed = 0 WHERE key = (SELECT min(key) FROM turns WHERE conversation = ?1)";
        let done = self.db.execute(first, [&id.0]);
        self.noted(done.map(drop).map_err(Into::into))
    }

    /// Sets the system message of a conversation. Does nothing if it is not stored yet: its first turn stores it.
    pub fn set_system(&mut self, id: &ConversationId, text: &str) -> Result<()> {
        let done = self.db.execute("UPDATE conversations SET system = ?2 WHERE id = ?1", params![id.0, text]);
        self.noted(done.map(drop).map_err(Into::into))
    }

    /// Sets the settings of a conversation. Does nothing if it is not stored yet: its first turn stores them.
    pub fn set_settings(&mut self, id: &ConversationId, settings: &BTreeMap<String, String>) -> Result<()> {
        let text = settings_text(settings);
        let done = self.db.execute("UPDATE conversations SET settings = ?2 WHERE id = ?1", params![id.0, text]);
        self.noted(done.map(drop).map_err(Into::into))
    }

    /// Sets the draft of a conversation. Does nothing if it is not stored yet.
    pub fn set_draft(&mut self, id: &ConversationId, draft: &str) -> Result<()> {
        let done = self.db.execute("UPDATE conversations SET draft = ?2 WHERE id = ?1", params![id.0, draft]);
        self.noted(done.map(drop).map_err(Into::into))
    }

    /// Deletes a turn, or brings it back; its row stays.
    pub fn set_removed(&mut self, id: &ConversationId, turn: TurnId, removed: bool) -> Result<()> {
        let row = self.row(id, turn)?;
        let done = self.db.execute("UPDATE turns SET removed = ?2, indexed = 0 WHERE key = ?1", params![row, removed]);
        self.noted(one_row(done))
    }

    /// Moves a conversation to the trash, from which [`Self::restore`] brings it back within 30 days.
    pub fn remove(&mut self, id: &ConversationId) -> Result<()> {
        let sql = "UPDATE conversations SET removed = ?2 WHERE id = ?1 AND removed IS NULL";
        let done = self.db.execute(sql, params![id.0, now_ms()]);
        self.noted(one_row(done))
    }

    /// Brings a conversation back from the trash.
    pub fn restore(&mut self, id: &ConversationId) -> Result<()> {
        let sql = "UPDATE conversations SET removed = NULL WHERE id = ?1 AND removed IS NOT NULL";
        let done = self.db.execute(sql, [&id.0]);
        self.noted(one_row(done))
    }

    /// Deletes a conversation, in the trash or not, with all its turns permanently.
    pub fn purge(&mut self, id: &ConversationId) -> Result<()> {
        self.rows.remove(id);
        let done = self.db.execute("DELETE FROM conversations WHERE id = ?1", [&id.0]);
        self.noted(one_row(done))
    }
}

/// Deletes what has been in the trash for longer than [`KEPT`].
pub(super) fn empty_trash(db: &Connection) -> Result<()> {
    let before = now_ms().saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
    let sql = "DELETE FROM conversations WHERE removed < ?1 AND typeof(removed) = 'integer'";
    db.execute(sql, [before])?;
    Ok(())
}

/// The column `settings`: a JSON object; NULL without settings.
pub(super) fn settings_text(settings: &BTreeMap<String, String>) -> Option<String> {
    if settings.is_empty() { None } else { serde_json::to_string(settings).ok() }
}

/// `NotFound` if a statement changed no row.
fn one_row(done: rusqlite::Result<usize>) -> Result<()> {
    match done? {
        0 => Err(StoreError::missing("conversation")),
        _ => Ok(()),
    }
}
