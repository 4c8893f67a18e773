//! The engine thread: owns the queue and executes the effects of [`lifecycle`](super::lifecycle). It never blocks for
//! long: the device thread owns the model, so that commands are processed during a load or an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lifecycle::{Cause, Effect, Event, ModelHealth, Phase, State, step};
use super::source::CancelFlag;
use super::{EngineOptions, generation, load, memory};
use crate::clock::Timestamp;
use crate::protocol::*;

mod device;
mod progress;

use device::{Command, Device, Report};
use progress::Throttle;

/// System timers may stop during suspend, so an idle engine reads the boot-time clock at this interval.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// How long a shutdown waits for the device thread; dropping the handle has to take less than 2 s.
const LONGEST_GOODBYE: Duration = Duration::from_millis(1700);

/// A message to the engine thread.
pub(super) enum Message {
    Generate(GenerationRequest, Timestamp),
    Cancel(RequestId),
    StartDriver,
    Load,
    Release,
    Count(CountRequest),
    Switch(EngineOptions),
    SetWindow(IdleWindow),
    Shutdown,
    /// From the device thread with this serial number.
    Report(u64, Report),
}

/// An accepted request whose terminal event has not been sent.
struct Ticket {
    /// Moved to the device thread when the request starts.
    request: Option<GenerationRequest>,
    submitted: Timestamp,
    cancel: CancelFlag,
}

/// State of the engine thread.
pub(super) struct Worker {
    state: State,
    options: Arc<Mutex<EngineOptions>>,
    /// One for each `Switch` that is still queued in `state`.
    next_options: VecDeque<EngineOptions>,
    tickets: HashMap<RequestId, Ticket>,
    device: Option<Device>,
    /// Number of the current device thread; reports of earlier ones are dropped.
    serial: u64,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    sink: Box<dyn Fn(EngineEvent) + Send>,
    throttle: Throttle,
    load_started: Timestamp,
    loaded_at: Timestamp,
    info: Option<ModelInfo>,
    last_error: Option<EngineError>,
    /// Resident memory in bytes before a release, or before a load is aborted.
    resident: Option<u64>,
    /// Resident memory when the last load started.
    before_load: Option<u64>,
    exit_by: Option<Timestamp>,
    /// The thread that starts the GPU driver.
    waking: Option<JoinHandle<()>>,
    exited: bool,
}

impl Worker {
    pub fn new(
        options: EngineOptions,
        inbox: Receiver<Message>,
        outbox: Sender<Message>,
        sink: Box<dyn Fn(EngineEvent) + Send>,
    ) -> Self {
        Self {
            state: State::new(window_of(&options)),
            options: Arc::new(Mutex::new(options)),
            next_options: VecDeque::new(),
            tickets: HashMap::new(),
            device: None,
            serial: 0,
            inbox,
            outbox,
            sink,
            throttle: Throttle::default(),
            load_started: Timestamp::default(),
            loaded_at: Timestamp::default(),
            info: None,
            last_error: None,
            resident: None,
            before_load: None,
            exit_by: None,
            waking: None,
            exited: false,
        }
    }

