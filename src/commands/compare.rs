//! `chatnap compare`: two models or two settings answer the same, one after the other, and their figures stand side by side;
//! or the figures of two reports.

use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::cli::args::{CompareArgs, TableFormat};
use crate::engine::source::CancelFlag;
use crate::failure::{Code, Failure};
use crate::output::{self, Reader};
use crate::sanitize::sanitize;
use crate::settings::Resolved;
use crate::signals;

mod ask;
mod columns;
mod figures;
mod played;
mod reports;
mod sides;

use ask::Asked;
use figures::Subject;
use sides::Side;

/// Returns the exit code.
pub(super) fn run(resolved: &Resolved, args: &CompareArgs) -> Result<u8, Failure> {
    match (&args.reports[..], &args.scenarios) {
        ([a, b], _) => reports::run([a, b], args.format).map(|_| Code::Ok as u8),
        ([_, ..], _) => Err(Failure::usage("compare takes two reports: `chatnap compare A.json B.json`.")),
        ([], Some(file)) => {
            let stop = stop_at_signals()?;
            played::run(sides::both(resolved, args)?, file.as_deref(), args.format, &stop)
        }
        ([], None) => two_answers(resolved, args),
    }
}

/// Raised by the first Ctrl-C.
fn stop_at_signals() -> Result<CancelFlag, Failure> {
    let stop = CancelFlag::default();
    let raised = stop.clone();
    signals::listen(move || raised.cancel())?;
    Ok(stop)
}

/// Asks both sides the prompt.
fn two_answers(resolved: &Resolved, args: &CompareArgs) -> Result<u8, Failure> {
    let Some(prompt) = args.prompt.as_deref().filter(|prompt| !prompt.trim().is_empty()) else {
        return Err(Failure::usage(
            "compare needs a prompt (-p TEXT) or --scenarios. `chatnap compare --help` has examples.",
        ));
    };
    let [a, b] = sides::both(resolved, args)?;
    let stop = stop_at_signals()?;
    let streams = args.format == TableFormat::Table && output::columns().is_none();
    let first = ask::ask(&a, prompt, &stop)?;
    if streams && say(&a, &first)? == Reader::Gone {
        return Ok(Code::Ok as u8);
    }
    let second = if stop.is_cancelled() { None } else { Some(ask::ask(&b, prompt, &stop)) };
    match second {
        Some(Ok(second)) => {
            if streams && say(&b, &second)? == Reader::Gone {
                return Ok(Code::Ok as u8);
            }
            print(args.format, prompt, [(&a, &first), (&b, &second)], streams)?;
            Ok(if stop.is_cancelled() { Code::Interrupted } else { Code::Ok } as u8)
        }
        failed => {
            // The first answer took its time: it is not lost with the second.
            if !streams && args.format != TableFormat::Json {
                say(&a, &first)?;
            }
            failed.map_or(Ok(Code::Interrupted as u8), |failed| failed.map(|_| Code::Failed as u8))
        }
    }
}

/// `said`: the answers are on stdout already.
fn print(format: TableFormat, prompt: &str, sides: [(&Side, &Asked); 2], said: bool) -> Result<Reader, Failure> {
    let subjects = sides.map(|(side, asked)| asked.subject(side));
    match format {
        TableFormat::Json => output::write_json_pretty(&object(prompt, sides, &subjects)),
        TableFormat::Markdown => {
            let part = |(side, asked): (&Side, &Asked)| format!("## {}\n\n{}\n\n", side.title(), asked.answer.trim());
            let text = sides.map(part).concat();
            output::write(&(sanitize(&text) + &figures::table(&subjects).render(format, &Value::Null)))
        }
        TableFormat::Table => {
            let [a, b] = sides.map(|(side, asked)| (side.title(), asked.answer.as_str()));
            let columns = output::columns().unwrap_or(80);
            let beside = || columns::beside([&a.0, &b.0], [a.1, b.1], columns) + "\n";
            let above = if said { String::new() } else { beside() };
            let table = figures::table(&subjects).render_within(output::columns(), format, &Value::Null);
            output::write(&(above + &table + &figures::differences(&subjects)))
        }
    }
}

/// One answer under its title.
fn say(side: &Side, asked: &Asked) -> Result<Reader, Failure> {
    let text = format!("{}\n\n{}\n\n", side.title(), asked.answer.trim());
    // Foreign text is made harmless for a pipe, too: what is read here ends in a terminal as often as not.
    output::write(&sanitize(&text))
}

fn object(prompt: &str, sides: [(&Side, &Asked); 2], subjects: &[Subject; 2]) -> Value {
    let [a, b] = sides.map(|(side, asked)| asked.json(side));
    json!({"prompt": prompt, "a": a, "b": b, "ratios": figures::ratios(subjects), "differs": figures::differing(subjects)})
}

/// Says on stderr what happens, if that is a terminal.
fn note(text: &str) {
    if std::io::stderr().is_terminal() {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{}", sanitize(text));
    }
}
