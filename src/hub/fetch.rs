//! Downloads one file of the hub into the cache: one process at a time, resumed after an interruption, verified, and
//! placed atomically.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use reqwest::StatusCode;

use super::cache::RepoCache;
use super::job::Job;
use super::lock::{FetchLock, cannot_write};
use super::remote::{Hub, Remote, Trouble};
use super::verify::Expected;
use super::{not_found, regular_file};
use crate::protocol::*;
use crate::wording::bytes;

/// An attempt that receives this many bytes resets the count of attempts.
const PROGRESS: u64 = 1 << 20;

/// Bytes of disk space that a download leaves free.
const SPARE: u64 = 64 << 20;

/// One file of a model to fetch, and its position among the others for the progress.
pub(super) struct Wanted<'a> {
    pub(super) repo: &'a str,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
    pub(super) remote: Remote,
    /// SHA-256 of the file in lower-case hex, if the catalogue has it.
    pub(super) sha256: Option<&'a str>,
    /// Bytes of the model's files before this one.
    pub(super) before: u64,
    /// Bytes of all the model's files.
    pub(super) total: u64,
}

impl Wanted<'_> {
    fn report(&self, job: &mut Job<'_>, done: u64) {
        job.report(LoadPhase::Download, self.before + done, Some(self.total), self.file);
    }

    /// The expected hash of the content, from the catalogue or from the hub's ETag; `None` if neither has one.
    pub(super) fn expected(&self) -> Option<Expected<'_>> {
        self.sha256.map(Expected::Sha256).or_else(|| Expected::by_etag(&self.remote.etag))
    }
}

/// Downloads the file into the cache if it is missing, and links it into its snapshot.
pub(super) async fn fetch(
    hub: &Hub,
    cache: &RepoCache,
    wanted: &Wanted<'_>,
    job: &mut Job<'_>,
) -> Result<(), EngineError> {
    let etag = wanted.remote.etag.as_str();
    if let (Some(known), Some(Expected::Sha256(promised))) = (wanted.sha256, Expected::by_etag(etag))
        && !promised.eq_ignore_ascii_case(known)
    {
        return Err(not_found(format!(
            "{} of {} on {} is not the file that the catalogue lists (its SHA-256 differs); nothing was fetched. --model {}:{} fetches it anyway.",
            wanted.file, wanted.repo, hub.address, wanted.repo, wanted.file
        )));
    }
    let blob = cache.blob(etag);
    let incomplete = cache.incomplete(etag);
    if !is_whole(&blob, wanted.remote.size) {
        let _lock = FetchLock::wait(&cache.lock(etag), job, |job| wanted.report(job, length(&incomplete)))?;
        // Another process may have fetched it while this one waited.
        if !is_whole(&blob, wanted.remote.size) {
            let begun = Instant::now();
            let kept = length(&incomplete);
            tracing::info!(
                file = wanted.file,
                repo = wanted.repo,
                bytes = wanted.remote.size,
                kept,
                "download started"
            );
            download(hub, wanted, &incomplete, job).await?;
            tracing::info!(file = wanted.file, took = ?begun.elapsed(), "download finished");
            check(wanted, &incomplete, job)?;
            tracing::debug!(file = wanted.file, took = ?begun.elapsed(), "download verified");
            std::fs::rename(&incomplete, &blob).map_err(|error| cannot_write(&blob, &error))?;
        }
    }
    cache.link(wanted.commit, wanted.file, etag)?;
    Ok(())
}

fn length(path: &Path) -> u64 {
    path.symlink_metadata().map(|meta| meta.len()).unwrap_or(0)
}

fn is_whole(blob: &Path, size: u64) -> bool {
    blob.metadata().is_ok_and(|meta| meta.is_file() && size == meta.len())
}

