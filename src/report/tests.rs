//! A fixed report as JSON, Markdown and charts, and its JSON against the schema.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;

use super::charts::charts;
use super::*;
use crate::stats::AnswerStats;

const SCHEMA: &str = include_str!("../../assets/report.schema.json");

fn figures(cached: usize) -> Figures {
    let usage = Usage { prompt_tokens: 40, cached_tokens: cached, completion_tokens: 11, ..Usage::default() };
    let millis = std::time::Duration::from_millis;
    let timing = Timing {
        load: millis(0),
        ttft: millis(50),
        prefill: millis(40),
        decode: millis(200),
        total: millis(251),
        inter_token: vec![millis(20); 10],
    };
    assert_eq!(AnswerStats::new(&usage, &timing).tokens_per_second, Some(50.0));
    Figures::new(&usage, &timing)
}

fn turn(prompt: &str, answer: &str, checks: &[(&str, Verdict, &str)]) -> TurnResult {
    let check = |(check, verdict, detail): &(&str, Verdict, &str)| CheckResult {
        check: (*check).into(),
        verdict: *verdict,
        detail: (*detail).into(),
    };
    TurnResult {
        prompt: prompt.into(),
        answer: answer.into(),
        reasoning: String::new(),
        finish_reason: Some(FinishReason::Stop),
        error: None,
        checks: checks.iter().map(check).collect(),
        figures: Some(figures(0)),
    }
}

fn scenario(name: &str, verdict: Verdict, reason: &str, turns: Vec<TurnResult>) -> ScenarioResult {
    let runs = vec![ScenarioRun { seed: None, verdict, reason: reason.into(), turns }];
    let pass_rate = PassRate::new(usize::from(verdict == Verdict::Pass), 1);
    ScenarioResult { name: name.into(), verdict, reason: reason.into(), pass_rate, runs }
}

fn first(phases: &[(PhaseName, f64)]) -> FirstAnswer {
    FirstAnswer {
        prompt: "Say hello.".into(),
        first_token_ms: Some(phases.iter().map(|(_, ms)| ms).sum()),
        phases: phases.iter().map(|&(name, ms)| Phase { name, ms }).collect(),
        figures: figures(0),
        weights: Some("from the page cache".into()),
    }
}

fn latency() -> Latency {
    let memory = |resident| Memory { resident_bytes: Some(resident), ..Memory::default() };
    Latency {
        page_cache: PageCache { state: CacheState::Warm, cached_share: Some(1.0), dropped_by: None },
        cold: Some(first(&[(PhaseName::Open, 20.0), (PhaseName::Read, 900.0), (PhaseName::Prefill, 90.0)])),
        warm: Some(Warm {
            prompts: vec!["Be concise. Name three colours.".into()],
            max_tokens: 16,
            answers: vec![figures(3)],
            ttft_p50_ms: Some(50.0),
            ttft_p95_ms: Some(50.0),
            total_p50_ms: Some(251.0),
            total_p95_ms: Some(251.0),
        }),
        release_ms: Some(12.0),
        released_bytes: Some(100_000_000),
        after_release: Some(first(&[(PhaseName::Open, 5.0), (PhaseName::Read, 400.0), (PhaseName::Prefill, 90.0)])),
        before: memory(30_000_000),
        loaded: memory(200_000_000),
        after: memory(40_000_000),
    }
}

