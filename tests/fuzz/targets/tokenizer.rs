//! Tokenizers. Input: `tokenizer.json`, `tokenizer_config.json` and a text to encode, separated.

use std::time::Duration;

use chatnap::engine::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::{SEPARATOR, Target, folder, parts};

pub const TARGET: Target = Target {
    name: "tokenizer",
    cases: 700,
    time: Duration::from_secs(2),
    memory: 256 << 20,
    words: &[
        "type",
        "BPE",
        "WordPiece",
        "WordLevel",
        "Unigram",
        "vocab",
        "merges",
        "unk_token",
        "unk_id",
        "byte_fallback",
        "fuse_unk",
        "ignore_merges",
        "dropout",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "max_input_chars_per_word",
        "added_tokens",
        "content",
        "special",
        "normalized",
        "single_word",
        "lstrip",
        "rstrip",
        "normalizer",
        "normalizers",
        "pre_tokenizer",
        "pretokenizers",
        "post_processor",
        "decoder",
        "Sequence",
        "Replace",
        "Prepend",
        "NFC",
        "NFKC",
        "NFD",
        "Lowercase",
        "StripAccents",
        "Strip",
        "BertNormalizer",
        "Precompiled",
        "precompiled_charsmap",
        "Split",
        "pattern",
        "Regex",
        "String",
        "behavior",
        "Isolated",
        "Removed",
        "MergedWithPrevious",
        "Contiguous",
        "invert",
        "ByteLevel",
        "add_prefix_space",
        "use_regex",
        "Metaspace",
        "replacement",
        "prepend_scheme",
        "first",
        "always",
        "never",
        "split",
        "Punctuation",
        "Digits",
        "individual_digits",
        "Whitespace",
        "WhitespaceSplit",
        "BertPreTokenizer",
        "CharDelimiterSplit",
        "delimiter",
        "UnicodeScripts",
        "FixedLength",
        "length",
        "TemplateProcessing",
        "RobertaProcessing",
        "truncation",
        "padding",
        "(?i:'s|'t)|[^\\\\r\\\\n\\\\p{L}]?\\\\p{L}+|\\\\p{N}{1,3}|\\\\s+(?!\\\\S)|\\\\s+",
        "(a+)+$",
        "(?=a)*",
        "(.*)\\\\1",
        "^",
        "$",
        "\\\\b",
        "▁",
        "Ġ",
        "<0x0A>",
        "\u{0}",
    ],
    seeds,
    run,
};

/// The `tokenizer.json` of a byte-level BPE vocabulary with a few merges.
pub fn small() -> String {
    tokenizer(
        &json!(null),
        &json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
        &bpe(true),
    )
}

fn seeds() -> Vec<Vec<u8>> {
    let words = ["[UNK]", "hello", "▁hello", "##lo", "h", "e", "l", "o", "▁"];
    let vocab: Map<String, Value> = words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let scored: Vec<Value> = words.iter().zip(0..).map(|(word, rank)| json!([word, -f64::from(rank)])).collect();
    let pattern =
        "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+(?!\\S)|\\s+";
    let split = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    let replace = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        {"type": "NFKC"}, {"type": "StripAccents"}, {"type": "Strip", "strip_left": true, "strip_right": false},
    ]});
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                      "lowercase": true});
    let others = json!({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "UnicodeScripts"},
        {"type": "CharDelimiterSplit", "delimiter": "-"}, {"type": "FixedLength", "length": 5}, {"type": "Whitespace"},
    ]});
    let piece = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": vocab});
    let level = json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab});
    let unigram = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": scored});
    let all = [
        small(),
        tokenizer(&json!({"type": "NFC"}), &split, &bpe(true)),
        tokenizer(&replace, &json!(null), &bpe(false)),
        tokenizer(&json!(null), &metaspace("first"), &bpe(false)),
        tokenizer(&json!({"type": "NFD"}), &metaspace("always"), &unigram),
        tokenizer(&bert, &json!({"type": "BertPreTokenizer"}), &piece),
        tokenizer(&json!({"type": "Lowercase"}), &others, &level),
    ];
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "[UNK]"}).to_string();
    let text = "Hello hello\n\n  wörld 12345 <s> don't-stop 👩\u{200d}👧 日本語 Hello";
    let parts =
        |json: &String| [json.as_bytes(), &[SEPARATOR], config.as_bytes(), &[SEPARATOR], text.as_bytes()].concat();
    all.iter().map(parts).collect()
}

fn bpe(byte_level: bool) -> Value {
    let space = if byte_level { "Ġ" } else { "▁" };
    let mut pieces: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    pieces.extend([space, "Ċ", "Ã", "¶", "he", "ll", "hell", "<0x0A>", "<0xC3>", "<0xB6>"].map(str::to_owned));
    pieces.push(format!("{space}h"));
    let vocab: Map<String, Value> = pieces.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    let merges = [["h", "e"], ["l", "l"], ["he", "ll"], [space, "h"]];
    json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
           "vocab": vocab, "merges": merges})
}

fn tokenizer(normalizer: &Value, pre_tokenizer: &Value, model: &Value) -> String {
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "normalized": !special, "single_word": false,
               "lstrip": false, "rstrip": special})
    };
    let template = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                          "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(200, "<s>", true), added(201, "</s>", true), added(202, "Hello", false)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": template,
        "decoder": {"type": "Fuse"}, "model": model,
    })
    .to_string()
}

fn run(input: &[u8]) -> bool {
    let [json, config, text] = parts(input);
    let folder = folder(&[("tokenizer.json", json), ("tokenizer_config.json", config)]);
    let Ok(tokenizer) = Tokenizer::from_folder(folder.path()) else { return false };
    // The text is bounded, because the limits are for the work that the file causes.
    let text = String::from_utf8_lossy(&text[..text.len().min(4096)]);
    check(&tokenizer, &text);
    true
}

/// Asserts the invariants of tokens that the engine relies on.
pub fn check(tokenizer: &Tokenizer, text: &str) {
    let count = tokenizer.vocab_size();
    let known = |id: u32| (id as usize) < count;
    for tokens in [tokenizer.encode(text), tokenizer.encode_special(text)] {
        assert!(tokens.iter().all(|&id| known(id)), "a token beyond the {count} of the vocabulary");
        let decoded = tokenizer.decode(&tokens);
        let bytes: usize = tokens.iter().map(|&id| tokenizer.token_bytes(id).len()).sum();
        assert!(decoded.len() <= 3 * bytes, "{} bytes of text out of {bytes}", decoded.len());
    }
    for id in [tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()].into_iter().flatten() {
        assert!(known(id), "the special token {id} is beyond the {count} of the vocabulary");
    }
    for id in [0, count as u32, u32::MAX] {
        let _ = (tokenizer.piece(id), tokenizer.token_bytes(id), tokenizer.is_end_of_generation(id));
    }
}
