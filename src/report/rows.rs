//! The tables of a report as rows of text, which the terminal and Markdown lay out. An unknown figure is "–".

use super::data::{FirstAnswer, Latency, Memory, PageCache, Report, ScenarioResult, ScenarioRun, TurnResult, Verdict};
use super::{CacheState, PassRate};
use crate::protocol::DeviceKind;
use crate::wording::{bytes, plural};

/// What stands for an unknown figure.
const UNKNOWN: &str = "–";

/// A table of foreign text: not sanitised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Names of the columns.
    pub head: Vec<&'static str>,
    /// As many cells each.
    pub rows: Vec<Vec<String>>,
}

/// What was measured, where and how: pairs of a name and a value.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let header = &report.header;
    let (model, device, sampling) = (&header.model, &header.device, &header.sampling);
    let kind = match device.kind {
        DeviceKind::Cuda => "GPU",
        DeviceKind::Cpu => "CPU",
        DeviceKind::Server => "server",
    };
    let mut of_model = vec![model.name.clone(), model.architecture.clone(), model.quantization.clone()];
    of_model.retain(|part| !part.is_empty());
    let known = |count: u64, text: String| if count == 0 { UNKNOWN.to_owned() } else { text };
    let seed = sampling.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let greedy = if sampling.temperature == 0.0 { " (greedy)" } else { "" };
    let penalty = match sampling.repeat_penalty {
        1.0 => String::new(),
        penalty => format!(", repeat penalty {penalty}"),
    };
    let rest = match sampling.temperature {
        0.0 => String::new(),
        _ => format!(", top_k {}, top_p {}, min_p {}", sampling.top_k, sampling.top_p, sampling.min_p),
    };
    let code = if header.run_code { "run" } else { "not run (--run-code runs it)" };
    vec![
        ("date", header.date.clone()),
        ("chatnap", format!("{} ({})", header.version, header.build)),
        ("model", of_model.join(", ")),
        ("weights", known(model.weights_bytes, bytes(model.weights_bytes))),
        ("context", known(model.context_length as u64, format!("{} tokens", model.context_length))),
        (
            "device",
            match device.name.is_empty() {
                true => UNKNOWN.to_owned(),
                false => format!("{kind}, {}", device.name),
            },
        ),
        ("threads", format!("{} ({})", device.threads, device.instructions)),
        ("sampling", format!("temperature {}{greedy}{rest}{penalty}{seed}", sampling.temperature)),
        (
            "scenarios",
            match header.repeat {
                1 => format!("{}, once each", header.scenarios),
                times => format!("{}, {times} times each", header.scenarios),
            },
        ),
        ("code of answers", code.to_owned()),
    ]
}

/// `5 of 7 scenarios passed, 1 failed, 1 was not judged.`
pub fn summary(report: &Report) -> String {
    let count = |verdict| report.scenarios.iter().filter(|scenario| scenario.verdict == verdict).count();
    let (passed, failed, open) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::NotRun));
    let all = report.scenarios.len();
    let mut text = format!("{passed} of {all} {} passed, {failed} failed", plural(all, "scenario"));
    if open > 0 {
        text += &format!(", {open} {} not judged", if open == 1 { "was" } else { "were" });
    }
    text += ".";
    if !report.complete {
        text += " The report is incomplete: it ended early, and what was done until then is kept.";
    }
    text
}

/// The scenarios: one row for each turn of the first repetition. `answer`: the column of answers is part of it.
pub fn scenarios(report: &Report, answer: bool) -> Grid {
    let repeated = report.header.repeat > 1;
    let mut head = vec!["scenario", "result"];
    head.extend(repeated.then_some("passed"));
    head.extend(answer.then_some("answer"));
    head.extend(["prompt", "cached", "completion", "total", "TTFT", "time", "tokens/s"]);
    let mut rows = Vec::new();
    for scenario in &report.scenarios {
        let turns = scenario.runs.first().map(|run| run.turns.as_slice()).unwrap_or_default();
        for (index, turn) in turns.iter().enumerate() {
            let last = index + 1 == turns.len();
            let mut row = vec![place(scenario, index, turns.len())];
            row.push(if last { scenario.verdict.word().to_owned() } else { String::new() });
            if repeated {
                row.push(if last { passed(scenario.pass_rate) } else { String::new() });
            }
            if answer {
                row.push(turn.error.clone().unwrap_or_else(|| turn.answer.trim().to_owned()));
            }
            row.extend(figures(turn));
            rows.push(row);
        }
    }
    Grid { head, rows }
}

/// `three apples`, and `three apples, 2` for its second turn.
fn place(scenario: &ScenarioResult, index: usize, turns: usize) -> String {
    if turns > 1 { format!("{}, {}", scenario.name, index + 1) } else { scenario.name.clone() }
}

/// `3 of 10, 11–60 %`
fn passed(rate: Option<PassRate>) -> String {
    rate.map_or(UNKNOWN.to_owned(), |rate| {
        format!("{} of {}, {:.0}–{:.0} %", rate.passed, rate.judged, rate.low * 100.0, rate.high * 100.0)
    })
}

fn figures(turn: &TurnResult) -> [String; 7] {
    let Some(figures) = &turn.figures else { return std::array::from_fn(|_| UNKNOWN.to_owned()) };
    let count = |count: Option<usize>| count.map_or(UNKNOWN.to_owned(), |count| count.to_string());
    [
        count(figures.prompt_tokens),
        count(figures.cached_tokens),
        count(figures.completion_tokens),
        count(figures.total_tokens),
        span(figures.ttft_ms),
        span(Some(figures.total_ms)),
        figures.tokens_per_second.map_or(UNKNOWN.to_owned(), |speed| format!("{speed:.1}")),
    ]
}

