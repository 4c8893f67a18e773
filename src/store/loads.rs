//! Loads and releases of models, for the figures of `usage`.

use rusqlite::params;

use super::{Result, Store, cell, now_ms};
use crate::protocol::DeviceInfo;

/// A load of a model, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadKey(i64);

/// A load of a model. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadRecord {
    /// The model's name, as the user saw it.
    pub model: String,
    /// Where it was loaded; `None` if the row is damaged.
    pub device: Option<DeviceInfo>,
    /// When the load began.
    pub asked_ms: u64,
    /// When the model was ready.
    pub loaded_ms: u64,
    /// When the process was last known to hold it.
    pub seen_ms: u64,
    /// When its memory was given back; `None`: not yet, or the process ended before it could say so.
    pub released_ms: Option<u64>,
    /// Memory of the model.
    pub bytes: u64,
    /// Energy that the GPU used from load to release, by its own counter.
    pub energy_mj: Option<u64>,
}

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

    /// The loads that had not ended before `since_ms`, oldest first.
    pub fn loads(&self, since_ms: u64) -> Result<Vec<LoadRecord>> {
        let since = i64::try_from(since_ms).unwrap_or(i64::MAX);
        let read = || -> rusqlite::Result<Vec<LoadRecord>> {
            let mut statement = self.db.prepare(
                "SELECT model, device, asked, loaded, seen, released, bytes, energy_mj FROM loads
                 WHERE coalesce(released, seen) >= ?1 ORDER BY asked, key",
            )?;
            let rows = statement.query_map([since], |row| {
                let optional = |column| {
                    cell::integer(row, column).map(|found| found.and_then(|number| u64::try_from(number).ok()))
                };
                Ok(LoadRecord {
                    model: cell::text(row, 0)?,
                    device: cell::optional_text(row, 1)?.and_then(|text| serde_json::from_str(&text).ok()),
                    asked_ms: cell::count(row, 2)?,
                    loaded_ms: cell::count(row, 3)?,
                    seen_ms: cell::count(row, 4)?,
                    released_ms: optional(5)?,
                    bytes: cell::count(row, 6)?,
                    energy_mj: optional(7)?,
                })
            })?;
            rows.collect()
        };
        self.noted(read().map_err(Into::into))
    }
}
