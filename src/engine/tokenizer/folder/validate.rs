//! Rejects a `tokenizer.json` with components that make the `tokenizers` crate panic, expand a text excessively before
//! it is tokenized, or drop words silently.

use serde_json::Value;

use crate::engine::tokenizer::TokenizerError;

/// Maximum growth of a text by normalising. Real files stay below 40: NFKC (11) with spaces written `▁` (3).
const MAX_GROWTH: f64 = 64.0;

/// Maximum number of bytes prepended to each text.
const MAX_PREPENDED: usize = 1024;

/// Maximum word length for WordPiece in characters: it tries all substrings of each word. Real files have 100.
const LONGEST_WORD: u64 = 1000;

/// Returns an error if `source`, the file's JSON, has such a component.
pub fn check(source: &Value) -> Result<(), TokenizerError> {
    check_lengths(&source["pre_tokenizer"])?;
    check_model(&source["model"])?;
    let growth = growth(&source["normalizer"])?;
    if growth > MAX_GROWTH {
        return Err(TokenizerError(format!(
            "its normalizer could make a text {growth:.0} times longer; the limit is {MAX_GROWTH} times"
        )));
    }
    check_unknown_token(&source["model"])
}

/// The maximum factor by which `normalizer` grows the bytes of a text. Components are identified by their keys, since
/// the crate accepts them without a `type` too.
fn growth(normalizer: &Value) -> Result<f64, TokenizerError> {
    if let Some(parts) = normalizer["normalizers"].as_array() {
        return parts.iter().try_fold(1.0, |product, part| Ok(product * growth(part)?));
    }
    if normalizer["type"] == "Precompiled" || !normalizer["precompiled_charsmap"].is_null() {
        return Err(TokenizerError(
            "a normalizer of the type Precompiled is not supported; a GGUF of the same model works".into(),
        ));
    }
    if normalizer["prepend"].as_str().is_some_and(|text| text.len() > MAX_PREPENDED) {
        return Err(TokenizerError("its normalizer prepends more than 1 KiB to each text".into()));
    }
    if let Some(content) = normalizer["content"].as_str() {
        // After an empty pattern the crate panics in the next component.
        if normalizer["pattern"]["String"] == "" && !content.is_empty() {
            return Err(TokenizerError("its normalizer replaces an empty pattern, which is not supported".into()));
        }
        // A regular expression may match the empty string, and then it matches at every byte.
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

/// Rejects a `FixedLength` of 0: the crate divides by it.
fn check_lengths(part: &Value) -> Result<(), TokenizerError> {
    if let Some(parts) = part["pretokenizers"].as_array() {
        parts.iter().try_for_each(check_lengths)?;
    }
    let fixed = part["type"] == "FixedLength" || part["type"].is_null();
    match part["length"].as_u64() {
        Some(0) if fixed => {
            Err(TokenizerError("its pre-tokenizer cuts texts into words of length 0, which is not possible".into()))
        }
        _ => Ok(()),
    }
}

/// Checks the preconditions that the crate's models do not check.
fn check_model(model: &Value) -> Result<(), TokenizerError> {
    if model["max_input_chars_per_word"].as_u64().is_some_and(|most| most > LONGEST_WORD) {
        let most = &model["max_input_chars_per_word"];
        return Err(TokenizerError(format!("words of {most} characters would take minutes to cut into tokens")));
    }
    if model["dropout"].as_f64().is_some_and(|share| share > 0.0) {
        return Err(TokenizerError("its model skips merges at random (dropout), which is for training only".into()));
    }
    let Some(merges) = model["merges"].as_array() else { return Ok(()) };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    let known = |piece: &str| !model["vocab"][piece].is_null();
    let sound = |left: &str, right: &str| {
        let Some(rest) = right.strip_prefix(prefix) else { return false };
        known(left) && known(right) && known(&[left, rest].concat())
    };
    let lines =
        merges.iter().enumerate().filter(|(_, merge)| !merge.as_str().is_some_and(|m| m.starts_with("#version")));
    for (rank, merge) in lines {
        let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(line), _) => line.split_once(' '),
            (_, Some([left, right])) => left.as_str().zip(right.as_str()),
            _ => None,
        };
        if !pair.is_some_and(|(left, right)| sound(left, right)) {
            let merge: String = merge.to_string().chars().take(80).collect();
            return Err(TokenizerError(format!(
                "merge {rank} ({merge}) does not name two tokens that join to a third; fetch the file again"
            )));
        }
    }
    Ok(())
}

