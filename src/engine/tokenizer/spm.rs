//! SentencePiece's BPE: of all adjacent pairs that merge to a token, the one with the highest score is merged first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vocabulary::{Kind, Vocabulary};
use super::{TokenizerError, bytes};
use crate::engine::weights::gguf::Metadata;

/// The vocabulary's character for a space (U+2581).
pub const SPACE: &str = "▁";

const NONE: u32 = u32::MAX;

/// Merge scores, byte fallback and space handling of an SPM vocabulary.
pub struct Spm {
    scores: Vec<f32>,
    byte_tokens: Vec<u32>,
    unk: u32,
    /// Whether words can be encoded separately (and cached): no token has a `▁` after another character.
    words_stand_alone: bool,
    /// Whether a space is prepended to text at the start and after a special token.
    pub space_prefix: bool,
}

impl Spm {
    /// Reads `tokenizer.ggml.scores` and the flags.
    pub fn new(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        const KEY: &str = "tokenizer.ggml.scores";
        let scores = match metadata.floats(KEY) {
            // Adding 0 turns -0 into 0: they must tie, but `total_cmp` orders them.
            Some(scores) if scores.len() == vocabulary.len() => scores.iter().map(|score| score + 0.0).collect(),
            Some(scores) => {
                let (scores, tokens) = (scores.len(), vocabulary.len());
                return Err(TokenizerError(format!("{KEY} has {scores} entries for {tokens} tokens")));
            }
            None if metadata.values.contains_key(KEY) => {
                return Err(TokenizerError(format!("{KEY} is not an array of floats")));
            }
            None => vec![0.0; vocabulary.len()],
        };
        if scores.iter().any(|score| score.is_nan()) {
            return Err(TokenizerError(format!("{KEY} holds values that are not numbers")));
        }
        // An ASCII byte without `<0xXX>` may have a text token.
        let byte_token = |byte: u8| {
            let own = (byte < 128).then_some(char::from(byte));
            vocabulary
                .find(&bytes::hex_piece(byte))
                .or_else(|| own.and_then(|c| vocabulary.find_text(c.encode_utf8(&mut [0; 4]))))
                .unwrap_or(NONE)
        };
        Ok(Self {
            scores,
            byte_tokens: (0..=255u8).map(byte_token).collect(),
            unk: vocabulary.special.unk.unwrap_or(NONE),
            words_stand_alone: words_stand_alone(vocabulary),
            space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true),
        })
    }

    /// Appends the tokens of `text`; `after_special`: whether it follows a special token or starts the input.
    pub fn encode(&self, vocabulary: &Vocabulary, text: &str, after_special: bool, tokens: &mut Vec<u32>) {
        let mut written = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.space_prefix && after_special {
            written.push_str(SPACE);
        }
        for part in text.split_inclusive(' ') {
            match part.strip_suffix(' ') {
                Some(word) => {
                    written.push_str(word);
                    written.push_str(SPACE);
                }
                None => written.push_str(part),
            }
        }
        let mut session = Session::default();
        if !self.words_stand_alone {
            self.encode_word(vocabulary, &written, &mut session, tokens);
            return;
        }
        super::word_cache::each_once(words(&written), tokens, |word, tokens| {
            self.encode_word(vocabulary, word, &mut session, tokens);
        });
    }

    fn encode_word(&self, vocabulary: &Vocabulary, word: &str, session: &mut Session, tokens: &mut Vec<u32>) {
        session.merge(word, |text| vocabulary.find_text(text).map(|id| self.scores[id as usize]));
        let mut at = 0;
        while at != NONE {
            let symbol = session.symbols[at as usize];
            let text = &word[symbol.start as usize..(symbol.start + symbol.length) as usize];
            match vocabulary.find_text(text) {
                Some(id) => tokens.push(id),
                None => self.fall_back(text, tokens),
            }
            at = symbol.next;
        }
    }

    /// Appends the byte tokens of a character that the vocabulary lacks, or the unknown token if one is missing.
    fn fall_back(&self, text: &str, tokens: &mut Vec<u32>) {
        if text.bytes().any(|byte| self.byte_tokens[byte as usize] == NONE) {
            tokens.extend((self.unk != NONE).then_some(self.unk));
            return;
        }
        tokens.extend(text.bytes().map(|byte| self.byte_tokens[byte as usize]));
    }
}

/// Whether no text token has a `▁` after another character.
fn words_stand_alone(vocabulary: &Vocabulary) -> bool {
    vocabulary.kinds().filter(|&(_, kind)| matches!(kind, Kind::Normal | Kind::UserDefined)).all(|(id, _)| {
        let piece = vocabulary.piece(id);
        let text = piece.trim_start_matches(SPACE);
        !text.contains(SPACE)
    })
}

/// `▁▁one▁two` → `▁▁one`, `▁two`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
        let end = rest[spaces..].find(SPACE).map_or(rest.len(), |offset| spaces + offset);
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

/// Bytes of a word, in a linked list over the vector. Length 0: merged into its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    length: u32,
    prev: u32,
    next: u32,
}

/// Two adjacent symbols that merge to a token.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    left: u32,
    right: u32,
    length: u32,
}

impl Ord for Candidate {
    /// The highest score first, then the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Buffers reused for all words of a text.
#[derive(Default)]
struct Session {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl Session {
    /// Merges the characters of `word`, which must not be empty, while `score` returns a score for the result.
    fn merge(&mut self, word: &str, score: impl Fn(&str) -> Option<f32>) {
        self.symbols.clear();
        self.queue.clear();
        self.symbols.extend(word.char_indices().enumerate().map(|(index, (start, c))| Symbol {
            start: start as u32,
            length: c.len_utf8() as u32,
            prev: (index as u32).wrapping_sub(1),
            next: index as u32 + 1,
        }));
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        for left in 0..self.symbols.len() as u32 {
            self.offer(left, word, &score);
        }
        while let Some(best) = self.queue.pop() {
            let (left, right) = (self.symbols[best.left as usize], self.symbols[best.right as usize]);
            // Stale: one of the symbols was merged since.
            if left.length == 0 || right.length == 0 || left.length + right.length != best.length {
                continue;
            }
            self.symbols[best.left as usize].length = best.length;
            self.symbols[best.left as usize].next = right.next;
            self.symbols[best.right as usize].length = 0;
            if right.next != NONE {
                self.symbols[right.next as usize].prev = best.left;
            }
            if left.prev != NONE {
                self.offer(left.prev, word, &score);
            }
            self.offer(best.left, word, &score);
        }
    }

    fn offer(&mut self, left: u32, word: &str, score: &impl Fn(&str) -> Option<f32>) {
        let symbol = self.symbols[left as usize];
        if symbol.next == NONE {
            return;
        }
        let length = symbol.length + self.symbols[symbol.next as usize].length;
        let text = &word[symbol.start as usize..(symbol.start + length) as usize];
        if let Some(score) = score(text) {
            self.queue.push(Candidate { score, left, right: symbol.next, length });
        }
    }
}
