//! Text ↔ tokens, for the vocabularies of GGUF files and `tokenizer.json`.

use std::path::Path;

use super::weights::gguf::Metadata;

/// Why a tokenizer could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(pub String);

/// A vocabulary with the rules that cut text into it.
pub struct Tokenizer {}

impl Tokenizer {
    /// From `tokenizer.ggml.*`.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let _ = metadata;
        todo!("owner: text")
    }

    /// From `tokenizer.json` and `tokenizer_config.json` in `folder`.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let _ = folder;
        todo!("owner: text")
    }

    /// Tokens of `text`, in which control tokens are text too; no BOS.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let _ = text;
        todo!("owner: text")
    }

    /// Tokens of `text` with control tokens recognised; no BOS added.
    pub fn encode_special(&self, text: &str) -> Vec<u32> {
        let _ = text;
        todo!("owner: text")
    }

    /// The bytes that `token` stands for; empty for control tokens.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        let _ = token;
        todo!("owner: text")
    }

    /// The token as the vocabulary writes it (`Ġthe`, `<|im_end|>`), for people.
    pub fn piece(&self, token: u32) -> &str {
        let _ = token;
        todo!("owner: text")
    }

    /// The text of `tokens`, control tokens left out, invalid UTF-8 replaced.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let _ = tokens;
        todo!("owner: text")
    }

    /// Whether `token` ends a generation (`<|im_end|>`, `<|eot_id|>`, `</s>`, …).
    pub fn is_end_of_generation(&self, token: u32) -> bool {
        let _ = token;
        todo!("owner: text")
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        todo!("owner: text")
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        todo!("owner: text")
    }

    /// Whether the vocabulary wants BOS before plain text.
    pub fn adds_bos(&self) -> bool {
        todo!("owner: text")
    }

    /// Tokens in all.
    pub fn vocab_size(&self) -> usize {
        todo!("owner: text")
    }

    /// The token that the vocabulary writes as `piece`.
    pub fn token_id(&self, piece: &str) -> Option<u32> {
        let _ = piece;
        todo!("owner: text")
    }

    /// What the user should know, an unknown pre-tokenizer for example.
    pub fn warnings(&self) -> &[String] {
        todo!("owner: text")
    }
}

/// Turns tokens into text as they come, holding back the bytes of unfinished characters.
#[derive(Debug, Default)]
pub struct TextStream {}

impl TextStream {
    /// Adds a token's bytes; returns the whole characters that are now complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let _ = bytes;
        todo!("owner: text")
    }

    /// What is left at the end, unfinished bytes replaced by U+FFFD.
    pub fn finish(&mut self) -> String {
        todo!("owner: text")
    }
}
