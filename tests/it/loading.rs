//! Irregular model files: harmless oddities load with a warning, errors name the type of files that are not models.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run::Home;

/// Copies a small fixture model with random weights and adds a word-level tokenizer of 131 words.
pub fn model(home: &Home) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/llama-f32");
    for name in ["config.json", "model.safetensors"] {
        home.file(&format!("model/{name}"), std::fs::read(source.join(name)).unwrap());
    }
    let vocabulary: serde_json::Map<_, _> = (0..131).map(|id| (format!("▁w{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "WordLevel", "unk_token": "▁w0", "vocab": vocabulary},
    });
    home.file("model/tokenizer.json", tokenizer.to_string());
    home.file("model/tokenizer_config.json", r#"{"chat_template": "{{ messages[-1].content }}"}"#)
}

pub fn folder(home: &Home) -> String {
    home.path().join("model").to_str().unwrap().to_owned()
}

#[test]
fn infinity_and_nan_in_unused_json_fields_are_accepted() {
    let home = Home::new();
    model(&home);
    let plain = home.run(&["-m", &folder(&home), "-p", "w1 w2", "--max-tokens", "4", "--temperature", "0"]);
    assert_eq!((plain.code(), plain.stderr.contains("is ignored")), (0, false), "{plain:?}");
    let config = std::fs::read_to_string(home.path().join("model/config.json")).unwrap();
    let odd = format!("{}, \"time_step_limit\": [0.0, Infinity]}}", config.trim().strip_suffix('}').unwrap());
    home.file("model/config.json", odd);
    home.file("model/generation_config.json", r#"{"eos_token_id": 999, "repetition_penalty": NaN}"#);
    home.file(
        "model/tokenizer_config.json",
        r#"{"model_max_length": Infinity, "chat_template": "{{ messages[-1].content }}"}"#,
    );
    let ran = home.run(&["-m", &folder(&home), "-p", "w1 w2", "--max-tokens", "4", "--temperature", "0"]);
    assert_eq!((ran.code(), &ran.stdout), (0, &plain.stdout), "{ran:?}");
    assert!(ran.stderr.contains("eos_token_id is 999") && ran.stderr.contains("131 tokens"), "{ran:?}");
}

#[test]
fn answer_does_not_begin_with_a_space() {
    let home = Home::new();
    model(&home);
    let args = ["-m", &folder(&home), "-p", "w1 w2", "--max-tokens", "4", "--temperature", "0", "--format", "json"];
    let answer: Value = home.run(&args).json();
    let text = answer["answer"].as_str().unwrap();
    assert!(text.starts_with('w') && text.split(' ').count() == 4, "{text:?}");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[test]
fn oversized_prompt_is_refused_without_encoding_it() {
    let home = Home::new();
    model(&home);
    let prompt = home.file("prompt", "w1 w2 w3 ".repeat(1_700_000));
    let started = std::time::Instant::now();
    let mut command = home.chatnap(&["-m", &folder(&home)]);
    let ran = crate::run::finish(command.stdin(std::fs::File::open(prompt).unwrap()).spawn().unwrap());
    assert_eq!(ran.code(), 5, "{ran:?}");
    assert!(ran.stderr.contains("takes about "), "{ran:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(40), "{:?}", started.elapsed());
}

#[test]
fn errors_name_the_type_of_files_that_are_not_models() {
    let home = Home::new();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    model(&home);
    for (name, bytes, says) in [
        ("a.gguf", &pointer[..], "Git LFS pointer"),
        ("b.gguf", b"<!doctype html><title>Sign in</title>", "web page"),
        ("c.gguf", b"", "empty"),
        ("d.bin", b"PK\x03\x04", "zip archive"),
        ("e.pt", b"\x80\x02}q\0.", "pickle"),
        ("f.gguf.gz", b"\x1F\x8B\x08\0", "gunzip"),
        ("model/tokenizer.json", &pointer[..], "Git LFS pointer"),
        ("model/config.json", &pointer[..], "Git LFS pointer"),
    ] {
        let path = home.file(name, bytes);
        let named = if name.starts_with("model/") { folder(&home) } else { path.to_str().unwrap().to_owned() };
        let ran = home.run(&["-m", &named, "-p", "w1"]);
        assert!(matches!(ran.code(), 1 | 3), "{ran:?}");
        assert!(ran.stderr.contains(says) && ran.stderr.contains(&*path.to_string_lossy()), "{name}: {ran:?}");
    }
    home.file("pickled/config.json", "{}");
    home.file("pickled/pytorch_model.bin", b"PK\x03\x04");
    let ran = home.run(&["-m", home.path().join("pickled").to_str().unwrap(), "-p", "w1"]);
    assert!(ran.code() == 3 && ran.stderr.contains("pytorch_model.bin, a pickle"), "{ran:?}");
}

#[test]
fn fixed_length_pre_tokenizer_of_0_is_refused_by_every_command() {
    let home = Home::new();
    model(&home);
    let path = home.path().join("model/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let folder = folder(&home);
    for args in [
        &["tokenize", "-m", &folder, "w1 w2"][..],
        &["-m", &folder, "-p", "w1", "--dry-run"],
        &["-m", &folder, "-p", "w1"],
    ] {
        let ran = home.run(args);
        assert_eq!(ran.code(), 1, "{ran:?}");
        assert!(ran.stderr.contains("tokenizer.json") && ran.stderr.contains("length 0"), "{ran:?}");
    }
}
