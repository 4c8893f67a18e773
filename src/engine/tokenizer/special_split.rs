//! Splits a text into special tokens and the text between them.
//!
//! There are two rules for overlapping tokens. llama.cpp: all occurrences of the longest token, then those of the next
//! longest, anywhere in the text. Python's tokenizers: from left to right, the longest token at each position.

use std::cmp::Reverse;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::meta::Regex;

use super::TokenizerError;
use super::vocabulary::{Kind, Vocabulary};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A special token.
    Token(u32),
    /// Bytes `start..end` of the text; never empty.
    Text { start: usize, end: usize },
}

/// A special token, its text, and its rules for the text around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    pub id: u32,
    pub text: String,
    /// Recognised in plain text too, not only with control tokens enabled.
    pub plain: bool,
    /// Absorbs the white space before it.
    pub strips_left: bool,
    /// Absorbs the white space after it.
    pub strips_right: bool,
    /// Recognised only if no word character is adjacent.
    pub single_word: bool,
}

/// The rule for overlapping tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    LongestFirst,
    LeftToRight,
}

/// Splits texts at special tokens.
pub struct Partition {
    /// Longest first.
    specials: Vec<Special>,
    order: Order,
    /// With `LongestFirst`, selects the tokens that occur in a text, in one pass even for a large vocabulary.
    finder: Option<AhoCorasick>,
    /// `\w`; only compiled if a token has `single_word`.
    word: Option<Regex>,
}

impl Partition {
    /// All control, unknown and user-defined tokens of `vocabulary`, by llama.cpp's rule.
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

    /// `specials` by the rule of Python's tokenizers.
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

    pub fn is_empty(&self) -> bool {
        self.specials.is_empty()
    }

    /// Splits `text`; recognises user-defined tokens only.
    pub fn plain(&self, text: &str) -> Vec<Fragment> {
        self.cut(text, |special| special.plain)
    }

    /// Splits `text`; recognises all special tokens.
    pub fn with_control(&self, text: &str) -> Vec<Fragment> {
        self.cut(text, |_| true)
    }

    /// Ids of the special tokens that occur in `text`, longest first.
    pub fn present(&self, text: &str) -> Vec<u32> {
        match self.order {
            Order::LongestFirst => self.occurring(text).into_iter().map(|index| self.specials[index].id).collect(),
            // `LeftmostLongest` misses tokens inside others, so search for each one; few texts contain any.
            Order::LeftToRight => {
                let any = self.finder.as_ref().is_some_and(|finder| finder.is_match(text));
                self.specials.iter().filter(|special| any && text.contains(&special.text)).map(|s| s.id).collect()
            }
        }
    }

    /// Indices of the specials that occur in `text`, ascending.
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

    /// `AddedVocabulary::find_matches` of the tokenizers crate: a skipped match still consumes its text.
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

    /// Whether there is a word character right before `start` or right after `end`.
    fn beside_word(&self, text: &str, start: usize, end: usize) -> bool {
        let neighbours = [text[..start].chars().next_back(), text[end..].chars().next()];
        let Some(word) = &self.word else { return false };
        neighbours.into_iter().flatten().any(|c| word.is_match(c.encode_utf8(&mut [0; 4]).as_bytes()))
    }
}

/// Replaces every occurrence of `special` in the text fragments by its token.
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
