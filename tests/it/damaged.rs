//! Well-formed model files with invalid values: an error instead of an answer or a perplexity.

use std::path::{Path, PathBuf};

use crate::run::Home;

/// Writes a fixture model with every weight set to NaN and a word-level tokenizer of 100 words; returns its folder.
pub fn not_a_number(home: &Home) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/llama-f32");
    let folder = home.path().join("nan");
    home.file("nan/config.json", std::fs::read(source.join("config.json")).unwrap());
    let mut weights = std::fs::read(source.join("model.safetensors")).unwrap();
    let header = usize::try_from(u64::from_le_bytes(weights[..8].try_into().unwrap())).unwrap();
    for number in weights[8 + header..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    home.file("nan/model.safetensors", weights);
    let pieces: Vec<String> = (0..100).map(|id| format!("w{id}")).collect();
    let vocabulary: serde_json::Map<_, _> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), serde_json::json!(id))).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "unk_token": "w0", "vocab": vocabulary},
    });
    home.file("nan/tokenizer.json", tokenizer.to_string());
    home.file("nan/tokenizer_config.json", r#"{"chat_template": "{{ messages[-1].content }}"}"#);
    folder
}

#[test]
fn nan_weights_are_an_error_in_chat_and_perplexity() {
    let home = Home::new();
    let model = not_a_number(&home);
    let model = model.to_str().unwrap();
    for sampling in [&["--temperature", "0"][..], &["--repeat-penalty", "1.2", "--top-k", "0"]] {
        let ran = home.run(&[&["-m", model, "-p", "w1 w2 w3", "--format", "json"], sampling].concat());
        assert_eq!(ran.code(), 1, "{ran:?}");
        assert!(ran.json()["error"]["message"].as_str().unwrap().contains("not finite"), "{ran:?}");
    }
    let text = home.file("text", "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10");
    let ran = home.run(&["bench", "perplexity", "-m", model, "--context-length", "8", text.to_str().unwrap()]);
    assert_eq!(ran.code(), 1, "{ran:?}");
    assert!(ran.stderr.contains("not finite"), "{ran:?}");
}

#[test]
fn errors_quote_a_bounded_part_of_a_file() {
    let home = Home::new();
    let model = not_a_number(&home);
    home.file("nan/config.json", format!(r#"{{"model_type": "{}"}}"#, "x".repeat(100_000)));
    let ran = home.run(&["-m", model.to_str().unwrap(), "-p", "w1"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.len() < 2000 && ran.stderr.contains("xxx"), "{} bytes", ran.stderr.len());
}
