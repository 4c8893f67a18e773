//! What can go wrong with the store, said so that the user knows what was kept.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the store could not do it. May quote foreign text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A later chatnap wrote the file; nothing was changed.
    #[error(
        "{} was written by a newer chatnap (schema {found}, this one knows {known}); nothing was changed. \
         Use the newer program, or another data_dir.", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// No such conversation or turn.
    #[error("{0}")]
    NotFound(String),
    /// The disk is full; what was stored before stays.
    #[error("The disk is full: nothing more can be stored until there is room ({0}). What was stored before is kept.")]
    Full(String),
    /// Other processes wrote all the time.
    #[error("Other programs have kept the conversations' file locked for too long; what was stored before is kept.")]
    Busy,
    /// The folder or file cannot be written.
    #[error("The conversations cannot be stored: {0}")]
    Io(String),
}

impl StoreError {
    pub(super) fn missing(what: &str) -> Self {
        Self::NotFound(format!("There is no such {what}."))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            Some(ErrorCode::DatabaseBusy) => Self::Busy,
            _ if super::is_damaged(&error) => Self::Io(format!(
                "the file is damaged ({error}); start chatnap again: it keeps the damaged file aside and starts anew"
            )),
            _ => Self::Io(error.to_string()),
        }
    }
}
