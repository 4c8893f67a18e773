//! Ctrl-C, SIGTERM and SIGHUP for the front ends that print: the first one asks the run to stop and to keep what it has, the
//! second one ends the process at once.
//! `LATEST` after the first one it ends in any case: a write to a reader that stopped reading never returns.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Code, Failure};

/// Time from the first signal to the end of the process in any state. What was done is kept before.
const LATEST: Duration = Duration::from_millis(1900);

/// Listens on its own thread until the process ends, and calls `stop` at the first signal. Returns when the handlers are
/// installed.
pub fn listen(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("Signals cannot be caught: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut signals = vec![signal(SignalKind::interrupt()).map_err(failed)?];
    signals.push(signal(SignalKind::terminate()).map_err(failed)?);
    if !hangup_is_ignored() {
        signals.push(signal(SignalKind::hangup()).map_err(failed)?);
    }
    drop(guard);
    let work = move || {
        runtime.block_on(async {
            any(&mut signals).await;
            stop();
            let _ = tokio::time::timeout(LATEST, any(&mut signals)).await;
            std::process::exit(Code::Interrupted as i32);
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(work).map(drop).map_err(failed)
}

async fn any(signals: &mut [Signal]) {
    use std::task::Poll;
    std::future::poll_fn(|context| {
        let caught = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if caught { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Whether SIGHUP is ignored, as `nohup` sets it: then it must stay ignored.
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
