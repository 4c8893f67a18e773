//! Builds a vocabulary with token kinds and special tokens from GGUF metadata.

use super::pre_tokenizer::PreTokenizer;
use super::vocabulary::{Kind, SpecialTokens, Vocabulary};
use super::{TokenizerError, end_tokens};
use crate::engine::weights::gguf::{Metadata, Value};

/// The vocabulary of a BPE file; whether BOS is added by default depends on the pre-tokenizer.
pub fn bpe_vocabulary(
    metadata: &Metadata,
    pre: &PreTokenizer,
    warnings: &mut Vec<String>,
) -> Result<Vocabulary, TokenizerError> {
    let defaults = SpecialTokens { adds_bos: pre.adds_bos, ..SpecialTokens::default() };
    vocabulary(metadata, defaults, warnings)
}

/// The vocabulary of an SPM file, with SentencePiece's default ids.
pub fn spm_vocabulary(metadata: &Metadata, warnings: &mut Vec<String>) -> Result<Vocabulary, TokenizerError> {
    let defaults =
        SpecialTokens { bos: Some(1), eos: Some(2), unk: Some(0), adds_bos: true, ..SpecialTokens::default() };
    vocabulary(metadata, defaults, warnings)
}

fn vocabulary(
    metadata: &Metadata,
    defaults: SpecialTokens,
    warnings: &mut Vec<String>,
) -> Result<Vocabulary, TokenizerError> {
    let pieces = metadata
        .strings("tokenizer.ggml.tokens")
        .ok_or_else(|| TokenizerError("the file's vocabulary (tokenizer.ggml.tokens) is missing".into()))?;
    let kinds = kinds(metadata, pieces.len())?;
    let mut vocabulary = Vocabulary::new(pieces.iter().map(String::as_str), kinds)?;
    let mut ids = Ids { metadata, count: pieces.len(), warnings };
    vocabulary.special = ids.special(defaults);
    let mut named: Vec<u32> = vocabulary.special.eos.into_iter().collect();
    // `eos` is in `named` already; reading it again would repeat its warning.
    named.extend(["eot", "eom"].into_iter().filter_map(|name| ids.id(name)));
    let fim = ["fim_pad", "fim_rep", "fim_sep"].map(|name| ids.id(name));
    for unused in ["seperator", "mask", "cls", "fim_pre", "fim_suf", "fim_mid", "prefix", "suffix", "middle"] {
        ids.id(unused);
    }
    end_tokens::collect(&mut vocabulary, &named, fim);
    vocabulary.strips_right = strips_right(metadata, &vocabulary);
    Ok(vocabulary)
}

fn kinds(metadata: &Metadata, count: usize) -> Result<Vec<Kind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    if !metadata.values.contains_key(KEY) {
        return Ok(vec![Kind::Normal; count]);
    }
    let types = metadata.ints(KEY).ok_or_else(|| TokenizerError(format!("{KEY} is not an array of integers")))?;
    if types.len() != count {
        return Err(TokenizerError(format!("{KEY} has {} entries for {count} tokens", types.len())));
    }
    Ok(types
        .iter()
        .map(|kind| match kind {
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            6 => Kind::Byte,
            _ => Kind::Normal,
        })
        .collect())
}

/// Reads the ids of special tokens from the metadata.
struct Ids<'a> {
    metadata: &'a Metadata,
    /// Number of tokens in the vocabulary.
    count: usize,
    warnings: &'a mut Vec<String>,
}

impl Ids<'_> {
    fn special(&mut self, defaults: SpecialTokens) -> SpecialTokens {
        let bos = self.pick("bos", defaults.bos);
        let adds_bos = self.metadata.bool("tokenizer.ggml.add_bos_token").unwrap_or(defaults.adds_bos);
        SpecialTokens {
            bos,
            eos: self.pick("eos", defaults.eos),
            pad: self.pick("padding", defaults.pad),
            unk: self.pick("unknown", defaults.unk),
            adds_bos: adds_bos && bos.is_some(),
            end_of_generation: Vec::new(),
        }
    }

    fn pick(&mut self, name: &str, default: Option<u32>) -> Option<u32> {
        let default = default.filter(|&id| (id as usize) < self.count);
        self.id(name).or(default)
    }

    /// `tokenizer.ggml.{name}_token_id`; an id outside of the vocabulary causes a warning and is ignored.
    fn id(&mut self, name: &str) -> Option<u32> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let value = self.metadata.values.get(&key)?;
        match self.metadata.uint(&key) {
            // Some converters write 0xFFFFFFFF for "none".
            Some(id) if id == u64::from(u32::MAX) => None,
            Some(id) if id < self.count as u64 => u32::try_from(id).ok(),
            Some(id) => {
                self.warnings
                    .push(format!("{key} is {id}, but the vocabulary has {} tokens: it is ignored", self.count));
                None
            }
            // Other converters write -1.
            None if *value == Value::I64(-1) => None,
            None => {
                self.warnings.push(format!("{key} is not a token id: it is ignored"));
                None
            }
        }
    }
}

/// Phi-3's special tokens absorb the white space after them. GGUF files lack that flag: match by name, as in llama.cpp.
fn strips_right(metadata: &Metadata, vocabulary: &Vocabulary) -> Vec<u32> {
    let name = metadata.string("general.name").unwrap_or_default().to_ascii_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return Vec::new();
    }
    let special = |kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown);
    let keeps = |piece: &str| matches!(piece, "<unk>" | "<s>" | "<|endoftext|>");
    vocabulary.kinds().filter(|&(id, kind)| special(kind) && !keeps(vocabulary.piece(id))).map(|(id, _)| id).collect()
}
