//! Both sides play the scenarios of `chatnap report`; their reports are compared.

use std::path::Path;

use serde_json::Value;

use super::reports;
use super::sides::Side;
use super::{note, reports::Named};
use crate::cli::args::TableFormat;
use crate::engine::source::CancelFlag;
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use crate::report::{self, Options, Report, Scenarios, Step};

/// Plays `file`, or the built-in scenarios, with each side; returns the exit code. After the stop flag was raised, the
/// comparison has what was done until then.
pub(super) fn run(
    sides: [Side; 2],
    file: Option<&Path>,
    format: TableFormat,
    stop: &CancelFlag,
) -> Result<u8, Failure> {
    let read = file.map_or_else(Scenarios::built_in, Scenarios::read);
    let scenarios = read.map_err(|error| Failure::usage(error.0))?;
    let [a, b] = sides;
    let (first, second) = (play(&a, &scenarios, stop)?, play(&b, &scenarios, stop)?);
    reports::show([named(&a, &first)?, named(&b, &second)?], format)?;
    Ok(if first.complete && second.complete { Code::Ok } else { Code::Interrupted } as u8)
}

fn play(side: &Side, scenarios: &Scenarios, stop: &CancelFlag) -> Result<Report, Failure> {
    let options = Options { stop: stop.clone(), ..Options::default() };
    let mut progress = Progress::new(false);
    let report = report::run(&side.settings, scenarios, &options, &mut |step| match step {
        Step::Load(step) => progress.show(step),
        Step::Begins { name, place: (place, all), .. } => {
            progress.clear();
            note(&format!("{}: {place} of {all}, {name}", side.letter));
        }
        Step::Says(_) | Step::Ends { .. } => progress.clear(),
    });
    report.map_err(|failure| Failure::new(failure.code, format!("{}: {}", side.title(), failure.message)))
}

fn named(side: &Side, report: &Report) -> Result<Named, Failure> {
    let failed = |error: serde_json::Error| Failure::failed(format!("The report could not be written: {error}."));
    let report: Value = serde_json::to_value(report).map_err(failed)?;
    Ok(Named { name: side.title(), report })
}
