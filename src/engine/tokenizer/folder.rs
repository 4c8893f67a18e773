//! Encodes with `tokenizer.json` through the `tokenizers` crate; special tokens come from `tokenizer_config.json`,
//! `generation_config.json` and `config.json`.
//!
//! This module searches for added tokens by the crate's rules, in place of the crate, so that a user's text never
//! becomes a control token. One rule is stricter: control tokens are searched for in the text before normalising, even
//! if the file sets `normalized`.

use std::path::Path;

use serde_json::Value;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::tokenizer::{
    Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer as Json,
};

use super::special_split::{Fragment, Partition, Special};
use super::spm::SPACE;
use super::vocabulary::{Kind, Vocabulary};
use super::{TokenizerError, bytes, end_tokens};
use crate::engine::weights::json;
use crate::engine::weights::safetensors::no_json;

mod validate;

/// Larger files are rejected; the largest known one is 33 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// The encoding rules of a `tokenizer.json`.
pub struct FolderTokenizer {
    json: Json,
    /// The tokenizer for text that does not start the input, if its rules differ.
    inner: Option<Json>,
    /// Whether pieces are bytes in GPT-2's encoding; if not, they are text with `▁` and `<0xXX>`.
    byte_level: bool,
    /// Whether encoding prepends a space to text.
    pub space_prefix: bool,
    /// Whether decoding removes a space from the start of the text.
    pub strips_first_space: bool,
    /// Whether encoding prepends the space after every special token, not only at the start.
    pub prefixes_each: bool,
    /// Added tokens that are searched for in the normalised text.
    late: Partition,
}

/// An entry of `added_tokens`.
struct Added {
    id: u32,
    content: String,
    special: bool,
    strips_left: bool,
    strips_right: bool,
    single_word: bool,
    normalized: bool,
}

impl FolderTokenizer {
    /// Reads the files of `folder`; also returns the partition of special tokens to apply before `encode`.
    pub fn open(folder: &Path, warnings: &mut Vec<String>) -> Result<(Self, Vocabulary, Partition), TokenizerError> {
        let path = folder.join("tokenizer.json");
        let mut source = read_json(&path)?.ok_or_else(|| no_tokenizer(folder))?;
        if !source.is_object() {
            return Err(TokenizerError(format!("{} is not a tokenizer; fetch it again", path.display())));
        }
        let named = |error: TokenizerError| TokenizerError(format!("{}: {error}", path.display()));
        validate::check(&source).map_err(named)?;
        let added = added_tokens(&source).map_err(named)?;
        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let generation = generation(folder, warnings)?;
        let adds = named_piece(&config, "bos_token").map(|bos| adds_bos(&source, &config, bos));
        let byte_level = names(&source["decoder"]).any(|name| name == "ByteLevel")
            || names(&source["pre_tokenizer"]).any(|name| name == "ByteLevel");
        // Texts are split at special tokens before `encode`. The crate must not find or add any, nor truncate. Decoding
        // does not use the crate.
        source["added_tokens"] = Value::Array(Vec::new());
        let decoder = source["decoder"].clone();
        for key in ["post_processor", "truncation", "padding", "decoder"] {
            source[key] = Value::Null;
        }
        let json = build(&path, &source)?;
        let space_prefix = prefixes_space(&source);
        let strips_first_space = strips_first_space(&decoder);
        let inner = if only_first_gets_space(&mut source) { Some(build(&path, &source)?) } else { None };
        let vocabulary = vocabulary(&json, &added, &config, &generation, adds, warnings).map_err(named)?;
        let prefixes_each = inner.is_none();
        let (late, early) = partitions(&json, &added, &vocabulary)?;
        let tokenizer = Self { json, inner, byte_level, space_prefix, strips_first_space, prefixes_each, late };
        Ok((tokenizer, vocabulary, early))
    }

    /// Appends the tokens of `text`, without tokens of the partition from `open`; `first`: whether it starts the input.
    /// `mark` inside an added token prevents its recognition; the tokens are those of the text without marks.
    pub fn encode(&self, text: &str, first: bool, mark: Option<char>, tokens: &mut Vec<u32>) {
        let json = self.inner.as_ref().filter(|_| !first).unwrap_or(&self.json);
        if !self.late.is_empty() {
            return self.encode_normalised(json, text, mark, tokens).unwrap_or_default();
        }
        let stripped = mark.filter(|&mark| text.contains(mark)).map(|mark| text.replace(mark, ""));
        // Fails on text that the model cannot encode if there is no unknown token; `validate` rejects such files.
        if let Ok(encoding) = json.encode_fast(stripped.as_deref().unwrap_or(text), false) {
            tokens.extend_from_slice(encoding.get_ids());
        }
    }

