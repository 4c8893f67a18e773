//! Messages → the text that a model was trained to read, by its Jinja template.
//!
//! The environment is transformers' (`trim_blocks`, `lstrip_blocks`, loop controls, its own `tojson`,
//! `raise_exception`, `strftime_now`), so that a template renders byte for byte as where it was written. Templates are
//! foreign programs: their steps, their depth, their time and all that they make are bounded.

use std::path::Path;

use minijinja::Environment;
use minijinja::value::Value;

use super::tokenizer::Tokenizer;
use super::weights::gguf::Metadata;
use crate::protocol::{ChatMessage, Role};

mod environment;
mod fallback;
mod json;
mod lexer;
mod meter;
mod operands;
mod python;
mod source;
mod watched;

/// Why a template could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// Text that a render may write; far more than any context holds.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// A chat template with the special tokens that it names.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// `bos_token`, `eos_token`, … as the template reads them.
    tokens: Vec<(&'static str, String)>,
    folds_system: bool,
    marks: Option<(&'static str, &'static str)>,
    warnings: Vec<String>,
}

impl ChatTemplate {
    /// From `tokenizer.chat_template`, or by the vocabulary where the file has none.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        match metadata.string("tokenizer.chat_template").filter(|source| !source.trim().is_empty()) {
            Some(source) => Self::new(source.to_owned(), tokenizer, Vec::new()),
            None => Self::by_vocabulary(tokenizer),
        }
    }

    /// From `chat_template.jinja` or `tokenizer_config.json` in `folder`.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        match source::of_folder(folder)? {
            Some(source) => Self::new(source, tokenizer, Vec::new()),
            None => Self::by_vocabulary(tokenizer),
        }
    }

    /// The form that `tokenizer`'s vocabulary was made for, with a warning that names it.
    pub fn by_vocabulary(tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let (name, source) = fallback::choose(tokenizer);
        let warning = format!("the model has no chat template; {name} is used, going by its vocabulary");
        Self::new(source.to_owned(), tokenizer, vec![warning])
    }

    /// Compiles `source`, and finds out whether it takes a system message.
    pub fn new(source: String, tokenizer: &Tokenizer, warnings: Vec<String>) -> Result<Self, TemplateError> {
        Self::with_clock(source, special_tokens(tokenizer), warnings, jiff::ZonedDateTime::now)
    }

    fn with_clock(
        source: String,
        tokens: Vec<(&'static str, String)>,
        warnings: Vec<String>,
        now: environment::Now,
    ) -> Result<Self, TemplateError> {
        let source = source::clean(source);
        let mut environment = environment::new(now);
        environment
            .add_template_owned("chat", watched::watch(&source)?)
            .map_err(|error| TemplateError(format!("the model's chat template is not valid: {}", describe(&error))))?;
        let mut template = Self {
            environment,
            marks: source::reasoning_marks(&source),
            source,
            tokens,
            folds_system: false,
            warnings,
        };
        template.folds_system = template.refuses_system();
        if template.folds_system {
            template.warnings.push(
                "the model's chat template takes no system message; it is put before the first user message".into(),
            );
        }
        Ok(template)
    }

    /// Whether a system message is an error, or vanishes, where the same conversation without it renders.
    fn refuses_system(&self) -> bool {
        const PROBE: &str = "chatnap-system-probe";
        let user = ChatMessage::new(Role::User, "a");
        let with = [ChatMessage::new(Role::System, PROBE), user.clone()];
        let taken = self.render_as_is(&with, true).is_ok_and(|text| text.contains(PROBE));
        !taken && self.render_as_is(&[user], true).is_ok()
    }

    /// The text, byte-equal to transformers' `apply_chat_template(messages, add_generation_prompt=...)`; a system
    /// message that the template refuses stands before the first user message instead.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TemplateError> {
        if !self.folds_system || !messages.iter().any(|message| message.role == Role::System) {
            return self.render_as_is(messages, add_generation_prompt);
        }
        self.render_as_is(&fold_system(messages), add_generation_prompt)
    }

    fn render_as_is(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TemplateError> {
        let problem = |error: &minijinja::Error| {
            TemplateError(format!("the model's chat template cannot render this conversation: {}", describe(error)))
        };
        let template = self.environment.get_template("chat").map_err(|error| problem(&error))?;
        let mut output = environment::Bounded::new(MAX_OUTPUT_BYTES);
        let context = self.context(messages, add_generation_prompt);
        template.render_captured_to(context, &mut output).map_err(|error| problem(&error))?;
        output.into_string().ok_or_else(|| TemplateError("the model's chat template wrote invalid text".into()))
    }

    fn context(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Value {
        let mut entries: Vec<(&str, Value)> = vec![
            ("messages", messages.iter().map(message_value).collect()),
            // transformers passes these even where the caller gives none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        entries.push((meter::BUDGET, Value::from(meter::budget(messages))));
        entries.extend(self.tokens.iter().map(|(name, piece)| (*name, Value::from(piece.as_str()))));
        Value::from_pairs(entries)
    }

    /// What opens and closes a reasoning block, where the template knows one.
    pub fn reasoning_marks(&self) -> Option<(&str, &str)> {
        self.marks
    }

    /// Whether the template's own text names `piece`.
    pub(crate) fn names(&self, piece: &str) -> bool {
        self.source.contains(piece)
    }

    /// What the user should know: which template was chosen where the file has none, a folded system message, …
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn message_value(message: &ChatMessage) -> Value {
    let mut entries =
        vec![("role", Value::from(message.role.as_str())), ("content", Value::from(message.content.as_str()))];
    if let Some(reasoning) = &message.reasoning {
        entries.push(("reasoning_content", Value::from(reasoning.as_str())));
    }
    Value::from_pairs(entries)
}

/// The system messages' text before the first user message's; alone, as a user message, where there is none.
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

/// The error's own words, without minijinja's debug frame.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{detail} (line {line})"),
        None => detail,
    }
}

#[cfg(test)]
mod tests;
