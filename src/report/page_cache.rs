//! Whether a model's files are in the page cache, and dropping them from it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Advice, fadvise};

use super::data::{CacheState, PageCache};
use crate::engine::source::ModelFiles;

/// Drops the files from the page cache if that is asked for, and says what is in it.
pub(super) fn look(files: Option<&ModelFiles>, drop: bool) -> PageCache {
    let paths = files.map(paths).unwrap_or_default();
    if paths.is_empty() {
        return PageCache::default();
    }
    let dropped_by = drop.then(|| drop_pages(&paths));
    let cached_share = cached_share(&paths);
    PageCache { state: state(cached_share), cached_share, dropped_by }
}

fn state(share: Option<f64>) -> CacheState {
    match share {
        None => CacheState::Unknown,
        Some(share) if share >= 0.95 => CacheState::Warm,
        Some(share) if share <= 0.05 => CacheState::Cold,
        Some(_) => CacheState::Partly,
    }
}

/// The files of a model that hold its weights.
fn paths(files: &ModelFiles) -> Vec<PathBuf> {
    match files {
        ModelFiles::Gguf(paths) => paths.clone(),
        ModelFiles::Scripted(path) => vec![path.clone()],
        ModelFiles::Safetensors(folder) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect()
        }
    }
}

/// Asks the kernel to drop the files' pages; if pages are left, drops all clean pages of the system, which takes root.
/// Returns what was done.
fn drop_pages(paths: &[PathBuf]) -> String {
    let forgotten = paths.iter().filter(|path| forget(path).is_ok()).count();
    let left = cached_share(paths);
    if forgotten == paths.len() && left.is_none_or(|share| share <= 0.05) {
        return "posix_fadvise on the model's files".into();
    }
    let all = std::fs::OpenOptions::new().write(true).open("/proc/sys/vm/drop_caches");
    match all.and_then(|mut file| file.write_all(b"1")) {
        Ok(()) => "/proc/sys/vm/drop_caches".into(),
        Err(error) => format!("posix_fadvise on the model's files; /proc/sys/vm/drop_caches: {error}"),
    }
}

/// Drops the clean pages of one file that no process maps.
fn forget(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    // Pages that are not written yet would stay. A file system that cannot write now keeps them.
    let _ = file.sync_data();
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// The share of the files' bytes that are in the page cache, by `fincore` of util-linux; `None` if it is not installed.
fn cached_share(paths: &[PathBuf]) -> Option<f64> {
    let mut command = Command::new("fincore");
    command.args(["--bytes", "--noheadings", "--raw", "--output", "RES,SIZE", "--"]).args(paths);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| share_of(&String::from_utf8_lossy(&output.stdout)))?
}

/// The first column's sum over the second one's.
fn share_of(text: &str) -> Option<f64> {
    let (mut cached, mut size) = (0, 0);
    for line in text.lines() {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        cached += numbers.next()?.ok()?;
        size += numbers.next()?.ok()?;
    }
    // Whole pages are counted, so that a small file has more of them than it is long.
    (size > 0).then(|| (cached as f64 / size as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_are_sums_over_all_files() {
        assert_eq!(share_of("4096 10\n0 12278\n"), Some(1.0 / 3.0));
        assert_eq!(share_of("4096 10\n"), Some(1.0));
        assert_eq!((share_of(""), share_of("a b\n"), share_of("0 0\n")), (None, None, None));
        assert_eq!(
            [Some(1.0), Some(0.5), Some(0.0), None].map(state),
            [CacheState::Warm, CacheState::Partly, CacheState::Cold, CacheState::Unknown]
        );
    }

    #[test]
    fn a_file_that_was_just_written_is_cached_and_a_missing_model_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.safetensors"), vec![1; 100_000]).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
        let files = ModelFiles::Safetensors(folder.path().to_owned());
        assert_eq!(paths(&files).len(), 1);
        let found = look(Some(&files), false);
        assert!(matches!(found.state, CacheState::Warm | CacheState::Unknown), "{found:?}");
        assert_eq!(found.dropped_by, None);
        assert!(look(Some(&files), true).dropped_by.is_some());
        assert_eq!(look(None, true), PageCache::default());
    }
}
