//! Token count of the draft, requested from the engine when the user pauses typing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::conversation::{Ending, TurnId, with_files};
use crate::protocol::{ChatMessage, OverflowPolicy, RequestId};

use super::{Chat, Effect};

/// Typing pause after which the count is requested.
const PAUSE: Duration = Duration::from_millis(150);

/// Exact token count of a prompt with the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Tokens of the whole prompt: conversation, draft and what the chat template adds.
    pub prompt_tokens: usize,
    /// Prompt tokens that are in the KV cache now.
    pub cached_tokens: usize,
    /// Number of oldest turns to leave out so that the rest fits; `None`: it does not fit without them either.
    pub left_out: Option<usize>,
    /// Context length, in positions.
    pub context_length: usize,
}

impl Count {
    /// Whether the prompt leaves no position for an answer.
    pub fn is_too_long(&self) -> bool {
        self.prompt_tokens >= self.context_length
    }
}

/// The count of the draft and when the next one is due.
#[derive(Clone, Debug, Default)]
pub(super) struct Drafting {
    changed: Option<Timestamp>,
    asked: Option<RequestId>,
    count: Option<Count>,
    /// Turns that would be left out of the prompt with the draft.
    left_out: BTreeSet<TurnId>,
}

impl Chat {
    /// Token count of the draft, as of the last typing pause.
    pub fn draft_count(&self) -> Option<Count> {
        self.drafting.count.filter(|_| self.engine.is_loaded())
    }

    /// The count of the draft as it is now.
    pub(super) fn current_count(&self) -> Option<Count> {
        let current = self.drafting.changed.is_none() && self.drafting.asked.is_none();
        self.drafting.count.filter(|_| current)
    }

    /// Whether the prompt with the draft would leave out this turn.
    pub fn is_left_out(&self, turn: TurnId) -> bool {
        let trims = self.options.on_overflow == OverflowPolicy::Trim;
        (trims && self.drafting.left_out.contains(&turn)) || self.conversation.left_out().contains(&turn)
    }

    /// What happens to a prompt that does not fit.
    pub fn overflow_policy(&self) -> OverflowPolicy {
        self.options.on_overflow
    }

    /// The messages of a request if `draft` were sent now.
    pub fn messages_with(&self, draft: String) -> Vec<ChatMessage> {
        let draft = with_files(&self.files_in(&draft), &draft);
        self.conversation.messages_after(self.branch.unwrap_or(self.conversation.head()), draft)
    }

    /// Context positions that the branch took when its last finished answer ended; 0 if it has none.
    pub(super) fn stored_context(&self) -> usize {
        let turns = self.conversation.path().into_iter().rev().filter_map(|id| self.conversation.turn(id));
        let totals = turns.filter_map(|turn| match &turn.answer.ending {
            Ending::Finished { usage, .. } => Some(usage.total_tokens()),
            _ => None,
        });
        { totals }.find(|total| *total > 0).unwrap_or(0)
    }

    pub(super) fn draft_changed(&mut self, prompt: bool) {
        self.drafting.changed = prompt.then_some(self.now);
        self.drafting.asked = None;
        if !prompt {
            self.drafting.count = None;
            self.drafting.left_out.clear();
        }
    }

    /// Requests a new count, because the messages before the draft have changed.
    pub(super) fn recount(&mut self) {
        if self.drafting.count.is_some() {
            self.draft_changed(true);
        }
    }

    /// When the draft is to be counted: not during an answer, which changes the messages before it, or without a model.
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
        if self.surveyed(id, count) {
            return;
        }
        // The count of an older draft does not apply to this one.
        if self.drafting.asked == Some(id) {
            self.drafting.asked = None;
            self.drafting.count = Some(count);
            let parent = self.branch.unwrap_or(self.conversation.head());
            let sent = self.conversation.sent_to(parent);
            self.drafting.left_out = sent.into_iter().take(count.left_out.unwrap_or(0)).collect();
        }
    }
}