    /// The added tokens of `late` that occur in `text` before normalising.
    pub fn late_tokens_in(&self, text: &str) -> Vec<u32> {
        self.late.present(text)
    }

    /// The crate's `encode_fast`, with the tokens of `late` split off after the normalizer.
    fn encode_normalised(
        &self,
        json: &Json,
        text: &str,
        mark: Option<char>,
        tokens: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        let mut whole = NormalizedString::from(text);
        if let Some(normalizer) = json.get_normalizer() {
            normalizer.normalize(&mut whole)?;
        }
        for fragment in self.late.with_control(whole.get()) {
            let (start, end) = match fragment {
                Fragment::Token(id) => {
                    tokens.push(id);
                    continue;
                }
                Fragment::Text { start, end } => (start, end),
            };
            let Some(mut slice) = whole.slice(Range::Normalized(start..end)) else { continue };
            if let Some(mark) = mark {
                slice.replace(mark, "")?;
            }
            let mut pieces = PreTokenizedString::from(slice);
            if let Some(pre_tokenizer) = json.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| json.get_model().tokenize(piece.get()))?;
            tokens.extend_from_slice(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids());
        }
        Ok(())
    }

    /// The bytes of the piece of a normal token.
    pub fn piece_bytes(&self, piece: &str) -> Vec<u8> {
        if self.byte_level {
            return bytes::decode_stand_ins(piece);
        }
        match bytes::hex_byte(piece) {
            Some(byte) => vec![byte],
            None => piece.replace(SPACE, " ").into_bytes(),
        }
    }
}

/// The `type`s of a component and of its parts.
fn names(component: &Value) -> impl Iterator<Item = &str> {
    let inner =
        ["decoders", "pretokenizers", "normalizers"].into_iter().filter_map(|key| component[key].as_array()).flatten();
    std::iter::once(component).chain(inner).filter_map(|part| part["type"].as_str())
}

/// Whether a normalizer or pre-tokenizer prepends a space (or `▁`) to the text.
fn prefixes_space(source: &Value) -> bool {
    let parts = |component: &Value| -> Vec<Value> {
        let inner = ["pretokenizers", "normalizers"].into_iter().filter_map(|key| component[key].as_array()).flatten();
        std::iter::once(component).chain(inner).cloned().collect()
    };
    parts(&source["normalizer"]).iter().chain(&parts(&source["pre_tokenizer"])).any(|part| {
        match part["type"].as_str() {
            Some("Prepend") => part["prepend"].as_str() == Some(SPACE),
            Some("Metaspace") => {
                part["prepend_scheme"].as_str().is_some_and(|scheme| scheme != "never")
                    || part["prepend_scheme"].is_null() && part["add_prefix_space"].as_bool().unwrap_or(true)
            }
            Some("ByteLevel") => part["add_prefix_space"].as_bool().unwrap_or(false),
            _ => false,
        }
    })
}

/// Whether a decoder removes a space from the start, as SentencePiece decoders do because encoding prepends one.
fn strips_first_space(decoder: &Value) -> bool {
    let inner = decoder["decoders"].as_array().into_iter().flatten();
    std::iter::once(decoder).chain(inner).any(|part| match part["type"].as_str() {
        Some("Strip") => part["content"] == " " && part["start"].as_u64().is_some_and(|count| count > 0),
        Some("Metaspace") => {
            part["prepend_scheme"].as_str().is_none_or(|scheme| scheme != "never") && part["add_prefix_space"] != false
        }
        _ => false,
    })
}

/// The error for a folder without `tokenizer.json`; names another tokenizer file in it and the remedy.
fn no_tokenizer(folder: &Path) -> TokenizerError {
    let others = ["tokenizer.model", "vocab.json", "tekken.json", "spiece.model"];
    let hint = match others.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => {
            format!("{name}, which is there, is another format: take the tokenizer.json of the model, or a GGUF file")
        }
        None => "fetch the one that belongs to the model".to_owned(),
    };
    TokenizerError(format!("{} has no tokenizer.json; {hint}", folder.display()))
}

