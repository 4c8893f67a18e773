//! When the parts of a load were done, for `chatnap`'s own profile of it (`gpu cold`). Threads mark what they finish; nobody
//! reads it while a model loads.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static MARKS: Mutex<Vec<(&str, Instant)>> = Mutex::new(Vec::new());

/// Notes that `what` is done. A load leaves about twenty marks, and the next one begins anew.
pub fn mark(what: &'static str) {
    MARKS.lock().unwrap_or_else(PoisonError::into_inner).push((what, Instant::now()));
}

/// Forgets the marks of an earlier load.
pub fn restart() {
    MARKS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// What was marked, with the milliseconds since `start`, in the order of time.
#[cfg(any(test, feature = "gpu-checks"))]
pub fn since(start: Instant) -> Vec<(&'static str, f64)> {
    let marks = MARKS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<_> =
        marks.iter().map(|(what, at)| (*what, at.saturating_duration_since(start).as_secs_f64() * 1e3)).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found
}
