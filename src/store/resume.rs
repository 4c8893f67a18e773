//! Which stored conversation to go on with.

use super::{Store, StoreError};
use crate::conversation::ConversationId;

/// Which stored conversation to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The one that was changed last and has an answer to go on from.
    Last,
    /// The one whose id begins with this.
    Id(String),
}

impl Resume {
    /// The conversation that is meant.
    pub fn find(&self, store: &Store) -> Result<ConversationId, StoreError> {
        match self {
            Self::Last => store.last_answered(),
            Self::Id(prefix) => store.find(prefix),
        }
    }
}
