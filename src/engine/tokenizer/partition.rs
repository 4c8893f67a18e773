//! Special tokens in a text: where they stand, and the text between them.
//!
//! Longer tokens win over shorter ones wherever they stand, as in llama.cpp: first the longest takes all its
//! occurrences, then the next.

use std::cmp::Reverse;

use aho_corasick::{AhoCorasick, MatchKind};

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

/// A special token and its text.
struct Special {
    id: u32,
    text: String,
    plain: bool,
    strips_right: bool,
}

/// Finds special tokens.
pub struct Partition {
    /// Longest first.
    specials: Vec<Special>,
    /// Tells which of them occur at all, so that a large vocabulary costs one pass.
    finder: Option<AhoCorasick>,
}

impl Partition {
    /// All control, unknown and user-defined tokens of `vocabulary`.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let mut specials: Vec<Special> = vocabulary
            .kinds()
            .filter(|&(id, kind)| {
                matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined) && !vocabulary.piece(id).is_empty()
            })
            .map(|(id, kind)| Special {
                id,
                text: vocabulary.piece(id).to_owned(),
                plain: kind == Kind::UserDefined,
                strips_right: vocabulary.strips_right.contains(&id),
            })
            .collect();
        specials.sort_by_key(|special| (Reverse(special.text.len()), special.id));
        let finder = if specials.is_empty() {
            None
        } else {
            let finder = AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .build(specials.iter().map(|special| &special.text))
                .map_err(|error| TokenizerError(format!("the vocabulary's special tokens: {error}")))?;
            Some(finder)
        };
        Ok(Self { specials, finder })
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
        self.occurring(text).into_iter().map(|index| self.specials[index].id).collect()
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
        let mut fragments = vec![Fragment::Text { start: 0, end: text.len() }];
        for index in self.occurring(text) {
            let special = &self.specials[index];
            if wanted(special) {
                fragments = cut_one(text, &fragments, special);
            }
        }
        fragments
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
