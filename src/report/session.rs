//! The engine of a report: asks one question after the other, and notes when each event came.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::data::{Figures, MemorySample, PhaseName};
use super::memory::MemoryMeter;
use super::phases::Marks;
use super::{Options, Step};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::protocol::*;
use crate::settings::Settings;

/// How long a cancelled engine may take to report the end of the request.
const PATIENCE: Duration = Duration::from_millis(1200);

/// How often the stop flag is read, and memory measured, while no event comes.
const POLL: Duration = Duration::from_millis(50);

/// An engine and what is known about its model.
pub(super) struct Session<'a> {
    settings: &'a Settings,
    options: &'a Options,
    engine: Engine,
    events: Receiver<(Instant, EngineEvent)>,
    /// Measured meanwhile.
    pub memory: MemoryMeter,
    /// `None` before the first load.
    pub info: Option<ModelInfo>,
    /// What the last answer was computed from; `None` before the first.
    pub trace: Option<Arc<Trace>>,
    /// Warnings of the model and the engine, each once.
    pub warnings: Vec<String>,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The stop flag was raised.
    Stopped,
    /// The request failed.
    Failed(EngineError),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub answer: String,
    pub reasoning: String,
    pub reason: FinishReason,
    pub usage: Usage,
    pub timing: Timing,
    pub marks: Marks,
}

impl Answered {
    pub fn figures(&self) -> Figures {
        Figures::new(&self.usage, &self.timing)
    }
}

impl<'a> Session<'a> {
    /// Starts the engine, cold.
    pub fn start(settings: &'a Settings, options: &'a Options) -> Result<Self, Failure> {
        // The release is measured, so that none may come by itself.
        let engine_options = HubSource::new(settings)?.engine_options(settings, IdleWindow::Never);
        let engine_options = engine_options.map_err(|error| Failure::usage(error.to_string()))?;
        let memory = MemoryMeter::new(settings.device);
        let (sender, events) = channel();
        let engine = Engine::start(engine_options, move |event| {
            // The receiver is dropped only when the report is done.
            let _ = sender.send((Instant::now(), event));
        })?;
        Ok(Self { settings, options, engine, events, memory, info: None, trace: None, warnings: Vec::new() })
    }

    /// Asks for an answer and waits for its end.
    pub fn ask(
        &mut self,
        messages: Vec<ChatMessage>,
        seed: Option<u64>,
        max_tokens: usize,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Answered, Ended> {
        if self.options.stop.is_cancelled() {
            return Err(Ended::Stopped);
        }
        let id = self.engine.next_id();
        let begun = Instant::now();
        self.engine.generate(GenerationRequest {
            sampling: SamplingChoice { seed, ..self.settings.sampling.clone() },
            think: self.settings.think,
            max_tokens: Some(self.settings.max_tokens.map_or(max_tokens, |most| most.min(max_tokens))),
            ..GenerationRequest::new(id, messages)
        });
        let mut answered = Answered {
            answer: String::new(),
            reasoning: String::new(),
            reason: FinishReason::Cancelled,
            usage: Usage::default(),
            timing: Timing::default(),
            marks: Marks::new(begun),
        };
        let mut stopped = None;
        loop {
            let Some((at, event)) = self.next(&mut stopped, id)? else { return Err(Ended::Stopped) };
            match event {
                EngineEvent::LoadProgress(step) => {
                    answered.marks.load(at, PhaseName::from(step.phase), step.detail.as_deref());
                    progress(Step::Load(&step));
                }
                EngineEvent::Loaded { info, .. } => {
                    answered.marks.loaded(at);
                    self.loaded(info);
                }
                EngineEvent::Token { id: of, channel, text, .. } if of == id => {
                    answered.marks.token(at);
                    let part = if channel == Channel::Answer { &mut answered.answer } else { &mut answered.reasoning };
                    part.push_str(&text);
                }
                EngineEvent::Finished { id: of, reason, usage, timing, .. } if of == id => {
                    (answered.reason, answered.usage, answered.timing) = (reason, usage, timing);
                    let whole = stopped.is_none() && reason != FinishReason::Cancelled;
                    return if whole { Ok(answered) } else { Err(Ended::Stopped) };
                }
                EngineEvent::Failed { id: of, error, .. } if of == id => {
                    let stopped = stopped.is_some() || error.kind == ErrorKind::Cancelled;
                    return Err(if stopped { Ended::Stopped } else { Ended::Failed(error) });
                }
                EngineEvent::Traced { trace, .. } => self.trace = Some(trace),
                EngineEvent::Warning(warning) => self.warn(warning),
                _ => {}
            }
        }
    }

    /// Releases the memory; returns how long that took, and the bytes that were freed.
    pub fn release(&mut self) -> Result<(Duration, u64), Ended> {
        let begun = Instant::now();
        self.engine.release();
        let mut stopped = None;
        loop {
            match self.next(&mut stopped, RequestId(0))? {
                Some((at, EngineEvent::Released { freed, .. })) => return Ok((at - begun, freed)),
                Some((_, EngineEvent::Warning(warning))) => self.warn(warning),
                Some(_) => {}
                None => return Err(Ended::Stopped),
            }
        }
    }

    /// Ends the engine, which releases its memory; returns the samples of the memory. After a stop, it ends on a thread of its
    /// own: a device that does not react must not hold up the report.
    pub fn end(self) -> Vec<MemorySample> {
        let engine = self.engine;
        if self.options.stop.is_cancelled() {
            // Without a thread, it is dropped here.
            let _ = std::thread::Builder::new().name("release".into()).spawn(move || drop(engine));
        } else {
            drop(engine);
        }
        self.memory.into_samples()
    }

    /// The next event; `None` if the stop flag was raised and the engine has not ended request `id` within [`PATIENCE`].
    fn next(&mut self, stopped: &mut Option<Instant>, id: RequestId) -> Result<Option<(Instant, EngineEvent)>, Ended> {
        loop {
            self.memory.sample();
            if stopped.is_none() && self.options.stop.is_cancelled() {
                *stopped = Some(Instant::now());
                self.engine.cancel(id);
            }
            match self.events.recv_timeout(POLL) {
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Timeout) => {
                    if stopped.is_some_and(|since| since.elapsed() >= PATIENCE) {
                        return Ok(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Ended::Failed(EngineError::new(ErrorKind::Fatal, "The engine ended.")));
                }
            }
        }
    }

    fn loaded(&mut self, info: ModelInfo) {
        self.memory.loaded(self.settings.device, info.device.kind == DeviceKind::Cuda);
        info.warnings.iter().for_each(|warning| self.warn(warning.clone()));
        self.info = Some(info);
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}
