//! Verifies the hashes of downloaded files; a stamp file avoids hashing them again at every start.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::job::Job;
use super::{not_found, regular_file};
use crate::protocol::*;

/// Bytes hashed between two checks of the cancel flag.
const CHUNK: usize = 1 << 20;

/// Largest stamp file that is read, in bytes; a stamp is one line.
const LONGEST_STAMP: u64 = 4096;

/// The expected hash of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected<'a> {
    /// SHA-256 in hex.
    Sha256(&'a str),
    /// Git's name of a blob in hex: SHA-1 of `blob LENGTH\0` and the content.
    GitBlob(&'a str),
}

impl<'a> Expected<'a> {
    /// The hash in the hub's ETag: the SHA-256 of a large file, git's hash of a small one; `None` if a server uses
    /// its own format.
    pub(super) fn by_etag(etag: &'a str) -> Option<Self> {
        let is_hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Some(Self::Sha256(etag)),
            40 if is_hex => Some(Self::GitBlob(etag)),
            _ => None,
        }
    }

    /// The hash's name in error messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git hash",
        }
    }

    /// Whether the file at `path` has this hash; reports `Verify` progress and stops on a cancel.
    pub(super) fn fits(self, path: &Path, job: &mut Job<'_>) -> Result<bool, EngineError> {
        let (expected, found) = match self {
            Self::Sha256(expected) => (expected, sha256_of(path, job)?),
            Self::GitBlob(expected) => (expected, git_blob_of(path, job)?),
        };
        Ok(expected.eq_ignore_ascii_case(&found))
    }
}

/// SHA-256 of a file as lower-case hex; reports `Verify` progress and stops on a cancel.
pub(super) fn sha256_of(path: &Path, job: &mut Job<'_>) -> Result<String, EngineError> {
    hash_of(path, |_| Sha256::new(), job)
}

/// Git's hash of a file as a blob (gitformat-pack, "object names"), likewise.
fn git_blob_of(path: &Path, job: &mut Job<'_>) -> Result<String, EngineError> {
    hash_of(path, |length| Sha1::new().chain_update(format!("blob {length}\0")), job)
}

/// Hashes a file with the hasher that `start` creates from the file's length.
fn hash_of<D: Digest>(path: &Path, start: impl Fn(u64) -> D, job: &mut Job<'_>) -> Result<String, EngineError> {
    let unreadable = |error: std::io::Error| not_found(format!("Cannot read {}: {error}.", path.display()));
    let mut file = regular_file::open_to_read(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut hasher = start(total);
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        job.check()?;
        job.report(LoadPhase::Verify, done, Some(total), &label);
        let n = file.read(&mut buffer).map_err(unreadable)?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
        done += n as u64;
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Records beside `path` that it was verified: hash, size and modification time, which must all match later.
pub(super) fn stamp(path: &Path, sha256: &str) -> std::io::Result<()> {
    regular_file::replace(&stamp_path(path), stamp_line(path, sha256)?.as_bytes())
}

/// Whether `path` was verified to have this hash and was not modified since.
pub(super) fn is_stamped(path: &Path, sha256: &str) -> bool {
    stamp_line(path, sha256).is_ok_and(|expected| expected == regular_file::text(&stamp_path(path), LONGEST_STAMP))
}

/// `NAME.verified` beside `path`.
pub(super) fn stamp_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".verified");
    path.with_file_name(name)
}

fn stamp_line(path: &Path, sha256: &str) -> std::io::Result<String> {
    let meta = path.metadata()?;
    let changed = meta.modified()?.duration_since(UNIX_EPOCH).map(|d| d.as_nanos()).unwrap_or(0);
    Ok(format!("{sha256} {} {changed}\n", meta.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::source::CancelFlag;

    #[test]
    fn etag_hashes_verify_the_file_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        let (mut silent, never) = (|_: LoadProgress| (), CancelFlag::default());
        let mut job = Job::new(&mut silent, &never);
        // `git hash-object file` and `sha256sum file`.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [git, sha256, &git.to_uppercase()] {
            assert!(Expected::by_etag(etag).unwrap().fits(&path, &mut job).unwrap(), "{etag}");
            let other = etag.replace('5', "6");
            assert!(!Expected::by_etag(&other).unwrap().fits(&path, &mut job).unwrap(), "{other}");
        }
        for etag in ["", "686897696a7c876b7e", "5f3759df-86b", &"g".repeat(40)] {
            assert_eq!(Expected::by_etag(etag), None);
        }
    }
}