    /// Runs until the shutdown.
    pub fn run(mut self) {
        while !self.exited {
            match self.wait() {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout) => self.look_at_the_clock(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.leave_the_driver_in_peace();
    }

    fn is_remote(&self) -> bool {
        self.options.try_lock().map_or_else(
            // The load holds the lock; it has told what it loads by then, or there is nothing to release yet.
            |_| self.device_kind() == DeviceKind::Server,
            |options| options.source.server().is_some(),
        )
    }

    fn wake(&mut self) {
        if self.is_remote() {
            return;
        }
        let device = self.options.lock().unwrap_or_else(PoisonError::into_inner).device;
        let thread = std::thread::Builder::new().name("driver".into());
        // If no thread can be started, the load starts the driver.
        self.waking = thread.spawn(move || load::start_driver(device)).ok();
    }

    /// Waits until no thread is inside the GPU driver: the process must not exit during a driver call.
    fn leave_the_driver_in_peace(&mut self) {
        if let Some(waking) = self.waking.take() {
            let _ = waking.join();
        }
        let left = self.exit_by.map_or(LONGEST_GOODBYE, |exit_by| exit_by.since(Timestamp::now()));
        load::wait_for_contexts(left);
    }

    fn wait(&self) -> Result<Message, RecvTimeoutError> {
        match self.exit_by.or_else(|| self.state.release_at()) {
            Some(deadline) => self.inbox.recv_timeout(deadline.since(Timestamp::now()).min(LONGEST_NAP)),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn look_at_the_clock(&mut self) {
        if self.exit_by.is_some_and(|exit_by| Timestamp::now() >= exit_by) {
            return self.leave_the_device_behind();
        }
        self.step(Event::Deadline { epoch: self.state.epoch() });
    }

    /// The device thread did not end in time; sends the terminal event of every open request.
    fn leave_the_device_behind(&mut self) {
        let waiting: Vec<RequestId> = self.tickets.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.finish_cancelled(id));
        self.exited = true;
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Generate(request, submitted) => self.accept(request, submitted),
            Message::Cancel(id) => self.step(Event::Cancel(id)),
            Message::StartDriver => self.wake(),
            Message::Load => self.step(Event::Load),
            Message::Release => self.step(Event::Release),
            Message::Count(request) => self.give(Command::Count(request)),
            Message::Switch(options) => {
                let window = window_of(&options);
                self.next_options.push_back(options);
                self.step(Event::Switch(window));
            }
            Message::SetWindow(window) => self.set_window(window),
            Message::Shutdown => {
                self.exit_by = Some(Timestamp::now() + LONGEST_GOODBYE);
                self.step(Event::Shutdown);
            }
            Message::Report(serial, report) if serial == self.serial => self.hear_device(report),
            Message::Report(..) => {}
        }
    }

    fn set_window(&mut self, window: IdleWindow) {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).idle_window = window;
        self.next_options.iter_mut().for_each(|options| options.idle_window = window);
        if !self.is_remote() {
            self.step(Event::SetWindow(window));
        }
    }

    fn accept(&mut self, request: GenerationRequest, submitted: Timestamp) {
        let id = request.id;
        if self.tickets.contains_key(&id) {
            return self.tell(EngineEvent::Warning(format!("request {} was submitted twice and counts once", id.0)));
        }
        self.tickets.insert(id, Ticket { request: Some(request), submitted, cancel: CancelFlag::default() });
        self.step(Event::Submit(id));
    }

    fn hear_device(&mut self, report: Report) {
        match report {
            Report::Progress(progress) => {
                let told = self.throttle.push(progress, Timestamp::now());
                told.into_iter().for_each(|progress| self.tell(EngineEvent::LoadProgress(progress)));
            }
            Report::Loaded(info) => self.loaded(info),
            Report::LoadFailed(error) => self.last_error = Some(error),
            Report::Told(event) => self.tell(event),
            Report::Answered { id, event, health } => {
                if let EngineEvent::Failed { error, .. } = &event {
                    self.last_error = Some(error.clone());
                }
                self.finish(id, event);
                self.step(Event::Answered { id, health });
            }
            Report::Ended { freed } => self.device_ended(freed),
        }
    }

    fn loaded(&mut self, info: ModelInfo) {
        self.flush_progress();
        self.loaded_at = Timestamp::now();
        self.info = Some(info.clone());
        let took = self.loaded_at.since(self.load_started);
        tracing::info!(model = info.name, device = info.device.name, bytes = info.memory.total(), ?took, "loaded");
        self.tell(EngineEvent::Loaded { info, took, at: self.loaded_at });
        self.step(Event::Loaded);
    }

    fn flush_progress(&mut self) {
        if let Some(progress) = self.throttle.finish() {
            self.tell(EngineEvent::LoadProgress(progress));
        }
    }

    /// The device thread has dropped the model.
    fn device_ended(&mut self, freed: Freed) {
        if let Some(device) = self.device.take() {
            // The last message is sent, so this only waits for the thread-local destructors.
            let _ = device.thread.join();
        }
        match self.state.phase() {
            Phase::Loading { .. } => {
                self.flush_progress();
                memory::trim_allocator();
                let error = self.last_error.get_or_insert_with(|| lost_thread("loading")).clone();
                tracing::warn!(kind = ?error.kind, reason = error.message, "load failed");
                self.tell(EngineEvent::LoadFailed { error });
                self.step(Event::LoadFailed);
            }
            Phase::Generating { id, .. } => {
                let error = lost_thread("the answer");
                self.finish(id, EngineEvent::Failed { id, error, at: Timestamp::now() });
                self.step(Event::Answered { id, health: ModelHealth::Reload });
            }
            Phase::Releasing => self.released(freed),
            // The thread ended without a command and has dropped the model; the release only updates the state.
            Phase::Idle { .. } => self.step(Event::Release),
            Phase::Cold | Phase::Failed { .. } | Phase::Closed => {}
        }
    }

    fn device_kind(&self) -> DeviceKind {
        self.info.as_ref().map_or(DeviceKind::Cpu, |info| info.device.kind)
    }

    fn start_release(&mut self) {
        self.tell(EngineEvent::Releasing);
        match &mut self.device {
            Some(device) => {
                self.resident = memory::resident_bytes();
                device.jobs = None;
            }
            // After an aborted load; `resident` was measured when it was aborted.
            None => self.released(Freed::default()),
        }
    }

    fn released(&mut self, Freed { bytes, energy_mj }: Freed) {
        memory::trim_allocator();
        let freed = bytes.unwrap_or_else(|| self.freed());
        tracing::info!(bytes = freed, "released");
        self.info = None;
        self.tell(EngineEvent::Released { freed, energy_mj, at: Timestamp::now() });
        self.step(Event::Released);
    }

    /// Bytes freed: on the CPU the decrease of resident memory, if the system reports it; else the model's memory use.
    fn freed(&mut self) -> u64 {
        let taken = self.info.as_ref().map_or(0, |info| info.memory.total());
        let before = self.resident.take();
        let shrunk = before.zip(memory::resident_bytes()).map(|(before, after)| before.saturating_sub(after));
        match self.device_kind() {
            DeviceKind::Cpu => shrunk.unwrap_or(taken),
            DeviceKind::Cuda => taken,
            DeviceKind::Server => 0,
        }
    }

    /// Reports the growth of resident memory since before the load. On the CPU, the KV cache takes memory only as far as
    /// it is used, so that the model's own figure is more than a release gives back.
    fn tell_resident(&self) {
        let grown = self.before_load.zip(memory::resident_bytes()).map(|(before, now)| now.saturating_sub(before));
        if let Some(bytes) = grown.filter(|_| self.device_kind() == DeviceKind::Cpu) {
            self.tell(EngineEvent::Resident { bytes });
        }
    }

    fn step(&mut self, event: Event) {
        let (state, effects) = step(self.state.clone(), event, Timestamp::now());
        if state.phase() != self.state.phase() {
            tracing::debug!(from = ?self.state.phase(), to = ?state.phase(), "engine state");
        }
        self.state = state;
        effects.into_iter().for_each(|effect| self.execute(effect));
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::StartLoad => self.start_load(),
            Effect::AbortLoad => {
                if let Some(device) = &self.device {
                    self.resident = memory::resident_bytes();
                    device.cancel_load.cancel();
                }
            }
            Effect::Generate(id) => self.generate(id),
            Effect::Stop(id) => {
                if let Some(ticket) = self.tickets.get(&id) {
                    ticket.cancel.cancel();
                }
            }
            Effect::FinishCancelled(id) => self.finish_cancelled(id),
            Effect::Fail(id, cause) => self.fail(id, cause),
            Effect::AnnounceIdle(release_at) => {
                self.tell_resident();
                self.tell(EngineEvent::Idle { release_at, at: Timestamp::now() });
            }
            Effect::Release => self.start_release(),
            Effect::ApplyOptions => {
                if let Some(options) = self.next_options.pop_front() {
                    self.options = Arc::new(Mutex::new(options));
                }
            }
            Effect::Exit => self.exited = true,
        }
    }

