//! The space before the first word of an answer: which vocabularies add it, and when it is dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::engine::tokenizer::tests::small_spm;
use crate::engine::weights::gguf::Value;
use serde_json::json;

/// Text and token count of an answer of `pieces` to a conversation whose last message has the role `last`.
fn answer(tokenizer: &Tokenizer, last: Role, pieces: &[&str]) -> (String, usize) {
    let template = ChatTemplate::new("{{ messages[0].content }}".into(), tokenizer, Vec::new()).unwrap();
    let request = GenerationRequest::new(RequestId(1), vec![ChatMessage::new(last, "x")]);
    let mut text = String::new();
    let mut emit = |event| {
        if let EngineEvent::Token { text: piece, .. } = event {
            text.push_str(&piece);
        }
    };
    let mut output = Output::new(&request, tokenizer, &template, "x", &mut emit);
    for piece in pieces {
        output.token(tokenizer.token_id(piece).unwrap_or_else(|| panic!("{piece}")), Timestamp::now());
    }
    output.finish(Timestamp::now());
    let count = output.count;
    (text, count)
}

#[test]
fn space_that_a_vocabulary_adds_before_the_first_word_is_dropped() {
    let spm = small_spm(&[], &[]);
    let texts = |last, pieces: &[&str]| answer(&spm, last, pieces);
    assert_eq!(texts(Role::User, &["▁hello", "▁hello"]), ("hello hello".into(), 2));
    assert_eq!(texts(Role::User, &["▁", "hello"]), ("hello".into(), 2));
    assert_eq!(texts(Role::User, &["</s>", "▁hello"]), ("hello".into(), 2));
    // Only one space is dropped, and none from an answer that is continued.
    assert_eq!(texts(Role::User, &["▁▁", "hello"]).0, " hello");
    assert_eq!(texts(Role::User, &["hello", "▁hello"]).0, "hello hello");
    assert_eq!(texts(Role::Assistant, &["▁hello"]).0, " hello");
    let unprefixed = small_spm(&[], &[("add_space_prefix", Value::Bool(false))]);
    assert_eq!(answer(&unprefixed, Role::User, &["▁hello"]).0, " hello");
}

#[test]
fn decoder_of_tokenizer_json_decides_whether_the_first_space_is_dropped() {
    let strip = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]});
    let unstripped = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ]});
    for (decoder, expected) in [
        (strip, "a a"),
        (unstripped, " a a"),
        (json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}), "a a"),
        (json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}), "a a"),
        (json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false}), " a a"),
        (json!(null), " a a"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = json!({
            "version": "1.0", "added_tokens": [], "decoder": decoder,
            "model": {"type": "BPE", "vocab": {"▁": 0, "a": 1, "▁a": 2}, "merges": [["▁", "a"]]},
        });
        std::fs::write(folder.path().join("tokenizer.json"), source.to_string()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(answer(&tokenizer, Role::User, &["▁a", "▁a"]), (expected.into(), 2), "{decoder}");
    }
}
