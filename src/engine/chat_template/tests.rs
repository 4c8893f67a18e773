//! Compares rendered chat templates with Python's Jinja2, and runs hostile templates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use super::limited_thread::Deadline;
use super::*;
use crate::engine::tokenizer::tests::small_spm;

mod hostile;

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates")
}

/// The fixed time of `render_templates.py`.
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
                let got = template.jinja.render(&messages, prompt, None, Deadline::after(RENDER_TIME));
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
fn every_snippet_renders_as_in_python() {
    let expected = std::fs::read_to_string(templates().join("snippets.json")).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&expected).unwrap();
    let mut wrong = Vec::new();
    for (source, expected) in &expected {
        let messages = [user("Why is the sky blue?")];
        let got = template(source)
            .and_then(|template| template.jinja.render(&messages, true, None, Deadline::after(RENDER_TIME)));
        if got.as_deref().ok() != expected.as_str() {
            wrong.push(format!("{source}\n  got      {got:?}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
    assert!(expected.len() > 100);
}

#[test]
fn rejected_system_message_is_prepended_to_the_first_user_message() {
    let source = std::fs::read_to_string(templates().join("google-gemma-2-2b-it.jinja")).unwrap();
    let template = template(&source).unwrap();
    assert!(template.warnings()[0].contains("system"), "{:?}", template.warnings());
    let text = template.render(&[system("Be brief."), user("Hi")], true).unwrap();
    assert_eq!(text, "<BOS><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n");
    let text = template.render(&[user("Hi")], true).unwrap();
    assert_eq!(text, "<BOS><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
}

#[test]
fn dropped_system_message_is_prepended_to_the_first_user_message() {
    let template = template("{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}").unwrap();
    assert_eq!(template.render(&[system("S"), user("U")], true).unwrap(), "[S\n\nU]");
}

#[test]
fn qwen3_template_omits_earlier_reasoning() {
    let source = std::fs::read_to_string(templates().join("Qwen-Qwen3-0.6B.jinja")).unwrap();
    let template = template(&source).unwrap();
    assert_eq!(template.reasoning_marks(), Some(("<think>", "</think>")));
    let answer = ChatMessage { reasoning: Some("SECRET".into()), ..ChatMessage::new(Role::Assistant, "It scatters.") };
    let text = template.render(&[user("Why?"), answer, user("More.")], true).unwrap();
    assert!(text.contains("It scatters.") && !text.contains("SECRET"), "{text}");
}

#[test]
fn missing_template_falls_back_to_the_form_of_the_vocabulary() {
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
        let template = ChatTemplate::by_vocabulary(&small_spm(special, &[]), "it has none").unwrap();
        assert!(template.warnings()[0].contains(name), "{:?}", template.warnings());
        let text = template.render(&[system("S"), user("U")], true).unwrap();
        assert!(text.starts_with(begins), "{name}: {text:?}");
        let answer = ChatMessage::new(Role::Assistant, "A");
        let longer = template.render(&[system("S"), user("U"), answer, user("V")], true).unwrap();
        assert!(longer.contains('A') && longer.contains('V'), "{name}: {longer:?}");
    }
}

#[test]
fn forms_render_without_bos_and_eos_tokens() {
    for choice in ["Llama 2", "Zephyr"] {
        let special: &[(&str, i64)] = if choice == "Zephyr" { &[("<|user|>", 3)] } else { &[] };
        let form = forms::by_vocabulary(&small_spm(special, &[]));
        let template =
            ChatTemplate::with_clock(form.source.to_owned(), Vec::new(), Vec::new(), standing_clock).unwrap();
        let text = template.render(&[system("S"), user("U"), ChatMessage::new(Role::Assistant, "A"), user("V")], true);
        assert!(text.as_ref().is_ok_and(|text| text.contains('V')), "{choice}: {text:?}");
    }
}

#[test]
fn every_form_renders_a_conversation() {
    let messages = [system("S"), user("U"), ChatMessage::new(Role::Assistant, "A"), user("V")];
    for (name, expected) in [
        ("alpaca", "<BOS>S\n\n### Instruction:\nU\n\n### Response:\nA<EOS>\n\n### Instruction:\nV\n\n### Response:\n"),
        (
            "chatml",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "command-r",
            "<BOS><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>U<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>V<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        ("deepseek", "<BOS>S<｜User｜>U<｜Assistant｜>A<EOS><｜User｜>V<｜Assistant｜>"),
        ("deepseek2", "<BOS>S\n\nUser: U\n\nAssistant: A<EOS>User: V\n\nAssistant:"),
        ("exaone3", "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]A[|endofturn|]\n[|user|]V\n[|assistant|]"),
        (
            "gemma",
            "<BOS><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("glm4", "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\nA<|user|>\nV<|assistant|>\n"),
        (
            "granite",
            "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>U<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>A<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>V<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        ),
        ("llama2", "<BOS>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A <EOS><BOS>[INST] V [/INST]"),
        (
            "llama3",
            "<BOS><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "llama4",
            "<BOS><|header_start|>system<|header_end|>\n\nS<|eot|><|header_start|>user<|header_end|>\n\nU<|eot|><|header_start|>assistant<|header_end|>\n\nA<|eot|><|header_start|>user<|header_end|>\n\nV<|eot|><|header_start|>assistant<|header_end|>\n\n",
        ),
        ("mistral", "<BOS>[INST] S\n\nU [/INST] A<EOS>[INST] V [/INST]"),
        ("mistral-v7", "<BOS>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U[/INST]A<EOS>[INST]V[/INST]"),
        (
            "openchat",
            "<BOS>S<|end_of_turn|>GPT4 Correct User: U<|end_of_turn|>GPT4 Correct Assistant: A<|end_of_turn|>GPT4 Correct User: V<|end_of_turn|>GPT4 Correct Assistant:",
        ),
        (
            "phi3",
            "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
        ),
        (
            "phi4",
            "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>U<|im_end|><|im_start|>assistant<|im_sep|>A<|im_end|><|im_start|>user<|im_sep|>V<|im_end|><|im_start|>assistant<|im_sep|>",
        ),
        ("plain", "S\n\nUser: U\nAssistant: A\nUser: V\nAssistant:"),
        ("vicuna", "<BOS>S USER: U ASSISTANT: A<EOS>USER: V ASSISTANT:"),
        ("zephyr", "<|system|>\nS<EOS>\n<|user|>\nU<EOS>\n<|assistant|>\nA<EOS>\n<|user|>\nV<EOS>\n<|assistant|>\n"),
    ] {
        let Chosen { source, .. } = Chosen::find(&name.to_uppercase()).unwrap();
        let template = template(&source).unwrap();
        assert!(template.warnings().is_empty(), "{name}: {:?}", template.warnings());
        assert_eq!(template.render(&messages, true).unwrap(), expected, "{name}");
        let short = template.render(&messages[1..2], true).unwrap();
        assert!(short.contains('U') && !short.contains("system"), "{name}: {short:?}");
    }
}

#[test]
fn invalid_template_falls_back_to_the_form_of_the_vocabulary() {
    let tokenizer = small_spm(&[("<|im_start|>", 3), ("<|im_end|>", 3)], &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat_template.jinja");
    let chain = format!("{{{{ {}1 }}}}", "-".repeat(5000));
    let large = "x".repeat(2 << 20);
    for source in ["{% if %}", "{{ a b }}", "{% endfor %}", "{{ 'a", "{% include 'x' %}", &chain, &large] {
        std::fs::write(&file, source).unwrap();
        let template = ChatTemplate::from_folder(folder.path(), &tokenizer, None).unwrap();
        let [warning] = template.warnings() else { panic!("{:?}", template.warnings()) };
        assert!(warning.contains("ChatML") && warning.contains("--chat-template"), "{warning}");
        assert!(warning.len() < 400, "{warning}");
        assert!(template.render(&[user("U")], true).unwrap().starts_with("<|im_start|>user\nU"));
    }
    // A template given with `--chat-template` has no fallback: it is used or is an error.
    let chosen = Chosen { name: "mine".into(), source: "{% if %}".into() };
    let error = ChatTemplate::from_folder(folder.path(), &tokenizer, Some(&chosen)).err().unwrap();
    assert!(error.0.contains("mine") && error.0.contains("not valid"), "{error}");
    let chosen = Chosen::find("plain").unwrap();
    let template = ChatTemplate::from_folder(folder.path(), &tokenizer, Some(&chosen)).unwrap();
    assert_eq!(template.render(&[user("U")], true).unwrap(), "User: U\nAssistant:");
}

#[test]
fn chosen_template_file_may_be_jinja_or_tokenizer_config_json() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(Chosen::find(&write("a.jinja", "\u{feff}A")).unwrap().source, "A");
    assert_eq!(Chosen::find(&write("b.json", r#"{"chat_template": "B"}"#)).unwrap().source, "B");
    assert!(Chosen::find(&write("c.json", "{}")).unwrap_err().0.contains("no chat_template"));
    assert!(Chosen::find(&write("large", &"x".repeat(2 << 20))).unwrap_err().0.contains("KiB"));
    assert!(Chosen::find(folder.path().to_str().unwrap()).unwrap_err().0.contains("not a regular file"));
    assert!(Chosen::find("nosuch").unwrap_err().0.contains("vicuna, zephyr"));
    assert_eq!(Chosen::of(None).unwrap(), None);
}

#[test]
fn template_errors_contain_the_reason() {
    let error = template("{{ raise_exception('Roles must alternate!') }}").unwrap().render(&[user("a")], true);
    assert!(error.unwrap_err().0.contains("Roles must alternate!"));
    let error = template("{% if %}").err().unwrap();
    assert!(error.0.contains("not valid"), "{error}");
}

#[test]
fn folder_template_is_read_from_jinja_file_or_tokenizer_config() {
    let tokenizer = small_spm(&[("<|im_start|>", 3)], &[]);
    let folder = tempfile::tempdir().unwrap();
    let render =
        || ChatTemplate::from_folder(folder.path(), &tokenizer, None).unwrap().render(&[user("U")], true).unwrap();
    assert!(render().starts_with("<|im_start|>"));
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(&config, r#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D{{ messages[0].content }}"}]}"#).unwrap();
    assert_eq!(render(), "DU");
    std::fs::write(&config, r#"{"chat_template": "C{{ messages[0].content }}"}"#).unwrap();
    assert_eq!(render(), "CU");
    std::fs::write(folder.path().join("chat_template.jinja"), "J{{ messages[0].content }}{{ bos_token }}").unwrap();
    assert_eq!(render(), "JU<s>");
}

#[test]
fn reasoning_is_switched_on_and_off_where_the_template_can() {
    let read = |name: &str| std::fs::read_to_string(templates().join(name)).unwrap();
    let qwen = template(&read("Qwen-Qwen3-0.6B.jinja")).unwrap();
    let render = |template: &ChatTemplate, think| template.thinking(think).render(&[user("hi")], true).unwrap();
    assert!(qwen.has_think_switch());
    let plain = render(&qwen, None);
    assert!(plain.ends_with("<|im_start|>assistant\n"), "{plain}");
    assert_eq!(render(&qwen, Some(true)), plain);
    assert_eq!(render(&qwen, Some(false)), format!("{plain}<think>\n\n</think>\n\n"));
    let smollm = template(&read("HuggingFaceTB-SmolLM2-135M-Instruct.jinja")).unwrap();
    assert!(!smollm.has_think_switch());
    assert_eq!(render(&smollm, Some(false)), render(&smollm, None));
}
