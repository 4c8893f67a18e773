//! Chat templates: the model's own, one set by the user, and invalid ones.

use std::time::{Duration, Instant};

use crate::damaged::not_a_number;
use crate::run::{Home, finish};
use crate::support_pty;

const MODEL: &str = "fallback = \"You said: {user}\"";

/// ChatML, which the scripted model parses, after the marker `MINE`.
const MINE: &str = "MINE{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn template_is_set_by_flag_variable_or_config() {
    let home = Home::new();
    let model = home.model(MODEL);
    let file = home.file("mine.jinja", MINE);
    let file = file.to_str().unwrap();
    let prompt = |args: &[&str], variable: Option<&str>| {
        let mut command = home.chatnap(&[&["-m", &model, "-p", "hi", "-s", "Sys", "--dry-run"], args].concat());
        command.env("CHATNAP_CHAT_TEMPLATE", variable.unwrap_or_default());
        let ran = finish(command.spawn().unwrap());
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{ran:?}");
        ran.stdout
    };
    assert!(prompt(&[], None).starts_with("<|im_start|>system\nSys<|im_end|>"));
    assert_eq!(prompt(&["--chat-template", "mistral"], None), "<|endoftext|>[INST] Sys\n\nhi [/INST]");
    assert!(prompt(&["--chat-template", file], None).starts_with("MINE<|im_start|>system\nSys"));
    home.file("config/chatnap/config.toml", "chat_template = \"vicuna\"\n");
    assert_eq!(prompt(&[], None), "<|endoftext|>Sys USER: hi ASSISTANT:");
    assert!(prompt(&[], Some("Gemma")).contains("<start_of_turn>user\nSys\n\nhi<end_of_turn>"));
    assert!(prompt(&["--chat-template", file], Some("gemma")).starts_with("MINE"));
    let ran = home.run(&["config", "show", "--chat-template", "phi3"]);
    assert!(
        ran.stdout.contains("chat_template = \"phi3\"") && ran.stdout.contains("# flag, --chat-template"),
        "{ran:?}"
    );
}

#[test]
fn oneshot_uses_the_chosen_template() {
    let home = Home::new();
    let model = home.model(MODEL);
    let file = home.file("mine.jinja", MINE);
    let own = home.run(&["-m", &model, "-p", "hi", "--format", "json"]).json();
    let ran = home.run(&["-m", &model, "-p", "hi", "--format", "json", "--chat-template", file.to_str().unwrap()]);
    assert_eq!(ran.json()["answer"], "You said: hi", "{ran:?}");
    let tokens = |answer: &serde_json::Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&ran.json()), tokens(&own) + 4);
    // Without ChatML the scripted model finds no user message.
    let ran = home.run(&["-m", &model, "-p", "hi", "--format", "json", "--chat-template", "alpaca"]);
    assert!(ran.json()["answer"] != "You said: hi", "{ran:?}");
}

#[test]
fn tui_uses_the_chosen_template() {
    let home = support_pty::Home::new(MODEL);
    let file = home.script().with_file_name("mine.jinja");
    std::fs::write(&file, MINE).unwrap();
    let mut tui = home.start(&["--chat-template", file.to_str().unwrap()]);
    tui.send("hello").wait_for("You said: hello").wait_for("TTFT");
    drop(tui);
    std::fs::write(&file, "{% if %}").unwrap();
    let mut tui = home.start(&["--chat-template", file.to_str().unwrap()]);
    tui.send("hello").wait_for("mine.jinja").wait_for("not valid");
    drop(tui);
    let mut tui = support_pty::Tui::spawn(home.command(&["--chat-template", "nosuch"]), 80, 24);
    assert_eq!(tui.wait_for_exit(), 2);
    assert!(tui.text().contains("no known form of that name"), "{}", tui.text());
}

#[test]
fn unknown_or_invalid_template_is_an_error() {
    let home = Home::new();
    let model = home.model(MODEL);
    for mode in [&["--dry-run"][..], &[]] {
        let ran = home.run(&[&["-m", &model, "-p", "hi", "--chat-template", "nosuch"], mode].concat());
        assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("nosuch") && ran.stderr.contains("chatml, command-r, deepseek"), "{ran:?}");
    }
    assert!(!home.data().exists(), "no turn was stored");
    let folder = home.path().to_str().unwrap().to_owned();
    assert_eq!(home.run(&["-m", &model, "-p", "hi", "--chat-template", &folder]).code(), 2);
    let broken = home.file("broken.jinja", "{% for %}");
    let ran = home.run(&["-m", &model, "-p", "hi", "--chat-template", broken.to_str().unwrap()]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("broken.jinja") && ran.stderr.contains("not valid"), "{ran:?}");
}

#[test]
fn invalid_model_template_is_replaced_with_one_warning() {
    let home = Home::new();
    let model = not_a_number(&home);
    let model = model.to_str().unwrap();
    for (source, why) in [("{% if %}", "not valid"), (&format!("{{{{ {}1 }}}}", "-".repeat(5000)), "operators")] {
        home.file("nan/tokenizer_config.json", serde_json::json!({"chat_template": source}).to_string());
        let begun = Instant::now();
        let ran = home.run(&["-m", model, "-p", "w1", "--dry-run"]);
        assert_eq!((ran.code(), ran.stdout.as_str()), (0, "User: w1\nAssistant:"), "{ran:?}");
        assert_eq!(ran.stderr.matches("warning").count(), 1, "{ran:?}");
        assert!(ran.stderr.contains(why) && ran.stderr.contains("--chat-template"), "{ran:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let ran = home.run(&["-m", model, "-p", "w1", "--dry-run", "--chat-template", "alpaca"]);
        assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{ran:?}");
        assert!(ran.stdout.ends_with("### Instruction:\nw1\n\n### Response:\n"), "{ran:?}");
        // The model loads; the run then fails because the weights are NaN.
        let ran = home.run(&["-m", model, "-p", "w1"]);
        assert!(ran.stderr.contains("not finite") && ran.stderr.contains(why), "{ran:?}");
    }
}
