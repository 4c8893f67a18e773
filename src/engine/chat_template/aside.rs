//! Runs what a foreign template asks for on a thread of its own: with a stack of a known size, and no longer than a caller
//! is willing to wait.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::TemplateError;

/// Room for the deepest tree that `depth` lets pass, about 2500 levels: a thirtieth of it is enough where minijinja is
/// compiled with optimisation. The system gives the pages as they are used.
pub const STACK_BYTES: usize = 64 << 20;

/// How much longer than `work` its caller waits, so that its own words arrive.
const GRACE: Duration = Duration::from_millis(250);

/// What `work` returns, or an error soon after `until`. `work` should give up by itself then; where it does not, it is
/// left behind: fuel and budget end it.
pub fn run<T: Send + 'static>(
    until: Instant,
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T, TemplateError> {
    let (result, answer) = channel();
    let thread = std::thread::Builder::new().name("chatnap-template".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Nobody waits any longer where this fails.
        let _ = result.send(work(until));
    });
    started.map_err(|error| TemplateError(format!("the system gives no thread for the chat template: {error}")))?;
    answer.recv_timeout(until.saturating_duration_since(Instant::now()) + GRACE).map_err(|error| match error {
        RecvTimeoutError::Timeout => TemplateError("the chat template takes too long".into()),
        RecvTimeoutError::Disconnected => TemplateError("the chat template cannot be used: it failed".into()),
    })
}
