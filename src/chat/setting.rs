//! Settings, personas and the system message of a conversation, as the chat's commands change them.

use std::collections::BTreeMap;

use crate::conversation::Change;
use crate::protocol::{OverflowPolicy, SamplingChoice};

use super::command::NO_SYSTEM;
use super::{Chat, Effect, NoteKind, View};

/// New settings of the next prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// Sampling values that are set.
    pub sampling: SamplingChoice,
    /// Whether the model reasons before it answers.
    pub think: Option<bool>,
    /// Maximum tokens of an answer.
    pub max_tokens: Option<usize>,
    /// What to do if the conversation exceeds the context.
    pub on_overflow: OverflowPolicy,
    /// Whether the reasoning is shown, if that changes.
    pub reasoning_open: Option<bool>,
    /// The name of the persona in use.
    pub persona: Option<String>,
    /// What the conversation remembers: values by key.
    pub remembered: BTreeMap<String, String>,
}

impl Chat {
    pub(super) fn set(&mut self, assignment: Option<(String, Option<String>)>) -> Vec<Effect> {
        vec![match assignment {
            None => Effect::Open(View::Settings, String::new()),
            Some((key, value)) => Effect::Set(key, value),
        }]
    }

    pub(super) fn persona(&mut self, name: Option<String>) -> Vec<Effect> {
        vec![match name {
            None => Effect::Open(View::Personas, String::new()),
            Some(name) => Effect::SetPersona(name),
        }]
    }

    /// Uses new settings from the next prompt on, and has the conversation remember its own.
    pub(super) fn tuned(&mut self, tuned: Tuned) -> Vec<Effect> {
        self.options.sampling = tuned.sampling;
        self.options.think = tuned.think;
        self.options.max_tokens = tuned.max_tokens;
        self.options.on_overflow = tuned.on_overflow;
        self.persona = tuned.persona;
        self.reasoning_open = tuned.reasoning_open.unwrap_or(self.reasoning_open);
        self.recount();
        let before = self.conversation.settings.clone();
        self.conversation.replace_settings(tuned.remembered);
        if self.conversation.settings == before {
            return Vec::new();
        }
        self.changed(Change::Settings(self.conversation.settings.clone()))
    }

    /// Stores a change, if the conversation is stored; otherwise its first turn does.
    fn changed(&self, change: Change) -> Vec<Effect> {
        let stored = !self.conversation.turns().is_empty();
        stored.then(|| Effect::Change(self.conversation.id.clone(), change)).into_iter().collect()
    }

    pub(super) fn set_system(&mut self, text: Option<String>) -> Vec<Effect> {
        let Some(text) = text else {
            let current = self.conversation.system.as_ref().filter(|text| !text.is_empty());
            let shown = match current {
                Some(text) => format!("System message: {text}\n/system {NO_SYSTEM} removes it."),
                None => "There is no system message; /system TEXT sets one.".into(),
            };
            self.note(NoteKind::Info, shown);
            return Vec::new();
        };
        let told = match text.as_str() {
            "" => "No system message from the next prompt on.".into(),
            text => format!("System message from the next prompt on: {text}"),
        };
        self.note(NoteKind::Info, told);
        self.use_system(text)
    }

    /// Uses this system message from the next prompt on; an empty one is none.
    pub(super) fn use_system(&mut self, text: String) -> Vec<Effect> {
        self.conversation.system = Some(text.clone());
        self.recount();
        self.changed(Change::System(text))
    }
}
