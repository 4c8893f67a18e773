//! `chatnap compare`: two scripted models and two settings.

use crate::run::Home;

fn two(home: &Home) -> [String; 2] {
    let model = |name: &str, answer: &str| {
        let script = format!("fallback = \"{answer}\"\nload_ms = 20\n");
        format!("scripted:{}", home.file(name, script).display())
    };
    [model("first.toml", "It is one."), model("second.toml", "It is two, and a longer answer.")]
}

#[test]
fn piped_answers_follow_each_other_with_a_table_of_ratios() {
    let home = Home::new();
    let [a, b] = two(&home);
    let ran = home.run(&["compare", "-m", &a, "-m", &b, "-p", "How many?", "--set", "temperature=0"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    let (first, second) = (ran.stdout.find("It is one.").unwrap(), ran.stdout.find("It is two,").unwrap());
    assert!(ran.stdout.starts_with("A: first.toml\n") && first < second, "{}", ran.stdout);
    let rows: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("completion tokens")).collect();
    assert_eq!(rows.len(), 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("What differs (A | B):\nmodel: "), "{}", ran.stdout);
}

#[test]
fn json_has_both_answers_the_same_seed_and_ratios() {
    let home = Home::new();
    let [a, b] = two(&home);
    let told = home.run(&["compare", "-m", &a, "-m", &b, "-p", "How many?", "--format", "json"]).json();
    assert_eq!((&told["a"]["answer"], &told["b"]["finish_reason"]), (&"It is one.".into(), &"stop".into()), "{told}");
    assert!(told["a"]["seed"].is_u64() && told["a"]["seed"] == told["b"]["seed"], "{told}");
    let tokens = |side: &str| told[side]["figures"]["completion_tokens"].as_f64().unwrap();
    let ratio = told["ratios"]["completion_tokens"].as_f64().unwrap();
    assert!((ratio - tokens("b") / tokens("a")).abs() < 0.001, "{told}");
    assert!(told["a"]["figures"]["load_ms"].as_f64().unwrap() > 0.0, "{told}");
    assert!(!home.data().exists(), "nothing is stored");
}

#[test]
fn two_settings_of_one_model_and_markdown() {
    let home = Home::new();
    let [a, _] = two(&home);
    let sides =
        ["compare", "-m", &a, "--a", "temperature=0", "--b", "temperature=1", "-p", "x", "--format", "markdown"];
    let text = home.run(&sides).stdout;
    assert!(
        text.starts_with("## A: first.toml, temperature=0\n\nIt is one.\n\n## B: first.toml, temperature=1"),
        "{text}"
    );
    assert!(text.contains("| figure | A | B | B / A |\n| --- |"), "{text}");
}

#[test]
fn failure_of_the_second_model_keeps_the_first_answer_and_wrong_uses_are_told() {
    let home = Home::new();
    let [a, _] = two(&home);
    let ran = home.run(&["compare", "-m", &a, "-m", "scripted:/nowhere.toml", "-p", "x"]);
    assert!(ran.code() != 0 && ran.stdout.contains("It is one."), "{ran:?}");
    assert!(ran.stderr.contains("B: nowhere.toml: "), "{ran:?}");
    for (args, part) in [
        (&["compare", "-m", &a, "-p", "x"][..], "nothing to compare"),
        (&["compare", "-m", &a, "-m", &a], "-p TEXT"),
        (&["compare", "-m", &a, "--b", "temperature=hot", "-p", "x"], "--b temperature=hot: a number is wanted"),
    ] {
        let ran = home.run(args);
        assert!(ran.code() == 2 && ran.stderr.contains(part), "{ran:?}");
    }
}

#[test]
fn on_a_terminal_the_answers_stand_beside_each_other() {
    let home = crate::support_pty::Home::new("fallback = \"It is one.\"\n");
    let model = format!("scripted:{}", home.script().display());
    let bytes = home.output(&["compare", "-m", &model, "--b", "temperature=1", "-p", "x"]);
    let size = |size| std::num::NonZeroU16::new(size).unwrap();
    let mut parser = vt100::Parser::new(size(50), size(200), 0);
    parser.process(&bytes);
    let screen = parser.screen().contents();
    let line = screen.lines().find(|line| line.contains("It is one.")).unwrap();
    assert_eq!(line.matches("It is one.").count(), 2, "{screen}");
}

#[test]
fn two_reports_are_compared_and_other_files_are_refused() {
    let home = Home::new();
    let report = |name: &str, ttft: f64| {
        let text = format!(
            r#"{{"format": 1, "header": {{"model": {{"name": "{name}"}}, "build": "release"}}, "scenarios": [],
                "latency": {{"warm": {{"ttft_p50_ms": {ttft}}}}}}}"#
        );
        home.file(&format!("{name}.json"), text).to_str().unwrap().to_owned()
    };
    let (a, b) = (report("old", 100.0), report("new", 25.0));
    let told = home.run(&["compare", &a, &b, "--format", "json"]).json();
    assert_eq!(told["ratios"]["warm_ttft_p50_ms"], 0.25, "{told}");
    assert_eq!(told["differs"]["model"], serde_json::json!(["old", "new"]), "{told}");
    let text = home.run(&["compare", &a, &b]).stdout;
    assert!(text.contains("warm TTFT p50") && text.contains("model: old | new"), "{text}");
    let other = home.file("other.json", "{\"format\": 1}");
    let newer = home.file("newer.json", "{\"format\": 9}");
    for (file, part) in [
        (other.to_str().unwrap(), "other.json: this is no report: `chatnap report --out DIR`"),
        (newer.to_str().unwrap(), "has format 9"),
        ("/nowhere.json", "/nowhere.json: the file cannot be read"),
    ] {
        let ran = home.run(&["compare", &a, file]);
        assert!(ran.code() == 2 && ran.stderr.contains(part), "{ran:?}");
    }
    let one = home.run(&["compare", &a]);
    assert!(one.code() == 2 && one.stderr.contains("two reports"), "{one:?}");
}

