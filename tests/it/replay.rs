//! `chatnap replay`, and exact repetition with the real starter model: cold and warm, greedy and seeded, after edits,
//! branches and releases.

use std::sync::Arc;

use chatnap::protocol::*;
use serde_json::Value;

use crate::run::Home;
use crate::talk::{Answered, Talk};

const SCRIPT: &str =
    "[[answer]]\nwhen = \"one\"\ntext = \"First.\"\n[[answer]]\nwhen = \"two\"\ntext = \"Second answer.\"\n";

fn ask(home: &Home, model: &str, more: &[&str]) -> Value {
    let mut args = vec!["-m", model, "--format", "json"];
    args.extend_from_slice(more);
    let ran = home.run(&args);
    assert_eq!(ran.code(), 0, "{ran:?}");
    ran.json()
}

#[test]
fn stored_answer_is_identical_until_an_input_changes() {
    let home = Home::new();
    let model = home.model(SCRIPT);
    let first = ask(&home, &model, &["-p", "one"]);
    assert_eq!(first["model_hash"].as_str().unwrap().len(), 64);
    assert_eq!(first["template_hash"].as_str().unwrap().len(), 64);
    assert_eq!(first["from_cache"], false);
    ask(&home, &model, &["-c", "-p", "two"]);
    let id = first["conversation"].as_str().unwrap();
    let ran = home.run(&["replay", &format!("{id}:1")]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, format!("{id}:1  identical, 7 tokens\n").as_str()), "{ran:?}");
    let all = home.run(&["replay", "last", "--all", "--format", "json"]);
    let found = all.json();
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert!(found.as_array().unwrap().iter().all(|one| one["identical"] == true), "{found}");

    home.model(&SCRIPT.replace("Second", "Secund"));
    let ran = home.run(&["replay", id, "--format", "json"]);
    assert_eq!(ran.code(), 1, "{ran:?}");
    let found: Value = serde_json::Deserializer::from_str(&ran.stdout).into_iter().next().unwrap().unwrap();
    assert_eq!(found["first_difference"]["token"], 4);
    assert_eq!(found["first_difference"]["stored"]["text"], "o");
    assert_eq!(found["first_difference"]["now"]["text"], "u");
    assert!(found["differs"][0].as_str().unwrap().starts_with("model file: "), "{found}");
    let ran = home.run(&["replay", &format!("{id}:2")]);
    assert!(ran.stdout.contains("token 4 differs: stored "), "{ran:?}");
    assert!(ran.stderr.contains("1 of 1 answers differ; nothing was changed."), "{ran:?}");
}

#[test]
fn replay_names_what_is_missing() {
    let home = Home::new();
    assert_eq!(home.run(&["replay", "last"]).code(), 2);
    let model = home.model(SCRIPT);
    let first = ask(&home, &model, &["-p", "one"]);
    let id = first["conversation"].as_str().unwrap();
    let ran = home.run(&["replay", &format!("{id}:2")]);
    assert!(ran.code() == 2 && ran.stderr.contains("There is no turn 2: the conversation has 1"), "{ran:?}");
    assert_eq!(home.run(&["replay", &format!("{id}:x")]).code(), 2);
    let database = home.data().join("conversations.db");
    rusqlite::Connection::open(database).unwrap().execute_batch("UPDATE turns SET spans = NULL").unwrap();
    let ran = home.run(&["replay", id]);
    assert!(ran.code() == 1 && ran.stderr.contains("no record of its computation"), "{ran:?}");
}

