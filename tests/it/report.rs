//! `chatnap report`: verdicts with reasons, files, repetitions, errors, an interruption.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use chatnap::report::{Report, Verdict};
use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Home, finish, signal};

const MODEL: &str = "load_ms = 30\nfallback = \"It is Paris.\"\n[[answer]]\nwhen = \"code\"\n\
    text = \"```python\\ndef f(n):\\n    return n + 1\\n```\"\n";

const SCENARIOS: &str = "[[scenario]]\nname = \"capital\"\n[[scenario.turns]]\nprompt = \"Capital of France?\"\n\
    checks = [{ contains = \"paris\" }, { max-words = 5 }]\n\
    [[scenario]]\nname = \"wrong\"\n[[scenario.turns]]\nprompt = \"hi\"\nchecks = [{ max-words = 2 }]\n\
    [[scenario]]\nname = \"code\"\n[[scenario.turns]]\nprompt = \"code, please\"\n\
    checks = [{ defines = \"f\" }, { python = \"assert f(1) == 2\" }]\n\
    [[scenario]]\nname = \"two turns\"\n[[scenario.turns]]\nprompt = \"one\"\n[[scenario.turns]]\nprompt = \"two\"\n\
    checks = [{ min-cached = 20 }]\n";

/// Runs it with the scripted model and the scenarios above.
fn report(home: &Home, more: &[&str]) -> crate::run::Ran {
    let scenarios = home.file("s.toml", SCENARIOS);
    let model = home.model(MODEL);
    let own = ["report", "-m", model.as_str(), "--scenarios", scenarios.to_str().unwrap()];
    home.run(&[&own[..], more].concat())
}

fn verdicts(report: &Report) -> Vec<Verdict> {
    report.scenarios.iter().map(|scenario| scenario.verdict).collect()
}

