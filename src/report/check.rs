//! What an answer is checked for, and the verdicts. Pure, except that Python code is run by the function that is given.

use serde::Deserialize;

use super::data::{CheckResult, Verdict};
use super::measures::{self, Script};
use crate::protocol::FinishReason;

/// One check of a scenario file.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Texts that the answer contains.
    Contains(Wanted),
    /// Texts that it does not contain.
    NotContains(Wanted),
    /// No sentence asserts what has all of these words.
    NotAsserted(Vec<String>),
    /// Most words.
    MaxWords(usize),
    /// Most characters.
    MaxCharacters(usize),
    /// Least share of a script among the letters, 0 to 1.
    Language(Script, f64),
    /// Number of lines that are not empty.
    Lines(usize),
    /// A name that a code block defines.
    Defines(String),
    /// The model ended the answer, and nothing follows it.
    EndsByItself,
    /// It is JSON.
    Json,
    /// It is one of these texts.
    Exact(Vec<String>),
    /// Syllables of each line, estimated; decides nothing.
    Syllables(Vec<usize>),
    /// Least number of cached prompt tokens.
    MinCached(usize),
    /// Python that follows the answer's code.
    Python(String),
}

/// Texts to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// At least one; none is empty.
    pub texts: Vec<String>,
    /// How many of them are meant.
    pub quantity: Quantity,
    /// Whether letter case counts.
    pub case_sensitive: bool,
    /// Whether a text inside a longer word does not count.
    pub whole_words: bool,
}

/// How many of several texts are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// One or more.
    Any,
    /// Each.
    All,
}

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The answer.
    pub answer: &'a str,
    /// Why it ended.
    pub finish: FinishReason,
    /// Cached tokens of its prompt.
    pub cached: Option<usize>,
}

/// A text or a list of texts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts is wanted")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// A check as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawCheck {
    contains: Option<Texts>,
    not_contains: Option<Texts>,
    not_asserted: Option<Texts>,
    max_words: Option<usize>,
    max_characters: Option<usize>,
    language: Option<String>,
    lines: Option<usize>,
    defines: Option<String>,
    ends_by_itself: Option<bool>,
    json: Option<bool>,
    exact: Option<Texts>,
    syllables: Option<Vec<usize>>,
    min_cached: Option<usize>,
    python: Option<String>,
    r#match: Option<Quantity>,
    whole_words: Option<bool>,
    case_sensitive: Option<bool>,
    min_share: Option<f64>,
}

