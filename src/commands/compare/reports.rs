//! Two reports of `chatnap report`: their figures, verdicts, and what differs in build, device, model and sampling.

use std::path::Path;

use serde_json::{Value, json};

use super::figures::{self, Subject, Unit};
use crate::cli::args::TableFormat;
use crate::commands::table::Table;
use crate::failure::Failure;
use crate::files;
use crate::output::{self, Reader};

/// Largest report that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// The format of `report.json` that is understood.
const FORMAT: u64 = 1;

/// The facts of a report's header: name, and where it is.
const FACTS: &[(&str, &str)] = &[
    ("model", "/model/name"),
    ("quantization", "/model/quantization"),
    ("model files", "/model/hash"),
    ("chat template", "/model/template_hash"),
    ("model files", "/model/hash"),
    ("chat template", "/model/template_hash"),
    ("context length", "/model/context_length"),
    ("device", "/device/name"),
    ("threads", "/device/threads"),
    ("instructions", "/device/instructions"),
    ("version", "/version"),
    ("build", "/build"),
    ("engine", "/engine"),
    ("engine", "/engine"),
    ("temperature", "/sampling/temperature"),
    ("top_k", "/sampling/top_k"),
    ("top_p", "/sampling/top_p"),
    ("min_p", "/sampling/min_p"),
    ("repeat_penalty", "/sampling/repeat_penalty"),
    ("seed", "/sampling/seed"),
    ("scenarios", "/scenarios"),
    ("repetitions", "/repeat"),
    ("code of answers was run", "/run_code"),
];

/// The figures of the latency table: name, key, unit, and where it is.
const LATENCY: &[(&str, &str, Unit, &str)] = &[
    ("cold start to the first token", "cold_first_token_ms", Unit::Ms, "/cold/first_token_ms"),
    ("cold load", "cold_load_ms", Unit::Ms, "/cold/figures/load_ms"),
    ("warm TTFT p50", "warm_ttft_p50_ms", Unit::Ms, "/warm/ttft_p50_ms"),
    ("warm TTFT p95", "warm_ttft_p95_ms", Unit::Ms, "/warm/ttft_p95_ms"),
    ("warm total p50", "warm_total_p50_ms", Unit::Ms, "/warm/total_p50_ms"),
    ("warm total p95", "warm_total_p95_ms", Unit::Ms, "/warm/total_p95_ms"),
    ("release", "release_ms", Unit::Ms, "/release_ms"),
    ("first token after a release", "after_release_first_token_ms", Unit::Ms, "/after_release/first_token_ms"),
    ("process memory, loaded", "loaded_resident_bytes", Unit::Bytes, "/loaded/resident_bytes"),
    ("GPU memory, loaded", "loaded_gpu_bytes", Unit::Bytes, "/loaded/gpu_own_bytes"),
    ("process memory, after the release", "after_resident_bytes", Unit::Bytes, "/after/resident_bytes"),
];

pub(super) fn run(paths: [&Path; 2], format: TableFormat) -> Result<Reader, Failure> {
    let [a, b] = paths.map(|path| read(path).map(|report| Named { name: path.display().to_string(), report }));
    show([a?, b?], format)
}

/// A report with its name: that of its file, or the title of a side.
pub(super) struct Named {
    pub name: String,
    pub report: Value,
}

/// Prints the comparison of two reports.
pub(super) fn show(reports: [Named; 2], format: TableFormat) -> Result<Reader, Failure> {
    let verdicts = verdicts([&reports[0].report, &reports[1].report]);
    let subjects = reports.map(|named| subject(named.name, &named.report));
    if format == TableFormat::Json {
        let side = |subject: &Subject| {
            let facts = subject.facts.iter().map(|(name, value)| (name.clone(), json!(value)));
            json!({
                "name": subject.name,
                "facts": Value::Object(facts.collect()),
                "figures": subject.json(),
            })
        };
        let scenarios = verdicts.iter().map(|(name, a, b)| json!({"name": name, "a": a, "b": b}));
        return output::write_json_pretty(&json!({
            "a": side(&subjects[0]),
            "b": side(&subjects[1]),
            "scenarios": scenarios.collect::<Vec<_>>(),
            "ratios": figures::ratios(&subjects),
            "differs": figures::differing(&subjects),
        }));
    }
    let mut played = Table::new(&["scenario", "A", "B"]);
    for (name, a, b) in verdicts {
        let cell = |verdict: Option<String>| verdict.unwrap_or_else(|| "-".into());
        played.row([name, cell(a), cell(b)]);
    }
    let text = |table: Table| table.render_within(output::columns(), format, &Value::Null);
    // The title of a side has its letter already.
    let letter = |letter: &str, name: &str| {
        let begin = format!("{letter}: ");
        if name.starts_with(&begin) { name.to_owned() } else { begin + name }
    };
    let names = format!("{}\n{}\n\n", letter("A", &subjects[0].name), letter("B", &subjects[1].name));
    let names = crate::sanitize::sanitize(&names);
    let differences = figures::differences(&subjects);
    output::write(&(names + &text(figures::table(&subjects)) + "\n" + &text(played) + "\n" + differences.trim_start()))
}

