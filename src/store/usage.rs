//! What `chatnap usage` reads: one row for each turn, also of conversations in the trash.

use rusqlite::{Connection, Row};

use super::{Result, cell, timing};
use crate::protocol::Usage;
use crate::usage::Answered;

/// All turns, those asked first come first, without those of other programs, which finished and have no times.
pub(super) fn answers(db: &Connection) -> Result<Vec<Answered>> {
    let mut statement = db.prepare(
        "SELECT asked, model, device, prompt_tokens, cached_tokens, completion_tokens, timing FROM turns
         WHERE NOT (state IN ('stop', 'length', 'cancelled') AND timing IS NULL) ORDER BY asked, key",
    )?;
    let rows = statement.query_map([], answered)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn answered(row: &Row<'_>) -> rusqlite::Result<Answered> {
    let is_counted = cell::integer(row, 5)?.is_some();
    let usage = Usage::of([cell::known(row, 3)?, cell::known(row, 4)?, cell::known(row, 5)?]);
    Ok(Answered {
        asked_ms: cell::count(row, 0)?,
        model: cell::text(row, 1)?,
        device: cell::optional_text(row, 2)?.and_then(|text| serde_json::from_str(&text).ok()),
        usage: is_counted.then_some(usage),
        timing: cell::optional_text(row, 6)?.and_then(|text| timing::from_json(&text)),
    })
}
