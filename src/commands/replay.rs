//! `chatnap replay`: computes stored answers again and says whether every token is the same.
//!
//! The stored token ids of the prompt are evaluated with the steps that evaluated them the first time, and the answer is
//! sampled with the stored values and seed. On the same build and device the result is the same, bit for bit, whatever
//! the KV cache held.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::cli::args::{ReplayArgs, TableFormat};
use crate::conversation::{Conversation, TurnId};
use crate::engine::chat_template::{ChatTemplate, TemplateError};
use crate::engine::source::{CancelFlag, ModelSource};
use crate::engine::tokenizer::Tokenizer;
use crate::engine::{Engine, load, prompt};
use crate::failure::Failure;
use crate::hub::{HubSource, chosen_template};
use crate::output::{self, Reader};
use crate::protocol::*;
use crate::sanitize::sanitize_line;
use crate::settings::{Origin, Resolved, Settings};
use crate::store::Store;
use crate::survey;

pub(super) fn run(resolved: &Resolved, args: &ReplayArgs) -> Result<Reader, Failure> {
    let json = args.format == TableFormat::Json;
    replay(resolved, args).map_err(|failure| failure.with_json(json))
}

fn replay(resolved: &Resolved, args: &ReplayArgs) -> Result<Reader, Failure> {
    let settings = &resolved.settings;
    let (id, number) = split(&args.id)?;
    let nothing = || Failure::usage("No conversation is stored yet.");
    let mut store = Store::open_to_read(&settings.data_dir)?.ok_or_else(nothing)?;
    let conversation = store.load(&store.find(id)?)?;
    let turns = chosen(&conversation, number, args.all)?;
    let mut found = Vec::new();
    let mut device: Option<Running> = None;
    for turn in turns {
        let Some(trace) = store.trace(&conversation.id, turn)? else {
            if args.all {
                continue;
            }
            return Err(Failure::failed(format!(
                "Turn {} holds no record of its computation: a server wrote it, or it was stored by an earlier version \
                 of chatnap, was imported or failed.",
                turn.0 + 1
            )));
        };
        let model = conversation.turn(turn).map(|turn| turn.model.clone()).unwrap_or_default();
        if device.as_ref().is_none_or(|running| !running.serves(&model, &trace)) {
            // The earlier engine gives its memory back before the next one takes any.
            device = None;
        }
        let running = match device.take() {
            Some(running) => running,
            None => Running::start(resolved, &model, &trace)?,
        };
        let outcome = running.repeat(&conversation, turn, trace)?;
        if args.format != TableFormat::Json {
            output::write_foreign(&(outcome.line() + "\n"))?;
        }
        found.push(outcome);
        device = Some(running);
    }
    if found.is_empty() {
        return Err(Failure::failed("No answer of this conversation holds a record of its computation."));
    }
    let differ = found.iter().filter(|outcome| outcome.first.is_some()).count();
    let mut reader = Reader::Listening;
    if args.format == TableFormat::Json {
        let objects: Vec<_> = found.iter().map(Outcome::json).collect();
        reader = output::write_json_pretty(&if args.all { Value::Array(objects) } else { objects[0].clone() })?;
    }
    if differ == 0 {
        return Ok(reader);
    }
    Err(Failure::failed(format!("{differ} of {} answers differ; nothing was changed.", found.len())))
}

/// `ID` or `ID:TURN`, where turns count from 1.
fn split(text: &str) -> Result<(&str, Option<usize>), Failure> {
    let Some((id, number)) = text.split_once(':') else { return Ok((text, None)) };
    match number.parse() {
        Ok(number) if number > 0 => Ok((id, Some(number))),
        _ => Err(Failure::usage(format!("{number:?} is no number of a turn; turns count from 1."))),
    }
}

/// The turns to repeat: the named one, all with an answer, or the last one of the branch that is shown.
fn chosen(conversation: &Conversation, number: Option<usize>, all: bool) -> Result<Vec<TurnId>, Failure> {
    if let Some(number) = number {
        let turn = TurnId(number - 1);
        return match conversation.turn(turn) {
            Some(_) => Ok(vec![turn]),
            None => Err(Failure::usage(format!(
                "There is no turn {number}: the conversation has {}, in the order in which they were asked.",
                conversation.turns().len()
            ))),
        };
    }
    if all {
        return Ok((0..conversation.turns().len()).map(TurnId).collect());
    }
    match conversation.head() {
        Some(head) => Ok(vec![head]),
        None => Err(Failure::usage("The conversation has no turn.")),
    }
}

