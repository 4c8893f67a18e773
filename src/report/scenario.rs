//! Scenario files: conversations with checks, in TOML. `assets/scenarios.toml` describes the form.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::check::{Check, RawCheck};
use crate::files;

/// Largest scenario file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Most tokens of an answer if the scenario does not say.
const MAX_TOKENS: usize = 256;

/// The scenarios that chatnap brings along.
const BUILT_IN: &str = include_str!("../../assets/scenarios.toml");

/// The scenarios of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenarios {
    /// The file's path as the user wrote it, or `built-in`.
    pub name: String,
    /// In the file's order; at least one.
    pub list: Vec<Scenario>,
}

/// A conversation with checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name, which no other scenario of the file has.
    pub name: String,
    /// System message.
    pub system: Option<String>,
    /// Most tokens of each answer.
    pub max_tokens: usize,
    /// At least one.
    pub turns: Vec<Turn>,
}

/// A question and what its answer must be like.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The question.
    pub prompt: String,
    /// All have to pass.
    pub checks: Vec<Check>,
}

/// What is wrong with a scenario file, with its path, line and key. May quote foreign text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    scenario: Vec<RawScenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawScenario {
    name: Spanned<String>,
    system: Option<String>,
    max_tokens: Option<Spanned<usize>>,
    #[serde(default)]
    turns: Vec<RawTurn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTurn {
    prompt: Spanned<String>,
    #[serde(default)]
    checks: Vec<Spanned<RawCheck>>,
}

impl Scenarios {
    /// chatnap's own.
    pub fn built_in() -> Result<Self, ScenarioError> {
        Self::parse("built-in", BUILT_IN)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        match files::read_text(path, LARGEST) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(ScenarioError(format!("{name}: the scenario file cannot be read: {error}."))),
        }
    }

    /// Parses the text of the file `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let at = |offset: usize, key: Option<String>, why: &str| {
            let line = 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
            let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
            ScenarioError(format!("{name}:{line}: {key}{why}"))
        };
        let raw: RawFile = from_toml(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            at(start, key_at(text, start), &error.message().trim().replace('\n', ", "))
        })?;
        if raw.scenario.is_empty() {
            return Err(ScenarioError(format!("{name}: scenario: there is no [[scenario]].")));
        }
        let mut names = HashSet::new();
        let mut list = Vec::new();
        for raw in raw.scenario {
            let (start, scenario) = (raw.name.span().start, raw.name.get_ref().trim().to_owned());
            if scenario.is_empty() || !names.insert(scenario.clone()) {
                let why = "every scenario needs a name that no other one has";
                return Err(at(start, Some("name".into()), why));
            }
            if raw.turns.is_empty() {
                return Err(at(start, Some("turns".into()), &format!("the scenario {scenario:?} has no turns")));
            }
            if let Some(zero) = raw.max_tokens.as_ref().filter(|most| *most.get_ref() == 0) {
                return Err(at(zero.span().start, Some("max-tokens".into()), "at least 1 is needed"));
            }
            let mut turns = Vec::new();
            for turn in raw.turns {
                if turn.prompt.get_ref().trim().is_empty() {
                    return Err(at(turn.prompt.span().start, Some("prompt".into()), "it is empty"));
                }
                let checks = turn.checks.into_iter().map(|check| {
                    let start = check.span().start;
                    check.into_inner().check().map_err(|(key, why)| at(start, key.map(str::to_owned), &why))
                });
                turns.push(Turn { prompt: turn.prompt.into_inner(), checks: checks.collect::<Result<_, _>>()? });
            }
            let max_tokens = raw.max_tokens.map_or(MAX_TOKENS, Spanned::into_inner);
            list.push(Scenario { name: scenario, system: raw.system, max_tokens, turns });
        }
        Ok(Self { name: name.to_owned(), list })
    }
}

fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    toml::from_str(text)
}

