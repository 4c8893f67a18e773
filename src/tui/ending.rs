//! Shutdown by a signal. It takes at most two seconds, even if the terminal does not read.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a blocked terminal write may last after the signal.
const GRACE: Duration = Duration::from_millis(300);

/// Time limit of an orderly shutdown after the signal.
const ORDERLY: Duration = Duration::from_millis(1600);

/// After this time the process exits, whatever blocks it. Answers are stored as they stream.
const LATEST: Duration = Duration::from_millis(1900);

#[derive(Debug, Default)]
struct State {
    signal: AtomicI32,
    since: OnceLock<Instant>,
}

/// The signal that started the shutdown, and when. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<State>);

impl Ending {
    /// Starts the shutdown for the signal of this number. Later signals are ignored.
    pub fn begin(&self, signal: i32) {
        if self.0.signal.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let since = *self.0.since.get_or_init(Instant::now);
        let watch = move || {
            std::thread::sleep(LATEST.saturating_sub(since.elapsed()));
            std::process::exit(exit_code(signal));
        };
        // Without the thread only the hard limit is missing.
        let _ = std::thread::Builder::new().name("ending".into()).spawn(watch);
    }

    /// Number of the signal that started the shutdown.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    /// Whether a blocked terminal write must fail now.
    pub fn gives_up(&self) -> bool {
        self.0.since.get().is_some_and(|since| since.elapsed() >= GRACE)
    }

    /// Time left for an orderly shutdown, at most `usual`.
    pub fn patience(&self, usual: Duration) -> Duration {
        self.0.since.get().map_or(usual, |since| usual.min(ORDERLY.saturating_sub(since.elapsed())))
    }
}

/// The exit code for a process that was ended by a signal, as shells report it.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}
