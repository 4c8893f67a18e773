//! Runs what a foreign template asks for on a thread of its own: with a stack of a known size, and no longer than a caller
//! is willing to wait.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::TemplateError;

/// Room for the deepest tree that `depth` lets pass, about 2500 levels: a thirtieth of it is enough where minijinja is
/// compiled with optimisation. The system gives the pages as they are used.
pub const STACK_BYTES: usize = 64 << 20;

/// A caller looks this often whether the work is done. What passes while the process is stopped counts as one look.
const LOOK: Duration = Duration::from_millis(50);

/// How often a caller looks after the limit, so that the work's own words arrive.
const LATER_LOOKS: u128 = 5;

/// When a thread will have computed for as long as it may. Other programs that want the processor do not shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Deadline {
    /// For the calling thread alone.
    pub fn after(limit: Duration) -> Self {
        Self(computed() + limit)
    }

    /// Asked by the same thread.
    pub fn is_over(self) -> bool {
        computed() > self.0
    }
}

/// For how long the calling thread has computed.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What `work` returns, or an error soon after `limit`. `work` should give up by itself at its deadline; where it does
/// not, it is left behind: fuel and budget end it.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(Deadline) -> T + Send + 'static,
) -> Result<T, TemplateError> {
    let (result, answer) = channel();
    let thread = std::thread::Builder::new().name("chatnap-template".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Nobody waits any longer where this fails.
        let _ = result.send(work(Deadline::after(limit)));
    });
    started.map_err(|error| TemplateError(format!("the system gives no thread for the chat template: {error}")))?;
    for _ in 0..limit.as_millis() / LOOK.as_millis() + LATER_LOOKS {
        match answer.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(TemplateError("the chat template cannot be used: it made its engine fail".into()));
            }
        }
    }
    Err(TemplateError("the chat template takes too long".into()))
}