#[test]
fn repeated_request_is_answered_from_the_store() {
    let home = Home::new();
    let model = home.model(&format!("load_ms = 400\n{SCRIPT}"));
    let args = |more: &[&'static str]| [&["--cache", "-p", "one"], more].concat();
    let greedy = args(&["--temperature", "0"]);
    assert_eq!(ask(&home, &model, &greedy)["from_cache"], false);
    let hit = ask(&home, &model, &greedy);
    assert_eq!((&hit["from_cache"], &hit["answer"]), (&Value::Bool(true), &Value::from("First.")));
    assert_eq!(hit["usage"]["completion_tokens"], 6);
    assert_eq!(ask(&home, &model, &["--cache", "-p", "one"])["from_cache"], false, "a random seed");
    assert_eq!(ask(&home, &model, &args(&["--seed", "5"]))["from_cache"], false, "another request");
    assert_eq!(ask(&home, &model, &args(&["--seed", "5"]))["from_cache"], true);
    assert_eq!(ask(&home, &model, &args(&["--seed", "6"]))["from_cache"], false);
    assert_eq!(ask(&home, &model, &args(&["--seed", "5", "--top-k", "3"]))["from_cache"], false);
    assert_eq!(ask(&home, &model, &args(&["--seed", "5", "-s", "Be brief."]))["from_cache"], false);
    assert_eq!(ask(&home, &model, &["-p", "one", "--temperature", "0"])["from_cache"], false, "without --cache");

    let mut lines = vec!["-m", &model, "--format", "jsonl"];
    lines.extend_from_slice(&greedy);
    let lines = home.run(&lines).stdout;
    assert!(!lines.contains("\"load\""), "no model is loaded: {lines}");
    assert!(lines.contains("\"ms\":0.0"), "{lines}");
    let text = home.run(&[&["-m", model.as_str()], greedy.as_slice()].concat());
    assert_eq!(text.stdout, "First.\n");

    // The answer of a hit is a turn like any other: it can be continued.
    let next = ask(&home, &model, &["-c", "-p", "two"]);
    assert!(next["usage"]["prompt_tokens"].as_u64() > hit["usage"]["prompt_tokens"].as_u64());

    assert!(home.run(&["cache", "clear"]).stdout.contains("removed from the cache"));
    assert_eq!(ask(&home, &model, &greedy)["from_cache"], false);
    home.model(&SCRIPT.replace("First", "Frist"));
    assert_eq!(ask(&home, &model, &greedy)["answer"], "Frist.", "another model file");
}

#[test]
fn cache_can_be_set_in_the_config_and_needs_a_stored_answer() {
    let home = Home::new();
    home.file("config/chatnap/config.toml", "cache = true\ntemperature = 0.0\n");
    let model = home.model(SCRIPT);
    let unstored = ["-p", "one", "--no-save"];
    assert_eq!(ask(&home, &model, &unstored)["from_cache"], false);
    assert_eq!(ask(&home, &model, &unstored)["from_cache"], false, "nothing was stored");
    assert_eq!(ask(&home, &model, &["-p", "one"])["from_cache"], false);
    assert_eq!(ask(&home, &model, &unstored)["from_cache"], true);
}

fn repeat(talk: &Talk, trace: &Trace) -> Arc<Trace> {
    let request = GenerationRequest {
        sampling: trace.sampling.clone().into(),
        max_tokens: Some(trace.answer.len()),
        on_overflow: OverflowPolicy::Trim,
        repeat: Some(Box::new(Repetition { prompt: trace.prompt.clone(), spans: trace.spans.clone() })),
        ..GenerationRequest::new(talk.engine.next_id(), vec![ChatMessage::new(Role::User, "unused")])
    };
    talk.answer(request).trace
}

const QUESTIONS: [&str; 5] = [
    "Name a color.",
    "用中文说一句话。",
    "Write one line of Rust.",
    "Tell me about the sea, in as many words as you like, and do not stop before you have said everything.",
    "Why?",
];

/// Answers in conversations that go on, branch, are edited and begin anew, with releases between them. At temperature 1.5
/// almost any difference of a logit changes a token.
fn answers(talk: &Talk, count: usize) -> Vec<Arc<Trace>> {
    let (mut messages, mut traces): (Vec<ChatMessage>, Vec<_>) = (Vec::new(), Vec::new());
    for n in 0..count {
        match n % 7 {
            // An edit of an early turn: the cache is cut inside it.
            3 => messages.truncate(2),
            5 => talk.engine.release(),
            6 => messages.clear(),
            _ => {}
        }
        messages.push(ChatMessage::new(Role::User, QUESTIONS[n % QUESTIONS.len()]));
        let temperature = if n % 3 == 0 { 0.0 } else { 1.5 };
        let seed = Some(n as u64 * 77 + 1);
        let sampling = SamplingParams { temperature, seed, ..SamplingParams::default() };
        let Answered { trace, text, .. } = talk.ask(&messages, sampling, 24);
        messages.push(ChatMessage::new(Role::Assistant, text));
        traces.push(trace);
    }
    traces
}

/// `CHATNAP_REPLAYS` sets the number of answers.
#[test]
fn answers_of_the_starter_are_repeated_token_by_token() {
    let count = std::env::var("CHATNAP_REPLAYS").ok().and_then(|count| count.parse().ok()).unwrap_or(14);
    let talk = Talk::new();
    let traces = answers(&talk, count);
    assert!(traces.iter().any(|trace| trace.spans.len() > 2), "the cache is reused");
    assert!(traces.iter().any(|trace| trace.spans.iter().any(|span| span.kept < span.rows)), "the cache is cut");
    // Another order than the first time, so that the cache holds other tokens.
    for (n, stored) in traces.iter().enumerate().rev() {
        if n % 10 == 4 {
            talk.engine.release();
        }
        let now = repeat(&talk, stored);
        assert_eq!(now.answer, stored.answer, "answer {n}");
        assert_eq!((&now.model_hash, &now.spans, &now.prompt), (&stored.model_hash, &stored.spans, &stored.prompt));
    }
}

/// Without the recorded steps the same tokens have other logits: the test above would find a difference.
#[test]
fn steps_of_other_sizes_give_other_logits() {
    let talk = Talk::new();
    let question = [ChatMessage::new(Role::User, QUESTIONS[3])];
    let sampling = SamplingParams { temperature: 1.5, seed: Some(3), ..SamplingParams::default() };
    let stored = talk.ask(&question, sampling, 24).trace;
    let rows = stored.prompt.len();
    let whole = Span { kept: rows, rows, kernels: Kernels::Own };
    let single = Span { kept: rows, rows, kernels: Kernels::Step };
    assert_eq!(stored.spans, [whole]);
    let mut differing = 0;
    for seed in 0..20 {
        let with = |span| Trace {
            sampling: SamplingParams { seed: Some(seed), ..stored.sampling.clone() },
            answer: vec![0; 40],
            spans: vec![span],
            ..(*stored).clone()
        };
        differing += usize::from(repeat(&talk, &with(whole)).answer != repeat(&talk, &with(single)).answer);
    }
    assert!(differing > 0);
}
