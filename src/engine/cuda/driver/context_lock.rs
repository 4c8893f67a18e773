//! Limits the process to one CUDA context at a time, and waits for its destruction.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether a context of this process exists; the condition variable signals its destruction.
static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Held by the owner of the process's only context. A cancelled load destroys its context in the background, and the
/// next load waits here for that.
pub struct ContextLock;

impl ContextLock {
    /// Blocks until no other context exists.
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

/// Waits up to `timeout` for this process's last CUDA context to be destroyed; false on timeout. A cancelled load
/// destroys its context in the background, and the program must not exit during that.
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

    /// One test, because the lock is a process-wide static.
    #[test]
    fn second_context_waits_for_the_first_and_wait_for_contexts_detects_the_end() {
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