/// The JSON with the end-of-generation ids: `generation_config.json`, or `config.json` if that has none or cannot be
/// read, as in transformers.
fn generation(folder: &Path, warnings: &mut Vec<String>) -> Result<Value, TokenizerError> {
    match read_json(&folder.join("generation_config.json")) {
        Ok(Some(generation)) if !generation["eos_token_id"].is_null() => return Ok(generation),
        Ok(_) => {}
        Err(error) => warnings.push(format!("{error}; config.json is used in its place")),
    }
    Ok(read_json(&folder.join("config.json"))?.unwrap_or(Value::Null))
}

fn build(path: &Path, source: &Value) -> Result<Json, TokenizerError> {
    let problem = |error: &dyn std::fmt::Display| {
        TokenizerError(format!("{}: {error}; fetch it again, or take a GGUF file of the model", path.display()))
    };
    let bytes = serde_json::to_vec(source).map_err(|error| problem(&error))?;
    Json::from_bytes(&bytes).map_err(|error| problem(&error))
}

fn added_tokens(source: &Value) -> Result<Vec<Added>, TokenizerError> {
    let entries = source["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            let id = entry["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(content)) = (id, entry["content"].as_str()) else {
                let entry: String = entry.to_string().chars().take(80).collect();
                return Err(TokenizerError(format!("{entry} is not an added token")));
            };
            let flag = |key: &str| entry[key].as_bool().unwrap_or(false);
            Ok(Added {
                id,
                content: content.to_owned(),
                special: flag("special"),
                strips_left: flag("lstrip"),
                strips_right: flag("rstrip"),
                single_word: flag("single_word"),
                normalized: flag("normalized"),
            })
        })
        .collect()
}

/// Splits the added tokens into those searched for in the normalised text (first) and those searched for before.
fn partitions(json: &Json, added: &[Added], vocabulary: &Vocabulary) -> Result<(Partition, Partition), TokenizerError> {
    let frames = |id: u32| !matches!(vocabulary.kind(id), Some(Kind::UserDefined));
    let (mut late, mut early) = (Vec::new(), Vec::new());
    for token in added {
        let is_late = token.normalized && !frames(token.id);
        let mut text = token.content.clone();
        if let Some(normalizer) = json.get_normalizer().filter(|_| is_late) {
            let mut normal = NormalizedString::from(token.content.as_str());
            if normalizer.normalize(&mut normal).is_ok() {
                normal.get().clone_into(&mut text);
            }
        }
        let special = Special {
            id: token.id,
            text,
            plain: !frames(token.id),
            strips_left: token.strips_left,
            strips_right: token.strips_right,
            single_word: token.single_word,
        };
        if is_late { &mut late } else { &mut early }.push(special);
    }
    // End-of-turn tokens are control tokens even if `added_tokens` does not list them.
    let unlisted = |id: u32| added.iter().all(|token| token.id != id);
    let controls = vocabulary.kinds().filter(|&(id, kind)| kind == Kind::Control && unlisted(id));
    early.extend(controls.map(|(id, _)| Special {
        id,
        text: vocabulary.piece(id).to_owned(),
        plain: false,
        strips_left: false,
        strips_right: false,
        single_word: false,
    }));
    Ok((Partition::left_to_right(late)?, Partition::left_to_right(early)?))
}

/// Whether a Metaspace pre-tokenizer prepends a space only at the start of the input. If so, changes `source` to never
/// prepend one, for the text after the start.
fn only_first_gets_space(source: &mut Value) -> bool {
    let change = |part: &mut Value| {
        let first = part["type"] == "Metaspace" && part["prepend_scheme"] == "first";
        if first {
            part["prepend_scheme"] = Value::from("never");
        }
        first
    };
    let component = &mut source["pre_tokenizer"];
    if component.is_object() && change(component) {
        return true;
    }
    match component.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        // `filter_map` and `count`: `any` would stop at the first changed part.
        Some(parts) => parts.iter_mut().filter_map(|part| change(part).then_some(())).count() > 0,
        None => false,
    }
}