fn read(path: &Path) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = files::read_text(path, LARGEST).map_err(|error| wrong(format!("the file cannot be read: {error}.")))?;
    let advice = "`chatnap report --out DIR` writes report.json";
    let report: Value = serde_json::from_str(&text).map_err(|_| wrong(format!("this is no report: {advice}.")))?;
    match report["format"].as_u64() {
        Some(FORMAT) if report.pointer("/header/model").is_some() && report["scenarios"].is_array() => Ok(report),
        Some(newer) if newer > FORMAT => Err(wrong(format!(
            "this report has format {newer}, and this version reads format {FORMAT}: update chatnap."
        ))),
        _ => Err(wrong(format!("this is no report: {advice}."))),
    }
}

fn subject(name: String, report: &Value) -> Subject {
    let mut subject = Subject::new(name);
    for (fact, place) in FACTS {
        let value = match report["header"].pointer(place) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        subject.fact(*fact, value);
    }
    for (figure, key, unit, place) in LATENCY {
        let value = report["latency"].pointer(place).and_then(Value::as_f64);
        subject.figure(*figure, *key, *unit, value);
    }
    let turns = || runs(report).flat_map(|run| list(&run["turns"])).map(|turn| &turn["figures"]);
    let speeds: Vec<_> = turns().filter_map(|figures| figures["tokens_per_second"].as_f64()).collect();
    let sum = |key: &str| {
        let values: Vec<_> = turns().filter_map(|figures| figures[key].as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    };
    let judged = runs(report).filter(|run| run["verdict"] == "pass" || run["verdict"] == "fail").count();
    let passed = runs(report).filter(|run| run["verdict"] == "pass").count();
    let rate = (judged > 0).then(|| passed as f64 / judged as f64);
    subject.figure("scenarios: tokens per second, median", "tokens_per_second", Unit::Rate, median(speeds));
    subject.figure("scenarios: completion tokens", "completion_tokens", Unit::Count, sum("completion_tokens"));
    subject.figure("scenarios: time", "total_ms", Unit::Ms, sum("total_ms"));
    subject.figure("scenarios: passed", "pass_rate", Unit::Share, rate);
    subject
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn runs(report: &Value) -> impl Iterator<Item = &Value> {
    list(&report["scenarios"]).flat_map(|scenario| list(&scenario["runs"]))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Each scenario of either report with both verdicts, and passes of repetitions where there are several.
fn verdicts([a, b]: [&Value; 2]) -> Vec<(String, Option<String>, Option<String>)> {
    let named = |report: &Value, name: &str| {
        let scenario = list(&report["scenarios"]).find(|scenario| scenario["name"] == *name)?;
        let (passed, judged) = (&scenario["pass_rate"]["passed"], scenario["pass_rate"]["judged"].as_u64());
        let verdict = scenario["verdict"].as_str()?.to_owned();
        Some(match judged.filter(|judged| *judged > 1) {
            Some(judged) => format!("{verdict}, {passed} of {judged}"),
            None => verdict,
        })
    };
    let mut names: Vec<&str> = Vec::new();
    for name in list(&a["scenarios"]).chain(list(&b["scenarios"])).filter_map(|scenario| scenario["name"].as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| (name.to_owned(), named(a, name), named(b, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(model: &str, ttft: f64, verdict: &str) -> Value {
        let turn = json!({"figures": {"tokens_per_second": 10.0, "completion_tokens": 20, "total_ms": 100.0}});
        json!({
            "format": 1,
            "header": {"model": {"name": model}, "device": {"name": "d", "threads": 2}, "sampling": {"seed": null}},
            "scenarios": [{
                "name": "haiku",
                "verdict": verdict,
                "pass_rate": {"passed": 1, "judged": 2},
                "runs": [{"verdict": "pass", "turns": [turn]}, {"verdict": verdict, "turns": [turn]}],
            }],
            "latency": {"warm": {"ttft_p50_ms": ttft}, "loaded": {"resident_bytes": 1000}},
        })
    }

    #[test]
    fn figures_and_verdicts_are_read_and_unknown_ones_stay_unknown() {
        let (a, b) = (report("x", 100.0, "pass"), report("y", 50.0, "fail"));
        let subjects = [subject("a.json".into(), &a), subject("b.json".into(), &b)];
        let ratios = figures::ratios(&subjects);
        assert_eq!((&ratios["warm_ttft_p50_ms"], &ratios["release_ms"]), (&json!(0.5), &Value::Null));
        assert_eq!((&ratios["pass_rate"], &ratios["total_ms"]), (&json!(0.5), &json!(1.0)));
        assert_eq!(subjects[0].json()["completion_tokens"], 40);
        assert_eq!(figures::differing(&subjects), json!({"model": ["x", "y"]}));
        let verdicts = verdicts([&a, &b]);
        assert_eq!(verdicts, [("haiku".into(), Some("pass, 1 of 2".into()), Some("fail, 1 of 2".into()))]);
    }
}
