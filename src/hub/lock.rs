//! A lock file for each download: one process downloads, the others wait and report the size of its partial file.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::job::{Job, TICK};
use super::{not_found, regular_file};
use crate::protocol::*;

/// Held while one process fetches one file; released when dropped, and by the system when the process dies.
#[derive(Debug)]
pub(super) struct FetchLock(#[allow(dead_code, reason = "the open file holds the lock")] File);

impl FetchLock {
    /// Blocks until the lock at `path` is acquired, calling `waiting` every [`TICK`]; an error on a cancel.
    pub(super) fn wait(
        path: &Path,
        job: &mut Job<'_>,
        mut waiting: impl FnMut(&mut Job<'_>),
    ) -> Result<Self, EngineError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        }
        let file = regular_file::open_to_fill(path).map_err(|error| cannot_write(path, &error))?;
        loop {
            job.check()?;
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => {
                    waiting(job);
                    std::thread::sleep(TICK);
                }
                Err(TryLockError::Error(error)) => return Err(cannot_write(path, &error)),
            }
        }
    }
}

/// The error for a cache file that cannot be written, with advice by kind of error.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> EngineError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "the disk is full; free some space and start again, the download goes on where it stopped"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "point HF_HOME (models of the hub) or XDG_CACHE_HOME (the starter model) to a folder that can be written"
        }
        std::io::ErrorKind::InvalidInput => "nothing was written through it: remove it and start again",
        _ => "nothing was lost; start again to go on",
    };
    not_found(format!("Cannot write {}: {error}; {hint}.", path.display()))
}