/// A wrong key, if one is wrong, and why.
type Wrong = (Option<&'static str>, String);

/// The keys that say what is checked.
const KINDS: &str = "contains, not-contains, not-asserted, max-words, max-characters, language, lines, defines, \
                     ends-by-itself, json, exact, syllables, min-cached and python";

impl RawCheck {
    /// The check, or the key that is wrong and why.
    pub(super) fn check(self) -> Result<Check, Wrong> {
        let (quantity, whole_words) = (self.r#match, self.whole_words);
        let (case_sensitive, min_share) = (self.case_sensitive, self.min_share);
        let wanted = |key, texts, default| {
            Ok(Wanted {
                texts: texts_of(key, texts)?,
                quantity: quantity.unwrap_or(default),
                case_sensitive: case_sensitive.unwrap_or(false),
                whole_words: whole_words.unwrap_or(false),
            })
        };
        let contains = self.contains.map(|texts| wanted("contains", texts, Quantity::All).map(Check::Contains));
        let not = self.not_contains.map(|texts| wanted("not-contains", texts, Quantity::Any).map(Check::NotContains));
        let given: Vec<(&'static str, Result<Check, Wrong>)> = [
            ("contains", contains),
            ("not-contains", not),
            ("not-asserted", self.not_asserted.map(|texts| texts_of("not-asserted", texts).map(Check::NotAsserted))),
            ("max-words", self.max_words.map(|most| Ok(Check::MaxWords(most)))),
            ("max-characters", self.max_characters.map(|most| Ok(Check::MaxCharacters(most)))),
            ("language", self.language.map(|name| language(&name, min_share))),
            ("lines", self.lines.map(|number| Ok(Check::Lines(number)))),
            ("defines", self.defines.map(|name| named(name).map(Check::Defines))),
            ("ends-by-itself", self.ends_by_itself.map(|on| only_true("ends-by-itself", on, Check::EndsByItself))),
            ("json", self.json.map(|on| only_true("json", on, Check::Json))),
            ("exact", self.exact.map(|texts| texts_of("exact", texts).map(Check::Exact))),
            ("syllables", self.syllables.map(|wanted| Ok(Check::Syllables(wanted)))),
            ("min-cached", self.min_cached.map(|least| Ok(Check::MinCached(least)))),
            ("python", self.python.map(|code| Ok(Check::Python(code)))),
        ]
        .into_iter()
        .filter_map(|(key, check)| Some((key, check?)))
        .collect();
        let Ok([(kind, check)]) = <[_; 1]>::try_from(given) else {
            return Err((None, format!("a check has exactly one of {KINDS}")));
        };
        let texts = ["contains", "not-contains"];
        let options: [(&'static str, bool, &[&str]); 4] = [
            ("match", quantity.is_some(), &texts),
            ("whole-words", whole_words.is_some(), &texts),
            ("case-sensitive", case_sensitive.is_some(), &texts),
            ("min-share", min_share.is_some(), &["language"]),
        ];
        match options.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((option, ..)) => Err((Some(option), format!("it does not apply to {kind}"))),
            None => check,
        }
    }
}

fn texts_of(key: &'static str, texts: Texts) -> Result<Vec<String>, Wrong> {
    let texts = match texts {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    };
    let empty = texts.is_empty() || texts.iter().any(|text| text.trim().is_empty());
    if empty { Err((Some(key), "at least one text that is not empty is needed".into())) } else { Ok(texts) }
}

fn language(name: &str, min_share: Option<f64>) -> Result<Check, Wrong> {
    let share = min_share.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&share) {
        return Err((Some("min-share"), "a number from 0 to 1 is wanted".into()));
    }
    match Script::named(name) {
        Some(script) => Ok(Check::Language(script, share)),
        None => {
            let known: Vec<_> = Script::ALL.iter().map(|script| script.name()).collect();
            Err((Some("language"), format!("{name:?} is not known; known are {}", known.join(", "))))
        }
    }
}

fn named(name: String) -> Result<String, Wrong> {
    let valid = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if valid { Ok(name) } else { Err((Some("defines"), "a name of letters, digits and _ is wanted".into())) }
}

fn only_true(key: &'static str, on: bool, check: Check) -> Result<Check, Wrong> {
    if on { Ok(check) } else { Err((Some(key), "only true is possible; leave the check out instead".into())) }
}

impl Check {
    /// What is checked, for people: `at most 30 words`.
    pub fn label(&self) -> String {
        match self {
            Self::Contains(wanted) => format!("contains {}", wanted.label()),
            Self::NotContains(wanted) => match wanted.quantity {
                Quantity::Any => format!("does not contain {}", wanted.label()),
                Quantity::All => format!("does not contain all of {}", quoted(&wanted.texts, ", ")),
            },
            Self::NotAsserted(texts) => format!("does not assert {}", quoted(texts, " … ")),
            Self::MaxWords(most) => format!("at most {most} words"),
            Self::MaxCharacters(most) => format!("at most {most} characters"),
            Self::Language(script, share) => format!("at least {:.0} % {} letters", share * 100.0, script.name()),
            Self::Lines(1) => "1 line".into(),
            Self::Lines(number) => format!("{number} lines"),
            Self::Defines(name) => format!("a code block defines {name}"),
            Self::EndsByItself => "ends by itself".into(),
            Self::Json => "is JSON".into(),
            Self::Exact(texts) => format!("is exactly {}", quoted(texts, " or ")),
            Self::Syllables(wanted) => format!("syllables {} (estimated, not decisive)", dashed(wanted)),
            Self::MinCached(1) => "reuses cached tokens".into(),
            Self::MinCached(least) => format!("reuses at least {least} cached tokens"),
            Self::Python(code) => format!("Python: {}", code.lines().next().unwrap_or_default()),
        }
    }

    /// Checks an answer. `run` runs the answer's Python code with the given code after it.
    pub fn judge(&self, judged: Judged<'_>, run: &mut dyn FnMut(&str, &str) -> (Verdict, String)) -> CheckResult {
        let (verdict, detail) = self.verdict(judged, run);
        CheckResult { check: self.label(), verdict, detail }
    }

    fn verdict(&self, judged: Judged<'_>, run: &mut dyn FnMut(&str, &str) -> (Verdict, String)) -> (Verdict, String) {
        let answer = judged.answer.trim();
        match self {
            Self::Contains(wanted) => contains(wanted, answer),
            Self::NotContains(wanted) => not_contains(wanted, answer),
            Self::NotAsserted(texts) => not_asserted(texts, answer),
            Self::MaxWords(most) => at_most(measures::words(answer), *most, "words"),
            Self::MaxCharacters(most) => at_most(measures::characters(answer), *most, "characters"),
            Self::Language(script, least) => match measures::share(answer, *script) {
                None => (Verdict::Fail, "it has no letters".into()),
                Some(share) => (of(share >= *least), format!("{:.0} % of the letters", share * 100.0)),
            },
            Self::Lines(wanted) => {
                let found = measures::lines(answer).count();
                (of(found == *wanted), format!("it has {found}"))
            }
            Self::Defines(name) => defines(answer, name),
            Self::EndsByItself => ends_by_itself(judged),
            Self::Json => match serde_json::from_str::<serde_json::Value>(measures::only_block(answer)) {
                Ok(_) => (Verdict::Pass, String::new()),
                Err(error) => (Verdict::Fail, error.to_string()),
            },
            Self::Exact(texts) => match texts.iter().any(|text| text.trim() == answer) {
                true => (Verdict::Pass, String::new()),
                false => (Verdict::Fail, "the answer is another one".into()),
            },
            Self::Syllables(wanted) => {
                let found: Vec<_> = measures::lines(answer).map(measures::syllables).collect();
                let alike = if found == *wanted { "as wanted" } else { "not as wanted" };
                (Verdict::Shown, format!("about {}: {alike}", dashed(&found)))
            }
            Self::MinCached(least) => match judged.cached {
                Some(cached) => (of(cached >= *least), format!("{cached} cached")),
                None => (Verdict::NotRun, "the server does not tell".to_owned()),
            },
            Self::Python(code) => run(judged.answer, code),
        }
    }
}

impl Wanted {
    /// `"a" and "b"`.
    fn label(&self) -> String {
        quoted(&self.texts, if self.quantity == Quantity::All { " and " } else { " or " })
    }

    /// The texts that `answer` contains.
    fn found<'a>(&'a self, answer: &str) -> Vec<&'a String> {
        let answer = self.folded(answer);
        let within = |text: &&String| measures::contains(&answer, &self.folded(text), self.whole_words);
        self.texts.iter().filter(within).collect()
    }

    /// With straight apostrophes, and in lower case if letter case does not count.
    fn folded(&self, text: &str) -> String {
        let text = straight(text);
        if self.case_sensitive { text } else { text.to_lowercase() }
    }
}

