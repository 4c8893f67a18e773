//! What the prompt that is being written would take of the context, asked of the engine while the user pauses.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{ChatMessage, OverflowPolicy, RequestId};

use super::{Chat, Effect};

/// A pause in the writing after which the count is made.
const PAUSE: Duration = Duration::from_millis(150);

/// An exact count of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Tokens of the whole prompt: conversation, draft and what the chat template adds.
    pub prompt_tokens: usize,
    /// Positions in all.
    pub context_length: usize,
}

impl Count {
    /// Whether the prompt leaves no position for an answer.
    pub fn is_too_long(&self) -> bool {
        self.prompt_tokens >= self.context_length
    }
}

/// The count of the draft and when the next one is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drafting {
    changed: Option<Timestamp>,
    asked: Option<RequestId>,
    count: Option<Count>,
}

impl Chat {
    /// What the draft would take, as of the last pause in the writing.
    pub fn draft_count(&self) -> Option<Count> {
        self.drafting.count
    }

    /// What becomes of a prompt that does not fit.
    pub fn overflow_policy(&self) -> OverflowPolicy {
        self.options.on_overflow
    }

    /// What the engine would read if `draft` were sent now.
    pub fn messages_with(&self, draft: String) -> Vec<ChatMessage> {
        self.conversation.messages_after(self.branch.unwrap_or(self.conversation.head()), draft)
    }

    pub(super) fn draft_changed(&mut self, prompt: bool) {
        self.drafting.changed = prompt.then_some(self.now);
        self.drafting.asked = None;
        if !prompt {
            self.drafting.count = None;
        }
    }

    /// What stands before the draft is not what it was.
    pub(super) fn recount(&mut self) {
        if self.drafting.count.is_some() {
            self.draft_changed(true);
        }
    }

    /// When the draft is to be counted: not while an answer changes what stands before it, nor without a model.
    pub(super) fn count_due(&self) -> Option<Timestamp> {
        let can = self.engine.is_loaded() && !self.activity.is_busy();
        self.drafting.changed.filter(|_| can).map(|changed| changed + PAUSE)
    }

    pub(super) fn count_draft(&mut self) -> Option<Effect> {
        self.count_due().filter(|due| self.now >= *due)?;
        self.drafting.changed = None;
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.drafting.asked = Some(id);
        Some(Effect::Count(id))
    }

    pub(super) fn counted(&mut self, id: RequestId, count: Count) {
        // The answer to an older draft says nothing about this one.
        if self.drafting.asked == Some(id) {
            self.drafting.count = Some(count);
        }
    }
}
