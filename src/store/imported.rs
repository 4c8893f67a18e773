//! A conversation that was read from a file.

use crate::conversation::Conversation;
use crate::protocol::{DeviceInfo, SamplingParams, Trace};

/// A conversation that was read from a file, not stored yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// The conversation; its id is empty if the file has none that can be kept.
    pub conversation: Conversation,
    pub(super) created_ms: Option<u64>,
    pub(super) changed_ms: Option<u64>,
    /// For each turn.
    pub(super) origins: Vec<Origin>,
}

/// When and how a turn was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// Milliseconds since 1970, UTC.
    pub asked_ms: Option<u64>,
    /// How its tokens were sampled.
    pub sampling: Option<SamplingParams>,
    /// Microseconds between the answer's tokens.
    pub gaps_us: Vec<u64>,
    /// What the answer was computed from.
    pub trace: Option<Trace>,
    /// The server that wrote the answer, which then has no trace.
    pub server: Option<DeviceInfo>,
}
