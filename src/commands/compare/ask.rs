//! Asks one side with an engine of its own, which gives its memory back before the next side loads.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::{Subject, Unit};
use super::note;
use super::sides::Side;
use crate::engine::source::CancelFlag;
use crate::engine::{Engine, EngineOptions};
use crate::failure::Failure;
use crate::hub::HubSource;
use crate::progress::Progress;
use crate::protocol::*;
use crate::settings::Settings;
use crate::stats::AnswerStats;

/// How long to wait for the measured memory after the answer, and for the release.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer with its figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub answer: String,
    reasoning: String,
    reason: Option<FinishReason>,
    usage: Usage,
    timing: Timing,
    info: ModelInfo,
    /// Bytes that the model held, measured where the device allows it.
    memory: u64,
    /// The values that it was sampled with.
    sampling: Option<SamplingParams>,
}

/// How often the stop flag is read while no event comes.
const POLL: Duration = Duration::from_millis(50);

/// Loads the model of a side, asks, and releases it. After the stop flag was raised, the answer is what came until then.
pub(super) fn ask(side: &Side, prompt: &str, stop: &CancelFlag) -> Result<Asked, Failure> {
    let settings = &side.settings;
    note(&format!("{} ...", side.title()));
    let (sender, events) = channel();
    let engine = Engine::start(options(settings)?, move |event| {
        // The receiver is dropped only when the engine has ended.
        let _ = sender.send(event);
    })?;
    let id = engine.next_id();
    engine.generate(GenerationRequest {
        sampling: settings.sampling.clone(),
        think: settings.think,
        max_tokens: settings.max_tokens,
        on_overflow: settings.on_overflow,
        ..GenerationRequest::new(id, messages(settings, prompt))
    });
    let mut asked =
        until_the_end(&events, id, || stop.is_cancelled(), || engine.cancel(id)).map_err(|error| named(side, error))?;
    let measured = if stop.is_cancelled() { None } else { measured(&events) };
    asked.memory = measured.unwrap_or_else(|| asked.info.memory.total());
    asked.sampling = Some(settings.sampling.resolve(&asked.info.sampling));
    if stop.is_cancelled() {
        return Ok(asked);
    }
    engine.release();
    while let Ok(event) = events.recv_timeout(PATIENCE) {
        if matches!(event, EngineEvent::Released { .. }) {
            break;
        }
    }
    Ok(asked)
}

fn options(settings: &Settings) -> Result<EngineOptions, Failure> {
    let options = HubSource::new(settings)?.engine_options(settings, IdleWindow::Never);
    options.map_err(|error| Failure::usage(error.to_string()))
}

fn messages(settings: &Settings, prompt: &str) -> Vec<ChatMessage> {
    let system = settings.system.iter().filter(|text| !text.is_empty());
    let system = system.map(|text| ChatMessage::new(Role::System, text));
    system.chain([ChatMessage::new(Role::User, prompt)]).collect()
}

/// Collects the answer of request `id`; cancels it, once, if it is to stop.
fn until_the_end(
    events: &Receiver<EngineEvent>,
    id: RequestId,
    stops: impl Fn() -> bool,
    cancel: impl Fn(),
) -> Result<Asked, EngineError> {
    let mut asked = Asked::default();
    let mut progress = Progress::new(false);
    let mut cancelled = false;
    loop {
        if !cancelled && stops() {
            cancelled = true;
            cancel();
        }
        let event = match events.recv_timeout(POLL) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match event {
            EngineEvent::LoadProgress(step) => progress.show(&step),
            EngineEvent::Loaded { info, .. } => {
                progress.clear();
                info.warnings.iter().for_each(|warning| note(&format!("chatnap: warning: {warning}")));
                asked.info = info;
            }
            EngineEvent::Token { id: of, channel, text, .. } if of == id => match channel {
                Channel::Answer => asked.answer.push_str(&text),
                Channel::Reasoning => asked.reasoning.push_str(&text),
            },
            EngineEvent::Finished { id: of, reason, usage, timing, .. } if of == id => {
                (asked.reason, asked.usage, asked.timing) = (Some(reason), usage, timing);
                return Ok(asked);
            }
            EngineEvent::Failed { id: of, error, .. } if of == id => return Err(error),
            EngineEvent::Warning(warning) => note(&format!("chatnap: warning: {warning}")),
            _ => {}
        }
    }
    Err(EngineError::new(ErrorKind::Failed, "The engine ended without an answer."))
}