/// A report with a pass, a failure, hostile text, an error and unknown figures.
fn report() -> Report {
    let broken =
        TurnResult { error: Some("too long".into()), figures: None, finish_reason: None, ..turn("long", "", &[]) };
    let sample =
        |at_ms, bytes| MemorySample { at_ms, memory: Memory { resident_bytes: Some(bytes), ..Memory::default() } };
    Report {
        format: FORMAT,
        complete: true,
        header: Header {
            date: "2026-11-29T03:40:47Z".into(),
            version: "0.1.0".into(),
            build: "release, linux x86_64, CUDA".into(),
            engine: Some("0.1.0 12ab34cd".into()),
            model: ModelFacts {
                name: "tiny | <b>".into(),
                architecture: "llama".into(),
                quantization: "Q4_1".into(),
                parameters: 135_000_000,
                context_length: 2048,
                weights_bytes: 98_400_000,
                kv_cache_bytes: 47_000_000,
                hash: Some("sha256:12ab".into()),
                template_hash: None,
            },
            device: DeviceFacts {
                name: "Example CPU".into(),
                threads: 2,
                instructions: "AVX2".into(),
                ..DeviceFacts::default()
            },
            sampling: SamplingFacts {
                temperature: 0.0,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.05,
                repeat_penalty: 1.0,
                seed: None,
            },
            scenarios: "built-in".into(),
            repeat: 1,
            run_code: false,
        },
        scenarios: vec![
            scenario(
                "capital",
                Verdict::Pass,
                "",
                vec![turn("Capital?", "Paris\n```\ncode", &[("contains “Paris”", Verdict::Pass, "")])],
            ),
            scenario(
                "words",
                Verdict::Fail,
                "at most 3 words: it has 9 words",
                vec![
                    turn(
                        "Hi\nthere",
                        "\x1b[31m<script>alert(1)</script>",
                        &[("at most 3 words", Verdict::Fail, "it has 9 words")],
                    ),
                    turn("and?", "x", &[("syllables 5-7-5", Verdict::Shown, "about 1")]),
                ],
            ),
            scenario("broken", Verdict::Fail, "too long", vec![broken]),
        ],
        latency: Some(latency()),
        memory_over_time: vec![sample(0.0, 30_000_000), sample(500.0, 200_000_000), sample(900.0, 40_000_000)],
        notes: vec!["a *warning*".into()],
    }
}

