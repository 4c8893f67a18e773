//! Messages → the tokens that the model reads. Shared by generation and `--dry-run`.

use super::chat_template::{ChatTemplate, TemplateError};
use super::tokenizer::Tokenizer;
use super::{EngineError, ModelFiles};
use crate::protocol::ChatMessage;

/// A prompt, ready to be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The text that the template made (a leading BOS token's text included where the template writes it).
    pub text: String,
    /// Its tokens. Control tokens come from the template alone: what stands in a message is text.
    pub tokens: Vec<u32>,
}

/// Renders `messages` with the generation prompt and encodes them. BOS stands once or never, as the vocabulary wants.
pub fn render(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[ChatMessage],
) -> Result<RenderedPrompt, TemplateError> {
    let _ = (template, tokenizer, messages);
    todo!("owner: text")
}

/// Reads the tokenizer and the template of `files`, and nothing else of them.
pub fn open(files: &ModelFiles) -> Result<(Tokenizer, ChatTemplate), EngineError> {
    if let ModelFiles::Scripted(path) = files {
        return super::scripted::open(path);
    }
    todo!("owner: text")
}

/// Reads the tokenizer of `files`, and nothing else; works on a vocabulary-only GGUF.
pub fn open_tokenizer(files: &ModelFiles) -> Result<Tokenizer, EngineError> {
    if let ModelFiles::Scripted(path) = files {
        return super::scripted::open(path).map(|(tokenizer, _)| tokenizer);
    }
    todo!("owner: text")
}
