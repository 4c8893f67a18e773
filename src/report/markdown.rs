//! A report as Markdown, with whole answers.

use super::charts::CHARTS;
use super::data::{CheckResult, Report, ScenarioResult, TurnResult};
use super::rows::{self, Grid};
use crate::sanitize::{sanitize, sanitize_line};

/// The report as Markdown. `charts`: with the charts, which lie beside it.
pub fn markdown(report: &Report, charts: bool) -> String {
    let mut out = format!("# Test report: {}\n\n", inline(&report.header.model.name));
    let facts = rows::facts(report).into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    out += &table(&Grid { head: vec!["", ""], rows: facts.collect() });
    out += &format!("\n**{}**\n\n## Scenarios\n\n", inline(&rows::summary(report)));
    out += &table(&rows::scenarios(report, false));
    out += &list(&rows::remarks(report));
    if charts {
        out += &picture("speed");
    }
    if let Some(latency) = &report.latency {
        out += "\n## Latency\n\n";
        out += &table(&rows::latency(latency));
        out += &format!("\n{}", table(&rows::phases(latency)));
        out += &format!("\n{}", table(&rows::memory(latency)));
        out += &list(&rows::conditions(latency));
        if charts {
            out += &(picture("latency") + &picture("memory"));
        }
    }
    if !report.notes.is_empty() {
        out += &format!("\n## Notes\n{}", list(&report.notes));
    }
    out += "\n## Answers\n";
    out.extend(report.scenarios.iter().map(answers));
    out
}

/// The answers of a scenario, and what they were checked for.
fn answers(scenario: &ScenarioResult) -> String {
    let mut out = String::new();
    for (index, run) in scenario.runs.iter().enumerate() {
        let repetition = if scenario.runs.len() > 1 { format!(", repetition {}", index + 1) } else { String::new() };
        let seed = run.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        out += &format!("\n### {}{repetition}{seed}: {}\n", inline(&scenario.name), run.verdict.word());
        out.extend(run.turns.iter().map(turn));
    }
    out
}

fn turn(turn: &TurnResult) -> String {
    let mut out = format!("\n{}\n", quote(&turn.prompt));
    if !turn.reasoning.trim().is_empty() {
        out += &format!("\nReasoning:\n\n{}", fenced(&turn.reasoning));
    }
    out += &match &turn.error {
        Some(error) => format!("\nNo answer: {}\n", inline(error)),
        None => format!("\n{}", fenced(&turn.answer)),
    };
    let lines: Vec<_> = turn.checks.iter().map(check).collect();
    out + &list(&lines)
}

fn check(check: &CheckResult) -> String {
    let detail = if check.detail.is_empty() { String::new() } else { format!(": {}", check.detail) };
    format!("{}: {}{detail}", check.verdict.word(), check.check)
}

/// A chart for light and for dark pages.
fn picture(name: &str) -> String {
    let about = CHARTS.iter().find(|(chart, _)| *chart == name).map_or(name, |(_, about)| about);
    format!(
        "\n<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{name}-dark.svg\">\n  \
         <img alt=\"{about}\" src=\"{name}-light.svg\">\n</picture>\n"
    )
}

fn table(grid: &Grid) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(grid.head.iter().map(|cell| (*cell).to_owned()).collect());
    out += &line(vec!["---".to_owned(); grid.head.len()]);
    out.extend(grid.rows.iter().map(|row| line(row.iter().map(|cell| inline(cell)).collect())));
    out
}

/// A list behind an empty line; nothing without items.
fn list(items: &[String]) -> String {
    let lines: String = items.iter().map(|item| format!("- {}\n", inline(item))).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Foreign text on one line, without a meaning in Markdown or HTML.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for c in sanitize_line(text).chars() {
        if matches!(c, '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '~') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn quote(text: &str) -> String {
    let lines: Vec<_> = sanitize(text).lines().map(|line| format!("> {}", inline(line))).collect();
    lines.join("\n")
}

/// Foreign text in a fence that it cannot end.
fn fenced(text: &str) -> String {
    let text = sanitize(text);
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}
