//! Identifies the writing processes: each holds a lock on its own file until it ends. An unfinished answer is marked as
//! interrupted if the file of its writer is not locked any more, for any reason.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use super::data_dir::{create_private_folder, open_private, wait_for_lock};
use super::id::random_hex;
use crate::files::open_regular;

const FOLDER: &str = "writers";

/// How long to wait for the lock of a new file. Another process holds it only while it checks whether it is locked.
const PROBE: Duration = Duration::from_secs(1);

/// Attempts to create a file before a sweep of another process removes it; more failures are not a coincidence.
const ATTEMPTS: usize = 16;

/// This process's name and lock. The file is created when the first turn is stored.
pub(super) struct Writer {
    folder: PathBuf,
    announced: Option<(String, File)>,
}

impl Writer {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER), announced: None }
    }

    /// This process's name. Creates and locks the file at the first call.
    pub(super) fn announce(&mut self) -> Result<String, StoreError> {
        if let Some((name, _)) = &self.announced {
            return Ok(name.clone());
        }
        create_private_folder(&self.folder)?;
        for _ in 0..ATTEMPTS {
            let name = random_hex();
            if let Some(file) = claim(&self.folder.join(&name))? {
                self.announced = Some((name.clone(), file));
                return Ok(name);
            }
        }
        Err(StoreError::Io(format!("{}: the new files in it are removed at once", self.folder.display())))
    }
}

/// Creates `path` and locks it. `None`: between the two steps the sweep of another process removed the unlocked file,
/// so the lock is on an unlinked file.
fn claim(path: &Path) -> Result<Option<File>, StoreError> {
    let failed = |error: std::io::Error| StoreError::io(path, &error);
    let file = open_private(path, OpenOptions::new().write(true).create_new(true)).map_err(failed)?;
    wait_for_lock(&file, PROBE).map_err(|error| failed(error.into()))?;
    let ours = file.metadata().map_err(failed)?;
    let in_place = path.symlink_metadata().is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
    Ok(in_place.then_some(file))
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some((name, _lock)) = self.announced.take() {
            // A file that remains is removed by the next process that opens the store.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }
}

/// Whether the process with this name has ended.
pub(super) fn is_gone(data_dir: &Path, name: &str) -> bool {
    match seize(&data_dir.join(FOLDER).join(name)) {
        Ok(seized) => seized.is_some(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Takes over the lock of an ended process; `None` if the process is running.
fn seize(path: &Path) -> std::io::Result<Option<File>> {
    let file = open_regular(path, OpenOptions::new().read(true))?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
}

/// Removes the files of ended processes. Holds the lock until the file is removed, so that a process that waits for the
/// lock then sees that its file is gone.
pub(super) fn sweep(data_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(data_dir.join(FOLDER)) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Ok(Some(_lock)) = seize(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_sweeps_remove_no_file_of_a_running_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        sweep(data);
                    }
                });
            }
            let lost = (0..500)
                .filter(|_| {
                    let mut writer = Writer::new(data);
                    let name = writer.announce().unwrap();
                    is_gone(data, &name) || !data.join(FOLDER).join(&name).exists()
                })
                .count();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lost, 0);
        });
    }
}
