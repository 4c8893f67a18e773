//! The device thread: one for each loaded model, from its load to its release, so that no per-thread resource (stack,
//! thread-local handles) outlives the model. It loads, answers and counts; `lifecycle` decides when.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Message;
use crate::clock::Timestamp;
use crate::engine::EngineOptions;
use crate::engine::error::ModelError;
use crate::engine::generation::{self, Job, LoadedEngine};
use crate::engine::lifecycle::ModelHealth;
use crate::engine::load::{self, LoadedModel};
use crate::engine::model::LoadOptions;
use crate::engine::prefix::Prefix;
use crate::engine::remote::session::Session;
use crate::engine::source::CancelFlag;
use crate::protocol::*;

/// Interval at which a server that is idle is asked whether it sleeps.
const SLEEP_POLL: Duration = Duration::from_secs(15);

/// A job for the device thread, sent after `Loaded`.
pub(super) enum Command {
    Generate { request: GenerationRequest, cancel: CancelFlag, submitted: Timestamp, loaded_at: Timestamp },
    Count(CountRequest),
}

/// A report of the device thread to the worker.
pub(in crate::engine) enum Report {
    Progress(LoadProgress),
    Loaded(ModelInfo),
    LoadFailed(EngineError),
    Told(EngineEvent),
    Answered {
        id: RequestId,
        event: EngineEvent,
        health: ModelHealth,
    },
    /// The model is dropped and the thread ends.
    Ended {
        /// What the device reports about the release.
        freed: Freed,
    },
}

/// A running device thread.
pub(super) struct Device {
    /// Dropping it makes the thread release its model and end.
    pub jobs: Option<Sender<Command>>,
    pub cancel_load: CancelFlag,
    pub thread: JoinHandle<()>,
}

impl Device {
    /// Starts to load the model of `options`; reports go to `outbox` with the number `serial`.
    pub fn start(options: Arc<Mutex<EngineOptions>>, outbox: Sender<Message>, serial: u64) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let cancel_load = CancelFlag::default();
        let cancel = cancel_load.clone();
        let thread = std::thread::Builder::new().name("chatnap-device".into()).spawn(move || {
            // Dropping the reporter sends `Ended`, also after a panic.
            let reporter = Reporter { outbox, serial, freed: Cell::new(Freed::default()) };
            let _ = catch_unwind(AssertUnwindSafe(|| live(&options, &cancel, &inbox, &reporter)));
        })?;
        Ok(Self { jobs: Some(jobs), cancel_load, thread })
    }
}

struct Reporter {
    outbox: Sender<Message>,
    serial: u64,
    /// Sent with the last report, `Ended`.
    freed: Cell<Freed>,
}

impl Reporter {
    fn send(&self, report: Report) {
        // An error means that the worker has ended; this thread then ends as well.
        let _ = self.outbox.send(Message::Report(self.serial, report));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.send(Report::Ended { freed: self.freed.get() });
    }
}

