//! GGUF metadata → a vocabulary with its kinds and special tokens.

use super::TokenizerError;
use super::end;
use super::pre::PreTokenizer;
use super::vocabulary::{Kind, SpecialTokens, Vocabulary};
use crate::engine::weights::gguf::Metadata;

/// The vocabulary of a BPE file; what it adds by default depends on the pre-tokenizer.
pub fn bpe_vocabulary(metadata: &Metadata, pre: &PreTokenizer) -> Result<Vocabulary, TokenizerError> {
    let defaults = SpecialTokens { adds_bos: pre.adds_bos, ..SpecialTokens::default() };
    vocabulary(metadata, defaults)
}

/// The vocabulary of an SPM file.
pub fn spm_vocabulary(metadata: &Metadata) -> Result<Vocabulary, TokenizerError> {
    let defaults =
        SpecialTokens { bos: Some(1), eos: Some(2), unk: Some(0), adds_bos: true, ..SpecialTokens::default() };
    vocabulary(metadata, defaults)
}

fn vocabulary(metadata: &Metadata, defaults: SpecialTokens) -> Result<Vocabulary, TokenizerError> {
    let pieces = metadata
        .strings("tokenizer.ggml.tokens")
        .ok_or_else(|| TokenizerError("the file's vocabulary (tokenizer.ggml.tokens) is missing".into()))?;
    let kinds = kinds(metadata, pieces.len())?;
    let mut vocabulary = Vocabulary::new(pieces.iter().map(String::as_str), kinds)?;
    vocabulary.special = special(metadata, defaults, pieces.len())?;
    let ends = ["eos", "eot", "eom"].map(|name| id(metadata, name, pieces.len()));
    let mut named: Vec<u32> = vocabulary.special.eos.into_iter().collect();
    for end in ends {
        named.extend(end?);
    }
    let fim = ["fim_pad", "fim_rep", "fim_sep"].map(|name| id(metadata, name, pieces.len()));
    let [pad, rep, sep] = fim;
    end::collect(&mut vocabulary, &named, [pad?, rep?, sep?]);
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

fn special(metadata: &Metadata, defaults: SpecialTokens, count: usize) -> Result<SpecialTokens, TokenizerError> {
    let pick = |name: &str, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
        Ok(id(metadata, name, count)?.or(default.filter(|&id| (id as usize) < count)))
    };
    let bos = pick("bos", defaults.bos)?;
    let adds_bos = metadata.bool("tokenizer.ggml.add_bos_token").unwrap_or(defaults.adds_bos);
    Ok(SpecialTokens {
        bos,
        eos: pick("eos", defaults.eos)?,
        pad: pick("padding", defaults.pad)?,
        unk: pick("unknown", defaults.unk)?,
        adds_bos: adds_bos && bos.is_some(),
        end_of_generation: Vec::new(),
    })
}

/// `tokenizer.ggml.{name}_token_id`, checked against the vocabulary.
fn id(metadata: &Metadata, name: &str, count: usize) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    if !metadata.values.contains_key(&key) {
        return Ok(None);
    }
    let id = metadata.uint(&key).ok_or_else(|| TokenizerError(format!("{key} is not a token id")))?;
    match u32::try_from(id) {
        // Some converters write 0xFFFFFFFF for "none".
        Ok(u32::MAX) => Ok(None),
        Ok(id) if (id as usize) < count => Ok(Some(id)),
        _ => Err(TokenizerError(format!("{key} is {id}, but the vocabulary has {count} tokens"))),
    }
}

/// Phi-3's special tokens take the white space after them, which its GGUF files do not say; llama.cpp goes by the name.
fn strips_right(metadata: &Metadata, vocabulary: &Vocabulary) -> Vec<u32> {
    let name = metadata.string("general.name").unwrap_or_default().to_ascii_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return Vec::new();
    }
    let special = |kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown);
    let keeps = |piece: &str| matches!(piece, "<unk>" | "<s>" | "<|endoftext|>");
    vocabulary.kinds().filter(|&(id, kind)| special(kind) && !keeps(vocabulary.piece(id))).map(|(id, _)| id).collect()
}
