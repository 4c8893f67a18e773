//! A prompt that does not fit the context: it is not sent, and what helps is offered.

use crate::conversation::Change;
use crate::protocol::{EngineError, ErrorKind, OverflowPolicy};
use crate::wording::plural;

use super::{Activity, Chat, Effect, Hint, View};

/// A command that makes room, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The slash command; empty if the user has to shorten the draft.
    pub command: String,
    /// What it does.
    pub about: String,
}

/// Least size of the context that `/context` accepts.
const LEAST_CONTEXT: usize = 128;

impl Chat {
    /// Whether the draft is known not to fit, so that it must not be sent.
    pub fn refuses_draft(&self) -> bool {
        let Some(count) = self.current_count().filter(|count| count.is_too_long()) else { return false };
        !self.is_occupied() && (self.options.on_overflow == OverflowPolicy::Error || count.left_out.is_none())
    }

    /// What makes a prompt fit that is too long: commands in the order of how little they lose.
    pub fn remedies(&self) -> Vec<Remedy> {
        let remedy = |command: &str, about: String| Remedy { command: command.to_owned(), about };
        let count = self.draft_count();
        let needed = count.map_or(0, |count| count.prompt_tokens);
        let mut remedies = Vec::new();
        if let Some(length) = self.larger_context(needed) {
            let about = "a larger context: the model is loaded again, the conversation stays".to_owned();
            remedies.push(remedy(&format!("/context {length}"), about));
        }
        let sent = self.conversation.sent_to(self.conversation.head()).len();
        let helps = count.is_none_or(|count| count.left_out.is_some());
        if helps && sent > 0 && self.options.on_overflow == OverflowPolicy::Error {
            let about = match count.and_then(|count| count.left_out).filter(|turns| *turns > 0) {
                Some(1) => "leave out the oldest turn when the context is full".to_owned(),
                Some(turns) => format!("leave out the oldest {turns} turns when the context is full"),
                None => "leave out the oldest turns when the context is full".to_owned(),
            };
            remedies.push(remedy("/context trim", about));
        }
        if helps && self.is_worth_compacting() {
            let turns = self.to_compact().len();
            let about = format!("the model summarises the oldest {turns} {}", plural(turns, "turn"));
            remedies.push(remedy("/compact", about));
        }
        if helps && sent > 0 {
            remedies.push(remedy("/new", "begin a new conversation; the draft stays".to_owned()));
        }
        remedies.push(remedy("", "shorten the draft".to_owned()));
        remedies
    }

    /// A context length that holds `needed` tokens and an answer; `None` if the model has no larger one.
    fn larger_context(&self, needed: usize) -> Option<usize> {
        let info = self.engine.info.as_ref()?;
        let wanted = (needed + needed / 4).max(info.context_length + 1).next_power_of_two();
        let largest = info.trained_context_length;
        (largest > info.context_length && needed < largest).then(|| wanted.min(largest))
    }

    /// Loads the model with another context length, which the conversation remembers.
    pub(super) fn set_context(&mut self, length: usize) -> Vec<Effect> {
        let known = self.engine.info.as_ref().filter(|info| info.trained_context_length > 0);
        let trained = known.map_or(usize::MAX, |info| info.trained_context_length);
        if length < LEAST_CONTEXT {
            self.show_hint(Hint::Message(format!(
                "a context of less than {LEAST_CONTEXT} tokens holds no conversation"
            )));
            return Vec::new();
        }
        if length > trained {
            let told = format!("this model was made for {trained} tokens: ask for at most that");
            self.show_hint(Hint::Message(told));
            return Vec::new();
        }
        vec![Effect::Set("context_length".to_owned(), Some(length.to_string()))]
    }

    /// Shows what helps, with the draft as it is.
    pub(super) fn refused(&self) -> Vec<Effect> {
        vec![Effect::Open(View::Overflow, String::new())]
    }

    /// Takes back a prompt, or the continuation of an answer, that the engine refused because it does not fit. `None` if
    /// the error is another one.
    pub(super) fn withdraw(&mut self, error: &EngineError) -> Option<Vec<Effect>> {
        let Activity::Busy(answering) = &self.activity else { return None };
        // The other answer of a comparison fails on its own branch: the question stays where it was.
        if error.kind != ErrorKind::ContextOverflow || answering.tokens.is_some() || self.is_comparing() {
            return None;
        }
        let id = answering.turn;
        let resumed = self.resumed.take();
        let turn = self.conversation.turn(id)?;
        let mut effects = Vec::new();
        if let Some(ending) = resumed {
            self.activity = Activity::Idle;
            if let Some(turn) = self.conversation.turn_mut(id) {
                turn.answer.ending = ending;
            }
            effects.extend(self.record(id));
        } else {
            let (parent, prompt) = (turn.parent, turn.prompt.clone());
            self.activity = Activity::Idle;
            self.conversation.set_removed(id, true);
            effects.push(Effect::Change(self.conversation.id.clone(), Change::Removed(id, true)));
            if let Some(before) = self.before.take() {
                self.conversation.show(before);
                effects.push(Effect::Select(self.conversation.id.clone(), before));
            }
            self.branch = (self.conversation.head() != parent).then_some(parent);
            effects.push(Effect::PutBack(prompt));
        }
        self.feed.arrange(&self.conversation.path());
        effects.extend(self.return_queue());
        effects.extend(self.refused());
        Some(effects)
    }
}
