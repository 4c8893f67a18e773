//! One run of `locate`: its progress reports and its cancel flag.

use std::time::{Duration, Instant};

use crate::engine::source::CancelFlag;
use crate::protocol::*;

/// Interval at which long work checks the cancel flag.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Minimum time between two reports of one phase: a front end draws no faster.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// Progress and cancellation of one `locate`.
pub(super) struct Job<'a> {
    progress: &'a mut dyn FnMut(LoadProgress),
    cancel: &'a CancelFlag,
    last: Option<(LoadPhase, Instant)>,
    /// Warnings for the user about the files that were found.
    pub(super) warnings: Vec<String>,
}

impl<'a> Job<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(LoadProgress), cancel: &'a CancelFlag) -> Self {
        Self { progress, cancel, last: None, warnings: Vec::new() }
    }

    /// An error of kind `Cancelled` if the flag is set.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.cancel.is_cancelled() { Err(self.cancelled()) } else { Ok(()) }
    }

    pub(super) fn cancelled(&self) -> EngineError {
        EngineError::new(ErrorKind::Cancelled, "Stopped; what was downloaded so far is kept.")
    }

    /// The flag itself, for code that cannot borrow the job.
    pub(super) fn cancel_flag(&self) -> CancelFlag {
        self.cancel.clone()
    }

    /// Reports the progress of `phase`. Drops reports within [`REPORT_EVERY`] of the previous one, except the first of
    /// a phase and the last (`done == total`).
    pub(super) fn report(&mut self, phase: LoadPhase, done: u64, total: Option<u64>, detail: &str) {
        let now = Instant::now();
        let soon = self.last.is_some_and(|(last, at)| last == phase && now.duration_since(at) < REPORT_EVERY);
        if soon && Some(done) != total {
            return;
        }
        self.last = Some((phase, now));
        (self.progress)(LoadProgress { phase, done, total, detail: Some(detail.to_owned()) });
    }
}
