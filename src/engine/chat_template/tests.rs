//! Chat templates against what Python's Jinja2 makes of them, and templates that mean harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use super::*;
use crate::engine::tokenizer::tests::small_spm;

mod hostile;

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates")
}

/// The clock of `render_templates.py`.
fn standing_clock() -> jiff::ZonedDateTime {
    jiff::civil::date(2026, 7, 5).at(9, 8, 7, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap()
}

fn template(source: &str) -> Result<ChatTemplate, TemplateError> {
    let tokens = [("bos_token", "<BOS>"), ("eos_token", "<EOS>"), ("unk_token", "<UNK>"), ("pad_token", "<PAD>")];
    let tokens = tokens.map(|(name, piece)| (name, piece.to_owned())).to_vec();
    ChatTemplate::with_clock(source.to_owned(), tokens, Vec::new(), standing_clock)
}

fn messages(json: &serde_json::Value) -> Vec<ChatMessage> {
    let message = |entry: &serde_json::Value| ChatMessage {
        role: serde_json::from_value(entry["role"].clone()).unwrap(),
        content: entry["content"].as_str().unwrap().to_owned(),
        reasoning: entry["reasoning_content"].as_str().map(str::to_owned),
    };
    json.as_array().unwrap().iter().map(message).collect()
}

fn user(text: &str) -> ChatMessage {
    ChatMessage::new(Role::User, text)
}

fn system(text: &str) -> ChatMessage {
    ChatMessage::new(Role::System, text)
}

#[test]
fn every_template_renders_as_in_python() {
    let golden = std::fs::read_to_string(templates().join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, cases) in golden["templates"].as_object().unwrap() {
        let source = std::fs::read_to_string(templates().join(format!("{name}.jinja"))).unwrap();
        let template = match template(&source) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (case, expected) in cases.as_object().unwrap() {
            let messages = messages(&golden["cases"][case]);
            for (prompt, expected) in [false, true].into_iter().zip(expected.as_array().unwrap()) {
                compared += 1;
                let got = template.jinja.render(&messages, prompt, deadline());
                match (&got, expected.as_str()) {
                    (Ok(got), Some(expected)) if got == expected => {}
                    (Err(_), None) => {}
                    _ => wrong.push(format!("{name}, {case}, {prompt}:\n  got      {got:?}\n  expected {expected:?}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 800);
}

#[test]
fn a_refused_system_message_goes_before_the_first_user_message() {
    let source = std::fs::read_to_string(templates().join("google-gemma-2-2b-it.jinja")).unwrap();
    let template = template(&source).unwrap();
    assert!(template.warnings()[0].contains("system"), "{:?}", template.warnings());
    let text = template.render(&[system("Be brief."), user("Hi")], true).unwrap();
    assert_eq!(text, "<BOS><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n");
    let text = template.render(&[user("Hi")], true).unwrap();
    assert_eq!(text, "<BOS><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
}

#[test]
fn a_template_that_drops_the_system_message_gets_it_folded_too() {
    let template = template("{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}").unwrap();
    assert_eq!(template.render(&[system("S"), user("U")], true).unwrap(), "[S\n\nU]");
}

#[test]
fn earlier_reasoning_is_left_out_as_the_template_wants() {
    let source = std::fs::read_to_string(templates().join("Qwen-Qwen3-0.6B.jinja")).unwrap();
    let template = template(&source).unwrap();
    assert_eq!(template.reasoning_marks(), Some(("<think>", "</think>")));
    let answer = ChatMessage { reasoning: Some("SECRET".into()), ..ChatMessage::new(Role::Assistant, "It scatters.") };
    let text = template.render(&[user("Why?"), answer, user("More.")], true).unwrap();
    assert!(text.contains("It scatters.") && !text.contains("SECRET"), "{text}");
}

#[test]
fn no_template_is_replaced_by_the_vocabularys_form() {
    for (special, name, begins) in [
        (
            &[("<|im_start|>", 3), ("<|im_end|>", 3)][..],
            "ChatML",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU",
        ),
        (&[("<|start_header_id|>", 3)], "Llama 3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"),
        (&[("<start_of_turn>", 3)], "Gemma", "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n"),
        (&[("<|user|>", 3), ("<|end|>", 3)], "Phi-3", "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n"),
        (&[("<|user|>", 3)], "Zephyr", "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n"),
        (&[], "Llama 2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]"),
    ] {
        let template = ChatTemplate::by_vocabulary(&small_spm(special, &[])).unwrap();
        assert!(template.warnings()[0].contains(name), "{:?}", template.warnings());
        let text = template.render(&[system("S"), user("U")], true).unwrap();
        assert!(text.starts_with(begins), "{name}: {text:?}");
        let answer = ChatMessage::new(Role::Assistant, "A");
        let longer = template.render(&[system("S"), user("U"), answer, user("V")], true).unwrap();
        assert!(longer.contains('A') && longer.contains('V'), "{name}: {longer:?}");
    }
}

#[test]
fn the_vocabularys_form_does_without_the_tokens_that_it_lacks() {
    for choice in ["Llama 2", "Zephyr"] {
        let special: &[(&str, i64)] = if choice == "Zephyr" { &[("<|user|>", 3)] } else { &[] };
        let (_, source) = fallback::choose(&small_spm(special, &[]));
        let template = ChatTemplate::with_clock(source.to_owned(), Vec::new(), Vec::new(), standing_clock).unwrap();
        let text = template.render(&[system("S"), user("U"), ChatMessage::new(Role::Assistant, "A"), user("V")], true);
        assert!(text.as_ref().is_ok_and(|text| text.contains('V')), "{choice}: {text:?}");
    }
}

#[test]
fn a_template_that_refuses_says_why() {
    let error = template("{{ raise_exception('Roles must alternate!') }}").unwrap().render(&[user("a")], true);
    assert!(error.unwrap_err().0.contains("Roles must alternate!"));
    let error = template("{% if %}").err().unwrap();
    assert!(error.0.contains("not valid"), "{error}");
}

#[test]
fn a_folder_names_its_template_in_two_ways() {
    let tokenizer = small_spm(&[("<|im_start|>", 3)], &[]);
    let folder = tempfile::tempdir().unwrap();
    let render = || ChatTemplate::from_folder(folder.path(), &tokenizer).unwrap().render(&[user("U")], true).unwrap();
    assert!(render().starts_with("<|im_start|>"));
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(&config, r#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D{{ messages[0].content }}"}]}"#).unwrap();
    assert_eq!(render(), "DU");
    std::fs::write(&config, r#"{"chat_template": "C{{ messages[0].content }}"}"#).unwrap();
    assert_eq!(render(), "CU");
    std::fs::write(folder.path().join("chat_template.jinja"), "J{{ messages[0].content }}{{ bos_token }}").unwrap();
    assert_eq!(render(), "JU<s>");
}
