//! Runs the work of an untrusted template on its own thread, with a stack of a known size and a time limit for the
//! caller.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::TemplateError;

/// Enough for the deepest tree that `depth` accepts, about 2500 levels; with an optimised minijinja a thirtieth of it
/// is enough. The system commits the pages on first use.
pub const STACK_BYTES: usize = 64 << 20;

/// Polling interval of the caller. Time during which the process is stopped counts as one interval.
const LOOK: Duration = Duration::from_millis(50);

/// Number of intervals that the caller waits after the limit, so that it receives the work's own error.
const LATER_LOOKS: u128 = 5;

/// A limit on a thread's CPU time, so that load of other processes does not shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Deadline {
    /// `limit` from now, for the calling thread only.
    pub fn after(limit: Duration) -> Self {
        Self(computed() + limit)
    }

    /// Whether the CPU time is used up. Must be called on the thread that created it.
    pub fn is_over(self) -> bool {
        computed() > self.0
    }
}

/// CPU time of the calling thread.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the result of `work`, or an error soon after `limit`. `work` should stop by itself at its deadline; if it
/// does not, its thread is detached and ends when its fuel or budget is used up.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(Deadline) -> T + Send + 'static,
) -> Result<T, TemplateError> {
    let (result, answer) = channel();
    let thread = std::thread::Builder::new().name("chatnap-template".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Fails if the caller has timed out.
        let _ = result.send(work(Deadline::after(limit)));
    });
    started.map_err(|error| TemplateError(format!("cannot start a thread for the chat template: {error}")))?;
    for _ in 0..limit.as_millis() / LOOK.as_millis() + LATER_LOOKS {
        match answer.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(TemplateError("the chat template cannot be used: the template engine panicked".into()));
            }
        }
    }
    Err(TemplateError("the chat template takes too long".into()))
}