/// The key at `offset` of a TOML text, or the one whose value is there; `None` if there is none on the line.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let rest = text.get(offset..)?;
    let word: String = rest.chars().take_while(|&c| is_key(c)).collect();
    if !word.is_empty() && rest[word.len()..].trim_start().starts_with('=') {
        return Some(word);
    }
    let line = text[..offset].rsplit('\n').next()?;
    let before = line[..line.rfind('=')?].trim_end();
    let key: String = before.chars().rev().take_while(|&c| is_key(c)).collect();
    (!key.is_empty()).then(|| key.chars().rev().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn error(text: &str) -> String {
        Scenarios::parse("s.toml", text).unwrap_err().0
    }

    #[test]
    fn built_in_file_has_seven_scenarios_with_checks() {
        let scenarios = Scenarios::built_in().unwrap();
        assert_eq!(scenarios.list.len(), 7);
        for scenario in &scenarios.list {
            assert!(scenario.turns.iter().any(|turn| !turn.checks.is_empty()), "{}", scenario.name);
        }
        assert_eq!(scenarios.list[4].turns.len(), 2);
    }

    #[test]
    fn defaults_are_filled_in() {
        let text = "[[scenario]]\nname = \" a \"\n[[scenario.turns]]\nprompt = \"hi\"\n";
        let scenario = &Scenarios::parse("s.toml", text).unwrap().list[0];
        assert_eq!((scenario.name.as_str(), scenario.max_tokens, scenario.system.as_deref()), ("a", 256, None));
        assert!(scenario.turns[0].checks.is_empty());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let head = "[[scenario]]\nname = \"a\"\n[[scenario.turns]]\nprompt = \"hi\"\n";
        for (text, wanted) in [
            ("", "s.toml: scenario: there is no [[scenario]]."),
            ("[[scenario]]\nnme = \"a\"\n", "s.toml:2: nme: unknown field `nme`"),
            ("[[scenario]]\nname = 3\n", "s.toml:2: name: invalid type: integer `3`, expected a string"),
            ("[[scenario]]\nname = \"\"\n", "s.toml:2: name: every scenario needs a name"),
            ("[[scenario]]\nname = \"a\"\n", "s.toml:2: turns: the scenario \"a\" has no turns"),
            ("[[scenario]]\nname = \"a\"\nmax-tokens = 0\nturns = [{ prompt = \"x\" }]\n", "s.toml:3: max-tokens: at"),
            ("[[scenario]]\nname = \"a\"\nmax-tokens = -1\n", "s.toml:3: max-tokens: invalid value"),
            ("[[scenario]]\nname = \"a\"\nturns = [{ prompt = \" \" }]\n", "s.toml:3: prompt: it is empty"),
            ("[[scenario]\n", "s.toml:1: "),
        ] {
            let found = error(text);
            assert!(found.starts_with(wanted), "{found}");
        }
        for (checks, wanted) in [
            ("checks = [\n  { max-wrds = 3 },\n]\n", "s.toml:6: max-wrds: unknown field `max-wrds`"),
            ("checks = [{ max-words = \"x\" }]\n", "s.toml:5: max-words: invalid type: string \"x\""),
            ("checks = [{ lines = 3 }, { }]\n", "s.toml:5: a check has exactly one of contains,"),
            ("checks = [{ lines = 3, json = true }]\n", "s.toml:5: a check has exactly one of contains,"),
            ("checks = [{ lines = 3, match = \"any\" }]\n", "s.toml:5: match: it does not apply to lines"),
            ("checks = [{ language = \"klingon\" }]\n", "s.toml:5: language: "),
            ("checks = [{ language = \"han\", min-share = 2 }]\n", "s.toml:5: min-share: "),
            ("checks = [{ contains = [] }]\n", "s.toml:5: contains: "),
            ("checks = [{ json = false }]\n", "s.toml:5: json: "),
        ] {
            let found = error(&format!("{head}{checks}"));
            assert!(found.starts_with(wanted), "{found}");
        }
        assert!(error(&format!("{head}{head}")).starts_with("s.toml:6: name: every scenario"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Scenarios::read(Path::new("/nowhere/s.toml")).unwrap_err().0;
        assert!(error.starts_with("/nowhere/s.toml: the scenario file cannot be read: "), "{error}");
    }
}
