//! What `chatnap usage` reads: one row for each turn, also of conversations in the trash, and one for each load.

use rusqlite::{Connection, Row};

use super::{Result, cell, timing};
use crate::protocol::{DeviceInfo, DeviceKind, Usage};
use crate::usage::{Answered, Load};

/// All turns, those asked first come first, without those of other programs, which finished and have no times.
pub(super) fn answers(db: &Connection) -> Result<Vec<Answered>> {
    let device = if has_column(db, "turns", "device")? { "device" } else { "NULL" };
    let mut statement = db.prepare(&format!(
        "SELECT asked, model, {device}, prompt_tokens, cached_tokens, completion_tokens, timing FROM turns
         WHERE NOT (state IN ('stop', 'length', 'cancelled') AND timing IS NULL) ORDER BY asked, key",
    ))?;
    let rows = statement.query_map([], answered)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn answered(row: &Row<'_>) -> rusqlite::Result<Answered> {
    let count = |column| cell::count(row, column).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let is_counted = cell::integer(row, 5)?.is_some();
    let usage = Usage { prompt_tokens: count(3)?, cached_tokens: count(4)?, completion_tokens: count(5)? };
    Ok(Answered {
        asked_ms: cell::count(row, 0)?,
        model: cell::text(row, 1)?,
        device: cell::optional_text(row, 2)?.and_then(|text| device(&text)),
        usage: is_counted.then_some(usage),
        timing: cell::optional_text(row, 6)?.and_then(|text| timing::from_json(&text)),
    })
}

/// All loads, those begun first come first.
pub(super) fn loads(db: &Connection) -> Result<Vec<Load>> {
    if !has_column(db, "loads", "loaded")? {
        return Ok(Vec::new());
    }
    let mut statement = db.prepare(
        "SELECT model, device, asked, loaded, seen, released, bytes, energy_mj FROM loads ORDER BY asked, key",
    )?;
    let rows = statement.query_map([], load)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn load(row: &Row<'_>) -> rusqlite::Result<Load> {
    let optional = |column| cell::integer(row, column).map(|number| number.and_then(|n| u64::try_from(n).ok()));
    Ok(Load {
        model: cell::text(row, 0)?,
        device: cell::optional_text(row, 1)?.and_then(|text| device(&text)),
        asked_ms: cell::count(row, 2)?,
        loaded_ms: optional(3)?,
        seen_ms: optional(4)?,
        released_ms: optional(5)?,
        bytes: optional(6)?,
        energy_mj: optional(7)?,
    })
}

fn has_column(db: &Connection, table: &str, column: &str) -> Result<bool> {
    let query = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    Ok(db.query_row(query, [table, column], |row| row.get::<_, i64>(0))? > 0)
}

/// `{"kind": "cuda", "name": "…"}`, or only a kind.
fn device(text: &str) -> Option<DeviceInfo> {
    let kind = |kind: &str| match kind {
        "cpu" => Some(DeviceKind::Cpu),
        "cuda" => Some(DeviceKind::Cuda),
        _ => None,
    };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => {
            let name = value["name"].as_str().unwrap_or_default();
            Some(DeviceInfo { kind: kind(value["kind"].as_str()?)?, name: name.to_owned() })
        }
        Err(_) => Some(DeviceInfo { kind: kind(text)?, name: String::new() }),
    }
}
