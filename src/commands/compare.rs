//! `chatnap compare`: two models or two settings answer the same, one after the other, and their figures stand side by side;
//! or the figures of two reports.

use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::cli::args::{CompareArgs, TableFormat};
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::sanitize::sanitize;
use crate::settings::Resolved;

mod ask;
mod columns;
mod figures;
mod reports;
mod sides;

use ask::Asked;
use figures::Subject;
use sides::Side;

pub(super) fn run(resolved: &Resolved, args: &CompareArgs) -> Result<Reader, Failure> {
    match &args.reports[..] {
        [] => two_answers(resolved, args),
        [a, b] => reports::run([a, b], args.format),
        _ => Err(Failure::usage("compare takes two reports: `chatnap compare A.json B.json`.")),
    }
}

fn two_answers(resolved: &Resolved, args: &CompareArgs) -> Result<Reader, Failure> {
    let Some(prompt) = args.prompt.as_deref().filter(|prompt| !prompt.trim().is_empty()) else {
        return Err(Failure::usage("compare needs a prompt: -p TEXT. `chatnap compare --help` has examples."));
    };
    let [a, b] = sides::both(resolved, args)?;
    let streams = args.format == TableFormat::Table && output::columns().is_none();
    let first = ask::ask(&a, prompt)?;
    if streams && say(&a, &first)? == Reader::Gone {
        return Ok(Reader::Gone);
    }
    let second = match ask::ask(&b, prompt) {
        Ok(second) => second,
        Err(failure) => {
            // The first answer took its time: it is not lost with the second.
            if !streams && args.format != TableFormat::Json {
                say(&a, &first)?;
            }
            return Err(failure);
        }
    };
    if streams && say(&b, &second)? == Reader::Gone {
        return Ok(Reader::Gone);
    }
    let subjects = [first.subject(&a), second.subject(&b)];
    match args.format {
        TableFormat::Json => output::write_json_pretty(&object(prompt, [(&a, &first), (&b, &second)], &subjects)),
        TableFormat::Markdown => {
            let part = |side: &Side, asked: &Asked| format!("## {}\n\n{}\n\n", side.title(), asked.answer.trim());
            let text = part(&a, &first) + &part(&b, &second);
            output::write(&(sanitize(&text) + &figures::table(&subjects).render(args.format, &Value::Null)))
        }
        TableFormat::Table => {
            let columns = output::columns().unwrap_or(80);
            let answers = [first.answer.as_str(), second.answer.as_str()];
            let beside = columns::beside([&a.title(), &b.title()], answers, columns);
            let above = if streams { String::new() } else { beside + "\n" };
            let table = figures::table(&subjects).render_within(output::columns(), args.format, &Value::Null);
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
