//! Queries of the database. A damaged value affects only its own row.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::{TURN, place, read_turn};
use super::imported::Origin;
use super::trace::{self, TRACE};
use super::{Result, StoreError, cell};
use crate::conversation::{Conversation, ConversationId, TurnId};

/// A conversation's entry in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id on disk.
    pub id: ConversationId,
    /// The title that the user set, else the beginning of the first question.
    pub title: String,
    /// The first line of the first question, at most 200 characters.
    pub first: String,
    /// The model of the latest turn.
    pub model: String,
    /// Number of turns in all branches.
    pub turns: usize,
    /// Number of turns whose answer is not empty.
    pub answers: usize,
    /// Whether each of its turns ended with an error and none has an answer.
    pub failed: bool,
    /// Time of creation; milliseconds since 1970, UTC.
    pub created_ms: u64,
    /// Time of the last change; milliseconds since 1970, UTC.
    pub changed_ms: u64,
    /// When it was moved to the trash; milliseconds since 1970, UTC.
    pub removed_ms: Option<u64>,
}

impl Summary {
    /// What a list says of a conversation without an answer; `None` if there is one.
    pub fn lack(&self) -> Option<&'static str> {
        match (self.answers, self.failed) {
            (0, true) => Some("failed"),
            (0, false) => Some("no answer"),
            _ => None,
        }
    }
}

/// The conversation, and the rows of its turns.
pub(super) fn conversation(db: &Connection, id: &ConversationId) -> Result<(Conversation, Vec<i64>)> {
    let mut frame = Conversation::new(id.clone(), None);
    let head = db
        .query_row("SELECT title, system, settings, draft, head FROM conversations WHERE id = ?1", [&id.0], |row| {
            (frame.title, frame.system) = (cell::optional_text(row, 0)?, cell::optional_text(row, 1)?);
            let settings = cell::optional_text(row, 2)?.and_then(|text| serde_json::from_str(&text).ok());
            (frame.settings, frame.draft) = (settings.unwrap_or_default(), cell::text(row, 3)?);
            cell::integer(row, 4)
        })
        .optional()?;
    let head = head.ok_or_else(|| StoreError::missing("conversation"))?;
    let mut statement = db.prepare(&format!("SELECT {TURN} FROM turns WHERE conversation = ?1 ORDER BY key"))?;
    let (mut rows, mut turns) = (Vec::new(), Vec::new());
    let mut found = statement.query([&id.0])?;
    while let Some(row) = found.next()? {
        let turn = read_turn(row, &rows)?;
        rows.push(row.get(0)?);
        turns.push(turn);
    }
    let head = head.and_then(|head| place(&rows, head)).or_else(|| turns.len().checked_sub(1).map(TurnId));
    Ok((frame.restored(turns, head), rows))
}

