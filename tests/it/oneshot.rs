//! One-shot answers: streams, formats, exit codes, interruptions.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Home, finish, read_some, signal, wait};
use crate::support::starter_model;

const HELLO: &str = "[[answer]]\ntext = \"Hello there!\\n\\n\"\n";

/// Streams for about ten seconds, long enough to be interrupted.
const LONG: &str = "token_ms = 20\nfallback = \"0123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\"\n";

#[test]
fn stdout_carries_the_answer_and_nothing_else() {
    let home = Home::new();
    let ran = home.run(&["-m", &home.model(HELLO), "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.as_str()), (0, "Hello there!\n", ""));
    let ran = home.run(&["-m", &home.model(HELLO), "-p", "hi", "--no-stream", "--quiet"]);
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.as_str()), (0, "Hello there!\n", ""));
}

#[test]
fn json_has_every_field_and_the_tokens_add_up() {
    let home = Home::new();
    let script = "load_ms = 50\ntoken_ms = 10\nfallback = \"forty characters, one token for each one.\"\n";
    let start = Instant::now();
    let ran = home.run(&["-m", &home.model(script), "-p", "hi", "--format", "json", "--temperature", "0"]);
    let wall_ms = start.elapsed().as_secs_f64() * 1000.0;
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1);
    let answer = ran.json();
    assert_eq!(answer["answer"], "forty characters, one token for each one.");
    assert_eq!(answer["finish_reason"], "stop");
    assert_eq!(answer["conversation"].as_str().unwrap().len(), 12);
    assert_eq!(answer["device"]["kind"], "cpu");
    assert_eq!(answer["device"]["vram_bytes"], 0);
    assert!(answer["device"]["name"].is_string() && answer["model"].is_string());
    let usage = |key: &str| answer["usage"][key].as_u64().unwrap();
    assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
    assert_eq!(usage("cached_tokens"), 0);
    assert!((41..=42).contains(&usage("completion_tokens")), "{answer}");
    let timing = |key: &str| answer["timing"][key].as_f64().unwrap();
    for key in ["prefill_ms", "prompt_tokens_per_second", "inter_token_p95_ms"] {
        assert!(timing(key) >= 0.0, "{key}");
    }
    assert!(timing("load_ms") >= 50.0 && timing("inter_token_p50_ms") >= 10.0);
    let sum = timing("load_ms") + timing("ttft_ms") + timing("decode_ms");
    assert!(timing("total_ms") >= sum - 1.0 && timing("total_ms") <= wall_ms, "{answer}");
    let speed = (usage("completion_tokens") - 1) as f64 / timing("decode_ms") * 1000.0;
    assert!((timing("tokens_per_second") / speed - 1.0).abs() < 0.001, "{answer}");
}

#[test]
fn jsonl_prints_one_event_per_line_and_the_json_object_last() {
    let home = Home::new();
    let script = "load_steps = 3\nload_ms = 30\nfallback = \"Grüße 👋\"\n";
    let ran = home.run(&["-m", &home.model(script), "-p", "hi", "--format", "jsonl"]);
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("load").last().unwrap()["phase"], "ready");
    let text: String = of("token").iter().map(|event| event["text"].as_str().unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((text.as_str(), &last["answer"], &last["event"]), ("Grüße 👋", &"Grüße 👋".into(), &"done".into()));
    assert_eq!(
        last["usage"]["completion_tokens"].as_u64().unwrap().max(1) as usize,
        of("token").len().max(1),
        "{last}"
    );
}

