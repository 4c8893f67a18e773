//! What is compared: facts and figures of two subjects, their ratios, and what differs between them.

use serde_json::{Map, Value, json};

use crate::commands::table::Table;
use crate::sanitize::sanitize_line;
use crate::wording::{bytes, count};

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Ms,
    Rate,
    Count,
    Bytes,
    /// A share, 0 to 1.
    Share,
}

/// A figure: its name for people and its key in JSON. `None`: not known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub name: String,
    pub key: String,
    pub unit: Unit,
    pub value: Option<f64>,
}

/// One of the two things that are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subject {
    /// `A`, or the name of a file.
    pub name: String,
    /// Model, device, settings.
    pub facts: Vec<(String, String)>,
    pub figures: Vec<Figure>,
}

impl Subject {
    pub(super) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    pub(super) fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.facts.push((name.into(), value.into()));
    }

    pub(super) fn figure(&mut self, name: impl Into<String>, key: impl Into<String>, unit: Unit, value: Option<f64>) {
        self.figures.push(Figure { name: name.into(), key: key.into(), unit, value });
    }

    fn value(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key)?.value
    }

    /// The figures by key; an unknown one is `null`.
    pub(super) fn json(&self) -> Value {
        let rounded = |value: f64| json!((value * 1000.0).round() / 1000.0);
        let whole = |value: f64| json!(value.round() as u64);
        let figures = self.figures.iter().map(|figure| {
            let is_whole = matches!(figure.unit, Unit::Count | Unit::Bytes);
            let value = figure.value.map_or(Value::Null, |value| if is_whole { whole(value) } else { rounded(value) });
            (figure.key.clone(), value)
        });
        Value::Object(figures.collect())
    }
}

/// The keys of both, those of the first one first.
fn figures([a, b]: &[Subject; 2]) -> impl Iterator<Item = &Figure> {
    let only_b = b.figures.iter().filter(|figure| a.figures.iter().all(|other| other.key != figure.key));
    a.figures.iter().chain(only_b)
}

/// The second value divided by the first; `None` where one is unknown, or the first is 0.
fn ratio([a, b]: &[Subject; 2], key: &str) -> Option<f64> {
    let (a, b) = (a.value(key)?, b.value(key)?);
    (a != 0.0).then(|| b / a)
}

/// The figures of both with their ratios.
pub(super) fn table(subjects: &[Subject; 2]) -> Table {
    let mut table = Table::new(&["figure", "A", "B", "B / A"]);
    for figure in figures(subjects) {
        let value = |subject: &Subject| subject.value(&figure.key).map_or("-".into(), |value| show(value, figure.unit));
        let ratio = ratio(subjects, &figure.key).map_or("-".into(), |ratio| format!("{ratio:.2}"));
        table.row([figure.name.clone(), value(&subjects[0]), value(&subjects[1]), ratio]);
    }
    table
}

/// The ratios by key, rounded to thousandths.
pub(super) fn ratios(subjects: &[Subject; 2]) -> Value {
    let rounded = |ratio: f64| (ratio * 1000.0).round() / 1000.0;
    let ratios = figures(subjects).map(|figure| (figure.key.clone(), json!(ratio(subjects, &figure.key).map(rounded))));
    Value::Object(ratios.collect())
}

/// The facts that differ: name, and the value of each.
fn different([a, b]: &[Subject; 2]) -> Vec<(&str, &str, &str)> {
    let find = |subject: &'_ Subject, name: &str| subject.facts.iter().position(|(fact, _)| fact == name);
    let names = a.facts.iter().map(|(name, _)| name);
    let only_b = b.facts.iter().map(|(name, _)| name).filter(|name| find(a, name).is_none());
    let value = |subject, name: &str| find(subject, name);
    let pairs = names.chain(only_b).map(|name| {
        let of_a = value(a, name).map_or("-", |place| a.facts[place].1.as_str());
        let of_b = value(b, name).map_or("-", |place| b.facts[place].1.as_str());
        (name.as_str(), of_a, of_b)
    });
    pairs.filter(|(_, a, b)| a != b).collect()
}

/// What differs, a line each; says so if nothing does.
pub(super) fn differences(subjects: &[Subject; 2]) -> String {
    let found = different(subjects);
    if found.is_empty() {
        return "Model, device and settings are the same.\n".into();
    }
    let line = |(name, a, b): &(&str, &str, &str)| sanitize_line(&format!("{name}: {a} | {b}")) + "\n";
    format!("\nWhat differs (A | B):\n{}", found.iter().map(line).collect::<String>())
}

/// What differs, by name: `[A, B]`.
pub(super) fn differing(subjects: &[Subject; 2]) -> Value {
    let found = different(subjects).into_iter().map(|(name, a, b)| (name.to_owned(), json!([a, b])));
    Value::Object(found.collect::<Map<_, _>>())
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ms if value >= 10_000.0 => format!("{:.1} s", value / 1000.0),
        Unit::Ms if value >= 1000.0 => format!("{:.2} s", value / 1000.0),
        Unit::Ms => format!("{value:.1} ms"),
        Unit::Rate => format!("{value:.1}"),
        Unit::Count => count(value as usize),
        Unit::Bytes => bytes(value as u64),
        Unit::Share => format!("{:.0} %", value * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::TableFormat;

    fn subject(name: &str, model: &str, ttft: Option<f64>, tokens: f64) -> Subject {
        let mut subject = Subject::new(name.into());
        subject.fact("model", model);
        subject.fact("device", "the same");
        subject.figure("time to first token", "ttft_ms", Unit::Ms, ttft);
        subject.figure("tokens", "tokens", Unit::Count, Some(tokens));
        subject
    }

    #[test]
    fn ratios_are_of_the_second_to_the_first_and_unknown_ones_are_null() {
        let two = [subject("A", "x", Some(200.0), 0.0), subject("B", "y", Some(1500.0), 1234.0)];
        let text = table(&two).render(TableFormat::Table, &Value::Null);
        assert_eq!(
            text,
            "figure               A         B       B / A\n\
             time to first token  200.0 ms  1.50 s  7.50\n\
             tokens               0         1,234   -\n"
        );
        assert_eq!(ratios(&two), json!({"ttft_ms": 7.5, "tokens": null}));
        assert_eq!(differing(&two), json!({"model": ["x", "y"]}));
        assert_eq!(differences(&two), "\nWhat differs (A | B):\nmodel: x | y\n");
        let unknown = [subject("A", "x", None, 1.0), subject("B", "x", Some(1.0), 1.0)];
        assert_eq!(ratios(&unknown), json!({"ttft_ms": null, "tokens": 1.0}));
        assert_eq!((unknown[0].json(), differing(&unknown)), (json!({"ttft_ms": null, "tokens": 1}), json!({})));
    }

    #[test]
    fn what_only_one_has_is_shown_too() {
        let mut b = subject("B", "x", Some(1.0), 1.0);
        b.figure("memory", "memory_bytes", Unit::Bytes, Some(2e9));
        b.fact("build", "release");
        let two = [subject("A", "x", Some(1.0), 1.0), b];
        let text = table(&two).render(TableFormat::Table, &Value::Null);
        assert!(text.ends_with("memory               -       2.0 GB  -\n"), "{text}");
        assert_eq!(differing(&two), json!({"build": ["-", "release"]}));
    }
}
