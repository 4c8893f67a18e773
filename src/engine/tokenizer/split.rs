//! Splits text into words by the patterns of a pre-tokenizer, in linear time.
//!
//! The published patterns end in `\s+(?!\S)|\s+`, a look-ahead that a linear-time regex engine lacks. It is emulated
//! in code: a run of white space before a word leaves its last character to that word.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

use super::TokenizerError;
use super::pre_tokenizer::Step;

/// Bytes `start..end` of a text.
pub type Word = (u32, u32);

/// A compiled chain of patterns.
pub struct Splitter {
    steps: Vec<Compiled>,
}

enum Compiled {
    /// Pattern 1, if present, matches a run of white space; the function returns the end of the first word in it.
    Pattern(Regex, fn(&str, usize, usize) -> usize),
    Digits {
        ascii: bool,
        whole_words: bool,
    },
}

impl Splitter {
    /// Compiles `steps`; fails if a pattern is invalid.
    pub fn new(steps: &[Step]) -> Result<Self, TokenizerError> {
        let regex = |patterns: &[&str]| {
            Regex::new_many(patterns).map_err(|error| TokenizerError(format!("a pre-tokenizer pattern: {error}")))
        };
        let steps = steps
            .iter()
            .map(|step| {
                Ok(match *step {
                    Step::Pattern(pattern) => Compiled::Pattern(regex(&[pattern])?, trim_run),
                    Step::Words(pattern) => Compiled::Pattern(regex(&[pattern, r"\s+"])?, trim_run),
                    Step::HalvedRuns(pattern) => Compiled::Pattern(regex(&[pattern, r"\s+"])?, halve_run),
                    Step::Digits { ascii, whole_words } => Compiled::Digits { ascii, whole_words },
                })
            })
            .collect::<Result<_, TokenizerError>>()?;
        Ok(Self { steps })
    }

    /// The words of `text`, in order; they concatenate to `text`, which must be shorter than 4 GB.
    pub fn split(&self, text: &str) -> Vec<Word> {
        let mut words = vec![(0, text.len() as u32)];
        for step in &self.steps {
            let mut cut = Vec::with_capacity(words.len() * 2);
            for &(start, end) in &words {
                let part = &text[start as usize..end as usize];
                let mut push = |from: usize, to: usize| {
                    if from < to {
                        cut.push((start + from as u32, start + to as u32));
                    }
                };
                match step {
                    Compiled::Pattern(regex, run) => split_by(regex, *run, part, &mut push),
                    Compiled::Digits { ascii, whole_words } => split_digits(part, *ascii, *whole_words, &mut push),
                }
            }
            words = cut;
        }
        words
    }
}

/// Pushes the matches of `regex` and the text between them.
fn split_by(regex: &Regex, run: fn(&str, usize, usize) -> usize, text: &str, push: &mut impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < text.len() {
        let input = Input::new(text).range(at..).anchored(Anchored::No);
        let Some(found) = regex.find(input).filter(|found| !found.is_empty()) else { break };
        push(at, found.start());
        let end = if found.pattern().as_usize() == 1 { run(text, found.start(), found.end()) } else { found.end() };
        push(found.start(), end);
        at = end;
    }
    push(at, text.len());
}

/// `\s+(?!\S)|\s+`: without its last character if a word follows and the rest is not empty.
fn trim_run(text: &str, start: usize, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    let last = text[start..end].char_indices().next_back().map_or(0, |(offset, _)| offset);
    if last == 0 { end } else { start + last }
}

/// `\s{512}(?!\S)|\s{256}(?!\S)|…|\s{1,2}(?!\S)|\s{1}`: the largest power of two that leaves one character to a
/// following word.
fn halve_run(text: &str, start: usize, end: usize) -> usize {
    let run = &text[start..end];
    let length = run.chars().take(513).count();
    let most = if end == text.len() || length > 512 { length } else { length - 1 };
    let taken = 1 << most.clamp(1, 512).ilog2();
    run.char_indices().nth(taken).map_or(end, |(offset, _)| start + offset)
}

/// Pushes runs of digits in groups of three from the right; with `whole_words` only runs that no letter follows.
fn split_digits(text: &str, ascii: bool, whole_words: bool, push: &mut impl FnMut(usize, usize)) {
    let is_digit = |c: char| if ascii { c.is_ascii_digit() } else { c.is_numeric() };
    let mut rest_start = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find(is_digit) {
        let start = at + found;
        let run = text[start..].find(|c| !is_digit(c)).map_or(text.len(), |length| start + length);
        at = run;
        let follows = text[run..].chars().next();
        if whole_words && follows.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        push(rest_start, start);
        let digits: Vec<usize> = text[start..run].char_indices().map(|(offset, _)| start + offset).collect();
        let mut group = start;
        for boundary in digits.iter().copied().rev().skip(2).step_by(3).collect::<Vec<_>>().into_iter().rev() {
            push(group, boundary);
            group = boundary;
        }
        push(group, run);
        rest_start = run;
    }
    push(rest_start, text.len());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn white_space_runs_are_halved_and_leave_one_character_to_the_word() {
        let splitter = Splitter::new(&[Step::HalvedRuns(r"\s?\p{L}+")]).unwrap();
        let lengths = |text: &str| splitter.split(text).iter().map(|&(a, b)| b - a).collect::<Vec<_>>();
        let spaces = |count: usize| " ".repeat(count);
        // Expected values: the published pattern in an engine with look-ahead.
        assert_eq!(lengths(&format!("{}x", spaces(1))), [2]);
        assert_eq!(lengths(&format!("{}x", spaces(2))), [1, 2]);
        assert_eq!(lengths(&format!("{}x", spaces(4))), [2, 1, 2]);
        assert_eq!(lengths(&format!("{}x", spaces(5))), [4, 2]);
        assert_eq!(lengths(&format!("x{}", spaces(7))), [1, 4, 2, 1]);
        assert_eq!(lengths(&format!("{}x", spaces(1100))), [512, 512, 64, 8, 2, 1, 2]);
    }
}
