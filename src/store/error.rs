//! Errors of the store. Each message names what was kept.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// An error of the store. The message may quote foreign text: sanitise it before display.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A newer chatnap wrote the file; nothing was changed.
    #[error(
        "{} was written by a newer chatnap (schema {found}, this one supports {known}); nothing was changed. \
         Use the newer program, or another data_dir.", path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The latest schema version that this program supports.
        known: i64,
    },
    /// No such conversation or turn.
    #[error("{0}")]
    NotFound(String),
    /// The disk is full; the stored turns are kept.
    #[error("The disk is full: nothing more can be stored until there is room ({0}). What was stored before is kept.")]
    Full(String),
    /// Another process has locked the database, or is opening it.
    #[error("Another program has locked the stored conversations; what was stored before is kept.")]
    Busy,
    /// The file is damaged, or it is not a database of this program.
    #[error(
        "The stored conversations are damaged ({0}). Start chatnap again: it keeps the damaged file aside and starts \
         a new one."
    )]
    Damaged(String),
    /// The folder or file cannot be written.
    #[error("The conversations cannot be stored: {0}")]
    Io(String),
}

impl StoreError {
    pub(super) fn missing(what: &str) -> Self {
        Self::NotFound(format!("There is no such {what}."))
    }

    pub(super) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io(format!("{}: {error}", path.display()))
    }

    /// Whether the same call may succeed later, or after the next start has created a new file.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Busy | Self::Full(_) | Self::Damaged(_) | Self::Io(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{
            DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed, NotADatabase,
        };
        // The statement does not match the tables; its text does not help the user.
        if let rusqlite::Error::SqlInputError { msg, .. } = &error {
            return Self::Damaged(msg.clone());
        }
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::Full(error.to_string()),
            Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed) => Self::Busy,
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}
