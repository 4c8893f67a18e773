//! The pieces of a vocabulary, compact: one text, one index, one kind a token.

use ahash::RandomState;

use super::TokenizerError;

/// What a token is, as GGUF's `tokenizer.ggml.token_type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Normal,
    Unknown,
    /// Part of the dialogue's frame; never text.
    Control,
    /// Recognised in any text before everything else.
    UserDefined,
    Byte,
}

/// Tokens with a meaning of their own.
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
    /// Where each piece ends in `text`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// Token whose special treatment takes the white space after it too (Phi-3).
    pub strips_right: Vec<u32>,
    /// Open addressing with linear probing: id + 1, or 0 where free. A power of two, at most half full.
    slots: Vec<u32>,
    hasher: RandomState,
    pub special: SpecialTokens,
}

impl Vocabulary {
    /// From pieces and kinds of the same length. A piece that stands twice keeps its first id.
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

    /// The slot that holds `piece`, or the free one where it would go.
    fn slot(&self, piece: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(piece) as usize & mask;
        while self.slots[slot] != 0 && self.piece(self.slots[slot] - 1) != piece {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Tokens in all.
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

    /// The token that is written as `piece`.
    pub fn find(&self, piece: &str) -> Option<u32> {
        self.slots[self.slot(piece)].checked_sub(1)
    }

    /// The token that plain text `piece` may become: neither control nor unknown nor a byte.
    pub fn find_text(&self, piece: &str) -> Option<u32> {
        self.find(piece).filter(|&id| matches!(self.kinds[id as usize], Kind::Normal | Kind::UserDefined))
    }

    /// What `id` is; `None` for an id out of range.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Changes what `id` is.
    pub fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// Ids with their kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = (u32, Kind)> {
        self.kinds.iter().enumerate().map(|(id, &kind)| (id as u32, kind))
    }
}