#[test]
fn scenarios_are_played_by_both_and_their_verdicts_stand_beside_each_other() {
    let home = Home::new();
    let [a, b] = two(&home);
    let scenarios = "[[scenario]]\nname = \"one\"\n[[scenario.turns]]\nprompt = \"How many?\"\n\
                     checks = [{ contains = \"one\" }]\n";
    let file = home.file("scenarios.toml", scenarios);
    let args = ["compare", "-m", &a, "-m", &b, "--scenarios", file.to_str().unwrap(), "--format", "json"];
    let told = home.run(&args).json();
    let wanted = serde_json::json!([{"name": "one", "a": "pass", "b": "fail"}]);
    assert_eq!(told["scenarios"], wanted, "{told}");
    assert!(told["ratios"]["warm_ttft_p50_ms"].is_f64(), "{told}");
    let missing = home.run(&["compare", "-m", &a, "-m", &b, "--scenarios", "/nowhere.toml"]);
    assert!(missing.code() == 2 && missing.stderr.contains("/nowhere.toml"), "{missing:?}");
}

#[test]
fn reports_of_two_models_are_compared_as_they_were_written() {
    let home = Home::new();
    let [a, b] = two(&home);
    let file = home.file("scenarios.toml", "[[scenario]]\nname = \"one\"\nturns = [{ prompt = \"How many?\" }]\n");
    let report = |model: &str, folder: &str| {
        let folder = home.path().join(folder);
        let (scenarios, out) = (file.to_str().unwrap(), folder.to_str().unwrap());
        let ran = home.run(&["report", "-m", model, "--scenarios", scenarios, "--out", out]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        folder.join("report.json").to_str().unwrap().to_owned()
    };
    let (first, second) = (report(&a, "first"), report(&b, "second"));
    let told = home.run(&["compare", &first, &second, "--format", "json"]).json();
    let names: Vec<_> = told["differs"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(names.starts_with(&["model"]) && !names.contains(&"build") && !names.contains(&"device"), "{told}");
    for key in ["cold_first_token_ms", "warm_ttft_p50_ms", "release_ms", "loaded_resident_bytes", "total_ms"] {
        assert!(told["a"]["figures"][key].is_number(), "{key}: {told}");
    }
    assert_eq!(told["scenarios"], serde_json::json!([{"name": "one", "a": "pass", "b": "pass"}]), "{told}");
}

#[test]
fn ctrl_c_during_the_second_answer_keeps_the_first() {
    let home = Home::new();
    let a = two(&home)[0].clone();
    let slow = format!("scripted:{}", home.file("slow.toml", "fallback = \"slow\"\nload_ms = 60000\n").display());
    let mut child = home.chatnap(&["compare", "-m", &a, "-m", &slow, "-p", "x"]).spawn().unwrap();
    let begin = crate::run::read_some(&mut child, "A: first.toml\n\nIt is one.".len());
    assert!(begin.ends_with("It is one."), "{begin}");
    crate::run::signal(&child, rustix::process::Signal::INT);
    assert_eq!(crate::run::wait(&mut child).code(), Some(130));
}

#[test]
fn slash_compare_shows_the_other_answer_and_goes_back_to_the_first_model() {
    let home = crate::support_pty::Home::new("fallback = \"It is one.\"\n");
    let other = home.folder.path().join("other.toml");
    std::fs::write(&other, "fallback = \"It is two.\"\n").unwrap();
    let mut tui = home.start(&[]);
    tui.send("How many?").wait_for("It is one.").wait_for("TTFT");
    tui.send(&format!("/compare scripted:{}", other.display())).wait_for("It is two.").wait_for("time to first token:");
    tui.send("And now?").wait_for("It is one.");
}
