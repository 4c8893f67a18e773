//! What a model recommends for sampling and reasoning, below what the user sets.

use serde_json::{Value, json};

use crate::loading::{folder, model};
use crate::run::{Home, Ran};
use crate::support_pty;

/// A home with a small model that recommends `config`.
fn recommending(config: &str) -> Home {
    let home = Home::new();
    model(&home);
    home.file("model/generation_config.json", config);
    home
}

fn sampling(ran: &Ran) -> Value {
    assert_eq!(ran.code(), 0, "{ran:?}");
    ran.json()["sampling"].clone()
}

fn line<'a>(ran: &'a Ran, key: &str) -> &'a str {
    ran.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{ran:?}"))
}

#[test]
fn each_recommended_value_applies_until_it_is_set() {
    let home = recommending(r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}"#);
    let ask = |more: &[&str]| {
        let folder = folder(&home);
        home.run(&[&["-m", &folder, "-p", "w1 w2", "--max-tokens", "2", "--format", "json"], more].concat())
    };
    let used = json!({
        "temperature": 0.6, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": 64,
        "frequency_penalty": 0.0, "presence_penalty": 0.0,
    });
    assert_eq!(sampling(&ask(&[])), used);
    let warmer = sampling(&ask(&["--temperature", "1.5"]));
    assert_eq!((&warmer["temperature"], &warmer["top_p"]), (&json!(1.5), &json!(0.9)), "only the temperature changes");
    let exported = home.run(&["conversations", "export", "last", "--format", "json"]).stdout;
    let stored: Value = serde_json::from_str(&exported).unwrap();
    let stored = &stored["turns"][0]["sampling"];
    assert_eq!((&stored["temperature"], &stored["top_p"]), (&json!(1.5), &json!(0.9)), "{exported}");
    home.file("config/chatnap/config.toml", "top_p = 0.5\n");
    assert_eq!(sampling(&ask(&[]))["top_p"], 0.5);
}

#[test]
fn a_model_that_does_not_sample_is_greedy_and_invalid_values_are_ignored() {
    let home = recommending(r#"{"do_sample": false, "temperature": 0.7, "top_p": NaN, "top_k": -3, "min_p": "0.1"}"#);
    let ran = home.run(&["-m", &folder(&home), "-p", "w1 w2", "--max-tokens", "2", "--format", "json"]);
    let used = sampling(&ran);
    assert_eq!([&used["temperature"], &used["top_p"], &used["top_k"], &used["min_p"]], [0.0, 0.95, 40.0, 0.05]);
}

#[test]
fn config_show_says_who_recommends_a_value() {
    let home = recommending(r#"{"temperature": 0.6}"#);
    let mut command = home.chatnap(&["config", "show", "-m", &folder(&home)]);
    let shown = crate::run::finish(command.env("CHATNAP_TOP_P", "0.5").spawn().unwrap());
    assert!(line(&shown, "temperature = 0.6 ").ends_with("# the model (generation_config.json)"), "{shown:?}");
    assert!(line(&shown, "top_p = 0.5 ").ends_with("# environment, CHATNAP_TOP_P"), "{shown:?}");
    assert!(line(&shown, "top_k = 40 ").ends_with("# default"), "{shown:?}");
    // The starter is not on disk here, so its file may have more to say than the catalogue.
    let starter = home.run(&["config", "show", "--offline"]);
    assert!(line(&starter, "temperature = 0.2 ").ends_with("# catalogue"), "{starter:?}");
    assert!(line(&starter, "top_p = 0.9 ").ends_with("# catalogue"), "{starter:?}");
    assert!(line(&starter, "top_k = 40 ").ends_with("# default, unless the model has its own"), "{starter:?}");
}

#[test]
fn set_shows_what_the_model_recommends() {
    let home = recommending(r#"{"temperature": 0.6}"#);
    let terminal = support_pty::Home::new("");
    let mut tui = terminal.start(&["-m", &folder(&home), "--max-tokens", "2"]);
    tui.send("w1 w2").wait_for("TTFT");
    let mut type_command = |text: &str, shown: &str| {
        tui.type_text(text).wait_for(text).type_text("\r").wait_for(shown);
    };
    type_command("/set temperature", "temperature = 0.6 (the model (generation_config.json))");
    type_command("/set top_k", "top_k = 40 (default)");
    type_command("/set temperature 1", "temperature 1: from the next prompt on, in this conversation");
    type_command("/set temperature default", "temperature 0.6: from the next prompt on");
    type_command("/set think off", "has no switch for reasoning");
}

/// ChatML with Qwen 3's switch.
const SWITCH: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n\
    {% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";

#[test]
fn think_reaches_the_template_or_a_warning_says_that_it_cannot() {
    let home = Home::new();
    let (model, file) = (home.model("fallback = \"hi\""), home.file("switch.jinja", SWITCH));
    let switch = ["--chat-template", file.to_str().unwrap()];
    let prompt = |more: &[&str]| home.run(&[&["-m", &model, "-p", "hi", "--dry-run"], more].concat());
    let with = |more: &[&str]| prompt(&[&switch[..], more].concat());
    let on = with(&["--think", "on"]);
    assert_eq!((on.code(), on.stderr.as_str()), (0, ""), "{on:?}");
    assert!(on.stdout.ends_with("assistant\n") && with(&[]).stdout == on.stdout, "{on:?}");
    let off = with(&["--think", "off"]);
    assert_eq!((off.stdout, off.stderr.as_str()), (format!("{}<think>\n\n</think>\n\n", on.stdout), ""));
    let without = prompt(&["--think", "off"]);
    assert!(without.code() == 0 && without.stderr.contains("has no switch for reasoning"), "{without:?}");
    let answered = home.run(&["-m", &model, "-p", "hi", "--think", "off"]);
    assert_eq!((answered.stdout.as_str(), answered.stderr.lines().count()), ("hi\n", 1), "{answered:?}");
    assert!(answered.stderr.contains("has no switch for reasoning"), "{answered:?}");
    let wrong = home.run(&["-m", &model, "-p", "hi", "--think", "hard"]);
    assert!(wrong.code() == 2 && wrong.stderr.contains("\"on\" or \"off\" is wanted"), "{wrong:?}");
}
