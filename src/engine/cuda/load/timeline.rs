//! Timestamps of the phases of a load, for the profile that `gpu cold` prints. Any thread may add marks; they are read
//! only after the load.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static MARKS: Mutex<Vec<(&str, Instant)>> = Mutex::new(Vec::new());

/// Records that `what` is done. A load adds about twenty marks; the next load clears them with [`restart`].
pub fn mark(what: &'static str) {
    tracing::debug!(phase = what, "GPU load");
    MARKS.lock().unwrap_or_else(PoisonError::into_inner).push((what, Instant::now()));
}

/// Clears the marks of the previous load.
pub fn restart() {
    MARKS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// All marks with their milliseconds since `start`, sorted by time.
#[cfg(any(test, feature = "gpu-checks"))]
pub fn since(start: Instant) -> Vec<(&'static str, f64)> {
    let marks = MARKS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<_> =
        marks.iter().map(|(what, at)| (*what, at.saturating_duration_since(start).as_secs_f64() * 1e3)).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found
}
