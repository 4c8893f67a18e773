//! Messages → the text that a model was trained to read, by its Jinja template.

use super::tokenizer::Tokenizer;
use super::weights::gguf::Metadata;
use crate::protocol::ChatMessage;
use std::path::Path;

/// Why a template could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// A chat template with the special tokens that it names.
pub struct ChatTemplate {}

impl ChatTemplate {
    /// From `tokenizer.chat_template`, or by the vocabulary where the file has none.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let _ = (metadata, tokenizer);
        todo!("owner: text")
    }

    /// From `chat_template.jinja` or `tokenizer_config.json` in `folder`.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        let _ = (folder, tokenizer);
        todo!("owner: text")
    }

    /// The text, byte-equal to transformers' `apply_chat_template(messages, add_generation_prompt=...)`.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TemplateError> {
        let _ = (messages, add_generation_prompt);
        todo!("owner: text")
    }

    /// What opens and closes a reasoning block, where the template knows one.
    pub fn reasoning_marks(&self) -> Option<(&str, &str)> {
        todo!("owner: text")
    }

    /// What the user should know: which template was chosen where the file has none, a folded system message, …
    pub fn warnings(&self) -> &[String] {
        todo!("owner: text")
    }
}
