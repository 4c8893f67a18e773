//! One run of `locate`: how it tells its progress and hears that it should stop.

use std::time::{Duration, Instant};

use crate::engine::source::CancelFlag;
use crate::protocol::*;

/// How often long work looks at the cancel flag.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Least time between two reports of one phase: a front end draws no faster.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// Progress and cancellation of one `locate`.
pub(super) struct Job<'a> {
    progress: &'a mut dyn FnMut(LoadProgress),
    cancel: &'a CancelFlag,
    last: Option<(LoadPhase, Instant)>,
    /// What the user should know about the files that were found.
    pub(super) warnings: Vec<String>,
}

impl<'a> Job<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(LoadProgress), cancel: &'a CancelFlag) -> Self {
        Self { progress, cancel, last: None, warnings: Vec::new() }
    }

    /// An error of kind `Cancelled` where somebody asked to stop.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.cancel.is_cancelled() { Err(self.cancelled()) } else { Ok(()) }
    }

    /// The error of a job that was stopped.
    pub(super) fn cancelled(&self) -> EngineError {
        EngineError::new(ErrorKind::Cancelled, "Stopped; what was downloaded so far is kept.")
    }

    /// The flag itself, for code that cannot borrow the job.
    pub(super) fn cancel_flag(&self) -> CancelFlag {
        self.cancel.clone()
    }

    /// Tells how far `phase` is. Reports that follow each other closely are left out, the last one (`done == total`)
    /// and the first one of a phase never.
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
