//! Who is writing: each process that asks holds a lock on a file of its own as long as it lives. An unfinished answer
//! whose writer holds no lock any more was interrupted, however that process ended.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use super::id::random_hex;

const FOLDER: &str = "writers";

/// This process's name and lock. The file is made at the first question.
pub(super) struct Writer {
    folder: PathBuf,
    announced: Option<(String, File)>,
}

impl Writer {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER), announced: None }
    }

    /// This process's name, with its lock held.
    pub(super) fn announce(&mut self) -> Result<String, StoreError> {
        if let Some((name, _)) = &self.announced {
            return Ok(name.clone());
        }
        super::open::create_folder(&self.folder)?;
        let name = random_hex();
        let path = self.folder.join(&name);
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        self.announced = Some((name.clone(), file));
        Ok(name)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some((name, _lock)) = self.announced.take() {
            // A file that stays is removed by whoever opens the store next.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }
}

/// Whether the process of this name is gone.
pub(super) fn is_gone(data_dir: &Path, name: &str) -> bool {
    match File::open(data_dir.join(FOLDER).join(name)) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
    }
}

/// Removes the files of processes that are gone.
pub(super) fn sweep(data_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| is_gone(data_dir, name)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
