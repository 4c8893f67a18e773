//! Maps a turn to the columns of the table `turns`.

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{cell, now_ms, timing, trace, varints};
use crate::conversation::{Answer, Attachment, ConversationId, Ending, Turn, TurnId};
use crate::protocol::{FinishReason, SamplingParams, Served, Trace, Usage};

/// The columns of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Columns {
    pub reasoning: String,
    pub text: String,
    state: String,
    error: Option<String>,
    /// Prompt, cached and completion tokens; `None`: unknown.
    usage: Option<[Option<i64>; 3]>,
    timing: Option<String>,
    /// Microseconds between the tokens.
    #[serde(default)]
    gaps: Vec<u64>,
    #[serde(default)]
    trace: Option<Trace>,
    #[serde(default)]
    served: Option<Served>,
}

impl Columns {
    pub(super) fn of(answer: &Answer) -> Self {
        let (mut error, mut counts, mut times, mut gaps) = (None, None, None, Vec::new());
        let state = match &answer.ending {
            Ending::Pending => "pending",
            Ending::Interrupted => "interrupted",
            Ending::Failed { message } => {
                error = Some(message.clone());
                "failed"
            }
            Ending::Finished { reason, usage, timing } => {
                let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
                counts = Some(usage.known().map(|known| known.map(count)));
                times = timing.as_ref().map(timing::to_json);
                gaps = timing.as_ref().map(timing::gaps).unwrap_or_default();
                match reason {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Cancelled => "cancelled",
                }
            }
        };
        let (reasoning, text) = (answer.reasoning.clone(), answer.text.clone());
        let trace = answer.trace.as_deref().cloned();
        let (state, served) = (state.to_owned(), answer.served.clone());
        Self { reasoning, text, state, error, usage: counts, timing: times, gaps, trace, served }
    }

    /// Writes the answer to its row, and with it the sampling parameters if `sampling` has any: which values the model
    /// recommends is known only once it is loaded. Returns the number of updated rows, 0 or 1.
    pub(super) fn write(&self, db: &Connection, row: i64, sampling: Option<&str>) -> rusqlite::Result<usize> {
        let count = |place: usize| self.usage.as_ref().and_then(|usage| usage[place]);
        let gaps = (!self.gaps.is_empty()).then(|| varints::to_bytes(self.gaps.iter().copied()));
        let written = db.execute(
            "UPDATE turns SET reasoning = ?2, answer = ?3, state = ?4, error = ?5, prompt_tokens = ?6,
             cached_tokens = ?7, completion_tokens = ?8, timing = ?9, sampling = COALESCE(?10, sampling), indexed = 0,
             gaps = COALESCE(?11, gaps) WHERE key = ?1",
            params![
                row,
                self.reasoning,
                self.text,
                self.state,
                self.error,
                count(0),
                count(1),
                count(2),
                self.timing,
                sampling,
                gaps
            ],
        )?;
        if let Some(trace) = &self.trace {
            trace::write(db, row, trace)?;
        }
        if let Some(Served { model, device }) = &self.served {
            let device = serde_json::to_string(device).ok();
            db.execute("UPDATE turns SET model = ?2, device = ?3 WHERE key = ?1", params![row, model, device])?;
        }
        Ok(written)
    }
}

/// The columns of a question.
pub(super) struct Question<'a> {
    pub conversation: &'a ConversationId,
    pub system: Option<&'a str>,
    pub settings: Option<String>,
    /// The row of the turn that it follows.
    pub parent: Option<i64>,
    pub prompt: &'a str,
    pub model: &'a str,
    pub sampling: Option<&'a str>,
    pub files: Option<String>,
    /// Milliseconds since 1970, UTC.
    pub asked: i64,
    pub writer: &'a str,
}

impl Question<'_> {
    /// Inserts it as the head of its conversation, which is inserted if it is new, and comes back from the trash.
    /// Returns the new row.
    pub(super) fn insert(&self, tx: &Transaction<'_>) -> rusqlite::Result<i64> {
        let (id, now) = (&self.conversation.0, now_ms());
        tx.execute(
            "INSERT INTO conversations (id, system, settings, created, changed) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET system = excluded.system, settings = excluded.settings,
               changed = excluded.changed, removed = NULL",
            params![id, self.system, self.settings, self.asked, now],
        )?;
        tx.execute(
            "INSERT INTO turns (conversation, parent, prompt, model, sampling, asked, writer, files)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![id, self.parent, self.prompt, self.model, self.sampling, self.asked, self.writer, self.files],
        )?;
        let row = tx.last_insert_rowid();
        tx.execute("UPDATE conversations SET head = ?2 WHERE id = ?1", params![id, row])?;
        Ok(row)
    }
}

/// The sampling parameters as JSON.
pub(super) fn sampling(params: Option<&SamplingParams>) -> Option<String> {
    params.and_then(|params| serde_json::to_string(params).ok())
}

/// The column `files`: a JSON array; NULL without files.
pub(super) fn files_text(files: &[Attachment]) -> Option<String> {
    if files.is_empty() { None } else { serde_json::to_string(files).ok() }
}

/// The files in the column `files`; none if it is damaged.
pub(super) fn files(text: Option<String>) -> Vec<Attachment> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The columns that [`read_turn`] expects, in this order.
pub(super) const TURN: &str = "key, parent, prompt, model, reasoning, answer, state, error, prompt_tokens, \
                               cached_tokens, completion_tokens, timing, files, removed";

/// Reads a turn; `before`: the rows of the earlier turns of the conversation.
pub(super) fn read_turn(row: &Row<'_>, before: &[i64]) -> rusqlite::Result<Turn> {
    let state = cell::text(row, 6)?;
    let reason = match state.as_str() {
        "stop" => Some(FinishReason::Stop),
        "length" => Some(FinishReason::Length),
        "cancelled" => Some(FinishReason::Cancelled),
        _ => None,
    };
    let ending = match (reason, state.as_str()) {
        (Some(reason), _) => {
            let usage = Usage::of([cell::known(row, 8)?, cell::known(row, 9)?, cell::known(row, 10)?]);
            let timing = cell::optional_text(row, 11)?.and_then(|text| timing::from_json(&text));
            Ending::Finished { reason, usage, timing }
        }
        (None, "failed") => Ending::Failed { message: cell::text(row, 7)? },
        (None, "pending") => Ending::Pending,
        (None, _) => Ending::Interrupted,
    };
    Ok(Turn {
        parent: cell::integer(row, 1)?.and_then(|key| place(before, key)),
        prompt: cell::text(row, 2)?,
        model: cell::text(row, 3)?,
        answer: Answer { reasoning: cell::text(row, 4)?, text: cell::text(row, 5)?, ending, trace: None, served: None },
        files: files(cell::optional_text(row, 12)?),
        removed: cell::integer(row, 13)?.is_some_and(|removed| removed != 0),
    })
}

/// The index of the turn with the row `key`.
pub(super) fn place(rows: &[i64], key: i64) -> Option<TurnId> {
    rows.iter().position(|row| *row == key).map(TurnId)
}
