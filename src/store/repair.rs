//! Is the database sound and ours? One that is not is set aside: renamed, never deleted.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{TABLES, VERSION};
use super::{Result, StoreError, cell, database_path, now_ms};

/// Files up to this size are checked whole at each start; that takes a few dozen milliseconds at most.
const CHECKED_SIZE: u64 = 32 << 20;

/// This file asks the next start to check the whole database, whatever its size: a statement found it damaged.
const SUSPECT: &str = "conversations.suspect";

/// Files up to this size are also checked for indexes that do not fit their tables.
const INDEXES_CHECKED_SIZE: u64 = 8 << 20;

/// Words of the check's verdicts about single values: they cost a row, not the file.
const ROW_FAULTS: [&str; 3] = ["CHECK constraint failed", "NULL value in", " value in "];

/// Words of its verdicts about indexes, which are made anew from the tables.
const INDEX_FAULTS: [&str; 4] =
    ["missing from index", "of entries in index", "non-unique entry in index", "values differ from index"];

/// Makes sure that the tables are those of this program, and not those of a later one.
pub(super) fn check_schema(db: &Connection, path: &Path) -> Result<()> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mut complete = true;
    for (table, columns) in TABLES {
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
    if complete { Ok(()) } else { Err(StoreError::Damaged("its tables are not those of chatnap".into())) }
}

/// Checks a small database, and one that was found damaged while it was used. Indexes that do not fit are made anew;
/// a value that cannot be costs its row alone.
pub(super) fn check_content(db: &Connection, data_dir: &Path, size: u64) -> Result<()> {
    let mark = data_dir.join(SUSPECT);
    let is_suspect = mark.try_exists().unwrap_or(false);
    if size > CHECKED_SIZE && !is_suspect {
        return Ok(());
    }
    let whole = size <= INDEXES_CHECKED_SIZE || is_suspect;
    let check = if whole { "PRAGMA integrity_check(100)" } else { "PRAGMA quick_check(100)" };
    let mut statement = db.prepare(check)?;
    let verdicts: Vec<String> = statement.query_map([], |row| cell::text(row, 0))?.collect::<rusqlite::Result<_>>()?;
    let is_of = |verdict: &str, words: &[&str]| words.iter().any(|word| verdict.contains(word));
    let fatal = |verdict: &&String| *verdict != "ok" && !is_of(verdict, &ROW_FAULTS) && !is_of(verdict, &INDEX_FAULTS);
    if let Some(verdict) = verdicts.iter().find(fatal) {
        return Err(StoreError::Damaged(verdict.replace('\n', " ")));
    }
    if verdicts.iter().any(|verdict| is_of(verdict, &INDEX_FAULTS)) {
        // A database that another process has locked is mended at the next start.
        let _ = db.execute_batch("REINDEX");
    }
    if is_suspect {
        // A mark that stays costs one more check.
        let _ = std::fs::remove_file(mark);
    }
    Ok(())
}

/// Asks the next start for a whole check.
pub(super) fn suspect(data_dir: &Path) {
    let mut options = std::fs::OpenOptions::new();
    // Where nothing can be written, nothing can be set aside either.
    let _ = super::data_dir::open_private(&data_dir.join(SUSPECT), options.write(true).create(true).truncate(false));
}

/// `path` with `ending` after its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames the database and its companions; what to tell the user.
pub(super) fn set_aside(data_dir: &Path, why: &str) -> Result<String> {
    let path = database_path(data_dir);
    let stamp = format!(".damaged-{}", now_ms());
    let kept = beside(&path, &stamp);
    std::fs::rename(&path, &kept).map_err(|error| StoreError::io(&path, &error))?;
    for companion in ["-wal", "-shm", "-journal"] {
        // Their names must go on matching, or what they hold is lost.
        let _ = std::fs::rename(beside(&path, companion), beside(&path, &format!("{stamp}{companion}")));
    }
    let _ = std::fs::remove_file(data_dir.join(SUSPECT));
    Ok(format!(
        "The stored conversations could not be read ({why}). The file is kept as {}; a new one was started.",
        kept.display()
    ))
}
