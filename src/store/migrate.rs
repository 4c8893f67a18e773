//! Creates the tables of a new database, and brings an older one to the current schema.

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::Result;
use super::schema::{STEPS, VERSION};

/// Brings the database from its schema version to [`VERSION`] in one transaction; 0 is an empty database.
pub(super) fn migrate(db: &mut Connection) -> Result<()> {
    if version(db)? == VERSION {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated it before this one got the lock.
    let from = usize::try_from(version(&tx)?).unwrap_or_default();
    for step in STEPS.iter().skip(from) {
        tx.execute_batch(step)?;
    }
    tx.commit()?;
    if from > 0 {
        tracing::debug!(from, to = VERSION, "database migrated");
    }
    Ok(())
}

/// A copy in memory of an older database that cannot be written, with the current schema.
pub(super) fn migrated_copy(db: &Connection) -> Result<Connection> {
    let mut copy = Connection::open_in_memory_with_flags(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    rusqlite::backup::Backup::new(db, &mut copy)?.step(-1)?;
    migrate(&mut copy)?;
    Ok(copy)
}

fn version(db: &Connection) -> Result<i64> {
    Ok(db.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}