/// The piece under `key`, a string or `{"content": …}`.
fn named_piece<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config[key].as_str().or_else(|| config[key]["content"].as_str())
}

fn vocabulary(
    json: &Json,
    added: &[Added],
    config: &Value,
    generation: &Value,
    adds_bos: Option<bool>,
    warnings: &mut Vec<String>,
) -> Result<Vocabulary, TokenizerError> {
    let pieces = json.get_vocab(true);
    let ids = pieces.values().copied().chain(added.iter().map(|token| token.id));
    let count = ids.map(|id| id as usize + 1).max().unwrap_or(0);
    // Ids may have gaps, but a file with ids far beyond its number of pieces is damaged.
    if count > (pieces.len() + added.len()).saturating_mul(4) + 65_536 {
        let held = pieces.len() + added.len();
        return Err(TokenizerError(format!("it has token id {} but only {held} tokens", count - 1)));
    }
    let mut by_id: Vec<&str> = vec![""; count];
    for (piece, &id) in &pieces {
        by_id[id as usize] = piece;
    }
    let mut kinds = vec![Kind::Normal; count];
    for token in added {
        by_id[token.id as usize] = &token.content;
        kinds[token.id as usize] = if token.special { Kind::Control } else { Kind::UserDefined };
    }
    let mut vocabulary = Vocabulary::new(by_id.into_iter(), kinds)?;
    let mut token = |key: &str| {
        let piece = named_piece(config, key).filter(|piece| !piece.is_empty())?;
        let found = vocabulary.find(piece);
        if found.is_none() {
            warnings.push(format!(
                "tokenizer_config.json: {key} is {piece:?}, which the vocabulary does not hold: it is ignored"
            ));
        }
        found
    };
    let (bos, eos, pad, unk) = (token("bos_token"), token("eos_token"), token("pad_token"), token("unk_token"));
    let mut listed = |key: &str| -> Vec<u32> {
        let ids = &generation[key];
        let ids = ids.as_array().map_or_else(|| std::slice::from_ref(ids), Vec::as_slice);
        let (known, odd): (Vec<_>, Vec<_>) = ids
            .iter()
            .filter(|id| !id.is_null() && **id != -1)
            .partition(|id| id.as_u64().is_some_and(|id| id < count as u64));
        if let Some(id) = odd.first() {
            warnings.push(format!("{key} is {id}, but the vocabulary has {count} tokens: it is ignored"));
        }
        known.into_iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    };
    let named: Vec<u32> = eos.into_iter().chain(listed("eos_token_id")).collect();
    let bos = bos.or_else(|| listed("bos_token_id").first().copied());
    let special = &mut vocabulary.special;
    (special.bos, special.pad, special.unk) = (bos, pad, unk);
    special.eos = eos.or_else(|| named.first().copied());
    special.adds_bos = bos.is_some() && adds_bos.unwrap_or(false);
    end_tokens::collect(&mut vocabulary, &named, [None; 3]);
    Ok(vocabulary)
}

/// `add_bos_token` if `tokenizer_config.json` has it; otherwise whether the post-processor's template starts with BOS.
fn adds_bos(source: &Value, config: &Value, bos: &str) -> bool {
    fn starts_with(processor: &Value, bos: &str) -> bool {
        match processor["type"].as_str() {
            Some("TemplateProcessing") => processor["single"][0]["SpecialToken"]["id"].as_str() == Some(bos),
            Some("Sequence") => {
                processor["processors"].as_array().is_some_and(|parts| parts.iter().any(|part| starts_with(part, bos)))
            }
            _ => false,
        }
    }
    match config["add_bos_token"].as_bool() {
        Some(adds) => adds,
        None => starts_with(&source["post_processor"], bos),
    }
}

/// The JSON file at `path`; `None` if it does not exist.
pub fn read_json(path: &Path) -> Result<Option<Value>, TokenizerError> {
    read(path)?.map(|bytes| parse(path, &bytes)).transpose()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value, TokenizerError> {
    json::from_slice(bytes).map_err(|error| TokenizerError(no_json(path, bytes, &error).to_string()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let problem = |error: std::io::Error| TokenizerError(format!("{}: {error}", path.display()));
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(error)),
    };
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(TokenizerError(format!("{} is not a file of a sensible size", path.display())));
    }
    std::fs::read(path).map(Some).map_err(problem)
}