/// What is wrong with `value` by the part of JSON Schema that ours uses; nothing if it is valid.
fn problems(schema: &Value, value: &Value, root: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = &root["$defs"][name.trim_start_matches("#/$defs/")];
        assert!(definition.is_object(), "{name} is defined");
        return problems(definition, value, root, at, found);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let fits = |option: &Value| {
            let mut none = Vec::new();
            problems(option, value, root, at, &mut none);
            none
        };
        let results: Vec<_> = options.iter().map(fits).collect();
        if !results.iter().any(Vec::is_empty) {
            found.extend(results.into_iter().flatten());
        }
        return;
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    let types = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let fixed = schema.get("const").is_none_or(|wanted| wanted == value);
    if !types || !listed || !fixed {
        found.push(format!("{at}: {value} does not fit"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        problems(&schema["items"], item, root, &format!("{at}/{index}"), found);
    }
    let Some(object) = value.as_object().filter(|_| schema["properties"].is_object()) else { return };
    let required = schema["required"].as_array().into_iter().flatten().map(|key| key.as_str().unwrap());
    found.extend(required.filter(|key| !object.contains_key(*key)).map(|key| format!("{at}: {key} is missing")));
    for (key, item) in object {
        match schema["properties"].get(key) {
            Some(property) => problems(property, item, root, &format!("{at}/{key}"), found),
            None => found.push(format!("{at}: {key} is not in the schema")),
        }
    }
}

fn check(report: &Value) -> Vec<String> {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let mut found = Vec::new();
    problems(&schema, report, &schema, "", &mut found);
    found
}

#[test]
fn json_fits_the_schema_and_is_read_back() {
    let mut report = report();
    report.scenarios[0].runs[0].turns[0].reasoning = "thinking".into();
    let text = report.json();
    assert!(!text.contains('\x1b'), "control characters are escaped");
    assert_eq!(check(&serde_json::from_str(&text).unwrap()), [""; 0]);
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let nothing = Report { latency: None, scenarios: Vec::new(), memory_over_time: Vec::new(), ..report };
    assert_eq!(check(&serde_json::from_str(&nothing.json()).unwrap()), [""; 0]);
}

#[test]
fn the_schema_refuses_what_is_missing_unknown_or_of_another_type() {
    let good: Value = serde_json::from_str(&report().json()).unwrap();
    let changed = |change: fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        check(&value)
    };
    assert_eq!(changed(|value| drop(value.as_object_mut().unwrap().remove("complete"))), [": complete is missing"]);
    assert_eq!(changed(|value| value["x"] = 1.into()), [": x is not in the schema"]);
    assert_eq!(changed(|value| value["format"] = 2.into()).len(), 1);
    let figures = "/scenarios/0/runs/0/turns/0/figures";
    let wrong = changed(|value| value["scenarios"][0]["runs"][0]["turns"][0]["figures"]["total_tokens"] = "9".into());
    assert_eq!(wrong[0], format!("{figures}/total_tokens: \"9\" does not fit"));
    assert_eq!(changed(|value| value["scenarios"][0]["verdict"] = "maybe".into()).len(), 1);
}

#[test]
fn unknown_figures_are_null_and_a_dash() {
    let one = Usage { prompt_tokens: 8, cached_tokens: 8, completion_tokens: 0, ..Usage::default() };
    let figures = serde_json::to_value(Figures::new(&one, &Timing::default())).unwrap();
    for key in ["ttft_ms", "tokens_per_second", "prompt_tokens_per_second", "inter_token_p50_ms", "inter_token_p95_ms"]
    {
        assert!(figures[key].is_null(), "{key}");
    }
    assert_eq!(
        (rows::span(None), rows::span(Some(12.34)), rows::span(Some(1234.0))),
        ("–".into(), "12.3 ms".into(), "1.23 s".into())
    );
    let memory = rows::memory(&latency());
    assert_eq!(memory.rows[1][1..], ["–", "–", "–"]);
    let empty = rows::latency(&Latency::default());
    assert!(empty.rows.iter().all(|row| row[1] == "–"), "{empty:?}");
}

#[test]
fn markdown_has_tables_whole_answers_and_no_foreign_markup() {
    insta::assert_snapshot!(markdown(&report(), true));
}

#[test]
fn an_incomplete_report_says_so() {
    let report = Report { complete: false, ..report() };
    let text = markdown(&report, false);
    assert!(text.contains("The report is incomplete") && !text.contains("<picture>"), "{text}");
    assert!(rows::summary(&report).starts_with("1 of 3 scenarios passed, 2 failed."));
}

#[test]
fn repetitions_show_their_rate_and_interval() {
    let mut report = report();
    report.header.repeat = 10;
    report.scenarios[0].pass_rate = PassRate::new(5, 10);
    let grid = rows::scenarios(&report, false);
    assert_eq!((grid.head[2], grid.rows[0][2].as_str()), ("passed", "5 of 10, 24–76 %"));
}

#[test]
fn charts_are_drawn_for_light_and_dark_pages_also_without_data() {
    let report = report();
    let files = charts(&report);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let all = ["latency-light", "latency-dark", "memory-light", "memory-dark", "speed-light", "speed-dark"];
    assert_eq!(names, all.map(|name| format!("{name}.svg")));
    for (name, text) in &files {
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{name}");
        assert_eq!(text.matches("<text").count(), text.matches("</text>").count(), "{name}");
    }
    assert!(files[0].1.contains("1.01 s") && files[2].1.contains("polyline") && files[4].1.contains(">50.0<"));
    let nothing = Report { latency: None, scenarios: Vec::new(), memory_over_time: Vec::new(), ..report };
    assert!(charts(&nothing).iter().all(|(_, text)| !text.contains("NaN") && !text.contains("inf")));
}

proptest::proptest! {
    #[test]
    fn any_answer_is_judged_and_drawn(answer in "(```|~~~|def f\\(|No\\. |some roses fade|[a-zé人’\\n .?<|]|\\PC){0,40}") {
        let judged = Judged { answer: &answer, finish: FinishReason::Stop, cached: Some(3) };
        let scenarios = Scenarios::built_in().unwrap();
        let checks = scenarios.list.iter().flat_map(|scenario| &scenario.turns).flat_map(|turn| &turn.checks);
        for check in checks {
            check.judge(judged, &mut |answer, _| (Verdict::NotRun, answer.to_owned()));
        }
        let mut report = report();
        report.scenarios[0].name = answer.clone();
        report.scenarios[0].runs[0].turns[0].answer = answer;
        let lines = markdown(&report, true);
        assert!(lines.lines().filter(|line| line.starts_with("## ")).count() == 4, "{lines}");
        proptest::prop_assert_eq!(Report::from_json(&report.json()).unwrap(), report);
    }

    #[test]
    fn any_scenario_file_is_read_or_refused_with_its_name(cut in 0..5000usize, gone in 0..30usize, put in "\\PC{0,8}") {
        let text = include_str!("../../assets/scenarios.toml");
        let start = text.floor_char_boundary(cut.min(text.len()));
        let end = text.floor_char_boundary((cut + gone).min(text.len())).max(start);
        let text = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(error) = Scenarios::parse("s.toml", &text) {
            proptest::prop_assert!(error.0.starts_with("s.toml:"), "{}", error.0);
        }
    }
}