/// The memory that was measured after the answer, which the engine says before it is idle.
fn measured(events: &Receiver<EngineEvent>) -> Option<u64> {
    let mut found = None;
    while let Ok(event) = events.recv_timeout(PATIENCE) {
        match event {
            EngineEvent::Resident { bytes } => found = Some(bytes).filter(|bytes| *bytes > 0),
            EngineEvent::Idle { .. } => break,
            _ => {}
        }
    }
    found
}

fn named(side: &Side, error: EngineError) -> Failure {
    Failure::new(error.kind.into(), format!("{}: {}", side.title(), error.message))
}

impl Asked {
    pub(super) fn subject(&self, side: &Side) -> Subject {
        let (usage, timing) = (&self.usage, &self.timing);
        let stats = AnswerStats::new(usage, timing);
        let [prompt, _, completion] = usage.known();
        let ms = |span: Duration| span.as_secs_f64() * 1000.0;
        let mut subject = Subject::new(side.letter.to_string());
        subject.fact("model", &self.info.name);
        subject.fact("quantization", &self.info.quantization);
        subject.fact("device", &self.info.device.name);
        for (name, value) in sampling(self.sampling.as_ref()) {
            subject.fact(name, value.to_string().trim_matches('"'));
        }
        subject.figure("load", "load_ms", Unit::Ms, Some(ms(timing.load)));
        subject.figure("time to first token", "ttft_ms", Unit::Ms, stats.ttft.map(ms));
        subject.figure("tokens per second", "tokens_per_second", Unit::Rate, stats.tokens_per_second);
        subject.figure("prompt tokens", "prompt_tokens", Unit::Count, prompt.map(|count| count as f64));
        subject.figure("completion tokens", "completion_tokens", Unit::Count, completion.map(|count| count as f64));
        subject.figure(
            "answer without the load",
            "answer_ms",
            Unit::Ms,
            Some(ms(timing.total.saturating_sub(timing.load))),
        );
        subject.figure("total", "total_ms", Unit::Ms, Some(ms(timing.total)));
        subject.figure("memory", "memory_bytes", Unit::Bytes, Some(self.memory as f64));
        subject
    }

    pub(super) fn json(&self, side: &Side) -> Value {
        json!({
            "model": self.info.name,
            "own_settings": side.own,
            "answer": self.answer,
            "reasoning": Some(&self.reasoning).filter(|text| !text.is_empty()),
            "finish_reason": self.reason,
            "seed": self.sampling.as_ref().and_then(|sampling| sampling.seed),
            "sampling": sampling(self.sampling.as_ref()).into_iter().collect::<serde_json::Map<_, _>>(),
            "device": {"kind": self.info.device.kind, "name": self.info.device.name},
            "figures": self.subject(side).json(),
        })
    }
}

/// The sampling values that a comparison shows.
fn sampling(sampling: Option<&SamplingParams>) -> Vec<(String, Value)> {
    let Some(sampling) = sampling else { return Vec::new() };
    let Ok(Value::Object(values)) = serde_json::to_value(sampling) else { return Vec::new() };
    // The digits of the 32-bit numbers.
    let plain = |value: Value| match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => json!((number as f32).to_string().parse::<f64>().unwrap_or(number)),
        None => value,
    };
    values.into_iter().map(|(name, value)| (name, plain(value))).collect()
}