#[test]
fn stats_and_reasoning_go_to_stderr() {
    let home = Home::new();
    let script = "[[answer]]\ntext = \"<think>\\nhm\\n</think>\\n\\nYes.\"\n";
    let ran = home.run(&["-m", &home.model(script), "-p", "hi", "--stats"]);
    assert_eq!(ran.stdout.trim_start(), "Yes.\n", "{ran:?}");
    assert!(ran.stderr.starts_with("hm\n\n"), "{ran:?}");
    assert!(ran.stderr.contains("finish reason stop") && ran.stderr.contains("TTFT"), "{ran:?}");
    let ran = home.run(&["-m", &home.model(script), "-p", "hi", "-q"]);
    assert_eq!(ran.stderr, "");
    assert_eq!(home.run(&["-m", "x", "-p", "hi", "-q", "--stats"]).code(), 2);
}

#[test]
fn control_sequences_are_removed_unless_raw_is_set() {
    let home = Home::new();
    let text = "a\u{1b}]0;t\u{7}b\u{1b}[31mc\u{202e}d\r\ne";
    let model = home.model(&format!("[[answer]]\ntext = {}\n", toml::Value::String(text.into())));
    assert_eq!(home.run(&["-m", &model, "-p", "hi"]).stdout, "abcd\ne\n");
    assert_eq!(home.run(&["-m", &model, "-p", "hi", "--no-stream"]).stdout, "abcd\ne\n");
    assert_eq!(home.run(&["-m", &model, "-p", "hi", "--raw"]).stdout, format!("{text}\n"));
    let ran = home.run(&["-m", &model, "-p", "hi", "--format", "json"]);
    assert_eq!(ran.json()["answer"], text);
    assert!(!ran.stdout.trim_end().contains(char::is_control));
}

#[test]
fn every_failure_has_its_exit_code_and_message() {
    let home = Home::new();
    let failing = |at: &str, kind: &str| {
        format!("fallback = \"abcdef\"\n[[failure]]\nat = \"{at}\"\nafter = 1\nkind = \"{kind}\"\n")
    };
    for (script, args, code) in [
        (failing("load", "out_of_memory"), &["-p", "hi"][..], 4),
        (failing("load", "invalid"), &["-p", "hi"], 1),
        (failing("token", "out_of_memory"), &["-p", "hi"], 4),
        (failing("token", "fatal"), &["-p", "hi"], 1),
        (
            "context_length = 64".into(),
            &["-p", "a prompt of far more than sixty-four characters, each of them one token"],
            5,
        ),
    ] {
        let mut argv = vec!["-m".to_owned(), home.model(&script)];
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        let ran = home.run(&argv);
        assert_eq!(ran.code(), code, "{script}: {ran:?}");
        assert!(ran.stderr.starts_with("chatnap: "), "{script}: {ran:?}");
        argv.extend(["--format".into(), "json".into()]);
        let ran = home.run(&argv);
        assert_eq!((ran.code(), &ran.json()["error"]["code"]), (code, &code.into()), "{ran:?}");
        assert!(ran.stderr.contains(ran.json()["error"]["message"].as_str().unwrap()), "{ran:?}");
    }
}

#[test]
fn empty_answer_prints_a_warning() {
    let home = Home::new();
    let ran = home.run(&["-m", &home.model("[[answer]]\ntext = \"\"\n"), "-p", "hi"]);
    assert_eq!(
        (ran.code(), ran.stdout.trim(), ran.stderr.as_str()),
        (0, "", "chatnap: warning: the model gave no answer\n")
    );
}

