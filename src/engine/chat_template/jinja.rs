//! A compiled template: source → environment → text. Runs only on threads of `limited_thread`.

use minijinja::Environment;
use minijinja::value::Value;

use super::budget::{LIMITS, Limits};
use super::limited_thread::Deadline;
use super::{THINK_SWITCH, TemplateError, environment, instrument, lexer};
use crate::protocol::{ChatMessage, Role};

/// Output limit of a render; far above any context length.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// A compiled template and the special tokens that it can refer to.
pub struct Jinja {
    environment: Environment<'static>,
    /// Values of `bos_token`, `eos_token`, …
    tokens: Vec<(&'static str, String)>,
}

impl Jinja {
    /// Instruments and compiles `source`.
    pub fn new(
        source: &str,
        tokens: Vec<(&'static str, String)>,
        now: environment::Now,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment::new(now);
        environment
            .add_template_owned("chat", instrument::instrument(source)?)
            .map_err(|error| lexer::not_valid(&describe(&error)))?;
        Ok(Self { environment, tokens })
    }

    /// Whether a system message fails to render or is dropped, although the same conversation without it renders.
    pub fn refuses_system(&self, until: Deadline) -> bool {
        const PROBE: &str = "chatnap-system-probe";
        let user = ChatMessage::new(Role::User, "a");
        let with = [ChatMessage::new(Role::System, PROBE), user.clone()];
        let taken = self.render(&with, true, None, until).is_ok_and(|text| text.contains(PROBE));
        !taken && self.render(&[user], true, None, until).is_ok()
    }

    /// The text, byte-equal to transformers' `apply_chat_template(messages, add_generation_prompt=…)`, with
    /// `enable_thinking=…` if `think` is set.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        think: Option<bool>,
        until: Deadline,
    ) -> Result<String, TemplateError> {
        let problem = |error: minijinja::Error| {
            TemplateError(format!("the chat template cannot render this conversation: {}", describe(&error)))
        };
        let limits = Limits::new(messages, until);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(limits.fuel()));
        let template = environment.get_template("chat").map_err(problem)?;
        let mut output = environment::Bounded::new(MAX_OUTPUT_BYTES);
        let context = self.context(messages, add_generation_prompt, think, limits);
        template.render_captured_to(context, &mut output).map_err(problem)?;
        output.into_string().ok_or_else(|| TemplateError("the chat template wrote invalid text".into()))
    }

    fn context(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        think: Option<bool>,
        limits: Limits,
    ) -> Value {
        let mut entries: Vec<(&str, Value)> = vec![
            ("messages", messages.iter().map(message_value).collect()),
            // transformers passes these even if the caller omits them.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            (LIMITS, Value::from_object(limits)),
        ];
        entries.extend(think.map(|think| (THINK_SWITCH, Value::from(think))));
        entries.extend(self.tokens.iter().map(|(name, piece)| (*name, Value::from(piece.as_str()))));
        Value::from_pairs(entries)
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

/// The error's message and line, without minijinja's debug output.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{detail} (line {line})"),
        None => detail,
    }
}
