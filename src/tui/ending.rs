//! The end that a signal asks for. It comes within two seconds, whether the terminal reads or not.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A terminal that does not read is waited for this long after the signal.
const GRACE: Duration = Duration::from_millis(300);

/// The program ends by itself within this time after the signal.
const ORDERLY: Duration = Duration::from_millis(1600);

/// After this time the process ends, whatever it is doing. What was answered is stored already.
const LATEST: Duration = Duration::from_millis(1900);

#[derive(Debug, Default)]
struct State {
    signal: AtomicI32,
    since: OnceLock<Instant>,
}

/// Whether a signal has asked for the end, and since when. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<State>);

impl Ending {
    /// A signal of this number asks for the end. The first one counts.
    pub fn begin(&self, signal: i32) {
        if self.0.signal.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let since = *self.0.since.get_or_init(Instant::now);
        let watch = move || {
            std::thread::sleep(LATEST.saturating_sub(since.elapsed()));
            std::process::exit(exit_code(signal));
        };
        // Without it the program still ends, unless something blocks it.
        let _ = std::thread::Builder::new().name("ending".into()).spawn(watch);
    }

    /// The signal's number, if there was one.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    /// Whether a terminal that does not read is no longer waited for.
    pub fn gives_up(&self) -> bool {
        self.0.since.get().is_some_and(|since| since.elapsed() >= GRACE)
    }

    /// How long an orderly end may take: what is left of its time, at most `usual`.
    pub fn patience(&self, usual: Duration) -> Duration {
        self.0.since.get().map_or(usual, |since| usual.min(ORDERLY.saturating_sub(since.elapsed())))
    }
}

/// The exit code of a process that a signal ended, as shells give it.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}
