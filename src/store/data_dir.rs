//! The data folder: creates private folders and files, and takes file locks.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Result, StoreError};
use crate::files::open_regular;

/// The name of the default data folder. A folder with another name was chosen by the user.
const USUAL_NAME: &str = "chatnap";

/// Interval between two attempts to take a lock.
const NAP: Duration = Duration::from_millis(5);

/// Creates a folder with mode 0700, independent of the umask.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |error: io::Error| StoreError::io(folder, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)
}

/// Like [`create_folder`], for a folder that only this program uses: an existing one is made private too.
pub(super) fn create_private_folder(folder: &Path) -> Result<()> {
    create_folder(folder)?;
    if folder.metadata().is_ok_and(|found| found.mode() & 0o077 != 0) {
        // Fails on a file system without permissions.
        let _ = std::fs::set_permissions(folder, Permissions::from_mode(0o700));
    }
    Ok(())
}

/// Makes the default data folder private. A folder that the user chose is not changed; if other users can write to it,
/// returns a notice.
pub(super) fn make_private(folder: &Path) -> Option<String> {
    let found = folder.metadata().ok()?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return None;
    }
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    let usual = folder.file_name().is_some_and(|name| name == USUAL_NAME);
    if ours && usual && std::fs::set_permissions(folder, Permissions::from_mode(0o700)).is_ok() {
        return None;
    }
    (mode & 0o022 != 0).then(|| {
        format!(
            "Other users can write to {} (mode {mode:o}): they can replace the stored conversations. \
             `chmod 700` prevents that.",
            folder.display()
        )
    })
}

/// Opens a regular file of the store with mode 0600; an existing file is made private too.
pub(super) fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = open_regular(path, options.mode(0o600))?;
    if file.metadata()?.mode() & 0o077 != 0 {
        // Fails on a file system without permissions, and on a file of another user.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
    Ok(file)
}

/// Locks `path` until the returned file is dropped. `Busy` after `patience`.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<File> {
    let file = open_private(path, OpenOptions::new().write(true).create(true).truncate(false))
        .map_err(|error| StoreError::io(path, &error))?;
    wait_for_lock(&file, patience).map_err(|error| match error {
        Errno::WOULDBLOCK => StoreError::Busy,
        error => StoreError::io(path, &error.into()),
    })?;
    Ok(file)
}

/// Locks an open file. `WOULDBLOCK` after `patience`.
pub(super) fn wait_for_lock(file: &File, patience: Duration) -> rustix::io::Result<()> {
    let start = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => std::thread::sleep(NAP),
            done => return done,
        }
    }
}
