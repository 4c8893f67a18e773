//! The bytes of one answer → its texts, and how it ended.

use std::collections::BTreeMap;

use super::frame::{self, Frame, Part};
use super::problem;
use super::sse::EventReader;
use super::usage::Counts;
use crate::engine::generation::ReasoningSplitter;
use crate::engine::prompt::DEFAULT_MARKS;
use crate::protocol::Channel;

/// Most bytes of an answer that is not a stream.
const MAX_WHOLE: usize = 32 << 20;

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended its turn.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// The server says that it ended, for a reason of its own; `None`: without a reason.
    Other(Option<String>),
    /// The connection ended before the answer did.
    Interrupted,
    /// The server says that all is well and sent no text.
    Empty,
    /// The server reported an error, or sent what cannot be read.
    Failed(String),
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An event stream, unless its first character says otherwise.
    Stream,
    /// One JSON value.
    Whole,
}

/// A reader of one answer.
#[derive(Debug)]
pub struct Answer {
    form: Option<Form>,
    events: EventReader,
    whole: Vec<u8>,
    splitter: ReasoningSplitter,
    /// A reasoning field came, so marks in the text are text.
    has_field: bool,
    tools: BTreeMap<u64, (String, String)>,
    texts: Vec<(Channel, String)>,
    /// Whether any text came.
    wrote: bool,
    finish: Option<String>,
    done: bool,
    problem: Option<String>,
    counts: Counts,
    prefill: Option<(usize, usize)>,
}

impl Answer {
    /// `continued`: whether the text continues an answer, and whether that is in its reasoning.
    pub fn new(continued: Option<bool>) -> Self {
        let splitter = match continued {
            Some(in_reasoning) => ReasoningSplitter::continued(DEFAULT_MARKS, in_reasoning),
            None => ReasoningSplitter::new(DEFAULT_MARKS, ""),
        };
        Self {
            form: None,
            events: EventReader::default(),
            whole: Vec::new(),
            splitter,
            has_field: false,
            tools: BTreeMap::new(),
            texts: Vec::new(),
            wrote: false,
            finish: None,
            done: false,
            problem: None,
            counts: Counts::default(),
            prefill: None,
        }
    }

    /// The texts that `bytes` complete. `Content-Type` is not needed: servers write wrong ones.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<(Channel, String)> {
        if self.is_over() {
            return Vec::new();
        }
        let form = match self.form {
            Some(form) => form,
            None => {
                let blank = |byte: &&u8| byte.is_ascii_whitespace();
                let Some(first) = bytes.iter().find(|byte| !blank(byte)) else { return Vec::new() };
                // No line of an event stream that says anything starts so.
                let form = if matches!(first, b'{' | b'[' | b'<' | b'"') { Form::Whole } else { Form::Stream };
                *self.form.insert(form)
            }
        };
        match form {
            Form::Whole if self.whole.len() + bytes.len() > MAX_WHOLE => self.problem = Some(too_long()),
            Form::Whole => self.whole.extend_from_slice(bytes),
            Form::Stream => self.read_events(bytes),
        }
        std::mem::take(&mut self.texts)
    }

    /// Whether nothing that follows would be read.
    pub fn is_over(&self) -> bool {
        self.done || self.problem.is_some()
    }

    /// Whether the server has said why the answer ended, after which only counts may follow.
    pub fn has_finished(&self) -> bool {
        self.is_over() || self.finish.is_some()
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Prompt tokens that are evaluated and their total, if that changed since the last call.
    pub fn take_prefill(&mut self) -> Option<(usize, usize)> {
        self.prefill.take()
    }

    /// The last texts, and how the answer ended, at the end of the body; `whole`: the body ended as HTTP says it must.
    pub fn end(&mut self, whole: bool) -> (Vec<(Channel, String)>, Ending) {
        match self.form {
            Some(Form::Whole) => self.read_whole(),
            _ if !self.is_over() => {
                let last = self.events.finish();
                last.iter().flat_map(frame::of_event).for_each(|frame| self.take(frame));
            }
            _ => {}
        }
        let rest = self.splitter.finish();
        self.texts.extend(rest);
        for (name, arguments) in std::mem::take(&mut self.tools).into_values() {
            let text = format!("[The model asked to call a tool, which chatnap has not: {name} {arguments}]\n");
            self.texts.push((Channel::Answer, text));
            self.wrote = true;
        }
        (std::mem::take(&mut self.texts), self.ending(whole))
    }

    fn ending(&self, whole: bool) -> Ending {
        if let Some(problem) = &self.problem {
            return Ending::Failed(problem.clone());
        }
        let complete_json = self.form == Some(Form::Whole) && whole;
        let ending = match self.finish.as_deref() {
            Some("stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "tool_calls" | "function_call") => {
                Ending::Stop
            }
            Some("length" | "max_tokens") => Ending::Length,
            Some("error") => return Ending::Failed("the server ended the answer with an error".into()),
            Some("abort") => Ending::Interrupted,
            Some(other) => Ending::Other(Some(other.to_owned())),
            None if self.done || complete_json => Ending::Other(None),
            None => Ending::Interrupted,
        };
        if !self.wrote && ending != Ending::Interrupted { Ending::Empty } else { ending }
    }

    fn read_events(&mut self, bytes: &[u8]) {
        match self.events.push(bytes) {
            Ok(events) => {
                for frame in events.iter().flat_map(frame::of_event) {
                    if !self.is_over() {
                        self.take(frame);
                    }
                }
            }
            Err(_) => self.problem = Some(too_long()),
        }
    }

    fn read_whole(&mut self) {
        let bytes = std::mem::take(&mut self.whole);
        let text = String::from_utf8_lossy(&bytes);
        match frame::of_whole(&text) {
            Some(Frame::Part(part)) if part.texts.is_empty() && part.finish.is_none() && part.tools.is_empty() => {
                self.problem = Some(format!("this is no answer of a chat: {}", excerpt(&text)));
            }
            Some(frame) => self.take(frame),
            None => self.problem = Some(problem::of_body(&text).unwrap_or_default()),
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Done => self.done = true,
            Frame::Problem(text) => self.problem = Some(text),
            Frame::Part(part) => self.take_part(*part),
            Frame::Other => {}
        }
    }

    fn take_part(&mut self, part: Part) {
        self.counts.update(part.counts);
        self.prefill = part.prefill.or(self.prefill);
        for (channel, text) in part.texts {
            self.wrote = true;
            match channel {
                Channel::Reasoning => {
                    self.has_field = true;
                    self.texts.push((channel, text));
                }
                Channel::Answer if self.has_field => self.texts.push((channel, text)),
                Channel::Answer => self.texts.extend(self.splitter.push(&text)),
            }
        }
        for piece in part.tools {
            let call = self.tools.entry(piece.index).or_default();
            call.0.push_str(&piece.name);
            call.1.push_str(&piece.arguments);
        }
        // A later frame of the same answer may repeat the reason, or have none.
        self.finish = part.finish.or(self.finish.take());
    }
}

fn too_long() -> String {
    "the server sent a frame that is too long to read".into()
}

fn excerpt(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests;