#[test]
fn answers_are_judged_and_code_runs_only_if_that_is_allowed() {
    let home = Home::new();
    let ran = report(&home, &["--format", "json"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    let told = Report::from_json(&ran.stdout).unwrap();
    assert!(told.complete);
    assert_eq!(verdicts(&told), [Verdict::Pass, Verdict::Fail, Verdict::NotRun, Verdict::Pass]);
    assert_eq!(told.scenarios[1].reason, "at most 2 words: it has 3 words");
    assert_eq!(told.scenarios[2].reason, "Python: assert f(1) == 2: --run-code runs it");
    assert!(told.header.sampling.temperature == 0.0 && told.header.sampling.seed.is_none());
    assert!(ran.stderr.contains("2 of 4, wrong: FAIL: at most 2 words: it has 3 words"), "{}", ran.stderr);
    let ran = report(&home, &["--format", "json", "--run-code"]);
    assert_eq!(verdicts(&Report::from_json(&ran.stdout).unwrap())[2], Verdict::Pass, "{ran:?}");
    assert!(!home.data().join("chatnap.db").exists(), "the answers are not stored");
}

#[test]
fn figures_add_up_and_latency_has_every_phase() {
    let home = Home::new();
    let ran = report(&home, &["--format", "json", "--drop-caches"]);
    let told = Report::from_json(&ran.stdout).unwrap();
    for turn in told.scenarios.iter().flat_map(|scenario| &scenario.runs[0].turns) {
        let figures = turn.figures.as_ref().unwrap();
        let sum = figures.prompt_tokens.zip(figures.completion_tokens).map(|(prompt, completion)| prompt + completion);
        assert!(sum.is_some() && figures.total_tokens == sum, "{figures:?}");
        assert!(figures.ttft_ms.unwrap() <= figures.total_ms && figures.load_ms == 0.0, "{figures:?}");
    }
    let latency = told.latency.unwrap();
    for first in [latency.cold.as_ref().unwrap(), latency.after_release.as_ref().unwrap()] {
        let sum: f64 = first.phases.iter().map(|phase| phase.ms).sum();
        assert!((sum - first.first_token_ms.unwrap()).abs() < 0.1 && sum >= 30.0, "{first:?}");
    }
    let warm = latency.warm.unwrap();
    assert_eq!((warm.answers.len(), warm.prompts.len()), (5, 5));
    assert!(
        warm.answers.iter().all(|figures| figures.load_ms == 0.0 && figures.cached_tokens.unwrap() < 12),
        "{warm:?}"
    );
    assert!(latency.release_ms.is_some() && latency.page_cache.dropped_by.is_some());
    assert!(latency.before.resident_bytes > Some(0) && latency.after.gpu_own_bytes.is_none());
    assert!(!told.memory_over_time.is_empty());
}

#[test]
fn a_folder_gets_markdown_json_and_charts() {
    let home = Home::new();
    let out = home.path().join("a/report");
    let ran = report(&home, &["--out", out.to_str().unwrap()]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert!(ran.stdout.contains("capital") && ran.stdout.contains("2 of 4 scenarios passed"), "{}", ran.stdout);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("report.json")).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../assets/report.schema.json")).unwrap();
    for key in schema["required"].as_array().unwrap() {
        assert!(json.get(key.as_str().unwrap()).is_some(), "{key}");
    }
    let markdown = read("report.md");
    for chart in ["latency", "memory", "speed"] {
        for page in ["light", "dark"] {
            let name = format!("{chart}-{page}.svg");
            assert!(markdown.contains(&format!("\"{name}\"")) && read(&name).ends_with("</svg>\n"), "{name}");
        }
    }
    let file = home.file("in-the-way", "x");
    let ran = report(&home, &["--out", file.to_str().unwrap(), "--format", "json"]);
    assert!(ran.code() == 1 && ran.stderr.contains("in-the-way"), "{ran:?}");
    assert!(Report::from_json(&ran.stdout).is_ok(), "the report is not lost: {}", ran.stdout);
}

#[test]
fn repetitions_have_their_seeds_and_a_pass_rate() {
    let home = Home::new();
    let ran = report(&home, &["--format", "json", "--repeat", "3", "--temperature", "0.5", "--seed", "7"]);
    let told = Report::from_json(&ran.stdout).unwrap();
    assert_eq!(told.scenarios[0].runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [Some(7), Some(8), Some(9)]);
    let rate = told.scenarios[0].pass_rate.unwrap();
    // 3 of 3: the low end is 3 / (3 + z²).
    assert_eq!((rate.passed, rate.judged, rate.low, rate.high), (3, 3, 0.4385, 1.0));
    assert_eq!(told.scenarios[1].pass_rate.unwrap().passed, 0);
    let ran = report(&home, &["--repeat", "2"]);
    assert!(ran.stdout.contains("2 of 2, 34–100 %") && ran.stdout.contains("repetitions are alike"), "{}", ran.stdout);
}

#[test]
fn markdown_has_whole_answers() {
    let home = Home::new();
    let ran = report(&home, &["--format", "markdown"]);
    assert!(ran.stdout.starts_with("# Test report: ") && ran.stdout.contains("def f(n):\n"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("<picture>"), "{}", ran.stdout);
}

#[test]
fn ctrl_c_keeps_what_is_done() {
    let home = Home::new();
    let model = home
        .model("fallback = \"It is Paris.\"\n[[answer]]\nwhen = \"slow\"\ntoken_ms = 20000\ntext = \"0123456789\"\n");
    let slow = "[[scenario]]\nname = \"slow\"\n[[scenario.turns]]\nprompt = \"slow\"\n";
    let scenarios = home.file(
        "s.toml",
        SCENARIOS.replacen("[[scenario]]\nname = \"code\"", &format!("{slow}[[scenario]]\nname = \"code\""), 1),
    );
    let out = home.path().join("out");
    let arguments = ["--scenarios", scenarios.to_str().unwrap(), "--format", "json", "--out", out.to_str().unwrap()];
    let mut child = home.chatnap(&[&["report", "-m", model.as_str()][..], &arguments].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("2 of 5, wrong") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, Signal::INT);
    let ran = finish(child);
    assert_eq!(ran.code(), 130, "{ran:?}");
    let told = Report::from_json(&ran.stdout).unwrap();
    assert!(!told.complete && told.latency.is_some());
    assert_eq!(verdicts(&told), [Verdict::Pass, Verdict::Fail]);
    let kept = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(kept.contains("The report is incomplete"), "{kept}");
}

#[test]
fn ctrl_c_during_the_load_prints_an_empty_report() {
    let home = Home::new();
    let model = home.model("load_ms = 100000\nload_steps = 1000\n");
    let mut child = home.chatnap(&["report", "-m", &model, "--format", "markdown"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("cold") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    signal(&child, Signal::INT);
    let ran = finish(child);
    assert_eq!(ran.code(), 130, "{ran:?}");
    assert!(ran.stdout.contains("0 of 0 scenarios passed, 0 failed. The report is incomplete"), "{}", ran.stdout);
}

#[test]
fn wrong_files_values_and_models_are_refused() {
    let home = Home::new();
    let model = home.model(MODEL);
    let bad = home.file(
        "bad.toml",
        "[[scenario]]\nname = \"a\"\n[[scenario.turns]]\nprompt = \"x\"\nchecks = [{ max-wrds = 3 }]\n",
    );
    let run = |arguments: &[&str]| home.run(&[&["report", "-m", model.as_str()][..], arguments].concat());
    let ran = run(&["--scenarios", bad.to_str().unwrap()]);
    assert!(ran.code() == 2 && ran.stderr.contains("bad.toml:5: max-wrds: unknown field"), "{ran:?}");
    let ran = run(&["--scenarios", "/nowhere.toml", "--format", "json"]);
    assert!(ran.code() == 2 && ran.json()["error"]["message"].as_str().unwrap().contains("/nowhere.toml"), "{ran:?}");
    assert_eq!(run(&["--repeat", "0"]).code(), 2);
    assert_eq!(run(&["--temperature", "-1"]).code(), 2);
    let failing = home.model("[[failure]]\nat = \"load\"\nkind = \"out_of_memory\"\n");
    let ran = home.run(&["report", "-m", &failing]);
    assert!(ran.code() == 4 && ran.stdout.is_empty(), "{ran:?}");
}

#[test]
fn an_answer_that_fails_fails_its_scenario_and_the_others_go_on() {
    let home = Home::new();
    let model = home.model(
        "fallback = \"It is Paris.\"\n[[failure]]\nat = \"token\"\nafter = 2\nkind = \"invalid\"\nwhen = \"hi\"\n",
    );
    let scenarios = home.file("s.toml", SCENARIOS);
    let ran = home.run(&["report", "-m", &model, "--scenarios", scenarios.to_str().unwrap(), "--format", "json"]);
    let told = Report::from_json(&ran.stdout).unwrap();
    assert!(ran.code() == 0 && told.complete, "{ran:?}");
    assert_eq!(verdicts(&told)[..2], [Verdict::Pass, Verdict::Fail]);
    let turn = &told.scenarios[1].runs[0].turns[0];
    assert!(turn.error.is_some() && turn.figures.is_none(), "{turn:?}");
    assert_eq!(told.scenarios.len(), 4);
}

#[test]
fn a_lost_device_ends_the_run_and_keeps_what_is_done() {
    let home = Home::new();
    let model =
        home.model("fallback = \"It is Paris.\"\n[[failure]]\nat = \"token\"\nkind = \"fatal\"\nwhen = \"hi\"\n");
    let scenarios = home.file("s.toml", SCENARIOS);
    let ran = home.run(&["report", "-m", &model, "--scenarios", scenarios.to_str().unwrap(), "--format", "json"]);
    let told = Report::from_json(&ran.stdout).unwrap();
    assert!(ran.code() == 1 && !told.complete, "{ran:?}");
    assert_eq!(verdicts(&told), [Verdict::Pass]);
    assert!(told.notes.iter().any(|note| note.starts_with("The run ended early: ")), "{:?}", told.notes);
}
