//! The one-shot front end: prints the answer on stdout, everything else on stderr, and returns an exit code.
//!
//! Uses the engine only through its handle and events, and the terminal only for one progress line on stderr.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::cli::{OneShot, OneShotFormat};
use crate::clock::Timestamp;
use crate::conversation::Ending;
use crate::engine::Engine;
use crate::engine::chat_template::{Chosen, TemplateError};
use crate::failure::{Code, Failure};
use crate::hub::{self, HubSource};
use crate::output::{self, Reader};
use crate::protocol::*;
use crate::settings::{Resolved, Settings};
use crate::signals;
use crate::wording::larger_context;

mod answer;
mod answer_recorder;
mod attached;
mod cached;
mod dry_run;
mod messages;
mod report;

use answer::AnswerWriter;
use answer_recorder::AnswerRecorder;
use messages::Messages;

/// How long a cancelled engine may take to report the end of the request.
const PATIENCE: Duration = Duration::from_millis(1200);

/// An input of the run's event loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// An event of the engine.
    Engine(Box<EngineEvent>),
    /// The first Ctrl-C, SIGTERM or SIGHUP.
    Stop,
}

/// Answers once; returns the exit code.
pub fn run(resolved: &Resolved, one_shot: &OneShot) -> Result<u8, Failure> {
    let answered =
        if one_shot.dry_run { dry_run::run(&resolved.settings, one_shot) } else { answer(resolved, one_shot) };
    answered.map_err(|failure| failure.with_json(one_shot.format != OneShotFormat::Text))
}

fn answer(resolved: &Resolved, one_shot: &OneShot) -> Result<u8, Failure> {
    let (sender, inputs) = channel();
    let stop = sender.clone();
    signals::listen(move || {
        // The receiver is dropped only when the run is over.
        let _ = stop.send(Input::Stop);
    })?;
    let messages = Messages::new(one_shot.quiet);
    HubSource::new(&resolved.settings)?;
    chosen_template(&resolved.settings)?;
    // Store the question before the engine starts, so that no later error can lose it.
    let mut recorder = AnswerRecorder::open(resolved, one_shot, attached::read(&one_shot.files)?, &messages)?;
    let settings = &recorder.settings.clone();
    let (source, chat_template) = (HubSource::new(settings)?, chosen_template(settings)?);
    let request = cached::Request::of(&recorder, &source, chat_template.as_ref());
    if settings.cache
        && let Some(found) = request.as_ref().and_then(|request| request.find(&settings.data_dir))
    {
        return cached::print(found, recorder, one_shot, &messages);
    }
    recorder.commit(&messages);
    // One answer, then the process ends and frees the weights: a release timer would gain nothing.
    let options = source.engine_options(settings, IdleWindow::Never).map_err(template_failure)?;
    let engine = Engine::start(options, move |event| {
        // The receiver is dropped only when the run is over.
        let _ = sender.send(Input::Engine(Box::new(event)));
    })?;
    let id = engine.next_id();
    engine.generate(GenerationRequest {
        sampling: settings.sampling.clone(),
        think: settings.think,
        max_tokens: settings.max_tokens,
        on_overflow: settings.on_overflow,
        conversation: recorder.conversation().map(str::to_owned),
        ..GenerationRequest::new(id, recorder.messages())
    });
    let writer = AnswerWriter::new(settings, one_shot);
    let run = Run { settings, one_shot, id, recorder, messages, writer, request, info: None, stopped: None };
    run.until_the_end(&engine, &inputs)
}

/// The chat template that the settings name instead of the model's.
fn chosen_template(settings: &Settings) -> Result<Option<Chosen>, Failure> {
    hub::chosen_template(settings).map_err(template_failure)
}

fn template_failure(error: TemplateError) -> Failure {
    Failure::usage(error.to_string())
}

/// Why the engine was asked to stop before the answer's end.
#[derive(Clone, Debug)]
enum Stopped {
    /// A signal.
    Signal,
    /// The reader of stdout closed it.
    ReaderGone,
    /// Writing to stdout failed.
    Output(Failure),
}

