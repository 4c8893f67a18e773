//! Writes the answer to stdout in each format: streamed or at the end, sanitised unless `--raw` is given. On a terminal
//! its Markdown is rendered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::report::Report;
use crate::cli::{OneShot, OneShotFormat};
use crate::clock::Timestamp;
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::protocol::{Channel, FinishReason, LoadProgress, ModelInfo};
use crate::sanitize::Sanitizer;
use crate::settings::Settings;
use crate::tui::printed::Printed;

/// Minimum time between two `load` events of one phase.
const LOAD_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct AnswerWriter {
    format: OneShotFormat,
    streams: bool,
    /// `None` with `--raw`.
    sanitizer: Option<Sanitizer>,
    /// Renders Markdown on a terminal; `None` elsewhere and with `--raw`.
    printed: Option<Printed>,
    /// Newlines that are written only if text follows: the answer ends with exactly one.
    held_newlines: usize,
    wrote: bool,
    last_load: Option<(crate::protocol::LoadPhase, Instant)>,
    /// When the first token was sampled.
    first_token: Option<Timestamp>,
}

impl AnswerWriter {
    pub(super) fn new(settings: &Settings, one_shot: &OneShot) -> Self {
        let renders = one_shot.format == OneShotFormat::Text && !one_shot.raw;
        Self {
            format: one_shot.format,
            streams: !one_shot.no_stream,
            sanitizer: (!one_shot.raw).then(Sanitizer::default),
            printed: if renders { printed(settings) } else { None },
            held_newlines: 0,
            wrote: false,
            last_load: None,
            first_token: None,
        }
    }

    /// Writes a `load` event, at most every [`LOAD_INTERVAL`] unless the phase changes or is complete.
    pub(super) fn load(&mut self, step: &LoadProgress) -> Result<Reader, Failure> {
        let now = Instant::now();
        let complete = step.total == Some(step.done);
        let recent = self.last_load.is_some_and(|(phase, at)| phase == step.phase && now - at < LOAD_INTERVAL);
        if recent && !complete {
            return Ok(Reader::Listening);
        }
        self.last_load = Some((step.phase, now));
        let (phase, done, total, detail) = (step.phase, step.done, step.total, &step.detail);
        self.event(|| json!({"event": "load", "phase": phase, "done": done, "total": total, "detail": detail}))
    }

    /// Writes the last `load` event.
    pub(super) fn loaded(&self, info: &ModelInfo, took: Duration) -> Result<Reader, Failure> {
        self.event(
            || json!({"event": "load", "phase": "ready", "model": info.name, "load_ms": super::report::ms(took)}),
        )
    }

    /// Writes a piece of the answer or of the reasoning, sampled at `at`.
    pub(super) fn token(&mut self, channel: Channel, text: &str, at: Timestamp) -> Result<Reader, Failure> {
        let since_first = super::report::ms(at.since(*self.first_token.get_or_insert(at)));
        match (self.format, channel) {
            (OneShotFormat::Jsonl, _) => {
                self.event(|| json!({"event": "token", "channel": channel, "text": text, "ms": since_first}))
            }
            (OneShotFormat::Text, Channel::Answer) if self.streams => self.text(text),
            _ => Ok(Reader::Listening),
        }
    }

    fn event(&self, object: impl FnOnce() -> Value) -> Result<Reader, Failure> {
        match self.format {
            OneShotFormat::Jsonl => output::write_json(&object()),
            _ => Ok(Reader::Listening),
        }
    }

    fn text(&mut self, text: &str) -> Result<Reader, Failure> {
        if let Some(printed) = &mut self.printed {
            let written = printed.push(text);
            self.wrote |= !written.is_empty();
            return output::write(&written);
        }
        let clean = match &mut self.sanitizer {
            Some(sanitizer) => sanitizer.push(text),
            None => text.to_owned(),
        };
        self.write(&clean)
    }

    fn write(&mut self, clean: &str) -> Result<Reader, Failure> {
        let body = clean.trim_end_matches('\n');
        let newlines = clean.len() - body.len();
        if body.is_empty() {
            self.held_newlines += newlines;
            return Ok(Reader::Listening);
        }
        let held = "\n".repeat(std::mem::replace(&mut self.held_newlines, newlines));
        self.wrote = true;
        output::write(&format!("{held}{body}"))
    }

    /// Writes the end of an answer that did not fail.
    pub(super) fn finish(&mut self, report: &Report<'_>) -> Result<Reader, Failure> {
        match self.format {
            OneShotFormat::Json => output::write_json(&report.json()),
            OneShotFormat::Jsonl => {
                let mut done = json!({"event": "done"});
                if let (Some(done), Value::Object(fields)) = (done.as_object_mut(), report.json()) {
                    done.extend(fields);
                }
                output::write_json(&done)
            }
            OneShotFormat::Text => {
                if !self.streams {
                    self.text(&report.answer.text)?;
                }
                // Stopped before the first text: there is no line to end.
                let nothing = report.reason == FinishReason::Cancelled && !self.wrote;
                if nothing { Ok(Reader::Listening) } else { self.close_line() }
            }
        }
    }

    /// Ends the printed line of a failed answer, so that the error message starts a new line.
    pub(super) fn break_off(&mut self) -> Result<Reader, Failure> {
        if self.format == OneShotFormat::Text && self.wrote { self.close_line() } else { Ok(Reader::Listening) }
    }

    fn close_line(&mut self) -> Result<Reader, Failure> {
        if let Some(printed) = &mut self.printed {
            return output::write(&(printed.finish() + "\n"));
        }
        let rest = self.sanitizer.as_mut().map(Sanitizer::finish).unwrap_or_default();
        self.write(&rest)?;
        output::write("\n")
    }
}

/// The renderer for the terminal of stdout.
fn printed(settings: &Settings) -> Option<Printed> {
    let folder = settings.config_dir.join("themes");
    Printed::new((&settings.theme, &folder), output::size()?, |name| std::env::var(name).ok())
}
