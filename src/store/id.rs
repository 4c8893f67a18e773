//! Ids of conversations: short and random, not derived from the time.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::clock::Timestamp;
use crate::conversation::ConversationId;

/// Twelve random hexadecimal digits. The standard library seeds its hash keys with the system's random numbers.
pub(super) fn random_hex() -> String {
    let hash = RandomState::new().hash_one((std::process::id(), Timestamp::now()));
    format!("{:012x}", hash & 0xffff_ffff_ffff)
}

/// A random id of 48 bits.
pub fn new_conversation_id() -> ConversationId {
    ConversationId(random_hex())
}
