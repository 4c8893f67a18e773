//! Opens files that have to be regular. A FIFO, a socket or a device in the place of a file could block the program or
//! supply endless input, so it is an error. Independent of the file formats.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

mod ignored;
mod kind;
pub mod text;
pub mod walk;

/// Opens `path` with `options`; an error unless it is, or is created as, a regular file. Never blocks: the file is
/// opened with `O_NONBLOCK`, and its type is checked again on the open descriptor.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if let Ok(found) = path.metadata() {
        refuse_special(&found)?;
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    refuse_special(&file.metadata()?)?;
    Ok(file)
}

/// An error if `path` exists and is not a regular file.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) => refuse_special(&found),
        Err(_) => Ok(()),
    }
}

/// The text of a regular file of at most `largest` bytes. `/dev/null` counts as an empty file, as in other programs.
pub fn read_text(path: &Path, largest: u64) -> io::Result<String> {
    if is_null_device(path) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    open_regular(path, OpenOptions::new().read(true))?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} KiB", largest >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn is_null_device(path: &Path) -> bool {
    let device = |path: &Path| path.metadata().ok().filter(|found| found.file_type().is_char_device());
    match (device(path), device(Path::new("/dev/null"))) {
        (Some(found), Some(null)) => found.rdev() == null.rdev(),
        _ => false,
    }
}

fn refuse_special(found: &std::fs::Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::other(format!("it is {what}, not a regular file")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_opening_never_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let fifo = place("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::os::unix::fs::symlink(&fifo, place("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        for path in [fifo, place("link"), place("socket"), folder.path().to_owned(), "/dev/zero".into()] {
            for options in [OpenOptions::new().read(true), OpenOptions::new().write(true).create(true)] {
                let error = open_regular(&path, options).unwrap_err().to_string();
                assert!(error.contains("not a regular file"), "{path:?}: {error}");
            }
            assert!(check_regular(&path).is_err() && read_text(&path, 10).is_err(), "{path:?}");
        }
        open_regular(&place("new"), OpenOptions::new().write(true).create(true)).unwrap();
        std::fs::write(place("new"), "0123456789").unwrap();
        assert_eq!(read_text(&place("new"), 10).unwrap(), "0123456789");
        assert!(read_text(&place("new"), 9).unwrap_err().to_string().contains("larger"));
        assert_eq!(read_text(&place("absent"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read_text(Path::new("/dev/null"), 9).unwrap(), "");
        assert!(check_regular(&place("absent")).is_ok());
    }
}