/// An engine for one model, with the model's text side.
struct Running {
    model: String,
    context_length: usize,
    engine: Engine,
    events: Receiver<EngineEvent>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

/// A repeated answer beside the stored one.
struct Outcome {
    conversation: String,
    turn: usize,
    model: String,
    tokens: usize,
    /// The first place where they differ, with both tokens; `None` if they are identical.
    first: Option<Difference>,
    /// The inputs that differ.
    inputs: Vec<String>,
}

/// The first token that differs; `None` where an answer has ended.
struct Difference {
    at: usize,
    stored: Option<(u32, String)>,
    now: Option<(u32, String)>,
}

impl Running {
    fn start(resolved: &Resolved, model: &str, trace: &Trace) -> Result<Self, Failure> {
        let mut settings = resolved.settings.clone();
        if !matches!(resolved.origin("model"), Origin::Flag(_)) {
            model.clone_into(&mut settings.model);
        }
        let mut settings = survey::settled(&settings);
        settings.context_length = context_length(&settings, trace);
        let template = |error: TemplateError| Failure::usage(error.to_string());
        let mut source = HubSource::new(&settings)?;
        let files = source.locate(&mut |_| (), &CancelFlag::default())?;
        let chosen = chosen_template(&settings).map_err(template)?;
        let (tokenizer, chat_template) = load::read_text(&files, chosen.as_ref())?;
        let options = source.engine_options(&settings, IdleWindow::Never).map_err(template)?;
        let (sender, events) = channel();
        // The receiver is dropped only after the engine.
        let engine = Engine::start(options, move |event| drop(sender.send(event)))?;
        let context_length = settings.context_length.unwrap_or(DEFAULT);
        Ok(Self { model: model.to_owned(), context_length, engine, events, tokenizer, template: chat_template })
    }

    fn serves(&self, model: &str, trace: &Trace) -> bool {
        self.model == model && needed(trace) <= self.context_length
    }

    fn repeat(&self, conversation: &Conversation, turn: TurnId, stored: Trace) -> Result<Outcome, Failure> {
        let messages = conversation.messages_for(turn);
        let id = self.engine.next_id();
        let repetition = Repetition { prompt: stored.prompt.clone(), spans: stored.spans.clone() };
        self.engine.generate(GenerationRequest {
            sampling: stored.sampling.clone().into(),
            max_tokens: Some(stored.answer.len()),
            on_overflow: OverflowPolicy::Trim,
            repeat: Some(Box::new(repetition)),
            ..GenerationRequest::new(id, messages.clone())
        });
        let now = self.wait(id)?;
        let inputs = self.differing(&stored, &now, &messages);
        let first = first_difference(&stored.answer, &now.answer).map(|at| {
            let piece = |ids: &[u32]| ids.get(at).map(|id| (*id, self.tokenizer.piece(*id).to_owned()));
            Difference { at, stored: piece(&stored.answer), now: piece(&now.answer) }
        });
        let conversation = conversation.id.0.clone();
        let model = self.model.clone();
        Ok(Outcome { conversation, turn: turn.0 + 1, model, tokens: stored.answer.len(), first, inputs })
    }

    /// Waits for the end of the answer; returns what it was computed from.
    fn wait(&self, id: RequestId) -> Result<Arc<Trace>, Failure> {
        let mut traced = None;
        let gone = || Failure::failed("The engine ended without an answer.");
        loop {
            match self.events.recv().map_err(|_| gone())? {
                EngineEvent::Traced { id: of, trace } if of == id => traced = Some(trace),
                EngineEvent::Finished { id: of, .. } if of == id => {
                    return traced.ok_or_else(gone);
                }
                EngineEvent::Failed { id: of, error, .. } if of == id => return Err(error.into()),
                _ => {}
            }
        }
    }