/// Rejects a word model without an unknown token: the crate fails on words outside of its vocabulary.
fn check_unknown_token(model: &Value) -> Result<(), TokenizerError> {
    let missing = |token: &str| {
        Err(TokenizerError(format!(
            "the token for unknown words, {token:?}, is not in the vocabulary, so they would be lost"
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
    fn normalizers_that_grow_text_excessively_are_rejected() {
        let ten = replace("a", "aaaaaaaaaa");
        let untyped = json!({"pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
        for normalizer in [
            json!({"type": "Sequence", "normalizers": [ten, ten, ten]}),
            json!({"normalizers": [untyped, {"normalizers": [untyped, untyped]}]}),
            replace("", &"b".repeat(100)),
            json!({"normalizers": [{"type": "Prepend", "prepend": "▁"}, replace("", "▁"), {"type": "NFKC"}]}),
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
    fn word_models_without_an_unknown_token_are_rejected() {
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

    #[test]
    fn components_that_panic_or_hang_the_crate_are_rejected() {
        let fixed = |length: i64| json!({"type": "FixedLength", "length": length});
        let bpe = |merges: Value, prefix: Value| {
            json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "##a": 3, "é": 4}, "merges": merges,
                   "continuing_subword_prefix": prefix})
        };
        let words = |longest: u64| json!({"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0}, "max_input_chars_per_word": longest});
        for (source, why) in [
            (json!({"pre_tokenizer": fixed(0)}), "length 0"),
            (json!({"pre_tokenizer": {"length": 0}}), "length 0"),
            (
                json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"pretokenizers": [fixed(0)]}]}}),
                "length 0",
            ),
            (json!({"model": words(1_000_000)}), "minutes"),
            (json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}), "dropout"),
            // Merge results outside of the vocabulary, and pieces shorter than the prefix that the crate strips.
            (json!({"model": bpe(json!(["ab ab"]), json!(null))}), "merge 0"),
            (json!({"model": bpe(json!([["a", "b"]]), json!("########"))}), "merge 0"),
            (json!({"model": bpe(json!([["a", "é"]]), json!("x"))}), "merge 0"),
            (json!({"model": bpe(json!(["#version: 0.2", "a b", "a"]), json!(null))}), "merge 2"),
            (json!({"model": bpe(json!([7]), json!(null))}), "merge 0"),
        ] {
            let error = check(&source).expect_err(&source.to_string()).0;
            assert!(error.contains(why), "{error}");
        }
        for source in [
            json!({"pre_tokenizer": fixed(1)}),
            json!({"pre_tokenizer": {"type": "FixedLength"}}),
            json!({"model": words(100)}),
            json!({"model": bpe(json!([["a", "b"]]), json!(null))}),
            json!({"model": bpe(json!(["#version: 0.2", "a b"]), json!(""))}),
        ] {
            assert_eq!(check(&source), Ok(()), "{source}");
        }
    }

    /// Combines edge-case settings with edge-case texts, to find hangs and panics that `check` does not cover.
    #[test]
    fn edge_case_settings_encode_or_fail_without_panic() {
        let normalizers = [
            json!(null),
            json!({"type": "Replace", "pattern": {"String": ""}, "content": ""}),
            json!({"type": "Replace", "pattern": {"Regex": "(a*)*$"}, "content": ""}),
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            json!({"type": "Prepend", "prepend": ""}),
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "lowercase": true}),
            json!({"type": "Nmt"}),
        ];
        let pre_tokenizers = [
            json!(null),
            json!({"type": "FixedLength", "length": 1}),
            json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}),
            json!({"type": "Split", "pattern": {"Regex": "(?=(a+)+b)|"}, "behavior": "Removed", "invert": true}),
            json!({"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Contiguous", "invert": false}),
            json!({"type": "Digits", "individual_digits": true}),
            json!({"type": "Metaspace", "replacement": "é", "prepend_scheme": "first", "split": true}),
            json!({"type": "CharDelimiterSplit", "delimiter": "\u{0}"}),
            json!({"type": "Sequence", "pretokenizers": []}),
        ];
        let around = json!({
            "truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9},
            "padding": {"strategy": {"Fixed": 1_000_000_000_u64}, "direction": "Left", "pad_to_multiple_of": 0,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
        });
        let texts = [
            "",
            "a",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            " é\u{0}\u{FDD0}👩‍👩‍👧 x\u{301}\n\n 12",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxz",
        ];
        for (normalizer, pre_tokenizer) in normalizers.iter().flat_map(|n| pre_tokenizers.iter().map(move |p| (n, p))) {
            let mut source = around.clone();
            source["version"] = "1.0".into();
            source["normalizer"] = normalizer.clone();
            source["pre_tokenizer"] = pre_tokenizer.clone();
            source["model"] = json!({"type": "BPE", "vocab": {"a": 0, "x": 1}, "merges": [], "unk_token": "a"});
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
            if let Ok(tokenizer) = crate::engine::tokenizer::Tokenizer::from_folder(folder.path()) {
                texts.iter().for_each(|text| assert!(tokenizer.encode(text).len() <= text.len() + 1, "{source}"));
            }
        }
    }
}
