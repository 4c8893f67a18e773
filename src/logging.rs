//! The log: a file, off unless `CHATNAP_LOG` or `--log` asks for it, never written to a terminal.
//!
//! `CHATNAP_LOG=debug` (`error`, `warn`, `info`, `debug`, `trace`) appends to `chatnap.log` in the state folder
//! (`~/.local/state/chatnap` on Linux); `--log FILE` appends to FILE, at `debug` unless the variable names another level.
//! It holds phases and durations of loads, releases, downloads, database operations and engine states. No event carries
//! text of prompts or answers, a token of the hub, or user info of an address. Only this crate's events are written:
//! HTTP libraries log headers.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::files::open_regular;

/// The file in the state folder.
const FILE: &str = "chatnap.log";

/// A log of more bytes than this is renamed to `chatnap.log.old` at the next start.
const LARGEST: u64 = 16 << 20;

/// What a run logs, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The value of `CHATNAP_LOG`.
    pub level: Option<String>,
    /// `--log FILE`.
    pub file: Option<PathBuf>,
    /// The state folder.
    pub folder: PathBuf,
}

impl LogOptions {
    /// The level; `OFF` if nothing asks for a log. An error names the levels.
    fn level(&self) -> Result<LevelFilter, String> {
        match (self.level.as_deref().map(str::trim).filter(|level| !level.is_empty()), &self.file) {
            (Some(level), _) => level.parse().map_err(|_| {
                format!("CHATNAP_LOG: {level:?} is not a level; use error, warn, info, debug, trace or off")
            }),
            (None, Some(_)) => Ok(LevelFilter::DEBUG),
            (None, None) => Ok(LevelFilter::OFF),
        }
    }
}

/// Starts the log of this process. The error says what is wrong with the level or the file. Call it once.
pub fn start(options: &LogOptions) -> Result<(), String> {
    let level = options.level()?;
    if level == LevelFilter::OFF {
        return Ok(());
    }
    let path = options.file.clone().unwrap_or_else(|| options.folder.join(FILE));
    let failed = |error: std::io::Error| format!("the log {} cannot be written: {error}", path.display());
    if options.file.is_none() {
        make_room(&options.folder, &path).map_err(failed)?;
    }
    let file = open_regular(&path, OpenOptions::new().append(true).create(true).mode(0o600)).map_err(failed)?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_thread_names(true).with_writer(Mutex::new(file));
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    tracing_subscriber::registry().with(lines.with_filter(ours)).try_init().map_err(|error| error.to_string())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "started");
    Ok(())
}

/// Creates the state folder, and renames a log that has grown too large.
fn make_room(folder: &Path, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if path.metadata().is_ok_and(|found| found.len() > LARGEST) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn level_comes_from_the_variable_and_a_file_alone_means_debug() {
        let level = |level: Option<&str>, file: Option<&str>| {
            LogOptions { level: level.map(Into::into), file: file.map(Into::into), folder: "/s".into() }.level()
        };
        assert_eq!(level(None, None), Ok(LevelFilter::OFF));
        assert_eq!(level(Some(""), None), Ok(LevelFilter::OFF));
        assert_eq!(level(None, Some("x.log")), Ok(LevelFilter::DEBUG));
        assert_eq!(level(Some("trace"), Some("x.log")), Ok(LevelFilter::TRACE));
        assert_eq!(level(Some("INFO"), None), Ok(LevelFilter::INFO));
        assert!(level(Some("loud"), None).unwrap_err().contains("error, warn, info, debug, trace or off"));
    }

    #[test]
    fn large_log_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join(FILE);
        make_room(path.parent().unwrap(), &path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        make_room(path.parent().unwrap(), &path).unwrap();
        assert!(!path.exists() && path.with_extension("log.old").exists());
    }
}