/// When and how each turn was asked, in order.
pub(super) fn origins(db: &Connection, id: &ConversationId) -> Result<Vec<Origin>> {
    let query = format!("SELECT asked, sampling, gaps, {TRACE} FROM turns WHERE conversation = ?1 ORDER BY key");
    let mut statement = db.prepare(&query)?;
    let rows = statement.query_map([&id.0], |row| {
        let sampling = cell::optional_text(row, 1)?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Origin {
            asked_ms: cell::integer(row, 0)?.and_then(|ms| u64::try_from(ms).ok()),
            sampling,
            gaps_us: trace::read_gaps(row, 2)?,
            trace: trace::read(row, 3)?,
            server: trace::read_server(row, 3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Latest first; a conversation with a damaged time comes last, otherwise it would always be the latest.
const LAST_FIRST: &str = "typeof(changed) = 'integer' DESC, changed DESC, rowid DESC";

pub(super) fn last(db: &Connection) -> Result<Option<ConversationId>> {
    Ok(names(db, &format!("SELECT id FROM conversations WHERE removed IS NULL ORDER BY {LAST_FIRST}"), [], 1)?
        .pop()
        .map(ConversationId))
}

pub(super) fn last_answered(db: &Connection) -> Result<Option<ConversationId>> {
    let query = format!("SELECT id FROM conversations WHERE removed IS NULL ORDER BY answers > 0 DESC, {LAST_FIRST}");
    Ok(names(db, &query, [], 1)?.pop().map(ConversationId))
}

/// All ids that begin with `prefix`, in the trash or out of it.
pub(super) fn ids(db: &Connection, prefix: &str, removed: bool) -> Result<Vec<String>> {
    let query = "SELECT id FROM conversations WHERE substr(id, 1, length(?1)) = ?1 AND (removed IS NOT NULL) = ?2";
    names(db, query, (prefix, removed), usize::MAX)
}

/// The first `most` ids of a query, without damaged ones.
fn names(db: &Connection, query: &str, values: impl rusqlite::Params, most: usize) -> Result<Vec<String>> {
    let mut statement = db.prepare(query)?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.next()?
    {
        if let ValueRef::Text(bytes) = row.get_ref(0)?
            && let Ok(id) = std::str::from_utf8(bytes)
        {
            found.push(id.to_owned());
        }
    }
    Ok(found)
}

/// The columns that [`summary`] reads, of the table `conversations` as `c`.
pub(super) const SUMMARY: &str =
    "SELECT c.id, c.title, c.first, c.model, c.turns, c.answers, c.created, c.changed, c.removed,
       c.answers = 0 AND c.turns > 0 AND NOT EXISTS (
         SELECT 1 FROM turns f WHERE f.conversation = c.id AND NOT f.removed AND f.state <> 'failed')";

/// Their number.
pub(super) const SUMMARY_COLUMNS: usize = 10;

/// The first `most`, or all.
pub(super) fn list(db: &Connection, most: Option<u32>) -> Result<Vec<Summary>> {
    let limit = most.map_or_else(String::new, |most| format!(" LIMIT {most}"));
    summaries(db, &format!("{SUMMARY} FROM conversations c WHERE removed IS NULL ORDER BY {LAST_FIRST}{limit}"))
}

pub(super) fn last_model(db: &Connection) -> Result<Option<String>> {
    let query =
        format!("SELECT settings, model FROM conversations WHERE removed IS NULL ORDER BY {LAST_FIRST} LIMIT 1");
    let found = db.query_row(&query, [], |row| Ok((cell::optional_text(row, 0)?, cell::text(row, 1)?))).optional()?;
    Ok(found.and_then(|(settings, used)| {
        let settings: Option<BTreeMap<String, String>> = settings.and_then(|text| serde_json::from_str(&text).ok());
        let chosen = settings.and_then(|mut settings| settings.remove("model"));
        Some(chosen.unwrap_or(used)).filter(|model| !model.is_empty())
    }))
}

pub(super) fn list_removed(db: &Connection) -> Result<Vec<Summary>> {
    summaries(
        db,
        &format!("{SUMMARY} FROM conversations c WHERE removed IS NOT NULL ORDER BY removed DESC, rowid DESC"),
    )
}

fn summaries(db: &Connection, query: &str) -> Result<Vec<Summary>> {
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([], summary)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let count = |column: usize| cell::count(row, column).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let first = cell::text(row, 2)?;
    let first = first.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Ok(Summary {
        id: ConversationId(cell::text(row, 0)?),
        title: cell::optional_text(row, 1)?.unwrap_or_else(|| shorten(first)),
        first: first.to_owned(),
        model: cell::text(row, 3)?,
        turns: count(4)?,
        answers: count(5)?,
        created_ms: cell::count(row, 6)?,
        changed_ms: cell::count(row, 7)?,
        removed_ms: cell::integer(row, 8)?.and_then(|ms| u64::try_from(ms).ok()),
        failed: cell::integer(row, 9)?.is_some_and(|failed| failed != 0),
    })
}

/// The title of a conversation that begins with this question.
pub(super) fn title(prompt: &str) -> String {
    shorten(prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
}

/// The line, cut to 60 characters.
fn shorten(line: &str) -> String {
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.to_owned(),
    }
}
