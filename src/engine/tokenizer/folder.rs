//! `tokenizer.json` through the `tokenizers` crate, with the special tokens that `tokenizer_config.json` and
//! `generation_config.json` name.

use std::path::Path;

use serde_json::Value;
use tokenizers::tokenizer::Tokenizer as Json;

use super::TokenizerError;
use super::bytes;
use super::end;
use super::spm::SPACE;
use super::vocabulary::{Kind, Vocabulary};

/// Larger files than this are refused; the largest known is 33 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// The rules of a `tokenizer.json`.
pub struct FolderTokenizer {
    json: Json,
    /// Bytes in GPT-2's writing; else `▁` and `<0xXX>`.
    byte_level: bool,
    /// Whether encoding puts a space before a text.
    pub space_prefix: bool,
}

impl FolderTokenizer {
    /// Reads the files of `folder`.
    pub fn open(folder: &Path) -> Result<(Self, Vocabulary, Vec<String>), TokenizerError> {
        let bytes = read(&folder.join("tokenizer.json"))?
            .ok_or_else(|| TokenizerError(format!("{} has no tokenizer.json", folder.display())))?;
        let source: Value = parse(&folder.join("tokenizer.json"), &bytes)?;
        let mut json = Json::from_bytes(&bytes)
            .map_err(|error| TokenizerError(format!("{}: {error}", folder.join("tokenizer.json").display())))?;
        // The text is cut at special tokens here; what reaches the crate holds none, so its own search is off.
        let added: Vec<(u32, String, bool)> =
            json.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.content, token.special)).collect();
        json.set_encode_special_tokens(true);
        let config = read_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let generation = read_json(&folder.join("generation_config.json"))?.unwrap_or(Value::Null);
        let vocabulary = vocabulary(&json, &added, &source, &config, &generation)?;
        let byte_level = names(&source["decoder"]).any(|name| name == "ByteLevel")
            || names(&source["pre_tokenizer"]).any(|name| name == "ByteLevel");
        let space_prefix = prefixes_space(&source);
        Ok((Self { json, byte_level, space_prefix }, vocabulary, Vec::new()))
    }

    /// Appends the tokens of `text`, which holds no special token.
    pub fn encode(&self, text: &str, _after_special: bool, tokens: &mut Vec<u32>) {
        // The crate's only failures here are of its own model (a word that it cannot say and no unknown token).
        if let Ok(encoding) = self.json.encode_fast(text, false) {
            tokens.extend_from_slice(encoding.get_ids());
        }
    }

    /// The bytes of a normal token.
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

/// The `type`s of a component and of those inside it.
fn names(component: &Value) -> impl Iterator<Item = &str> {
    let inner =
        ["decoders", "pretokenizers", "normalizers"].into_iter().filter_map(|key| component[key].as_array()).flatten();
    std::iter::once(component).chain(inner).filter_map(|part| part["type"].as_str())
}

/// Whether a normalizer or pre-tokenizer puts a space (or `▁`) before the text.
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

fn vocabulary(
    json: &Json,
    added: &[(u32, String, bool)],
    source: &Value,
    config: &Value,
    generation: &Value,
) -> Result<Vocabulary, TokenizerError> {
    let pieces = json.get_vocab(true);
    let count = pieces.len().max(pieces.values().map(|&id| id as usize + 1).max().unwrap_or(0));
    // Ids may have holes, but a file that claims ids far beyond its pieces is damaged.
    if count > pieces.len().saturating_mul(4) + 65_536 {
        return Err(TokenizerError(format!(
            "tokenizer.json names token {} but holds {} tokens",
            count - 1,
            pieces.len()
        )));
    }
    let mut by_id: Vec<&str> = vec![""; count];
    for (piece, &id) in &pieces {
        by_id[id as usize] = piece;
    }
    let mut kinds = vec![Kind::Normal; count];
    for (id, _, special) in added {
        if let Some(kind) = kinds.get_mut(*id as usize) {
            *kind = if *special { Kind::Control } else { Kind::UserDefined };
        }
    }
    let mut vocabulary = Vocabulary::new(by_id.into_iter(), kinds)?;
    let token = |key: &str| {
        let piece = config[key].as_str().or_else(|| config[key]["content"].as_str())?;
        vocabulary.find(piece)
    };
    let (bos, eos, pad, unk) = (token("bos_token"), token("eos_token"), token("pad_token"), token("unk_token"));
    let mut named: Vec<u32> = eos.into_iter().collect();
    let ids = &generation["eos_token_id"];
    let listed = ids.as_array().map_or_else(|| std::slice::from_ref(ids), Vec::as_slice);
    named.extend(
        listed
            .iter()
            .filter_map(Value::as_u64)
            .filter_map(|id| u32::try_from(id).ok())
            .filter(|&id| (id as usize) < count),
    );
    let bos = bos.or_else(|| generation["bos_token_id"].as_u64().and_then(|id| u32::try_from(id).ok()));
    let bos = bos.filter(|&id| (id as usize) < count);
    vocabulary.special.bos = bos;
    vocabulary.special.eos = eos.or_else(|| named.first().copied());
    vocabulary.special.pad = pad;
    vocabulary.special.unk = unk;
    vocabulary.special.adds_bos = bos.is_some_and(|id| adds_bos(source, config, vocabulary.piece(id)));
    end::collect(&mut vocabulary, &named, [None; 3]);
    Ok(vocabulary)
}

/// `add_bos_token` where the configuration says it; else whether the post-processor's template begins with BOS.
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

/// The JSON file at `path`; `None` where there is none.
pub fn read_json(path: &Path) -> Result<Option<Value>, TokenizerError> {
    read(path)?.map(|bytes| parse(path, &bytes)).transpose()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|error| TokenizerError(format!("{}: {error}", path.display())))
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
