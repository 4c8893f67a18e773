//! What a `tokenizer.json` may not ask for: parts that the `tokenizers` crate panics on, that would make a text many times
//! longer before it is cut into tokens, or that would lose words without a word about it.

use serde_json::Value;

use crate::engine::tokenizer::TokenizerError;

/// How many times longer normalising may make a text. Real files stay below 40: NFKC (11) with spaces spelled `▁` (3).
const MAX_GROWTH: f64 = 64.0;

/// Bytes that may be put before each text.
const MAX_PREPENDED: usize = 1024;

/// Refuses `source`, the file's JSON, where it holds such a part.
pub fn check(source: &Value) -> Result<(), TokenizerError> {
    let growth = growth(&source["normalizer"])?;
    if growth > MAX_GROWTH {
        return Err(TokenizerError(format!(
            "tokenizer.json: its normalizer could make a text {growth:.0} times longer, which no real one does"
        )));
    }
    check_unknown_token(&source["model"])
}

/// The most that `normalizer` multiplies the bytes of a text by. Parts are told by their keys, since the crate takes them
/// without a `type` too.
fn growth(normalizer: &Value) -> Result<f64, TokenizerError> {
    if let Some(parts) = normalizer["normalizers"].as_array() {
        return parts.iter().try_fold(1.0, |product, part| Ok(product * growth(part)?));
    }
    if normalizer["type"] == "Precompiled" || !normalizer["precompiled_charsmap"].is_null() {
        return Err(TokenizerError(
            "tokenizer.json: a normalizer of the type Precompiled is not supported; a GGUF of the same model works"
                .into(),
        ));
    }
    if normalizer["prepend"].as_str().is_some_and(|text| text.len() > MAX_PREPENDED) {
        return Err(TokenizerError("tokenizer.json: its normalizer puts a whole page before each text".into()));
    }
    if let Some(content) = normalizer["content"].as_str() {
        // What a pattern matches may be empty, and then it matches at every byte.
        let matched = normalizer["pattern"]["String"].as_str().map_or(0, str::len);
        let factor = if matched == 0 { content.len() + 1 } else { content.len().div_ceil(matched) };
        return Ok(factor.max(1) as f64);
    }
    // The longest decompositions of Unicode 16: U+FDFA (3 bytes to 33), U+0390 (2 to 6); İ in lower case (2 to 3).
    Ok(match normalizer["type"].as_str() {
        Some("NFKC" | "NFKD") => 11.0,
        Some("NFC" | "NFD") => 3.0,
        Some("ByteLevel" | "Lowercase") => 2.0,
        Some("BertNormalizer") => 8.0,
        _ => 1.0,
    })
}

/// A model of whole words that has no token for the others fails on them.
fn check_unknown_token(model: &Value) -> Result<(), TokenizerError> {
    let missing = |token: &str| {
        Err(TokenizerError(format!(
            "tokenizer.json: the token for unknown words, {token:?}, is not in the vocabulary, so they would be lost"
        )))
    };
    match model["type"].as_str() {
        Some("WordPiece" | "WordLevel") => {
            let token = model["unk_token"].as_str().unwrap_or("[UNK]");
            if model["vocab"][token].is_null() { missing(token) } else { Ok(()) }
        }
        Some("Unigram") if model["unk_id"].is_null() && model["byte_fallback"] != true => missing("unk_id"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use serde_json::json;

    fn replace(pattern: &str, content: &str) -> Value {
        json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
    }

    #[test]
    fn a_normalizer_that_grows_texts_without_end_is_refused() {
        let ten = replace("a", "aaaaaaaaaa");
        let untyped = json!({"pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
        for normalizer in [
            json!({"type": "Sequence", "normalizers": [ten, ten, ten]}),
            json!({"normalizers": [untyped, {"normalizers": [untyped, untyped]}]}),
            replace("", &"b".repeat(100)),
            json!({"type": "Replace", "pattern": {"Regex": "a*"}, "content": "b".repeat(100)}),
            json!({"type": "Prepend", "prepend": "x".repeat(2000)}),
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            json!({"precompiled_charsmap": "AAAA"}),
        ] {
            assert!(check(&json!({"normalizer": normalizer})).is_err(), "{normalizer}");
        }
        for normalizer in [
            Value::Null,
            json!({"type": "NFC"}),
            replace(" ", "▁"),
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}),
            json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, replace(" ", "▁")]}),
        ] {
            assert!(check(&json!({"normalizer": normalizer})).is_ok(), "{normalizer}");
        }
    }

    #[test]
    fn a_model_of_words_needs_a_token_for_the_others() {
        for (model, sound) in [
            (json!({"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"a": 0}}), false),
            (json!({"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0}}), true),
            (json!({"type": "WordLevel", "vocab": {"a": 0}}), false),
            (json!({"type": "Unigram", "unk_id": null, "vocab": []}), false),
            (json!({"type": "Unigram", "unk_id": 0, "vocab": []}), true),
            (json!({"type": "Unigram", "byte_fallback": true, "vocab": []}), true),
            (json!({"type": "BPE", "vocab": {}}), true),
        ] {
            assert_eq!(check(&json!({"model": model})).is_ok(), sound, "{model}");
        }
    }
}