    fn start_load(&mut self) {
        self.serial += 1;
        self.load_started = Timestamp::now();
        self.before_load = memory::resident_bytes();
        self.last_error = None;
        self.throttle = Throttle::default();
        self.tell(EngineEvent::Loading { at: self.load_started });
        match Device::start(Arc::clone(&self.options), self.outbox.clone(), self.serial) {
            Ok(device) => self.device = Some(device),
            Err(error) => {
                let message = format!("the system cannot start a thread: {error}; close other programs and try again");
                self.last_error = Some(EngineError::new(ErrorKind::Failed, message));
                self.device_ended(Freed::default());
            }
        }
    }

    fn generate(&mut self, id: RequestId) {
        let Some(ticket) = self.tickets.get_mut(&id) else { return };
        let Some(request) = ticket.request.take() else { return };
        let (cancel, submitted, loaded_at) = (ticket.cancel.clone(), ticket.submitted, self.loaded_at);
        self.give(Command::Generate { request, cancel, submitted, loaded_at });
    }

    /// Sends a job to the device thread. If that has ended, its `Ended` is in the inbox and ends the request.
    fn give(&self, job: Command) {
        if let Some(jobs) = self.device.as_ref().and_then(|device| device.jobs.as_ref()) {
            let _ = jobs.send(job);
        }
    }

    fn finish_cancelled(&mut self, id: RequestId) {
        if let Some(ticket) = self.tickets.get(&id) {
            let event = generation::cancelled(id, ticket.submitted, Timestamp::now());
            self.finish(id, event);
        }
    }

    fn fail(&mut self, id: RequestId, cause: Cause) {
        let error = self.last_error.clone().unwrap_or_else(|| match cause {
            Cause::LoadFailed => lost_thread("loading"),
            Cause::DeviceLost => EngineError::new(ErrorKind::Fatal, "The device is lost for this process."),
        });
        self.finish(id, EngineEvent::Failed { id, error, at: Timestamp::now() });
    }

    /// Sends a request's terminal event, exactly once.
    fn finish(&mut self, id: RequestId, event: EngineEvent) {
        if self.tickets.remove(&id).is_some() {
            self.tell(event);
        }
    }

    fn tell(&self, event: EngineEvent) {
        (self.sink)(event);
    }
}

/// A session with a server takes no memory that a release would give back.
fn window_of(options: &EngineOptions) -> IdleWindow {
    if options.source.server().is_some() { IdleWindow::Never } else { options.idle_window }
}

fn lost_thread(what: &str) -> EngineError {
    EngineError::new(
        ErrorKind::Failed,
        format!("The engine's thread ended during {what}. The next message tries again."),
    )
}

#[cfg(test)]
mod tests;
