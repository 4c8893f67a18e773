//! Opening the store: folder, permissions, schema, repair.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};

use super::{Result, Store, StoreError, database_path, is_damaged, now_ms, writer};

/// The file in the data folder.
pub const DATABASE: &str = "conversations.db";

/// The schema that this program writes; `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;

/// How long a call waits for other processes before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files up to this size are checked whole at each start; that takes a few dozen milliseconds at most.
const CHECKED_SIZE: u64 = 32 << 20;

const SCHEMA: &str = "
CREATE TABLE conversations (
  id TEXT PRIMARY KEY,
  title TEXT,
  system TEXT,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  head INTEGER
);
CREATE INDEX conversations_changed ON conversations (changed);
CREATE TABLE turns (
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
  parent INTEGER REFERENCES turns (key) ON DELETE SET NULL,
  prompt TEXT NOT NULL,
  model TEXT NOT NULL,
  sampling TEXT,
  asked INTEGER NOT NULL,
  reasoning TEXT NOT NULL DEFAULT '',
  answer TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL DEFAULT 'pending'
    CHECK (state IN ('pending', 'stop', 'length', 'cancelled', 'failed', 'interrupted')),
  error TEXT,
  prompt_tokens INTEGER,
  cached_tokens INTEGER,
  completion_tokens INTEGER,
  timing TEXT,
  writer TEXT NOT NULL
);
CREATE INDEX turns_conversation ON turns (conversation, key);
CREATE INDEX turns_parent ON turns (parent);
CREATE INDEX turns_pending ON turns (writer) WHERE state = 'pending';
PRAGMA user_version = 1;
";

/// An open store, with what the user should know about how it was found.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// A damaged file was kept aside, for example.
    pub notice: Option<String>,
}

pub(super) fn open(data_dir: &Path) -> Result<Opened> {
    create_folder(data_dir)?;
    let path = database_path(data_dir);
    // One process at a time creates, repairs or marks; the others find it done.
    let _turn = lock(&data_dir.join("conversations.lock"))?;
    let (db, notice) = match connect(&path) {
        Ok(db) => (db, None),
        Err(Refusal::Damaged(why)) => {
            let kept = set_aside(&path)?;
            let notice = format!(
                "The stored conversations could not be read ({why}). The damaged file is kept as {}; a new one was started.",
                kept.display()
            );
            (connect(&path).map_err(Refusal::into_error)?, Some(notice))
        }
        Err(refusal) => return Err(refusal.into_error()),
    };
    mark_interrupted(&db, data_dir)?;
    writer::sweep(data_dir);
    Ok(Opened { store: Store::new(db, data_dir), notice })
}

pub(super) fn open_to_read(data_dir: &Path) -> Result<Option<Store>> {
    let path = database_path(data_dir);
    if !path.try_exists().map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))? {
        return Ok(None);
    }
    let read_only = |uri: String| -> Result<Connection> {
        let db = Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        db.busy_timeout(PATIENCE)?;
        match newer_version(&db, &path)? {
            Some(newer) => Err(newer),
            None => Ok(db),
        }
    };
    let plain = read_only(file_uri(&path, "mode=ro"));
    let db = match plain {
        Ok(db) => db,
        Err(newer @ StoreError::Newer { .. }) => return Err(newer),
        // A log beside the database cannot be opened in a folder that cannot be written; without one this is complete.
        Err(_) => read_only(file_uri(&path, "immutable=1"))?,
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

/// Why a file could not be taken into use.
enum Refusal {
    Damaged(String),
    Other(StoreError),
}

impl Refusal {
    fn into_error(self) -> StoreError {
        match self {
            Self::Damaged(why) => StoreError::Io(why),
            Self::Other(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        if is_damaged(&error) { Self::Damaged(error.to_string()) } else { Self::Other(error.into()) }
    }
}

/// Opens or creates the file, and makes sure that it is sound and ours.
fn connect(path: &Path) -> std::result::Result<Connection, Refusal> {
    // SQLite gives its other files the permissions of this one.
    let private = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = private.map_err(|error| Refusal::Other(StoreError::Io(format!("{}: {error}", path.display()))))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    drop(file);
    let mut db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(PATIENCE)?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    if let Some(newer) = newer_version(&db, path)? {
        return Err(Refusal::Other(newer));
    }
    // Readers and writers do not wait for each other. FULL: the question must survive a power cut before it is answered.
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    if size <= CHECKED_SIZE {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Refusal::Damaged(verdict));
        }
    }
    create_schema(&mut db)?;
    Ok(db)
}

/// The refusal of a file that a later program wrote.
fn newer_version(db: &Connection, path: &Path) -> rusqlite::Result<Option<StoreError>> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newer = || StoreError::Newer { path: path.to_path_buf(), found, known: SCHEMA_VERSION };
    Ok((found > SCHEMA_VERSION).then(newer))
}

fn create_schema(db: &mut Connection) -> std::result::Result<(), Refusal> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(SCHEMA)?;
        tx.commit()?;
    }
    Ok(())
}

/// Answers that nobody is writing any more were interrupted.
fn mark_interrupted(db: &Connection, data_dir: &Path) -> Result<()> {
    let mut statement = db.prepare("SELECT DISTINCT writer FROM turns WHERE state = 'pending'")?;
    let writers: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in writers.iter().filter(|name| writer::is_gone(data_dir, name)) {
        db.execute("UPDATE turns SET state = 'interrupted' WHERE state = 'pending' AND writer = ?1", [name])?;
    }
    Ok(())
}

/// Renames a damaged file and its companions; returns the new path.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let aside = |companion: &str| PathBuf::from(format!("{}{companion}", path.display()));
    let stamp = format!(".damaged-{}", now_ms());
    let kept = aside(&stamp);
    std::fs::rename(path, &kept).map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))?;
    for companion in ["-wal", "-shm"] {
        // Their names must go on matching, or what they hold is lost.
        let _ = std::fs::rename(aside(companion), aside(&format!("{stamp}{companion}")));
    }
    Ok(kept)
}

/// Creates a folder that only this user can enter, whatever the umask; one that exists stays as it is.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", folder.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Waits for the lock on `path`, but not for ever.
fn lock(path: &Path) -> Result<File> {
    let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(failed(error.into())),
        }
    }
}
