//! Selects the stored conversation that `--continue` or `--conversation` resumes.

use super::{Store, StoreError};
use crate::conversation::ConversationId;

/// The stored conversation to resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The last changed one that has an answer.
    Last,
    /// The only one whose id begins with this.
    Id(String),
}

impl Resume {
    /// The conversation's id; `NotFound` if there is none, or the prefix is ambiguous.
    pub fn find(&self, store: &Store) -> Result<ConversationId, StoreError> {
        match self {
            Self::Last => store.last_answered(),
            Self::Id(prefix) => store.find(prefix),
        }
    }
}
