//! Notices that another process continued a conversation after this one had loaded it: the turn that this process saves
//! next follows the turn that it knows, and so begins a branch.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::{Result, Store};
use crate::conversation::ConversationId;

/// What is found and what was reported, for each conversation once until it is loaded again.
#[derive(Debug, Default)]
pub(super) struct Continued {
    found: HashSet<ConversationId>,
    waiting: Vec<ConversationId>,
}

impl Continued {
    pub(super) fn note(&mut self, id: &ConversationId) {
        if self.found.insert(id.clone()) {
            self.waiting.push(id.clone());
        }
    }

    pub(super) fn forget(&mut self, id: &ConversationId) {
        self.found.remove(id);
    }
}

impl Store {
    /// The conversations that another process continued, since the last call.
    pub(super) fn take_continued(&mut self) -> Vec<ConversationId> {
        std::mem::take(&mut self.continued.waiting)
    }
}

/// Whether a conversation of which this process knows `rows` has a later turn. A process that knows none inserts its
/// first turn.
pub(super) fn has_others(db: &Connection, id: &ConversationId, rows: &[i64]) -> Result<bool> {
    let Some(last) = rows.iter().max() else { return Ok(false) };
    let query = "SELECT EXISTS (SELECT 1 FROM turns WHERE conversation = ?1 AND key > ?2)";
    Ok(db.query_row(query, params![id.0, last], |row| row.get(0))?)
}
