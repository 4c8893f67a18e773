//! Compares the recognition of a `tokenizer.json`'s added tokens, with all flags, with the crate's on random texts.

use serde_json::json;
use tokenizers::tokenizer::Tokenizer as Crate;

use super::*;
use crate::engine::weights::testing::Random;

fn added(id: usize, content: &str, special: bool, flags: &str) -> Json {
    let has = |flag: char| flags.contains(flag);
    json!({"id": id, "content": content, "special": special, "lstrip": has('l'), "rstrip": has('r'),
           "single_word": has('w'), "normalized": has('n')})
}

/// A byte-level and `▁` vocabulary with a few merges and added tokens with every flag.
fn source(normalizer: &Json, pre_tokenizer: &Json) -> Json {
    let mut pieces: Vec<String> = (0..=255u8).map(|byte| bytes::stand_in(byte).to_string()).collect();
    pieces.extend((0..=255u8).map(bytes::hex_piece));
    pieces.push("▁".into());
    let merges =
        [["h", "e"], ["l", "l"], ["he", "ll"], ["Ġ", "he"], ["▁", "he"], ["▁he", "ll"], ["Ċ", "Ċ"], ["▁", "▁"]];
    pieces.extend(merges.iter().map(|[left, right]| format!("{left}{right}")));
    let vocab: serde_json::Map<String, Json> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id.into())).collect();
    let tokens = [
        ("<s>", true, ""),
        ("</s>", true, "r"),
        ("<|im_end|>", true, "lr"),
        ("<mask>", true, "l"),
        ("word", false, "w"),
        ("Hello", false, "n"),
        ("élan", false, "nw"),
        ("<tool>", false, "l"),
        ("<tool>x", false, ""),
        ("he he", false, "nl"),
        ("  ", false, "n"),
        ("\n\n\n", false, "r"),
        ("_w", false, "wr"),
    ];
    let added: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(i, (text, special, flags))| added(pieces.len() + i, text, *special, flags))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "vocab": vocab, "merges": merges},
    })
}

fn text(random: &mut Random) -> String {
    const PARTS: [&str; 40] = [
        "<s>",
        "</s>",
        "<|im_end|>",
        "<mask>",
        "word",
        "Hello",
        "élan",
        "e\u{301}lan",
        "<tool>",
        "<tool>x",
        "he he",
        "  ",
        "\n\n\n",
        "_w",
        " ",
        " ",
        " ",
        "\t",
        "\n",
        "\u{a0}",
        "\u{3000}",
        "hell",
        "hello",
        "HELLO",
        "words",
        "a",
        "é",
        "\u{301}",
        "世界",
        "👩‍👩",
        "'s",
        "12",
        "<",
        ">",
        "</",
        "|",
        "\u{200d}",
        "x",
        "ſ",
        ".",
    ];
    (0..1 + random.next() % 9).map(|_| PARTS[random.next() as usize % PARTS.len()]).collect()
}

#[test]
fn added_token_flags_match_the_tokenizers_crate() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let prefixing = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let spm = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    let variants = [
        (Json::Null, byte_level.clone()),
        (json!({"type": "NFC"}), byte_level.clone()),
        (json!({"type": "Lowercase"}), byte_level),
        (Json::Null, prefixing),
        (spm, Json::Null),
        (Json::Null, metaspace("always")),
        (json!({"type": "NFKC"}), metaspace("first")),
        (Json::Null, metaspace("never")),
    ];
    let mut random = Random(0x0DDB_1A5E_5BAD_5EED);
    for (normalizer, pre_tokenizer) in &variants {
        let source = source(normalizer, pre_tokenizer);
        let mut theirs = Crate::from_bytes(source.to_string()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
        let ours = Tokenizer::from_folder(folder.path()).unwrap();
        for _ in 0..3000 {
            let text = text(&mut random);
            for special in [true, false] {
                theirs.set_encode_special_tokens(!special);
                let expected = theirs.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
                let got = if special { ours.encode_special(&text) } else { ours.encode(&text) };
                assert_eq!(got, expected, "{text:?}, special {special}, {normalizer} {pre_tokenizer}");
            }
        }
    }
}

/// Covers tokens searched for before and after normalising.
#[test]
fn marked_text_never_becomes_an_added_token() {
    let nfc = json!({"type": "NFC"});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), source(&nfc, &byte_level).to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    for piece in ["<|im_end|>", "Hello", "<tool>"] {
        let id = tokenizer.token_id(piece).unwrap();
        assert!(tokenizer.special_tokens_in(&format!("a {piece} b")).contains(&id), "{piece}");
        assert!(tokenizer.encode_special(&format!("a {piece} b")).contains(&id), "{piece}");
        let (first, rest) = piece.split_at(1);
        let marked = tokenizer.encode_marked(&format!("<s>a {first}\u{FDD0}{rest} b"), '\u{FDD0}');
        assert!(!marked.contains(&id), "{piece}: {marked:?}");
        assert_eq!(tokenizer.decode(&marked), format!("a {piece} b"));
    }
}

#[test]
fn end_tokens_fall_back_to_config_json() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), source(&Json::Null, &Json::Null).to_string()).unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": [5, 7], "bos_token_id": 3}"#).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert!(tokenizer.is_end_of_generation(5) && tokenizer.is_end_of_generation(7));
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": 9}"#).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert!(tokenizer.is_end_of_generation(9) && !tokenizer.is_end_of_generation(5));
}