/// Completes `incomplete`; retries until `Patience::attempts` in a row receive less than [`PROGRESS`] each.
async fn download(hub: &Hub, wanted: &Wanted<'_>, incomplete: &Path, job: &mut Job<'_>) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| cannot_write(incomplete, &error);
    if let Some(folder) = incomplete.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
        check_space(folder, wanted, length(incomplete))?;
    }
    let mut file = regular_file::open_to_fill(incomplete).map_err(failed)?;
    let patience = &hub.options.patience;
    let mut fruitless = 0;
    loop {
        let before = length(incomplete);
        let (why, after) = match attempt(hub, wanted, &mut file, incomplete, job).await {
            Ok(()) => return file.sync_all().map_err(failed),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Again { why, after }) => (why, after),
        };
        tracing::warn!(file = wanted.file, reason = why, "download interrupted");
        fruitless = if length(incomplete) >= before + PROGRESS { 0 } else { fruitless + 1 };
        if fruitless >= patience.attempts {
            return Err(gave_up(hub, wanted, &why, length(incomplete)));
        }
        let pause = patience.pause * 2u32.saturating_pow(fruitless.saturating_sub(1));
        tokio::time::sleep(after.unwrap_or(pause).min(patience.stall)).await;
    }
}

fn gave_up(hub: &Hub, wanted: &Wanted<'_>, why: &str, kept: u64) -> EngineError {
    not_found(format!(
        "The download of {} from {} broke off again and again ({why}). {} of {} are kept: start again to go on from there.",
        wanted.file,
        hub.address,
        bytes(kept),
        bytes(wanted.remote.size),
    ))
}

/// One request, for the bytes that the partial file lacks.
async fn attempt(
    hub: &Hub,
    wanted: &Wanted<'_>,
    file: &mut File,
    incomplete: &Path,
    job: &mut Job<'_>,
) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| Trouble::Final(cannot_write(incomplete, &error));
    let mut done = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let size = wanted.remote.size;
    if done > size {
        done = restart(file).map_err(failed)?;
    }
    if done == size {
        return Ok(());
    }
    wanted.report(job, done);
    let mut response = hub.get(wanted.repo, wanted.file, &wanted.remote, done).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if begins_at(&response, done) => {}
        StatusCode::OK => done = restart(file).map_err(failed)?,
        _ => {
            restart(file).map_err(failed)?;
            return Err(Trouble::Again { why: "the server cannot resume a transfer".to_owned(), after: None });
        }
    }
    loop {
        job.check().map_err(Trouble::Final)?;
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| Trouble::Again { why: super::remote::reason(&error), after: None })?;
        let Some(chunk) = chunk else { break };
        done += chunk.len() as u64;
        if done > size {
            restart(file).map_err(failed)?;
            return Err(Trouble::Again { why: "the server sent more than it had promised".to_owned(), after: None });
        }
        file.write_all(&chunk).map_err(failed)?;
        wanted.report(job, done);
    }
    if done == size {
        return Ok(());
    }
    Err(Trouble::Again { why: "the connection ended early".to_owned(), after: None })
}

fn restart(file: &mut File) -> std::io::Result<u64> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))
}

/// Whether the answer's `Content-Range: bytes START-END/SIZE` begins at `start`.
fn begins_at(response: &reqwest::Response, start: u64) -> bool {
    let range = response.headers().get(reqwest::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.trim().strip_prefix("bytes ")).and_then(|range| range.split('-').next());
    begin.and_then(|begin| begin.trim().parse::<u64>().ok()) == Some(start)
}

/// Compares size and hash with the expected ones; removes a file that differs.
fn check(wanted: &Wanted<'_>, incomplete: &Path, job: &mut Job<'_>) -> Result<(), EngineError> {
    let differs = match wanted.expected() {
        _ if wanted.remote.size != length(incomplete) => Some("size"),
        Some(expected) if !expected.fits(incomplete, job)? => Some(expected.noun()),
        _ => None,
    };
    if let Some(what) = differs {
        let _ = std::fs::remove_file(incomplete);
        return Err(not_found(format!(
            "The downloaded {} is not what the hub promised (its {what} differs), so it was removed. Start again; if it happens twice, a proxy on the way to the hub may alter files.",
            wanted.file
        )));
    }
    Ok(())
}

/// Returns an error before the first byte is fetched if the rest of the file does not fit on the disk.
fn check_space(folder: &Path, wanted: &Wanted<'_>, have: u64) -> Result<(), EngineError> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = wanted.remote.size.saturating_sub(have);
    if free >= needed.saturating_add(SPARE) {
        return Ok(());
    }
    Err(not_found(format!(
        "{} needs {} more on the disk of {} and {} are free; make room (`chatnap models list` shows what is here), or point HF_HOME to another disk.",
        wanted.file,
        bytes(needed),
        folder.display(),
        bytes(free)
    )))
}