    /// The inputs of the two computations that differ, for the user.
    fn differing(&self, stored: &Trace, now: &Trace, messages: &[ChatMessage]) -> Vec<String> {
        let device = |trace: &Trace| match trace.variant.as_str() {
            "" => trace.device.name.clone(),
            variant => format!("{} ({variant})", trace.device.name),
        };
        let mut inputs = Vec::new();
        let mut compare = |what: &str, stored: &str, now: &str| {
            if stored != now {
                inputs.push(format!("{what}: {stored} → {now}"));
            }
        };
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        compare("model file", &short(&stored.model_hash), &short(&now.model_hash));
        compare("chat template", &short(&stored.template_hash), &short(&now.template_hash));
        compare("build", &stored.build, &now.build);
        compare("device", &device(stored), &device(now));
        let kernels = |trace: &Trace| trace.spans.iter().map(|span| span.kernels).collect::<Vec<_>>();
        if kernels(stored) != kernels(now) {
            inputs.push("kernel path".to_owned());
        }
        if !self.renders(messages, &stored.prompt) {
            inputs.push("prompt: the conversation's messages are rendered to another text now".to_owned());
        }
        inputs
    }

    /// Whether the messages, rendered now, have the text of these tokens.
    fn renders(&self, messages: &[ChatMessage], ids: &[u32]) -> bool {
        let text =
            |ids: &[u32]| ids.iter().flat_map(|id| self.tokenizer.token_bytes(*id).to_vec()).collect::<Vec<u8>>();
        let rendered = prompt::render(&self.template, &self.tokenizer, messages);
        rendered.is_ok_and(|rendered| text(&rendered.tokens) == text(ids))
    }
}

/// The engine's default number of positions.
const DEFAULT: usize = crate::engine::model::DEFAULT_CONTEXT_LENGTH;

/// Positions that an answer needs: one more than prompt and answer, which end at most at the context's end.
fn needed(trace: &Trace) -> usize {
    trace.prompt.len() + trace.answer.len() + 1
}

/// The context length of the settings; more if the answer needs it.
fn context_length(settings: &Settings, trace: &Trace) -> Option<usize> {
    let enough = settings.context_length.unwrap_or(DEFAULT) >= needed(trace);
    if enough { settings.context_length } else { Some(needed(trace)) }
}

/// The first index at which two answers differ.
fn first_difference(stored: &[u32], now: &[u32]) -> Option<usize> {
    let common = stored.iter().zip(now).take_while(|(stored, now)| stored == now).count();
    (common < stored.len().max(now.len())).then_some(common)
}

impl Outcome {
    fn line(&self) -> String {
        let name = format!("{}:{}", self.conversation, self.turn);
        let inputs = match self.inputs.as_slice() {
            [] => String::new(),
            inputs => format!("; differs in {}", inputs.join(", ")),
        };
        let piece = |token: &Option<(u32, String)>| match token {
            Some((id, piece)) => format!("{id} {:?}", sanitize_line(piece)),
            None => "the end".to_owned(),
        };
        match &self.first {
            None => format!("{name}  identical, {} tokens{inputs}", self.tokens),
            Some(Difference { at, stored, now }) => {
                let cause = if inputs.is_empty() { "; no input differs" } else { inputs.as_str() };
                format!("{name}  token {} differs: stored {}, now {}{cause}", at + 1, piece(stored), piece(now))
            }
        }
    }

    fn json(&self) -> Value {
        let token = |token: &Option<(u32, String)>| token.as_ref().map(|(id, piece)| json!({"id": id, "text": piece}));
        json!({
            "conversation": self.conversation,
            "turn": self.turn,
            "model": self.model,
            "identical": self.first.is_none(),
            "tokens": self.tokens,
            "first_difference": self.first.as_ref().map(|first| json!({
                "token": first.at + 1,
                "stored": token(&first.stored),
                "now": token(&first.now),
            })),
            "differs": self.inputs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_counts_the_ends_too() {
        assert_eq!(first_difference(&[1, 2], &[1, 2]), None);
        assert_eq!(first_difference(&[1, 2], &[1, 3]), Some(1));
        assert_eq!(first_difference(&[1, 2], &[1]), Some(1));
        assert_eq!(first_difference(&[], &[4]), Some(0));
    }

    #[test]
    fn turn_follows_a_colon_and_counts_from_one() {
        assert!(matches!(split("ab12"), Ok(("ab12", None))));
        assert!(matches!(split("last:3"), Ok(("last", Some(3)))));
        for wrong in ["ab:0", "ab:", "ab:x", "ab:1:2"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
