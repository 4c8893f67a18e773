//! Loads and releases of models, for the figures of `usage`.

use rusqlite::{Row, params};

use super::{Result, Store, cell, now_ms};
use crate::protocol::DeviceInfo;
use crate::usage::Load;

/// A load of a model, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadKey(i64);

impl Store {
    /// Stores a load that has just ended, after `took_ms`.
    pub fn loaded(&mut self, model: &str, device: &DeviceInfo, took_ms: u64, bytes: u64) -> Result<LoadKey> {
        let writer = self.writer.announce()?;
        let (now, took) = (now_ms(), i64::try_from(took_ms).unwrap_or(i64::MAX));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let inserted = self.db.execute(
            "INSERT INTO loads (writer, model, device, asked, loaded, seen, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
            params![writer, model, serde_json::to_string(device).ok(), now.saturating_sub(took), now, bytes],
        );
        self.noted(inserted.map_err(Into::into))?;
        Ok(LoadKey(self.db.last_insert_rowid()))
    }

    /// Stores that the model of this load is still held now.
    pub fn held(&mut self, load: LoadKey) -> Result<()> {
        let updated = self.db.execute("UPDATE loads SET seen = ?2 WHERE key = ?1", params![load.0, now_ms()]);
        self.noted(updated.map(drop).map_err(Into::into))
    }

    /// Stores that the model of this load was released now.
    pub fn released(&mut self, load: LoadKey, energy_mj: Option<u64>) -> Result<()> {
        let energy = energy_mj.and_then(|energy| i64::try_from(energy).ok());
        let updated = self.db.execute(
            "UPDATE loads SET seen = ?2, released = ?2, energy_mj = ?3 WHERE key = ?1",
            params![load.0, now_ms(), energy],
        );
        self.noted(updated.map(drop).map_err(Into::into))
    }

    /// All loads, oldest first.
    pub fn loads(&self) -> Result<Vec<Load>> {
        let read = || -> rusqlite::Result<Vec<Load>> {
            let mut statement = self.db.prepare(
                "SELECT model, device, asked, loaded, seen, released, bytes, energy_mj FROM loads ORDER BY asked, key",
            )?;
            statement.query_map([], load)?.collect()
        };
        self.noted(read().map_err(Into::into))
    }
}

fn load(row: &Row<'_>) -> rusqlite::Result<Load> {
    let count = |column| cell::integer(row, column).map(|found| found.and_then(|number| u64::try_from(number).ok()));
    Ok(Load {
        model: cell::text(row, 0)?,
        device: cell::optional_text(row, 1)?.and_then(|text| serde_json::from_str(&text).ok()),
        asked_ms: cell::count(row, 2)?,
        loaded_ms: count(3)?,
        seen_ms: count(4)?,
        released_ms: count(5)?,
        bytes: count(6)?.filter(|bytes| *bytes > 0),
        energy_mj: count(7)?,
    })
}
