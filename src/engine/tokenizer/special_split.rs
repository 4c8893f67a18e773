//! Special tokens in a text: where they stand, and the text between them.
//!
//! Two ways to choose among those that overlap. llama.cpp: the longest token takes all its occurrences, then the next
//! longest, wherever they stand. Python's tokenizers: from left to right, the longest at each place.

use std::cmp::Reverse;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::meta::Regex;

use super::TokenizerError;
use super::vocabulary::{Kind, Vocabulary};

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A special token.
    Token(u32),
    /// Bytes `start..end` of the text; never empty.
    Text { start: usize, end: usize },
}

/// A special token, its text, and what it asks of the text around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    pub id: u32,
    pub text: String,
    /// Recognised in any text, not only where the dialogue's frame is looked for.
    pub plain: bool,
    /// Takes the white space before it.
    pub strips_left: bool,
    /// Takes the white space after it.
    pub strips_right: bool,
    /// Stands for itself only between characters that are no part of a word.
    pub single_word: bool,
}

/// How overlapping tokens share a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    LongestFirst,
    LeftToRight,
}

/// Finds special tokens.
pub struct Partition {
    /// Longest first.
    specials: Vec<Special>,
    order: Order,
    /// By `LongestFirst` it tells which of them occur at all, so that a large vocabulary costs one pass.
    finder: Option<AhoCorasick>,
    /// A character of a word, as regular expressions have it; only where a token asks.
    word: Option<Regex>,
}

impl Partition {
    /// All control, unknown and user-defined tokens of `vocabulary`, as llama.cpp finds them.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let specials = vocabulary
            .kinds()
            .filter(|&(_, kind)| matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined))
            .map(|(id, kind)| Special {
                id,
                text: vocabulary.piece(id).to_owned(),
                plain: kind == Kind::UserDefined,
                strips_left: false,
                strips_right: vocabulary.strips_right.contains(&id),
                single_word: false,
            })
            .collect();
        Self::build(specials, Order::LongestFirst)
    }

    /// `specials` as Python's tokenizers finds them.
    pub fn left_to_right(specials: Vec<Special>) -> Result<Self, TokenizerError> {
        Self::build(specials, Order::LeftToRight)
    }

    fn build(mut specials: Vec<Special>, order: Order) -> Result<Self, TokenizerError> {
        specials.retain(|special| !special.text.is_empty());
        specials.sort_by_key(|special| (Reverse(special.text.len()), special.id));
        let kind = match order {
            Order::LongestFirst => MatchKind::Standard,
            Order::LeftToRight => MatchKind::LeftmostLongest,
        };
        let finder = if specials.is_empty() {
            None
        } else {
            let finder = AhoCorasick::builder()
                .match_kind(kind)
                .build(specials.iter().map(|special| &special.text))
                .map_err(|error| TokenizerError(format!("the vocabulary's special tokens: {error}")))?;
            Some(finder)
        };
        let word = match specials.iter().any(|special| special.single_word) {
            true => Some(Regex::new(r"\w").map_err(|error| TokenizerError(format!("a word's pattern: {error}")))?),
            false => None,
        };
        Ok(Self { specials, order, finder, word })
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.specials.is_empty()
    }

    /// The parts of `text` with user-defined tokens alone recognised.
    pub fn plain(&self, text: &str) -> Vec<Fragment> {
        self.cut(text, |special| special.plain)
    }

    /// The parts of `text` with all special tokens recognised.
    pub fn with_control(&self, text: &str) -> Vec<Fragment> {
        self.cut(text, |_| true)
    }

    /// The special tokens that `text` spells out, longest first.
    pub fn present(&self, text: &str) -> Vec<u32> {
        match self.order {
            Order::LongestFirst => self.occurring(text).into_iter().map(|index| self.specials[index].id).collect(),
            // A finder of this kind sees no token inside another; few texts hold any.
            Order::LeftToRight => {
                let any = self.finder.as_ref().is_some_and(|finder| finder.is_match(text));
                self.specials.iter().filter(|special| any && text.contains(&special.text)).map(|s| s.id).collect()
            }
        }
    }

    /// Indices of the specials that occur in `text`, in order.
    fn occurring(&self, text: &str) -> Vec<usize> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let mut seen = vec![false; self.specials.len()];
        for found in finder.find_overlapping_iter(text) {
            seen[found.pattern().as_usize()] = true;
        }
        seen.iter().enumerate().filter(|&(_, &seen)| seen).map(|(index, _)| index).collect()
    }

    fn cut(&self, text: &str, wanted: impl Fn(&Special) -> bool) -> Vec<Fragment> {
        if text.is_empty() {
            return Vec::new();
        }
        if self.order == Order::LeftToRight {
            return self.cut_left_to_right(text, wanted);
        }
        let mut fragments = vec![Fragment::Text { start: 0, end: text.len() }];
        for index in self.occurring(text) {
            let special = &self.specials[index];
            if wanted(special) {
                fragments = cut_one(text, &fragments, special);
            }
        }
        fragments
    }

    /// `AddedVocabulary::find_matches` of the tokenizers crate: a token that is passed over still covers its text.
    fn cut_left_to_right(&self, text: &str, wanted: impl Fn(&Special) -> bool) -> Vec<Fragment> {
        let mut cut = Vec::new();
        let mut at = 0;
        for found in self.finder.iter().flat_map(|finder| finder.find_iter(text)) {
            let special = &self.specials[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if !wanted(special) || special.single_word && self.beside_word(text, start, end) {
                continue;
            }
            if special.strips_left {
                start = text[..start].trim_end().len().max(at);
            }
            if special.strips_right {
                end = text.len() - text[end..].trim_start().len();
            }
            push_text(&mut cut, at, start);
            cut.push(Fragment::Token(special.id));
            at = end;
        }
        push_text(&mut cut, at, text.len());
        cut
    }

    /// Whether a character of a word stands right before `start` or right after `end`.
    fn beside_word(&self, text: &str, start: usize, end: usize) -> bool {
        let neighbours = [text[..start].chars().next_back(), text[end..].chars().next()];
        let Some(word) = &self.word else { return false };
        neighbours.into_iter().flatten().any(|c| word.is_match(c.encode_utf8(&mut [0; 4]).as_bytes()))
    }
}

/// Cuts every occurrence of `special` out of the fragments that are still text.
fn cut_one(text: &str, fragments: &[Fragment], special: &Special) -> Vec<Fragment> {
    let mut cut = Vec::with_capacity(fragments.len() + 2);
    for &fragment in fragments {
        let Fragment::Text { mut start, end } = fragment else {
            cut.push(fragment);
            continue;
        };
        while let Some(found) = text[start..end].find(&special.text) {
            push_text(&mut cut, start, start + found);
            cut.push(Fragment::Token(special.id));
            start += found + special.text.len();
            if special.strips_right {
                let rest = &text[start..end];
                start = end - rest.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).len();
            }
        }
        push_text(&mut cut, start, end);
    }
    cut
}

fn push_text(fragments: &mut Vec<Fragment>, start: usize, end: usize) {
    if start < end {
        fragments.push(Fragment::Text { start, end });
    }
}