/// What did not pass, and what is only shown: `roses syllogism: FAIL: it contains “yes”`.
pub fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    for scenario in &report.scenarios {
        if scenario.verdict != Verdict::Pass {
            remarks.push(format!("{}: {}: {}", scenario.name, scenario.verdict.word(), scenario.reason));
        }
        let first = scenario.runs.first().map(|run: &ScenarioRun| run.turns.as_slice()).unwrap_or_default();
        let shown = first.iter().flat_map(|turn| &turn.checks).filter(|check| check.verdict == Verdict::Shown);
        remarks.extend(shown.map(|check| format!("{}: {}: {}", scenario.name, check.check, check.detail)));
    }
    remarks
}

/// The latency table.
pub fn latency(latency: &Latency) -> Grid {
    let first = |first: &Option<FirstAnswer>| span(first.as_ref().and_then(|first| first.first_token_ms));
    let warm = latency.warm.as_ref();
    let of = |figure: fn(&super::Warm) -> Option<f64>| span(warm.and_then(figure));
    let row = |name: &str, p50: String, p95: String| vec![name.to_owned(), p50, p95];
    let answers = warm.map_or(0, |warm| warm.answers.len());
    let rows = vec![
        row("first token, cold start", first(&latency.cold), String::new()),
        row(&format!("first token, warm (p50, p95 of {answers})"), of(|warm| warm.ttft_p50_ms), of(|w| w.ttft_p95_ms)),
        row(&format!("whole answer, warm (p50, p95 of {answers})"), of(|w| w.total_p50_ms), of(|w| w.total_p95_ms)),
        row("release", span(latency.release_ms), String::new()),
        row("first token, after the release", first(&latency.after_release), String::new()),
    ];
    Grid { head: vec!["latency", "time or p50", "p95"], rows }
}

/// The phases of the answers that needed a load.
pub fn phases(latency: &Latency) -> Grid {
    let mut names = Vec::new();
    let both = [&latency.cold, &latency.after_release].map(Option::as_ref);
    for phase in both.iter().flatten().flat_map(|first| &first.phases) {
        if !names.contains(&phase.name) {
            names.push(phase.name);
        }
    }
    let time = |first: Option<&FirstAnswer>, name| {
        span(first.and_then(|first| first.phases.iter().find(|phase| phase.name == name)).map(|phase| phase.ms))
    };
    let rows = names.into_iter().map(|name| {
        vec![name.words().to_owned(), time(latency.cold.as_ref(), name), time(latency.after_release.as_ref(), name)]
    });
    Grid { head: vec!["phase", "cold start", "after the release"], rows: rows.collect() }
}

/// The memory before, with and after the model.
pub fn memory(latency: &Latency) -> Grid {
    let states = [&latency.before, &latency.loaded, &latency.after];
    let row = |name: &str, of: fn(&Memory) -> Option<u64>| {
        let cells = states.map(|state| of(state).map_or(UNKNOWN.to_owned(), bytes));
        [name.to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let rows = vec![
        row("process, resident (operating system)", |memory| memory.resident_bytes),
        row("process, on the GPU (NVML)", |memory| memory.gpu_own_bytes),
        row("all processes, on the GPU (NVML)", |memory| memory.gpu_used_bytes),
    ];
    Grid { head: vec!["memory", "before", "loaded", "after the release"], rows }
}

/// How the latency was measured.
pub fn conditions(latency: &Latency) -> Vec<String> {
    let mut lines = vec![page_cache(&latency.page_cache)];
    let origin = latency.cold.as_ref().and_then(|cold| cold.weights.as_ref());
    lines.extend(origin.map(|origin| format!("The cold start read the weights {origin}.")));
    if let Some(first) = latency.cold.as_ref().or(latency.after_release.as_ref()) {
        lines.push(format!("Cold start and first answer after the release: “{}”", first.prompt));
    }
    if let Some(warm) = &latency.warm {
        let prompts: Vec<_> = warm.prompts.iter().map(|prompt| format!("“{prompt}”")).collect();
        let cached = warm.answers.iter().filter_map(|figures| figures.cached_tokens).max().unwrap_or(0);
        lines.push(format!(
            "Warm answers, at most {} tokens each, of whose prompts at most {cached} {} cached: {}",
            warm.max_tokens,
            if cached == 1 { "token was" } else { "tokens were" },
            prompts.join(", ")
        ));
    }
    lines
}

fn page_cache(cache: &PageCache) -> String {
    let share = cache.cached_share.map(|share| format!(" ({:.0} % of the files)", share * 100.0)).unwrap_or_default();
    let state = match cache.state {
        CacheState::Warm => "warm",
        CacheState::Cold => "without the model's files",
        CacheState::Partly => "with a part of the model's files",
        CacheState::Unknown => "unknown",
    };
    match &cache.dropped_by {
        Some(by) => format!("Page cache before the cold start: {state}{share}; dropped by {by}."),
        None => format!("Page cache before the cold start: {state}{share}; nothing was dropped."),
    }
}

/// `12.3 ms` or `1.23 s`.
pub fn span(ms: Option<f64>) -> String {
    match ms {
        None => UNKNOWN.to_owned(),
        Some(ms) if ms < 1000.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{:.2} s", ms / 1000.0),
    }
}
