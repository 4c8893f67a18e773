//! Byte-pair encoding: merges the adjacent pair with the lowest rank until none is left.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use ahash::RandomState;

use super::pre_tokenizer::PreTokenizer;
use super::split::Splitter;
use super::spm::SPACE;
use super::vocabulary::Vocabulary;
use super::{TokenizerError, bytes, word_cache};
use crate::engine::weights::gguf::Metadata;

/// No token (a byte or character outside of the vocabulary), or no neighbour.
const NONE: u32 = u32::MAX;

/// The merges of a vocabulary and its pre-tokenizer.
pub struct Bpe {
    splitter: Splitter,
    /// (left, right) → (rank, result).
    merges: HashMap<u64, (u32, u32), RandomState>,
    /// The token of each byte; `NONE` if the vocabulary has none.
    byte_tokens: Vec<u32>,
    /// Pieces in the merges that are not in the vocabulary.
    strange: Strange,
    ignore_merges: bool,
    /// If false, symbols are characters, spaces are written `▁`, and unknown characters become `<0xXX>` tokens.
    byte_level: bool,
}

impl Bpe {
    /// Reads `tokenizer.ggml.merges`.
    pub fn new(
        metadata: &Metadata,
        pre: &PreTokenizer,
        vocabulary: &Vocabulary,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TokenizerError> {
        let lines = metadata
            .strings("tokenizer.ggml.merges")
            .ok_or_else(|| TokenizerError("the vocabulary's merges (tokenizer.ggml.merges) are missing".into()))?;
        let byte_tokens = byte_tokens(vocabulary, pre.byte_level);
        let missing = (0..=255u8).filter(|&byte| is_common(byte) && byte_tokens[byte as usize] == NONE).count();
        if missing > 0 {
            warnings.push(format!(
                "the vocabulary has no token for {missing} of the bytes of ordinary text; they are left out of prompts"
            ));
        }
        let mut strange = Strange::new(vocabulary);
        Ok(Self {
            splitter: Splitter::new(pre.steps)?,
            merges: read_merges(lines, vocabulary, &mut strange, warnings),
            strange,
            byte_tokens,
            ignore_merges: pre.ignore_merges,
            byte_level: pre.byte_level,
        })
    }

    /// Appends the tokens of `text`.
    pub fn encode(&self, vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<u32>) {
        let escaped = (!self.byte_level && text.contains(' ')).then(|| text.replace(' ', SPACE));
        let text = escaped.as_deref().unwrap_or(text);
        let mut session = Session::default();
        let words = self.splitter.split(text).into_iter().map(|(start, end)| &text[start as usize..end as usize]);
        word_cache::each_once(words, tokens, |word, tokens| self.encode_word(vocabulary, word, &mut session, tokens));
    }

    fn encode_word(&self, vocabulary: &Vocabulary, word: &str, session: &mut Session, tokens: &mut Vec<u32>) {
        // Gemma 4 has no merges of newlines; a run of them is one token if the vocabulary contains it.
        let whole = self.ignore_merges || (!self.byte_level && word.starts_with('\n'));
        if whole && let Some(id) = self.whole_word(vocabulary, word, &mut session.written) {
            tokens.push(id);
            return;
        }
        session.symbols.clear();
        if self.byte_level {
            session.start(word.bytes().map(|byte| (self.byte_tokens[byte as usize], '\0')));
        } else {
            let id = |c: char| vocabulary.find_text(c.encode_utf8(&mut [0; 4])).unwrap_or(NONE);
            session.start(word.chars().map(|c| (id(c), c)));
        }
        session.merge(&self.merges);
        let mut at = Some(0);
        while let Some(index) = at {
            let symbol = &session.symbols[index as usize];
            if let Some(piece) = self.strange.piece(symbol.id) {
                self.spell(vocabulary, piece, tokens);
            } else if symbol.id != NONE {
                tokens.push(symbol.id);
            } else if !self.byte_level {
                let mut utf8 = [0; 4];
                let bytes = symbol.c.encode_utf8(&mut utf8).bytes();
                tokens.extend(bytes.map(|byte| self.byte_tokens[byte as usize]).filter(|&id| id != NONE));
            }
            at = symbol.next();
        }
    }

    /// Appends the tokens of a merged piece that is not in the vocabulary: as in llama.cpp, one for each of its ASCII
    /// bytes that is a token.
    fn spell(&self, vocabulary: &Vocabulary, piece: &str, tokens: &mut Vec<u32>) {
        let plain = piece.bytes().filter(u8::is_ascii);
        tokens.extend(plain.filter_map(|byte| vocabulary.find_text(char::from(byte).encode_utf8(&mut [0; 4]))));
    }

    fn whole_word(&self, vocabulary: &Vocabulary, word: &str, written: &mut String) -> Option<u32> {
        if !self.byte_level {
            return vocabulary.find_text(word);
        }
        written.clear();
        written.extend(word.bytes().map(bytes::stand_in));
        vocabulary.find_text(written)
    }

    /// The bytes of a normal token.
    pub fn piece_bytes(&self, piece: &str) -> Vec<u8> {
        if self.byte_level { bytes::decode_stand_ins(piece) } else { piece.replace(SPACE, " ").into_bytes() }
    }
}

/// Whether ordinary text has `byte`. Some vocabularies lack control characters and bytes invalid or rare in UTF-8.
fn is_common(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E | 0x80..=0xBF | 0xC2..=0xEF | 0xF0)
}

