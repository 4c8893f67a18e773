//! Opens the store: lock, folder, schema. Sets a damaged database aside and cleans up after processes that have ended.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::data_dir::{create_folder, lock, make_private, open_private};
use super::{Result, Store, StoreError, cell, change, database_path, migrate, repair, spool, writer};
use crate::files::check_regular;

/// The name of the database file in the data folder.
pub const DATABASE: &str = "conversations.db";

/// The lock file, locked while a process opens the store.
const LOCK: &str = "conversations.lock";

/// How long a subcommand waits for a lock of another process.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long the cleanup waits for a lock of another process; it can be done later.
const TIDYING: Duration = Duration::from_millis(50);

/// An open store, with notices for the user.
pub struct Opened {
    /// Ready for use.
    pub store: Store,
    /// For example that a damaged file was set aside.
    pub notices: Vec<String>,
}

/// Opens the store. `Busy` if another process keeps it locked for longer than about `patience`.
pub(super) fn open(data_dir: &Path, patience: Duration) -> Result<Opened> {
    create_folder(data_dir)?;
    let mut notices: Vec<String> = make_private(data_dir).into_iter().collect();
    // Only one process at a time creates, repairs or cleans up.
    let _turn = lock(&data_dir.join(LOCK), patience)?;
    let store = match take_over(data_dir, patience, &mut notices) {
        Err(StoreError::Damaged(why)) => {
            notices.push(repair::set_aside(data_dir, &why)?);
            take_over(data_dir, patience, &mut notices)?
        }
        done => done?,
    };
    Ok(Opened { store, notices })
}

/// Connects and cleans up. Any statement may return `Damaged`.
fn take_over(data_dir: &Path, patience: Duration, notices: &mut Vec<String>) -> Result<Store> {
    let mut store = Store::new(connect(data_dir, patience)?, data_dir);
    let tidied = store.tidy(notices);
    store.db.busy_timeout(patience)?;
    match tidied {
        Ok(()) => store.tidied = true,
        // The caller does not depend on the cleanup; the next save tries it again.
        Err(StoreError::Busy) => {}
        Err(error) => return Err(error),
    }
    Ok(store)
}

impl Store {
    /// Stores the turns that earlier processes could not store, and marks unfinished answers of ended processes as
    /// interrupted. The caller holds `LOCK`.
    fn tidy(&mut self, notices: &mut Vec<String>) -> Result<()> {
        let data_dir = self.data_dir.clone();
        self.db.busy_timeout(TIDYING)?;
        spool::import(&mut self.db, &data_dir, notices)?;
        mark_interrupted(&self.db, &data_dir)?;
        change::empty_trash(&self.db)?;
        writer::sweep(&data_dir);
        Ok(())
    }

    /// Cleans up if that failed when the store was opened.
    pub(super) fn tidy_later(&mut self) {
        if !self.tidied
            && let Ok(_turn) = lock(&self.data_dir.join(LOCK), Duration::ZERO)
        {
            // On an error the next start cleans up.
            self.tidied = self.tidy(&mut Vec::new()).is_ok();
        }
    }
}

/// Opens an existing store for reading.
pub(super) fn open_to_read(data_dir: &Path) -> Result<Option<Store>> {
    let path = database_path(data_dir);
    if !path.try_exists().map_err(|error| StoreError::io(&path, &error))? {
        return Ok(None);
    }
    check_files(&path)?;
    let read_only = |uri: String| -> Result<Connection> {
        let db = Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        db.busy_timeout(PATIENCE)?;
        let is_current = repair::check_schema(&db, &path)?;
        if is_current { Ok(db) } else { migrate::migrated_copy(&db) }
    };
    let db = match read_only(file_uri(&path, "mode=ro")) {
        // In a read-only folder SQLite cannot open the WAL. Without a WAL the database file is complete.
        Err(StoreError::Io(_)) => read_only(file_uri(&path, "immutable=1"))?,
        done => done?,
    };
    Ok(Some(Store::new(db, data_dir)))
}

fn file_uri(path: &Path, query: &str) -> String {
    let escaped: String = path
        .to_string_lossy()
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("file:{escaped}?{query}")
}

/// SQLite opens these files itself and would block on a FIFO.
fn check_files(path: &Path) -> Result<()> {
    for companion in ["", "-wal", "-shm", "-journal"] {
        let file = repair::beside(path, companion);
        check_regular(&file).map_err(|error| StoreError::io(&file, &error))?;
    }
    Ok(())
}

/// Opens or creates the database, and checks its content and schema.
fn connect(data_dir: &Path, patience: Duration) -> Result<Connection> {
    let path = &database_path(data_dir);
    check_files(path)?;
    if !path.try_exists().map_err(|error| StoreError::io(path, &error))? {
        create(path)?;
    }
    // SQLite creates its other files with the permissions of this one.
    let private = open_private(path, OpenOptions::new().read(true).write(true));
    let size = private.and_then(|file| file.metadata()).map_err(|error| StoreError::io(path, &error))?.len();
    if size == 0 {
        return Err(StoreError::Damaged("it was empty".into()));
    }
    let mut db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(patience)?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    repair::check_schema(&db, path)?;
    // WAL: readers and writers do not block each other. FULL: a question must survive a power cut before its answer.
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    repair::check_content(&db, data_dir, size)?;
    migrate::migrate(&mut db)?;
    Ok(db)
}

/// Creates the database under another name and renames it. So an empty database file always means that data was lost.
fn create(path: &Path) -> Result<()> {
    let new = repair::beside(path, ".new");
    for leftover in [&new, &repair::beside(&new, "-journal")] {
        let _ = std::fs::remove_file(leftover);
    }
    open_private(&new, OpenOptions::new().write(true).create_new(true))
        .map_err(|error| StoreError::io(&new, &error))?;
    let mut db = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate::migrate(&mut db)?;
    drop(db);
    std::fs::rename(&new, path).map_err(|error| StoreError::io(path, &error))
}

/// Marks pending answers as interrupted if their writer has ended.
fn mark_interrupted(db: &Connection, data_dir: &Path) -> Result<()> {
    let mut statement = db.prepare("SELECT DISTINCT writer FROM turns WHERE state = 'pending'")?;
    let writers: Vec<String> = statement.query_map([], |row| cell::text(row, 0))?.collect::<rusqlite::Result<_>>()?;
    for name in writers.iter().filter(|name| writer::is_gone(data_dir, name)) {
        db.execute("UPDATE turns SET state = 'interrupted' WHERE state = 'pending' AND writer = ?1", [name])?;
    }
    Ok(())
}
