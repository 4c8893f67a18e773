//! One context at a time: who may have it, and waiting for its end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether a context of this process exists, and who waits for its end.
static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// The right to have the process's one context. A load that was cancelled gives its context back behind the scenes, and the
/// next one waits for that.
pub struct ContextLock;

impl ContextLock {
    /// Waits for it.
    pub fn take() -> Self {
        let mut open = OPEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *open {
            open = OPEN.1.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        *open = true;
        Self
    }
}

impl Drop for ContextLock {
    fn drop(&mut self) {
        *OPEN.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        OPEN.1.notify_all();
    }
}

/// Waits up to `timeout` until no context of this process is left; whether that came true. A program should not end while
/// a cancelled load destroys its context in the background.
pub fn wait_for_contexts(timeout: Duration) -> bool {
    let open = OPEN.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = OPEN.1.wait_timeout_while(open, timeout, |open| *open).unwrap_or_else(PoisonError::into_inner);
    !*waited.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::channel;

    use super::*;

    /// One test, because the turn is the process's.
    #[test]
    fn there_is_one_context_at_a_time_and_its_end_can_be_waited_for() {
        assert!(wait_for_contexts(Duration::ZERO), "there is none at first");
        let first = ContextLock::take();
        assert!(!wait_for_contexts(Duration::from_millis(5)));
        let (sender, receiver) = channel();
        let second = std::thread::spawn(move || {
            let lock = ContextLock::take();
            sender.send(()).unwrap();
            lock
        });
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err(), "the second waits");
        drop(first);
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!wait_for_contexts(Duration::from_millis(5)), "now there is the second");
        drop(second.join().unwrap());
        assert!(wait_for_contexts(Duration::from_secs(10)));
    }
}