fn byte_tokens(vocabulary: &Vocabulary, byte_level: bool) -> Vec<u32> {
    (0..=255u8)
        .map(|byte| {
            let id = if byte_level {
                vocabulary.find_text(bytes::stand_in(byte).encode_utf8(&mut [0; 4]))
            } else {
                vocabulary.find(&bytes::hex_piece(byte))
            };
            id.unwrap_or(NONE)
        })
        .collect()
}

/// Pieces in the merges that are not in the vocabulary, with ids above the vocabulary's: llama.cpp merges them too.
struct Strange {
    first: u32,
    pieces: Vec<String>,
    ids: HashMap<String, u32, RandomState>,
}

impl Strange {
    fn new(vocabulary: &Vocabulary) -> Self {
        Self { first: vocabulary.len() as u32, pieces: Vec::new(), ids: HashMap::default() }
    }

    fn id(&mut self, piece: &str) -> u32 {
        if let Some(&id) = self.ids.get(piece) {
            return id;
        }
        let id = self.first + self.pieces.len() as u32;
        self.pieces.push(piece.to_owned());
        self.ids.insert(piece.to_owned(), id);
        id
    }

    fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id.checked_sub(self.first)? as usize).map(String::as_str)
    }
}

/// The merges by pair. Lines without two pieces are skipped; merges of pieces outside of the vocabulary are kept.
fn read_merges(
    lines: &[String],
    vocabulary: &Vocabulary,
    strange: &mut Strange,
    warnings: &mut Vec<String>,
) -> HashMap<u64, (u32, u32), RandomState> {
    let mut merges = HashMap::with_capacity_and_hasher(lines.len(), RandomState::new());
    let mut joined = String::new();
    let (mut odd, mut example) = (0_usize, None);
    for (rank, line) in lines.iter().enumerate() {
        let mut note = || {
            odd += 1;
            example.get_or_insert((rank, line));
        };
        // The first character may be a space that belongs to the left piece.
        let first = line.chars().next().map_or(0, char::len_utf8);
        let Some(space) = line[first..].find(' ').map(|found| first + found) else {
            note();
            continue;
        };
        let (left, right) = (&line[..space], &line[space + 1..]);
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let known = [left, right, joined.as_str()].map(|piece| vocabulary.find(piece));
        if known.contains(&None) {
            note();
        }
        let [left, right, result] = [(left, known[0]), (right, known[1]), (joined.as_str(), known[2])]
            .map(|(piece, id)| id.unwrap_or_else(|| strange.id(piece)));
        merges.entry(pair(left, right)).or_insert((rank as u32, result));
    }
    if let Some((rank, line)) = example {
        let line: String = line.chars().take(60).collect();
        warnings.push(format!(
            "{odd} of the vocabulary's {} merges do not name two tokens that join to a third, number {rank} ({line:?}) first; \
             text may be tokenized differently from the model's training data",
            lines.len()
        ));
    }
    merges
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// A symbol of a word, in a linked list over the vector.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    c: char,
    /// Merged into its left neighbour.
    gone: bool,
}

impl Symbol {
    fn next(&self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

/// A possible merge, ordered by lowest rank, then by leftmost position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    left_id: u32,
    right_id: u32,
    result: u32,
}

/// Buffers reused for all words of a text.
#[derive(Default)]
struct Session {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
    written: String,
}

impl Session {
    fn start(&mut self, ids: impl Iterator<Item = (u32, char)>) {
        self.symbols.extend(ids.enumerate().map(|(index, (id, c))| {
            let index = index as u32;
            Symbol { id, prev: index.wrapping_sub(1), next: index + 1, c, gone: false }
        }));
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }

    fn merge(&mut self, merges: &HashMap<u64, (u32, u32), RandomState>) {
        self.queue.clear();
        for left in 0..self.symbols.len() as u32 {
            self.offer(left, merges);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let left = self.symbols[best.left as usize];
            let Some(right) = left.next() else { continue };
            // Stale: one of the symbols was merged since.
            if left.gone || left.id != best.left_id || self.symbols[right as usize].id != best.right_id {
                continue;
            }
            let after = self.symbols[right as usize].next;
            self.symbols[right as usize].gone = true;
            self.symbols[best.left as usize].id = best.result;
            self.symbols[best.left as usize].next = after;
            if after != NONE {
                self.symbols[after as usize].prev = best.left;
            }
            if left.prev != NONE {
                self.offer(left.prev, merges);
            }
            self.offer(best.left, merges);
        }
    }

    /// Queues the merge of `left` and its right neighbour, if there is one.
    fn offer(&mut self, left: u32, merges: &HashMap<u64, (u32, u32), RandomState>) {
        let symbol = self.symbols[left as usize];
        let Some(right) = symbol.next() else { return };
        let right_id = self.symbols[right as usize].id;
        if symbol.id == NONE || right_id == NONE {
            return;
        }
        if let Some(&(rank, result)) = merges.get(&pair(symbol.id, right_id)) {
            self.queue.push(Reverse(Candidate { rank, left, left_id: symbol.id, right_id, result }));
        }
    }
}