/// With straight apostrophes.
fn straight(text: &str) -> String {
    text.replace(['’', 'ʼ'], "'")
}

fn not_asserted(texts: &[String], answer: &str) -> (Verdict, String) {
    let parts: Vec<_> = texts.iter().map(|text| straight(text).to_lowercase()).collect();
    match measures::assertion(&straight(answer).to_lowercase(), &parts) {
        Some(sentence) => (Verdict::Fail, format!("it says “{sentence}”")),
        None => (Verdict::Pass, String::new()),
    }
}

fn contains(wanted: &Wanted, answer: &str) -> (Verdict, String) {
    let found = wanted.found(answer);
    let missing: Vec<_> = wanted.texts.iter().filter(|text| !found.contains(text)).collect();
    match wanted.quantity {
        Quantity::Any if found.is_empty() => (Verdict::Fail, "it contains none of them".into()),
        Quantity::All if !missing.is_empty() => (Verdict::Fail, format!("{} is missing", quoted(&missing, ", "))),
        _ => (Verdict::Pass, format!("found {}", quoted(&found, ", "))),
    }
}

fn not_contains(wanted: &Wanted, answer: &str) -> (Verdict, String) {
    let found = wanted.found(answer);
    let fails = match wanted.quantity {
        Quantity::Any => !found.is_empty(),
        Quantity::All => found.len() == wanted.texts.len(),
    };
    if fails {
        (Verdict::Fail, format!("it contains {}", quoted(&found, ", ")))
    } else {
        (Verdict::Pass, String::new())
    }
}

fn at_most(found: usize, most: usize, noun: &str) -> (Verdict, String) {
    (of(found <= most), format!("it has {found} {noun}"))
}

fn defines(answer: &str, name: &str) -> (Verdict, String) {
    let blocks = measures::code_blocks(answer);
    if blocks.is_empty() {
        (Verdict::Fail, "there is no code block".into())
    } else if blocks.iter().any(|block| measures::defines(block.code, name)) {
        (Verdict::Pass, String::new())
    } else {
        (Verdict::Fail, format!("no code block defines {name}"))
    }
}

fn ends_by_itself(judged: Judged<'_>) -> (Verdict, String) {
    let why = match judged.finish {
        FinishReason::Length => "it was cut off at the token limit".to_owned(),
        FinishReason::Cancelled => "it was cancelled".to_owned(),
        FinishReason::Stop => match measures::further_turn(judged.answer) {
            Some(found) => format!("{found:?} follows the answer"),
            None => return (Verdict::Pass, String::new()),
        },
    };
    (Verdict::Fail, why)
}

fn of(passes: bool) -> Verdict {
    if passes { Verdict::Pass } else { Verdict::Fail }
}

/// The first few texts in quotes.
fn quoted(texts: &[impl AsRef<str>], separator: &str) -> String {
    const MOST: usize = 4;
    let more = match texts.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!("{separator}{more} more"),
    };
    let first = texts.iter().take(MOST).map(|text| format!("“{}”", text.as_ref()));
    first.collect::<Vec<_>>().join(separator) + &more
}

/// `5-7-5`.
fn dashed(numbers: &[usize]) -> String {
    let texts: Vec<_> = numbers.iter().map(usize::to_string).collect();
    if texts.is_empty() { "none".into() } else { texts.join("-") }
}

#[cfg(test)]
mod tests;
