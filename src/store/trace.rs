//! What an answer was computed from, as columns of the table `turns`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Result, Store, cell, varints};
use crate::conversation::{ConversationId, TurnId};
use crate::protocol::{DeviceInfo, DeviceKind, Trace, Usage};

/// The columns that [`read`] expects, in this order.
pub(super) const TRACE: &str =
    "model_hash, template_hash, build, device, variant, sampling, prompt_ids, answer_ids, spans";

/// Writes the trace of the answer in `row`.
pub(super) fn write(db: &Connection, row: i64, trace: &Trace) -> rusqlite::Result<()> {
    let ids = |ids: &[u32]| varints::to_bytes(ids.iter().map(|id| u64::from(*id)));
    db.prepare_cached(
        "UPDATE turns SET model_hash = ?2, template_hash = ?3, build = ?4, device = ?5, variant = ?6, sampling = ?7,
         prompt_ids = ?8, answer_ids = ?9, spans = ?10 WHERE key = ?1",
    )?
    .execute(params![
        row,
        trace.model_hash,
        trace.template_hash,
        trace.build,
        serde_json::to_string(&trace.device).ok(),
        trace.variant,
        serde_json::to_string(&trace.sampling).ok(),
        ids(&trace.prompt),
        ids(&trace.answer),
        serde_json::to_string(&trace.spans).ok(),
    ])?;
    Ok(())
}

/// Reads a trace from the columns from `first` on; `None` if the answer has none, or it is damaged.
pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Trace>> {
    let text = |column: usize| cell::optional_text(row, first + column);
    let ids = |column: usize| -> rusqlite::Result<Option<Vec<u32>>> {
        let bytes = cell::bytes(row, first + column)?.and_then(|bytes| varints::from_bytes(&bytes));
        Ok(bytes.and_then(|ids| ids.into_iter().map(|id| u32::try_from(id).ok()).collect()))
    };
    let (Some(model_hash), Some(template_hash), Some(build)) = (text(0)?, text(1)?, text(2)?) else { return Ok(None) };
    let device = text(3)?.and_then(|text| serde_json::from_str(&text).ok());
    let sampling = text(5)?.and_then(|text| serde_json::from_str(&text).ok());
    let spans = text(8)?.and_then(|text| serde_json::from_str(&text).ok());
    let (Some(device), Some(sampling), Some(prompt), Some(answer), Some(spans)) =
        (device, sampling, ids(6)?, ids(7)?, spans)
    else {
        return Ok(None);
    };
    let variant = text(4)?.unwrap_or_default();
    Ok(Some(Trace { model_hash, template_hash, build, device, variant, sampling, prompt, answer, spans }))
}

/// Reads the device from the columns of a trace from `first` on, if it is a server.
pub(super) fn read_server(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<DeviceInfo>> {
    let device = cell::optional_text(row, first + 3)?.and_then(|text| serde_json::from_str::<DeviceInfo>(&text).ok());
    Ok(device.filter(|device| device.kind == DeviceKind::Server))
}

/// Microseconds between the tokens, from the column `gaps`.
pub(super) fn read_gaps(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u64>> {
    Ok(cell::bytes(row, column)?.and_then(|bytes| varints::from_bytes(&bytes)).unwrap_or_default())
}

impl Store {
    /// What the answer of a turn was computed from; `None` if that is not known.
    pub fn trace(&mut self, conversation: &ConversationId, turn: TurnId) -> Result<Option<Trace>> {
        let row = self.row(conversation, turn)?;
        let query = format!("SELECT {TRACE} FROM turns WHERE key = ?1");
        let found = self.db.query_row(&query, [row], |row| read(row, 0)).optional();
        self.noted(found.map(Option::flatten).map_err(Into::into))
    }

    /// Notes that the answer of a turn is the one to the request with this hash, so that [`Self::cached`] finds it.
    pub fn set_request(&mut self, conversation: &ConversationId, turn: TurnId, request: &str) -> Result<()> {
        let row = self.row(conversation, turn)?;
        let set = self.db.execute("UPDATE turns SET request = ?2 WHERE key = ?1", params![row, request]);
        self.noted(set.map(drop).map_err(Into::into))
    }

    /// The latest stored answer to the request with this hash that was not cancelled.
    pub fn cached(&self, request: &str) -> Result<Option<Cached>> {
        let query = format!(
            "SELECT answer, reasoning, state, model, asked, prompt_tokens, cached_tokens, completion_tokens, {TRACE}
             FROM turns WHERE request = ?1 AND state IN ('stop', 'length') AND NOT removed ORDER BY key DESC LIMIT 1"
        );
        let found = self.db.query_row(&query, [request], |row| {
            Ok(Cached {
                text: cell::text(row, 0)?,
                reasoning: cell::text(row, 1)?,
                complete: cell::text(row, 2)? == "stop",
                model: cell::text(row, 3)?,
                asked_ms: cell::count(row, 4)?,
                usage: Usage::of([cell::known(row, 5)?, cell::known(row, 6)?, cell::known(row, 7)?]),
                trace: read(row, 8)?,
            })
        });
        self.noted(found.optional().map_err(Into::into))
    }

    /// Forgets which requests the stored answers belong to; returns their number. The conversations stay.
    pub fn clear_cache(&mut self) -> Result<usize> {
        let cleared = self.db.execute("UPDATE turns SET request = NULL WHERE request IS NOT NULL", []);
        self.noted(cleared.map_err(Into::into))
    }
}

/// A stored answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    /// The answer.
    pub text: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// Whether the model ended it; else the token limit did.
    pub complete: bool,
    /// The model's name, as the user saw it.
    pub model: String,
    /// When it was asked, in milliseconds since 1970 (UTC).
    pub asked_ms: u64,
    /// Its token counts.
    pub usage: Usage,
    /// What it was computed from.
    pub trace: Option<Trace>,
}
