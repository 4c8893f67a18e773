//! Checks content and schema of the database. A damaged or foreign one is set aside: renamed, never deleted.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{TABLES, VERSION};
use super::{Result, StoreError, cell, database_path, now_ms};

/// Files up to this size are checked completely at each start, which takes a few dozen milliseconds at most.
const CHECKED_SIZE: u64 = 32 << 20;

/// If this file exists, the next start checks the database at any size: a statement found it damaged.
const SUSPECT: &str = "conversations.suspect";

/// Files up to this size are also checked for indexes that do not match their tables.
const INDEXES_CHECKED_SIZE: u64 = 8 << 20;

/// Messages of the check about single values: only their rows are affected, so the file is kept.
const ROW_FAULTS: [&str; 3] = ["CHECK constraint failed", "NULL value in", " value in "];

/// Messages of the check about indexes, which are rebuilt from the tables.
const INDEX_FAULTS: [&str; 4] =
    ["missing from index", "of entries in index", "non-unique entry in index", "values differ from index"];

/// Checks that the tables are those of this program. Returns whether they are of the current schema version, not of an
/// earlier one.
pub(super) fn check_schema(db: &Connection, path: &Path) -> Result<bool> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mut complete = true;
    for (table, _, columns) in TABLES.into_iter().filter(|(_, since, _)| *since <= found.max(1)) {
        let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let there: Vec<String> =
            statement.query_map([table], |row| cell::text(row, 0))?.collect::<rusqlite::Result<_>>()?;
        if there.is_empty() {
            return Err(StoreError::Damaged("it has no tables of chatnap".into()));
        }
        complete &= columns.iter().all(|column| there.iter().any(|name| name == column));
    }
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known: VERSION });
    }
    if complete { Ok(found == VERSION) } else { Err(StoreError::Damaged("its tables are not those of chatnap".into())) }
}

/// Checks a small database, and one that a statement found damaged. Rebuilds indexes that do not match their tables; an
/// invalid value affects only its row.
pub(super) fn check_content(db: &Connection, data_dir: &Path, size: u64) -> Result<()> {
    let mark = data_dir.join(SUSPECT);
    let is_suspect = mark.try_exists().unwrap_or(false);
    if size > CHECKED_SIZE && !is_suspect {
        return Ok(());
    }
    let whole = size <= INDEXES_CHECKED_SIZE || is_suspect;
    let check = if whole { "integrity_check" } else { "quick_check" };
    let mut verdicts = Vec::new();
    // Not the search index: it takes longest, and is made again when a statement finds it damaged.
    for table in ["conversations", "turns", "loads"] {
        // A database of an earlier version has fewer tables.
        if !db.table_exists(None, table)? {
            continue;
        }
        let mut statement = db.prepare(&format!("PRAGMA {check}({table})"))?;
        let rows = statement.query_map([], |row| cell::text(row, 0))?;
        verdicts.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    let is_of = |verdict: &str, words: &[&str]| words.iter().any(|word| verdict.contains(word));
    let fatal = |verdict: &&String| *verdict != "ok" && !is_of(verdict, &ROW_FAULTS) && !is_of(verdict, &INDEX_FAULTS);
    if let Some(verdict) = verdicts.iter().find(fatal) {
        return Err(StoreError::Damaged(verdict.replace('\n', " ")));
    }
    if verdicts.iter().any(|verdict| is_of(verdict, &INDEX_FAULTS)) {
        // If another process has locked the database, the next start rebuilds them.
        let _ = db.execute_batch("REINDEX");
    }
    if is_suspect {
        // A mark that remains only costs another check.
        let _ = std::fs::remove_file(mark);
    }
    Ok(())
}

/// Makes the next start check the whole database.
pub(super) fn suspect(data_dir: &Path) {
    let mut options = std::fs::OpenOptions::new();
    // In a read-only folder the database could not be set aside either.
    let _ = super::data_dir::open_private(&data_dir.join(SUSPECT), options.write(true).create(true).truncate(false));
}

/// `path` with `ending` appended to its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames the database and its companion files. Returns a notice for the user.
pub(super) fn set_aside(data_dir: &Path, why: &str) -> Result<String> {
    let path = database_path(data_dir);
    let stamp = format!(".damaged-{}", now_ms());
    let kept = beside(&path, &stamp);
    std::fs::rename(&path, &kept).map_err(|error| StoreError::io(&path, &error))?;
    for companion in ["-wal", "-shm", "-journal"] {
        // SQLite finds them by the name of the database; under another name their content would be lost.
        let _ = std::fs::rename(beside(&path, companion), beside(&path, &format!("{stamp}{companion}")));
    }
    let _ = std::fs::remove_file(data_dir.join(SUSPECT));
    tracing::warn!(reason = why, kept = %kept.display(), "database set aside");
    Ok(format!(
        "The stored conversations could not be read ({why}). The file is kept as {}; a new one was started.",
        kept.display()
    ))
}
