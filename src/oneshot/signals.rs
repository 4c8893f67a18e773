//! Ctrl-C, SIGTERM and SIGHUP: the first one stops the answer and keeps it, the second one ends the process. So does the
//! first one after two seconds: whoever reads stdout may have stopped reading, and a blocked write has no other end.

use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Input;
use crate::failure::{Code, Failure};

/// After this time the process ends, whatever it is doing. What was answered is stored already.
const LATEST: Duration = Duration::from_millis(1900);

/// Listens on a thread of its own, for as long as the process lives. Returns when the handlers are in place.
pub(super) fn listen(inputs: Sender<Input>) -> Result<(), Failure> {
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
            let _ = inputs.send(Input::Stop);
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

/// `nohup` starts a program with SIGHUP ignored, and it has to stay so.
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