#[test]
fn partial_answer_is_kept_after_a_failure() {
    let home = Home::new();
    let script = "fallback = \"abcdef\"\n[[failure]]\nat = \"token\"\nafter = 3\nkind = \"out_of_memory\"\n";
    let ran = home.run(&["-m", &home.model(script), "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (4, "abc\n"), "{ran:?}");
    let kept = home.run(&["conversations", "export", "last", "--format", "json"]).json();
    assert_eq!((&kept["turns"][0]["answer"], &kept["turns"][0]["state"]), (&"abc".into(), &"failed".into()));
}

#[test]
fn answer_cut_by_a_full_context_prints_a_warning_with_remedies() {
    let home = Home::new();
    let model = home.model("fallback = \"0123456789012345678901234567890123456789012345678901234567890123456789\"\n");
    let cut = |args: &[&str]| {
        let ran = home.run(&[&["-m", &model, "-p", "hi", "--format", "json"], args].concat());
        assert_eq!((ran.code(), &ran.json()["finish_reason"]), (0, &"length".into()), "{ran:?}");
        ran.stderr
    };
    let told = cut(&["--context-length", "64"]);
    assert!(told.starts_with("chatnap: warning: the answer was cut off: the context of 64 tokens is full."), "{told}");
    assert!(told.contains("up to the 8192 tokens") && told.contains("--on-overflow trim"), "{told}");
    assert_eq!(cut(&["--context-length", "64", "--quiet"]), "");
    assert_eq!(cut(&["--max-tokens", "3"]), "", "no warning for --max-tokens");
    let small = home.model(&format!("context_length = 64\nfallback = \"{}\"\n", "0123456789".repeat(9)));
    let told = home.run(&["-m", &small, "-p", "hi"]).stderr;
    assert!(told.contains("The context cannot be larger") && !told.contains("--context-length"), "{told}");
}

#[test]
fn missing_model_exits_with_code_3_and_one_line() {
    let home = Home::new();
    let start = Instant::now();
    let ran = home.run(&["-m", "nosuch/model", "-p", "hi", "--offline"]);
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.lines().count()), (3, "", 1), "{ran:?}");
    assert!(ran.stderr.contains("nosuch/model"), "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn interrupted_answer_keeps_the_printed_text() {
    let home = Home::new();
    let model = home.model(LONG);
    // SIGHUP stays ignored if the tests run under nohup.
    let nohup = is_ignored(Signal::HUP);
    for stop in [Signal::INT, Signal::TERM, Signal::HUP].into_iter().filter(|stop| *stop != Signal::HUP || !nohup) {
        let mut child = home.chatnap(&["-m", &model, "-p", "hi"]).spawn().unwrap();
        let first = read_some(&mut child, 5);
        let start = Instant::now();
        signal(&child, stop);
        let ran = finish(child);
        assert_eq!((ran.code(), first.as_str()), (130, "01234"), "{ran:?}");
        assert!(ran.stdout.ends_with('\n') && start.elapsed() < Duration::from_secs(2), "{ran:?}");
        let kept = home.run(&["conversations", "export", "last", "--format", "json"]).json();
        assert_eq!(kept["turns"][0]["state"], "cancelled");
        assert_eq!(format!("{}\n", kept["turns"][0]["answer"].as_str().unwrap()), format!("{first}{}", ran.stdout));
    }
}

/// Whether child processes inherit this signal as ignored.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn interrupted_json_output_is_a_complete_object() {
    let home = Home::new();
    let child = home.chatnap(&["-m", &home.model(LONG), "-p", "hi", "--format", "json"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, Signal::INT);
    let ran = finish(child);
    assert_eq!((ran.code(), &ran.json()["finish_reason"]), (130, &"cancelled".into()), "{ran:?}");
}

#[test]
fn interrupt_during_a_load_exits_with_code_130() {
    let home = Home::new();
    let child = home.chatnap(&["-m", &home.model("load_ms = 60000\nload_steps = 100"), "-p", "hi"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    let start = Instant::now();
    signal(&child, Signal::INT);
    let ran = finish(child);
    assert_eq!((ran.code(), ran.stdout.as_str()), (130, ""), "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn closed_stdout_ends_the_program_quietly() {
    let home = Home::new();
    for format in ["text", "jsonl"] {
        let mut child = home.chatnap(&["-m", &home.model(LONG), "-p", "hi", "--format", format]).spawn().unwrap();
        read_some(&mut child, 1);
        drop(child.stdout.take());
        let start = Instant::now();
        let status = wait(&mut child);
        assert_eq!((status.code(), finish(child).stderr.as_str()), (Some(0), ""));
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn write_error_on_stdout_exits_with_code_1() {
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = home.chatnap(&["-m", &home.model(HELLO), "-p", "hi"]).stdout(Stdio::from(full)).spawn().unwrap();
    let ran = finish(child);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.starts_with("chatnap: Standard output could not be written"), "{ran:?}");
}

#[test]
fn continue_and_conversation_flags_extend_a_stored_conversation() {
    let home = Home::new();
    let model = home.model("fallback = \"turn {turn}, first {first}, system {system}\"");
    let first = home.run(&["-m", &model, "-p", "one", "-s", "Sys", "--format", "json"]).json();
    assert_eq!(first["answer"], "turn 1, first one, system Sys");
    let second = home.pipe(&["-m", &model, "-c", "--format", "json"], b"two").json();
    assert_eq!(second["answer"], "turn 2, first one, system Sys");
    let id = first["conversation"].as_str().unwrap();
    home.run(&["-m", &model, "-p", "another"]);
    let third = home.run(&["-m", &model, "--conversation", &id[..6], "-p", "three", "--format", "json"]).json();
    assert_eq!((&third["conversation"], &third["answer"]), (&id.into(), &"turn 3, first one, system Sys".into()));
    let ran = home.run(&["-m", &model, "--conversation", "zzz", "-p", "x"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{ran:?}");
}

#[test]
fn continue_flag_skips_a_conversation_without_an_answer() {
    let home = Home::new();
    let model = home.model("fallback = \"turn {turn}, first {first}\"");
    home.run(&["-m", &model, "-p", "one"]);
    assert_eq!(home.run(&["-m", "nosuch", "-p", "lost"]).code(), 3);
    assert_eq!(home.run(&["-m", &model, "-c", "-p", "two"]).stdout, "turn 2, first one\n");
    // The question without an answer is still listed.
    assert!(home.run(&["conversations", "list"]).stdout.contains("lost"));
}

#[test]
fn dry_run_prints_the_rendered_prompt_and_stores_nothing() {
    let home = Home::new();
    let model = home.model(HELLO);
    let text = home.run(&["-m", &model, "-p", "hi", "-s", "Sys", "--dry-run"]);
    assert_eq!(text.code(), 0, "{text:?}");
    assert!(text.stdout.contains("<|im_start|>user\nhi<|im_end|>") && text.stdout.contains("Sys"), "{text:?}");
    let json = home.run(&["-m", &model, "-p", "hi", "-s", "Sys", "--dry-run", "--format", "json"]).json();
    assert_eq!(json["prompt"], text.stdout.as_str());
    assert_eq!(json["ids"].as_array().unwrap().len() as u64, json["prompt_tokens"].as_u64().unwrap());
    assert!(!home.data().exists(), "a dry run stores nothing");
}

#[test]
fn starter_model_gives_the_greedy_answer_of_llama_cpp() {
    let home = Home::new();
    let path = starter_model();
    let args = ["-p", "What is the capital of France?", "--temperature", "0", "--max-tokens", "6", "--format", "json"];
    let ran = home.run(&[&["-m", path.to_str().unwrap()], &args[..]].concat());
    assert_eq!(ran.code(), 0, "{ran:?}");
    let answer = ran.json();
    // llama.cpp's greedy answer to the same prompt.
    assert!("L'Étoile, la Marseillaise".starts_with(answer["answer"].as_str().unwrap()), "{answer}");
    assert_eq!((&answer["finish_reason"], answer["usage"]["completion_tokens"].as_u64()), (&"length".into(), Some(6)));
    let usage = |key: &str| answer["usage"][key].as_u64().unwrap();
    assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
    let dry = home.run(&[&["-m", path.to_str().unwrap(), "--dry-run"], &args[..]].concat()).json();
    assert_eq!(dry["prompt_tokens"].as_u64().unwrap(), usage("prompt_tokens"));
}
