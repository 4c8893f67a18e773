//! `chatnap report`: plays scenarios, prints the report, and writes it into a folder.

use std::io::Write;

use super::table::Table;
use crate::cli::args::{ReportArgs, TableFormat};
use crate::engine::source::CancelFlag;
use crate::failure::{Code, Failure};
use crate::output;
use crate::progress::Progress;
use crate::report::rows::{self, Grid};
use crate::report::{self, Options, Price, Report, Scenarios, Step, Verdict};
use crate::sanitize::sanitize_line;
use crate::settings::Resolved;
use crate::signals;

/// Least width of the answers on a narrow terminal, in cells.
const LEAST_ANSWER: usize = 12;

/// Most characters of an answer in a table that does not end up in a terminal.
const MOST_ANSWER: usize = 60;

/// Runs the report; returns the exit code.
pub(super) fn run(resolved: &Resolved, args: &ReportArgs) -> Result<u8, Failure> {
    let settings = &resolved.settings;
    let read = args.scenarios.as_deref().map_or_else(Scenarios::built_in, Scenarios::read);
    let scenarios = read.map_err(|error| Failure::usage(error.0))?;
    let stop = CancelFlag::default();
    let options = Options {
        repeat: args.repeat,
        run_code: args.run_code,
        drop_caches: args.drop_caches,
        price: price(resolved),
        stop: stop.clone(),
        ..Options::default()
    };
    signals::listen(move || stop.cancel())?;
    let mut told = Told { progress: Progress::new(false), place: String::new() };
    let report = report::run(settings, &scenarios, &options, &mut |step| told.step(step))?;
    told.progress.clear();
    let written = args.out.as_ref().map_or(Ok(()), |folder| report.write_into(folder));
    print(&report, args.format)?;
    if let Err(failure) = written {
        // Stdout has the report already, so that no error follows as JSON.
        return Ok(failure.report());
    }
    let code = match report.complete {
        true => Code::Ok,
        false if options.stop.is_cancelled() => Code::Interrupted,
        false => Code::Failed,
    };
    Ok(code as u8)
}

/// The price of the server that answers, if one does and has one.
fn price(resolved: &Resolved) -> Option<Price> {
    let (server, _) = resolved.settings.servers.of_model(&resolved.settings.model)?;
    let tokens = *resolved.prices.servers.get(&server.name)?;
    Some(Price { tokens, currency: resolved.prices.currency.clone() })
}

/// The progress on stderr.
struct Told {
    progress: Progress,
    /// The scenario that is being played.
    place: String,
}

impl Told {
    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Load(step) => self.progress.show(step),
            Step::Says(text) => self.say(text),
            Step::Begins { name, place: (place, all), repetition } => {
                let repetition = match repetition {
                    (_, 1) => String::new(),
                    (now, all) => format!(", repetition {now} of {all}"),
                };
                self.place = format!("{place} of {all}, {name}{repetition}");
            }
            Step::Ends { run, .. } => {
                let reason = match run.verdict {
                    Verdict::Pass => String::new(),
                    _ => format!(": {}", run.reason),
                };
                self.say(&format!("{}: {}{reason}", self.place, run.verdict.word()));
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.progress.clear();
        // A closed stderr is not an error.
        let _ = writeln!(std::io::stderr(), "{}", sanitize_line(text));
    }
}

fn print(report: &Report, format: TableFormat) -> Result<(), Failure> {
    let text = match format {
        TableFormat::Json => report.json(),
        TableFormat::Markdown => report::markdown(report, false),
        TableFormat::Table => text(report, output::columns()),
    };
    // A closed stdout is not an error: its reader needs no more output.
    output::write(&text).map(drop)
}

/// The report for a terminal of this width.
fn text(report: &Report, columns: Option<usize>) -> String {
    let facts = rows::facts(report);
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out: String =
        facts.iter().map(|(name, value)| format!("{name:width$}  {}\n", sanitize_line(value))).collect();
    let mut scenarios = rows::scenarios(report, true);
    if columns.is_none() {
        shorten(&mut scenarios);
    }
    out += &format!("\n{}", aligned(&scenarios, columns));
    let remarks = rows::remarks(report);
    if !remarks.is_empty() {
        out += "\n";
    }
    out.extend(remarks.iter().map(|remark| format!("{}\n", sanitize_line(remark))));
    out += &format!("\n{}\n", rows::summary(report));
    if let Some(latency) = &report.latency {
        for grid in [rows::latency(latency), rows::phases(latency), rows::memory(latency)] {
            out += &format!("\n{}", aligned(&grid, columns));
        }
        out += "\n";
        out.extend(rows::conditions(latency).iter().map(|line| format!("{}\n", sanitize_line(line))));
    }
    out.extend(report.notes.iter().map(|note| format!("\nnote: {}\n", sanitize_line(note))));
    out
}

/// Cuts the answers.
fn shorten(grid: &mut Grid) {
    let Some(column) = grid.head.iter().position(|head| *head == "answer") else { return };
    for row in &mut grid.rows {
        let answer = sanitize_line(&row[column]);
        row[column] = match answer.chars().count() > MOST_ANSWER {
            true => answer.chars().take(MOST_ANSWER - 1).chain(['…']).collect(),
            false => answer,
        };
    }
}

fn aligned(grid: &Grid, columns: Option<usize>) -> String {
    let mut table = Table::new(&grid.head).yielding(&[("answer", LEAST_ANSWER)]);
    for row in &grid.rows {
        table.row(row.iter().cloned());
    }
    table.render_within(columns, TableFormat::Table, &serde_json::Value::Null)
}
