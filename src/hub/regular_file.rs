//! Opens files of the shared caches only if they are regular files: no write through a planted link, no blocking on a
//! pipe.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// Opens a file to read and write without truncating it; creates it if it does not exist. An error of kind
/// `InvalidInput` if the path is anything but a regular file (a link to one included).
pub(super) fn open_to_fill(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let file = open(options, path, true).map_err(|error| match path.symlink_metadata() {
        Ok(meta) if !meta.is_file() => not_regular(),
        _ => error,
    })?;
    check(file)
}

/// Opens a regular file, or a link to one, to read it.
pub(super) fn open_to_read(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    check(open(options, path, false)?)
}

/// The content of a regular file, or of a link to one; an error if it is larger than `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(Error::other("it is too large")) } else { Ok(bytes) }
}

/// As `read`, for text; empty if the file cannot be read or is not UTF-8.
pub(super) fn text(path: &Path, most: u64) -> String {
    read(path, most).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Writes a file with this content to `path` atomically; a link of that name is replaced, not followed.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    // Other users may share the cache: leave the mode to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Opens without blocking on a pipe, and with `stay` without following a link.
#[cfg_attr(not(unix), allow(unused_mut, unused_variables))]
fn open(mut options: OpenOptions, path: &Path, stay: bool) -> Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if stay { OFlags::NONBLOCK | OFlags::NOFOLLOW } else { OFlags::NONBLOCK };
        options.custom_flags(flags.bits() as i32);
    }
    options.open(path)
}

fn check(file: File) -> Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> Error {
    Error::new(ErrorKind::InvalidInput, "it is not a regular file but a link, a pipe or something else")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_and_pipes_are_rejected_without_blocking() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("victim"), "precious").unwrap();
        std::os::unix::fs::symlink(at("victim"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for name in ["link", "dangling", "pipe", "."] {
            assert_eq!(open_to_fill(&at(name)).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        assert!(!at("nowhere").exists());
        assert!(open_to_read(&at("pipe")).is_err());
        assert_eq!(read(&at("link"), 8).unwrap(), b"precious");
        assert!(read(&at("link"), 7).is_err());
        replace(&at("link"), b"new").unwrap();
        assert_eq!(text(&at("link"), 8), "new");
        assert_eq!(text(&at("victim"), 8), "precious");
    }
}