/// Answers through the server, as [`live`] does with a model.
fn connect(
    (server, model): (Server, Option<String>),
    cancel: &CancelFlag,
    jobs: &Receiver<Command>,
    reporter: &Reporter,
) {
    let mut tell = |event| reporter.send(Report::Told(event));
    let mut session = match Session::open(server, model, cancel, &mut tell) {
        Ok(session) => session,
        Err(error) => return reporter.send(Report::LoadFailed(error)),
    };
    reporter.send(Report::Loaded(session.info.clone()));
    let mut asleep = None;
    loop {
        match jobs.recv_timeout(SLEEP_POLL) {
            Ok(Command::Generate { request, cancel, submitted, loaded_at }) => {
                asleep = None;
                let job = Job { request: &request, cancel: &cancel, submitted, loaded_at };
                let (event, health) = session.answer(&job, &mut tell);
                reporter.send(Report::Answered { id: request.id, event, health });
            }
            Ok(Command::Count(request)) => session.count(request).into_iter().for_each(&mut tell),
            Err(RecvTimeoutError::Timeout) => {
                let now = session.is_asleep();
                if now != asleep {
                    asleep = now;
                    tell(EngineEvent::Asleep(now == Some(true)));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
}

fn live(options: &Mutex<EngineOptions>, cancel: &CancelFlag, jobs: &Receiver<Command>, reporter: &Reporter) {
    let server = options.lock().unwrap_or_else(PoisonError::into_inner).source.server();
    if let Some(server) = server {
        return connect(server, cancel, jobs, reporter);
    }
    let loaded = catch_unwind(AssertUnwindSafe(|| load(options, cancel, reporter)))
        .unwrap_or_else(|panic| Err(load_panic(&panic_message(&*panic))));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return reporter.send(Report::LoadFailed(error)),
    };
    reporter.send(Report::Loaded(loaded.info.clone()));
    let mut warm = LoadedEngine { loaded, prefix: Prefix::default(), missing_switch_told: false };
    for job in jobs {
        match job {
            Command::Generate { request, cancel, submitted, loaded_at } => {
                let job = Job { request: &request, cancel: &cancel, submitted, loaded_at };
                answer(&mut warm, &job, reporter);
            }
            Command::Count(request) => count(&warm, request, reporter),
        }
    }
    reporter.freed.set(warm.loaded.model.release());
}

fn answer(warm: &mut LoadedEngine, job: &Job<'_>, reporter: &Reporter) {
    let id = job.request.id;
    let mut emit = |event| reporter.send(Report::Told(event));
    let answered = catch_unwind(AssertUnwindSafe(|| generation::answer(warm, job, &mut emit)));
    let (event, health) = answered.unwrap_or_else(|panic| {
        let event = generation::panic_failure(id, &panic_message(&*panic));
        (event, ModelHealth::Reload)
    });
    reporter.send(Report::Answered { id, event, health });
}

fn count(warm: &LoadedEngine, request: CountRequest, reporter: &Reporter) {
    let counted = catch_unwind(AssertUnwindSafe(|| generation::count(warm, request)));
    if let Ok(Some(counted)) = counted {
        reporter.send(Report::Told(counted));
    }
}

fn load(options: &Mutex<EngineOptions>, cancel: &CancelFlag, reporter: &Reporter) -> Result<LoadedModel, EngineError> {
    let mut options = options.lock().unwrap_or_else(PoisonError::into_inner);
    let mut progress = |progress| reporter.send(Report::Progress(progress));
    let name = options.source.name();
    let files = options.source.locate(&mut progress, cancel)?;
    let smaller = options.source.smaller();
    let load_options = LoadOptions {
        name: &name,
        files: &files,
        context_length: options.context_length,
        device: options.device,
        gpu_memory_utilization: options.gpu_memory_utilization,
        threads: options.threads,
        smaller: &smaller,
        chat_template: options.chat_template.as_ref(),
        cancel,
    };
    let fetch_again = options.source.fetch_again();
    let failure = |error| load_failure(&name, error, fetch_again.as_deref());
    let mut loaded = load::load(&load_options, &mut progress).map_err(failure)?;
    loaded.info.warnings.extend(options.source.warnings());
    loaded.info.sampling.add(SamplingSource::Catalogue, options.source.recommended());
    if cancel.is_cancelled() {
        return Err(failure(ModelError::Cancelled));
    }
    Ok(loaded)
}

fn load_failure(name: &str, error: ModelError, fetch_again: Option<&str>) -> EngineError {
    if error == ModelError::Cancelled {
        return EngineError::new(ErrorKind::Cancelled, "Loading was stopped.");
    }
    let text = match (&error, fetch_again) {
        (ModelError::Truncated(text), Some(how)) => format!("{text}: {how}"),
        _ => error.to_string(),
    };
    // A local file is named by its path, with which the error begins already.
    let who = if text.starts_with(name) { "The model" } else { name };
    EngineError::new(error.kind(), format!("{who} could not be loaded: {text}"))
}

fn load_panic(message: &str) -> EngineError {
    // Libraries start threads too, and panic if the system has no memory for the stacks.
    if ["failed to spawn thread", "ThreadPoolBuildError"].iter().any(|what| message.contains(what)) {
        let text = format!("The model could not be loaded: there is not enough memory to start a thread ({message}).");
        return EngineError::new(ErrorKind::OutOfMemory, text);
    }
    EngineError::new(
        ErrorKind::Failed,
        format!("Loading failed with an internal error ({message}). The next message tries again."),
    )
}

/// The message of a panic payload.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_error_names_the_path_once_and_how_to_fetch_a_damaged_download_again() {
        let damaged = |path: &str| ModelError::Truncated(format!("{path}: the file is truncated; fetch it again"));
        let own = load_failure("/m/x.gguf", damaged("/m/x.gguf"), None);
        assert_eq!(own.message, "The model could not be loaded: /m/x.gguf: the file is truncated; fetch it again");
        let cached = load_failure("a/b:x.gguf", damaged("/cache/x.gguf"), Some("`chatnap models pull a/b:x.gguf`"));
        assert_eq!(
            cached.message,
            "a/b:x.gguf could not be loaded: /cache/x.gguf: the file is truncated; fetch it again: `chatnap models pull a/b:x.gguf`"
        );
        let other = load_failure("x", ModelError::Unsupported("no such architecture".into()), Some("never"));
        assert_eq!(other.message, "x could not be loaded: no such architecture");
    }
}