/// How a request ended.
enum End {
    Finished { reason: FinishReason, usage: Usage, timing: Timing },
    Failed(EngineError),
}

/// State of a one-shot run.
struct Run<'a> {
    settings: &'a Settings,
    one_shot: &'a OneShot,
    id: RequestId,
    recorder: AnswerRecorder,
    messages: Messages,
    writer: AnswerWriter,
    /// The request, if its answer can be repeated.
    request: Option<cached::Request>,
    info: Option<ModelInfo>,
    stopped: Option<(Stopped, Instant)>,
}

impl Run<'_> {
    fn until_the_end(mut self, engine: &Engine, inputs: &Receiver<Input>) -> Result<u8, Failure> {
        loop {
            let end = match self.next(inputs) {
                Ok(Input::Engine(event)) => self.event(*event, engine),
                Ok(Input::Stop) => {
                    self.stop(Stopped::Signal, engine);
                    None
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let gone = "The engine ended without an answer; what it had written is kept.";
                    Some(End::Failed(EngineError::new(ErrorKind::Failed, gone)))
                }
                // The engine does not react to the cancel: exit without waiting for it or for its thread.
                Err(RecvTimeoutError::Timeout) => {
                    let code = self.end(cancelled()).unwrap_or_else(|failure| failure.report());
                    std::process::exit(i32::from(code));
                }
            };
            if let Some(end) = end {
                return self.end(end);
            }
        }
    }

    /// Waits for the next input; saves the partial answer meanwhile, whenever that is due. `Timeout`: the engine was
    /// cancelled and has not ended the request within [`PATIENCE`].
    fn next(&mut self, inputs: &Receiver<Input>) -> Result<Input, RecvTimeoutError> {
        loop {
            let patience = self.stopped.as_ref().map(|(_, since)| PATIENCE.saturating_sub(since.elapsed()));
            let input = match [self.recorder.due_in(), patience].into_iter().flatten().min() {
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(time) => inputs.recv_timeout(time),
            };
            if !matches!(input, Err(RecvTimeoutError::Timeout)) || patience.is_some_and(|left| left.is_zero()) {
                return input;
            }
            self.recorder.save_if_due();
        }
    }

    /// Handles one event of the engine; returns the end if it is the last one.
    fn event(&mut self, event: EngineEvent, engine: &Engine) -> Option<End> {
        self.recorder.note(&event);
        match event {
            EngineEvent::LoadProgress(step) => {
                self.messages.progress(&step);
                self.check(|run| run.writer.load(&step), engine);
            }
            EngineEvent::Waiting { waited, why, .. } => self.messages.waiting(&self.settings.model, waited, &why),
            EngineEvent::Loaded { info, took, .. } => {
                self.messages.clear();
                info.warnings.iter().for_each(|warning| self.messages.warn(warning));
                self.check(|run| run.writer.loaded(&info, took), engine);
                self.recorder.recommended = info.sampling.clone();
                self.info = Some(info);
            }
            EngineEvent::Prefill { id, trimmed_turns, .. } if id == self.id => self.messages.trimmed(trimmed_turns),
            EngineEvent::Token { id, channel, text, at } if id == self.id => self.token(channel, &text, at, engine),
            EngineEvent::Traced { id, trace } if id == self.id => self.recorder.traced(trace),
            EngineEvent::Served { id, served } if id == self.id => self.recorder.served(served),
            EngineEvent::Finished { id, reason, usage, timing, .. } if id == self.id => {
                return Some(End::Finished { reason, usage, timing });
            }
            EngineEvent::Failed { id, error, .. } if id == self.id => return Some(End::Failed(error)),
            EngineEvent::Warning(warning) => self.messages.warn(&warning),
            _ => {}
        }
        None
    }

    fn token(&mut self, channel: Channel, text: &str, at: Timestamp, engine: &Engine) {
        self.messages.clear();
        self.recorder.token(channel, text);
        if channel == Channel::Reasoning {
            self.messages.reasoning(text);
        } else {
            self.messages.end_reasoning();
        }
        self.check(|run| run.writer.token(channel, text, at), engine);
    }

    /// Writes to stdout; stops the engine if that fails.
    fn check(&mut self, write: impl FnOnce(&mut Self) -> Result<Reader, Failure>, engine: &Engine) {
        if !output::is_ready() {
            // The write can block for long, and the reader already has the earlier text: save that first.
            self.recorder.save_now();
        }
        match write(self) {
            Ok(Reader::Listening) => {}
            Ok(Reader::Gone) => self.stop(Stopped::ReaderGone, engine),
            Err(failure) => self.stop(Stopped::Output(failure), engine),
        }
    }

    fn stop(&mut self, why: Stopped, engine: &Engine) {
        if self.stopped.is_none() {
            self.stopped = Some((why, Instant::now()));
            engine.cancel(self.id);
        }
    }

    /// Stores and prints the end, and returns the exit code.
    fn end(mut self, end: End) -> Result<u8, Failure> {
        self.messages.clear();
        self.messages.end_reasoning();
        let ending = match &end {
            End::Finished { reason, usage, timing } => {
                Ending::Finished { reason: *reason, usage: *usage, timing: Some(timing.clone()) }
            }
            End::Failed(error) => Ending::Failed { message: error.message.clone() },
        };
        self.recorder.end(ending, &self.messages);
        if let (Some(request), Some(info), End::Finished { reason, .. }) = (&self.request, &self.info, &end)
            && *reason != FinishReason::Cancelled
        {
            self.recorder.set_request(request.hash(info.dated));
        }
        let stopped = self.stopped.take().map(|(why, _)| why);
        match (stopped, end) {
            // A closed stdout is not an error: its reader needs no more output.
            (Some(Stopped::ReaderGone), _) => Ok(Code::Ok as u8),
            (Some(Stopped::Output(failure)), _) => Err(failure),
            (_, End::Failed(error)) if error.kind != ErrorKind::Cancelled => {
                self.writer.break_off()?;
                Err(error.into())
            }
            (stopped, end) => {
                let (reason, usage, timing) = match end {
                    End::Finished { reason, usage, timing } => (reason, usage, timing),
                    End::Failed(_) => (FinishReason::Cancelled, Usage::default(), Timing::default()),
                };
                self.print(reason, &usage, &timing)?;
                Ok(if stopped.is_some() { Code::Interrupted } else { Code::Ok } as u8)
            }
        }
    }

    /// Warns if the answer was cut off because the context is full, and names the flags that help.
    fn warn_if_full(&self, reason: FinishReason, usage: &Usage) {
        let Some(info) = self.info.as_ref().filter(|info| reason == FinishReason::Length && info.is_filled_by(usage))
        else {
            return;
        };
        let larger = larger_context(info.context_length, info.trained_context_length);
        let go_on = match self.settings.on_overflow {
            OverflowPolicy::Error => "To go on with -c, --on-overflow trim leaves out the oldest turns;",
            OverflowPolicy::Trim => "With -c, the next prompt leaves out the oldest turns;",
        };
        self.messages.warn(&format!(
            "the answer was cut off: the context of {} tokens is full. {larger} {go_on} without -c a new conversation \
             begins.",
            info.context_length
        ));
    }

    fn print(&mut self, reason: FinishReason, usage: &Usage, timing: &Timing) -> Result<Reader, Failure> {
        let report = report::Report {
            model: self.info.as_ref().map_or(self.settings.model.as_str(), |info| &info.name),
            answer: self.recorder.answer(),
            reason,
            conversation: self.recorder.conversation(),
            sampling: self.recorder.sampling(),
            chosen: &self.settings.sampling,
            usage,
            timing,
            device: self.info.as_ref().map(|info| (&info.device, info.memory.total())),
            from_cache: false,
        };
        let written = self.writer.finish(&report)?;
        self.warn_if_full(reason, usage);
        if reason == FinishReason::Stop && self.recorder.answer().is_silent() {
            self.messages.warn("the model gave no answer");
        }
        if self.one_shot.stats {
            self.messages.figures(&report.figures());
        }
        Ok(written)
    }
}

fn cancelled() -> End {
    End::Finished { reason: FinishReason::Cancelled, usage: Usage::default(), timing: Timing::default() }
}
