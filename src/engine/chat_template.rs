//! Renders messages to prompt text with a model's Jinja chat template.
//!
//! The environment matches transformers' (`trim_blocks`, `lstrip_blocks`, loop controls, its own `tojson`,
//! `raise_exception`, `strftime_now`), so that the output is byte-equal to transformers'. Templates are untrusted
//! programs: their steps, nesting depth, CPU time and the bytes that they allocate are bounded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fingerprint;
use super::tokenizer::Tokenizer;
use super::weights::gguf::Metadata;
use crate::protocol::{ChatMessage, Role};

mod budget;
mod depth;
mod environment;
mod forms;
mod globals;
mod instrument;
mod jinja;
mod json;
mod lexer;
mod limited_thread;
mod percent;
mod python;
mod source;
mod strftime;
mod text;

pub use forms::Chosen;
use jinja::Jinja;

/// Why a template could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// Limit for compiling a template, and again for the two probe renders. Real templates take milliseconds.
const OPEN_TIME: Duration = Duration::from_millis(750);

/// Limit for all renders of one prompt.
pub const RENDER_TIME: Duration = Duration::from_millis(2500);

/// The variable that turns reasoning on and off, as Qwen 3's template names it.
const THINK_SWITCH: &str = "enable_thinking";

/// A compiled chat template with its source, reasoning marks and warnings.
#[derive(Clone)]
pub struct ChatTemplate {
    jinja: Arc<Jinja>,
    source: String,
    folds_system: bool,
    marks: Option<(&'static str, &'static str)>,
    warnings: Vec<String>,
    think: Option<bool>,
}

impl ChatTemplate {
    /// Uses `chosen`, else `tokenizer.chat_template`, else the form that matches the vocabulary.
    pub fn from_gguf(
        metadata: &Metadata,
        tokenizer: &Tokenizer,
        chosen: Option<&Chosen>,
    ) -> Result<Self, TemplateError> {
        let source = || metadata.string("tokenizer.chat_template").filter(|source| !source.trim().is_empty());
        Self::choose(chosen, || Ok(source().map(str::to_owned)), tokenizer)
    }

    /// Uses `chosen`, else `chat_template.jinja` or `tokenizer_config.json` in `folder`, else the vocabulary's form.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer, chosen: Option<&Chosen>) -> Result<Self, TemplateError> {
        Self::choose(chosen, || source::of_folder(folder), tokenizer)
    }

    /// Returns an error if `chosen` cannot be used. If the model's own template cannot be used, falls back to the form
    /// that matches the vocabulary, with a warning that contains the reason.
    fn choose(
        chosen: Option<&Chosen>,
        own: impl FnOnce() -> Result<Option<String>, TemplateError>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TemplateError> {
        if let Some(Chosen { name, source }) = chosen {
            return Self::new(source.clone(), tokenizer, Vec::new())
                .map_err(|error| TemplateError(format!("--chat-template {name}: {error}")));
        }
        let why = match own().and_then(|own| own.map(|own| Self::new(own, tokenizer, Vec::new())).transpose()) {
            Ok(Some(template)) => return Ok(template),
            Ok(None) => "the model has no chat template".to_owned(),
            Err(error) => format!("the model's own chat template cannot be used: {error}"),
        };
        Self::by_vocabulary(tokenizer, &why)
    }

    /// The form that matches `tokenizer`'s vocabulary, with a warning that contains `why` and the form's name.
    pub fn by_vocabulary(tokenizer: &Tokenizer, why: &str) -> Result<Self, TemplateError> {
        let form = forms::by_vocabulary(tokenizer);
        let warning = format!(
            "{why}; {} is used, going by its vocabulary (--chat-template FILE or NAME uses another)",
            form.title
        );
        Self::new(form.source.to_owned(), tokenizer, vec![warning])
    }

    /// Compiles `source` and probes whether it accepts a system message.
    pub fn new(source: String, tokenizer: &Tokenizer, warnings: Vec<String>) -> Result<Self, TemplateError> {
        Self::with_clock(source, special_tokens(tokenizer), warnings, jiff::ZonedDateTime::now)
    }

    fn with_clock(
        source: String,
        tokens: Vec<(&'static str, String)>,
        warnings: Vec<String>,
        now: environment::Now,
    ) -> Result<Self, TemplateError> {
        let source = source::clean(source)?;
        let read = source.clone();
        let jinja = limited_thread::run(OPEN_TIME, move |_| Jinja::new(&read, tokens, now))?.map(Arc::new)?;
        let probed = Arc::clone(&jinja);
        // A template that compiles is kept even if the probe takes too long.
        let folds_system = limited_thread::run(OPEN_TIME, move |until| probed.refuses_system(until)).unwrap_or(false);
        let marks = source::reasoning_marks(&source);
        let mut template = Self { jinja, marks, source, folds_system, warnings, think: None };
        if template.folds_system {
            template
                .warnings
                .push("the chat template takes no system message; it is put before the first user message".into());
        }
        Ok(template)
    }

    /// Output byte-equal to transformers' `apply_chat_template(messages, add_generation_prompt=...)`. If the template
    /// rejects system messages, their text is prepended to the first user message.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_within(RENDER_TIME, messages, add_generation_prompt)
    }

    /// As `render`; fails soon after `limit`.
    pub fn render_within(
        &self,
        limit: Duration,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let folds = self.folds_system && messages.iter().any(|message| message.role == Role::System);
        let messages = if folds { fold_system(messages) } else { messages.to_vec() };
        let jinja = Arc::clone(&self.jinja);
        let think = self.think;
        limited_thread::run(limit, move |until| jinja.render(&messages, add_generation_prompt, think, until))?
    }

    /// The opening and closing mark of a reasoning block, if the template contains one.
    pub fn reasoning_marks(&self) -> Option<(&str, &str)> {
        self.marks
    }

    /// Whether the template can turn the reasoning on and off.
    pub fn has_think_switch(&self) -> bool {
        self.names(THINK_SWITCH)
    }

    /// Whether the rendered text depends on the date.
    pub fn is_dated(&self) -> bool {
        self.names("strftime_now")
    }

    /// The same template with the reasoning on, off, or (`None`) as the template does by itself. Without a switch for that
    /// nothing changes.
    pub fn thinking(&self, think: Option<bool>) -> Self {
        Self { think: think.filter(|_| self.has_think_switch()), ..self.clone() }
    }

    /// Whether the template's source contains `piece`.
    pub(crate) fn names(&self, piece: &str) -> bool {
        self.source.contains(piece)
    }

    /// SHA-256 of the source, in hex.
    pub fn hash(&self) -> String {
        fingerprint::of_text(&self.source)
    }

    /// Warnings for the user: which form replaces a missing template, a folded system message, …
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Prepends the system messages' text to the first user message, or inserts a user message if there is none.
fn fold_system(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let (system, mut rest): (Vec<_>, Vec<_>) =
        messages.iter().cloned().partition(|message| message.role == Role::System);
    let system = system.into_iter().map(|message| message.content).collect::<Vec<_>>().join("\n\n");
    match rest.iter_mut().find(|message| message.role == Role::User) {
        Some(user) => user.content = format!("{system}\n\n{}", user.content),
        None => rest.insert(0, ChatMessage::new(Role::User, system)),
    }
    rest
}

fn special_tokens(tokenizer: &Tokenizer) -> Vec<(&'static str, String)> {
    let named = [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("unk_token", tokenizer.unk()),
        ("pad_token", tokenizer.pad()),
    ];
    named.into_iter().filter_map(|(name, id)| Some((name, tokenizer.piece(id?).to_owned()))).collect()
}

#[cfg(test)]
mod tests;
