//! Hashes: what a downloaded file must be, and a stamp that spares hashing it again at every start.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::job::Job;
use super::not_found;
use crate::protocol::*;

/// Hashes in one read, so that a cancel is heard soon.
const CHUNK: usize = 1 << 20;

/// SHA-256 of a file as lower-case hex; reports `Verify` progress and hears a cancel.
pub(super) fn sha256_of(path: &Path, job: &mut Job<'_>) -> Result<String, EngineError> {
    let unreadable = |error: std::io::Error| not_found(format!("Cannot read {}: {error}.", path.display()));
    let mut file = File::open(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut hasher = Sha256::new();
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

/// Remembers beside `path` that it was verified: hash, size and time of change must all still fit.
pub(super) fn stamp(path: &Path, sha256: &str) -> std::io::Result<()> {
    std::fs::write(stamp_path(path), stamp_line(path, sha256)?)
}

/// Whether `path` was verified to have this hash and was not touched since.
pub(super) fn is_stamped(path: &Path, sha256: &str) -> bool {
    let (Ok(expected), Ok(found)) = (stamp_line(path, sha256), std::fs::read_to_string(stamp_path(path))) else {
        return false;
    };
    expected == found
}

/// The stamp file of `path`.
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
