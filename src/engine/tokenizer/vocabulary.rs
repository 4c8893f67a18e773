//! Compact storage of a vocabulary: all pieces in one string, one hash index, one kind per token.

use ahash::RandomState;

use super::TokenizerError;

/// The token types of GGUF's `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Normal,
    Unknown,
    /// Part of the chat template; never encoded from plain text.
    Control,
    /// Recognised in any text, before the merges.
    UserDefined,
    Byte,
}

/// Ids of tokens with a special meaning.
#[derive(Clone, Debug, Default)]
pub struct SpecialTokens {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
    pub adds_bos: bool,
    /// Tokens that end a generation.
    pub end_of_generation: Vec<u32>,
}

/// Pieces by id and ids by piece.
pub struct Vocabulary {
    text: String,
    /// Byte offset of the end of each piece in `text`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// Special tokens that absorb the white space after them (Phi-3).
    pub strips_right: Vec<u32>,
    /// Open addressing with linear probing: id + 1, or 0 for a free slot. A power of two, at most half full.
    slots: Vec<u32>,
    hasher: RandomState,
    pub special: SpecialTokens,
}

impl Vocabulary {
    /// `pieces` and `kinds` must have the same length. A piece that occurs twice keeps its first id.
    pub fn new<'a>(pieces: impl ExactSizeIterator<Item = &'a str>, kinds: Vec<Kind>) -> Result<Self, TokenizerError> {
        let count = pieces.len();
        if count == 0 {
            return Err(TokenizerError("the vocabulary is empty".into()));
        }
        if count != kinds.len() {
            return Err(TokenizerError(format!("the vocabulary has {count} tokens but {} kinds", kinds.len())));
        }
        let mut vocabulary = Self {
            text: String::new(),
            ends: Vec::with_capacity(count),
            kinds,
            strips_right: Vec::new(),
            slots: vec![0; (count * 2).next_power_of_two()],
            hasher: RandomState::new(),
            special: SpecialTokens::default(),
        };
        for piece in pieces {
            vocabulary.text.push_str(piece);
            let end = u32::try_from(vocabulary.text.len())
                .map_err(|_| TokenizerError("the vocabulary's text is larger than 4 GB".into()))?;
            vocabulary.ends.push(end);
        }
        for id in 0..count as u32 {
            vocabulary.index(id);
        }
        Ok(vocabulary)
    }

    fn index(&mut self, id: u32) {
        let slot = self.slot(self.piece(id));
        if self.slots[slot] == 0 {
            self.slots[slot] = id + 1;
        }
    }

    /// The slot that holds `piece`, or the free slot for it.
    fn slot(&self, piece: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(piece) as usize & mask;
        while self.slots[slot] != 0 && self.piece(self.slots[slot] - 1) != piece {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The piece of `id`; empty for an id out of range.
    pub fn piece(&self, id: u32) -> &str {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return "" };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.text[start as usize..end as usize]
    }

    /// The id of `piece`, of any kind.
    pub fn find(&self, piece: &str) -> Option<u32> {
        self.slots[self.slot(piece)].checked_sub(1)
    }

    /// The id of `piece` if plain text may be encoded to it: not a control, unknown or byte token.
    pub fn find_text(&self, piece: &str) -> Option<u32> {
        self.find(piece).filter(|&id| matches!(self.kinds[id as usize], Kind::Normal | Kind::UserDefined))
    }

    /// The kind of `id`; `None` for an id out of range.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Changes the kind of `id`; ignores an id out of range.
    pub fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// Ids with their kinds, by id.
    pub fn kinds(&self) -> impl Iterator<Item = (u32, Kind)> {
        self.kinds.iter().enumerate().map(|(id, &kind)| (id as u32, kind))
    }
}
