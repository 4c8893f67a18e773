//! Encodes text to tokens and decodes tokens to text, for the vocabularies of GGUF files and `tokenizer.json`.
//!
//! The rules for GGUF are llama.cpp's (`llama-vocab.cpp`), so that text is tokenized as in a model's training: the same
//! pre-tokenizer names, merges and end-of-generation names. One rule is stricter: plain text never becomes a
//! control token, whatever the merges produce.
//!
//! Independent of models, devices and messages.

use std::path::Path;

use super::weights::gguf::Metadata;

mod bpe;
mod bytes;
mod end_tokens;
mod folder;
mod pre_tokenizer;
mod special;
mod special_split;
mod split;
mod spm;
mod stream;
mod vocabulary;
mod word_cache;

pub use stream::TextStream;

use folder::FolderTokenizer;
use special_split::{Fragment, Partition};
use vocabulary::{Kind, Vocabulary};

/// Why a tokenizer could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(pub String);

/// A vocabulary with its encoding rules.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    rules: Rules,
    partition: Partition,
    warnings: Vec<String>,
}

/// The encoding of text between special tokens.
enum Rules {
    Bpe(bpe::Bpe),
    Spm(spm::Spm),
    Folder(Box<FolderTokenizer>),
}

impl Tokenizer {
    /// Builds a tokenizer from the `tokenizer.ggml.*` keys.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model = metadata
            .string("tokenizer.ggml.model")
            .ok_or_else(|| TokenizerError("the file holds no tokenizer (tokenizer.ggml.model is missing)".into()))?;
        let mut warnings = Vec::new();
        let (vocabulary, rules) = match model {
            "gpt2" | "gemma4" => {
                let name = if model == "gemma4" { Some("gemma4") } else { metadata.string("tokenizer.ggml.pre") };
                let pre = pre_tokenizer::find(name, &mut warnings);
                let vocabulary = special::bpe_vocabulary(metadata, pre, &mut warnings)?;
                let rules = Rules::Bpe(bpe::Bpe::new(metadata, pre, &vocabulary, &mut warnings)?);
                (vocabulary, rules)
            }
            "llama" => {
                let vocabulary = special::spm_vocabulary(metadata, &mut warnings)?;
                let rules = Rules::Spm(spm::Spm::new(metadata, &vocabulary)?);
                (vocabulary, rules)
            }
            other => {
                return Err(TokenizerError(format!(
                    "tokenizer.ggml.model is {other:?}; chatnap supports gpt2 (BPE), llama (SPM) and gemma4"
                )));
            }
        };
        let partition = Partition::new(&vocabulary)?;
        Ok(Self { vocabulary, rules, partition, warnings })
    }

    /// Builds a tokenizer from `tokenizer.json` and `tokenizer_config.json` in `folder`.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let mut warnings = Vec::new();
        let (tokenizer, vocabulary, partition) = FolderTokenizer::open(folder, &mut warnings)?;
        Ok(Self { vocabulary, rules: Rules::Folder(Box::new(tokenizer)), partition, warnings })
    }

    /// Encodes `text`; spelled-out control tokens are encoded as text. Adds no BOS.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_fragments(text, &self.partition.plain(text), None)
    }

    /// Encodes `text` with control tokens recognised. Adds no BOS.
    pub fn encode_special(&self, text: &str) -> Vec<u32> {
        self.encode_fragments(text, &self.partition.with_control(text), None)
    }

    /// Like `encode_special`, but a special token with a `mark` inside it is encoded as text. The tokens are those of
    /// the text without the marks.
    pub(crate) fn encode_marked(&self, text: &str, mark: char) -> Vec<u32> {
        self.encode_fragments(text, &self.partition.with_control(text), Some(mark))
    }

    /// The control and user-defined tokens that occur in `text`, each once.
    pub(crate) fn special_tokens_in(&self, text: &str) -> Vec<u32> {
        let mut present = self.partition.present(text);
        if let Rules::Folder(folder) = &self.rules {
            present.extend(folder.late_tokens_in(text));
        }
        present
    }

    /// Whether `token` is a control token; `encode` never returns one.
    pub fn is_control(&self, token: u32) -> bool {
        matches!(self.vocabulary.kind(token), Some(Kind::Control | Kind::Unknown))
    }

    fn encode_fragments(&self, text: &str, fragments: &[Fragment], mark: Option<char>) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len() / 4 + 1);
        let mut after_special = true;
        for fragment in fragments {
            match *fragment {
                Fragment::Token(id) => {
                    tokens.push(id);
                    after_special = true;
                }
                Fragment::Text { start, end } => {
                    let raw = &text[start..end];
                    // `FolderTokenizer` searches for added tokens again after normalising: keep the marks until then.
                    let now = mark.filter(|_| !matches!(self.rules, Rules::Folder(_)));
                    let stripped = now.filter(|&mark| raw.contains(mark)).map(|mark| raw.replace(mark, ""));
                    let raw = stripped.as_deref().unwrap_or(raw);
                    for (index, part) in parts(raw).enumerate() {
                        let first = index == 0 && start == 0;
                        match &self.rules {
                            Rules::Bpe(bpe) => bpe.encode(&self.vocabulary, part, &mut tokens),
                            Rules::Spm(spm) => spm.encode(&self.vocabulary, part, after_special, &mut tokens),
                            Rules::Folder(folder) => folder.encode(part, first, mark, &mut tokens),
                        }
                        after_special = false;
                    }
                }
            }
        }
        tokens
    }

    /// The bytes of `token`; empty for control tokens except reasoning marks.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        let Some(kind) = self.vocabulary.kind(token) else { return Vec::new() };
        let piece = self.vocabulary.piece(token);
        match kind {
            Kind::Control if is_reasoning_mark(piece) => piece.as_bytes().to_vec(),
            Kind::Control | Kind::Unknown => Vec::new(),
            Kind::UserDefined => piece.as_bytes().to_vec(),
            Kind::Byte => bytes::hex_byte(piece).map_or_else(Vec::new, |byte| vec![byte]),
            Kind::Normal => match &self.rules {
                Rules::Bpe(bpe) => bpe.piece_bytes(piece),
                Rules::Spm(_) => piece.replace(spm::SPACE, " ").into_bytes(),
                Rules::Folder(folder) => folder.piece_bytes(piece),
            },
        }
    }

    /// The token in the vocabulary's encoding (`Ġthe`, `<|im_end|>`); empty for an id out of range.
    pub fn piece(&self, token: u32) -> &str {
        self.vocabulary.piece(token)
    }

    /// The text of `tokens`, without control tokens and with invalid UTF-8 replaced. Removes the space that encoding
    /// prepends.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        let mut after_special = self.prefixes_space();
        for &token in tokens {
            let piece = self.token_bytes(token);
            let skip = usize::from(after_special && piece.first() == Some(&b' ') && !self.is_special(token));
            bytes.extend_from_slice(&piece[skip..]);
            after_special = self.prefixes_each() && self.is_special(token);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn is_special(&self, token: u32) -> bool {
        matches!(self.vocabulary.kind(token), Some(Kind::Control | Kind::Unknown | Kind::UserDefined))
    }

    /// Whether encoding prepends a space to text.
    fn prefixes_space(&self) -> bool {
        match &self.rules {
            Rules::Bpe(_) => false,
            Rules::Spm(spm) => spm.space_prefix,
            Rules::Folder(folder) => folder.space_prefix,
        }
    }

    /// Whether decoding removes one space from the start of an answer: in these vocabularies the first word
    /// starts with a space that is not part of the text.
    pub fn strips_first_space(&self) -> bool {
        match &self.rules {
            Rules::Bpe(_) => false,
            Rules::Spm(spm) => spm.space_prefix,
            Rules::Folder(folder) => folder.strips_first_space,
        }
    }

    /// Whether encoding prepends a space after every special token, not only at the start.
    fn prefixes_each(&self) -> bool {
        match &self.rules {
            Rules::Folder(folder) => folder.space_prefix && folder.prefixes_each,
            _ => self.prefixes_space(),
        }
    }

    /// Whether `token` ends a generation (`<|im_end|>`, `<|eot_id|>`, `</s>`, …).
    pub fn is_end_of_generation(&self, token: u32) -> bool {
        self.vocabulary.special.end_of_generation.contains(&token)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.special.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.special.eos
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.vocabulary.special.pad
    }

    /// The token for text that the vocabulary cannot encode.
    pub fn unk(&self) -> Option<u32> {
        self.vocabulary.special.unk
    }

    /// Whether BOS is added before plain text.
    pub fn adds_bos(&self) -> bool {
        self.vocabulary.special.adds_bos
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The id of `piece`, which is in the vocabulary's encoding (`Ġthe`).
    pub fn token_id(&self, piece: &str) -> Option<u32> {
        self.vocabulary.find(piece)
    }

    /// Warnings for the user, for example about an unknown pre-tokenizer.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Splits `text` into parts of at most 1 GiB, which 32-bit offsets can address.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    const LIMIT: usize = 1 << 30;
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (0..=LIMIT.min(rest.len())).rev().find(|&end| rest.is_char_boundary(end)).unwrap_or(0);
        let (part, after) = rest.split_at(end);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// Marks that the reasoning parser needs as text, even if the vocabulary declares them control tokens.
fn is_reasoning_mark(piece: &str) -> bool {
    matches!(piece, "<think>" | "</think>" | "[THINK]" | "[/THINK]" | "<|START_THINKING|>" | "<|END_THINKING|>")
}

#[cfg(test)]
pub(crate) mod tests;
