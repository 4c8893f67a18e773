//! The draft of each conversation: stored a moment after a change and when it is left, shown again when it is opened.
//!
//! A stored conversation has its draft in the store. The draft of one that is not stored yet is in a file of its own, and
//! comes back as an earlier prompt (see `unsent`).

use std::time::{Duration, Instant};

use super::App;
use super::unsent;
use crate::conversation::{Change, Conversation, ConversationId};

/// How long a change may be unsaved.
const DELAY: Duration = Duration::from_secs(1);

/// What is saved of the draft.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// When the next save is due; `None` without an unsaved change.
    due: Option<Instant>,
    /// What was saved last.
    saved: String,
    /// Prompts that were queued when the draft was looked at last: they are saved with it.
    queued: usize,
    /// The draft of this conversation is in a file.
    in_file: Option<ConversationId>,
    /// The next conversation that is opened takes the draft along: it is a new one.
    pub(super) carried: bool,
}

impl App {
    /// The draft has changed.
    pub(super) fn draft_touched(&mut self) {
        self.drafts.due.get_or_insert_with(|| Instant::now() + DELAY);
    }

    /// Notes whether prompts were queued or sent.
    pub(super) fn note_queue(&mut self) {
        if std::mem::replace(&mut self.drafts.queued, self.chat.queue.len()) != self.chat.queue.len() {
            self.draft_touched();
        }
    }

    /// Time until a save is due; `None` without an unsaved change.
    pub(super) fn draft_wait(&self) -> Option<Duration> {
        self.drafts.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Saves the draft if that is due.
    pub(super) fn save_due_draft(&mut self) {
        if self.drafts.due.is_some_and(|due| Instant::now() >= due) {
            self.save_draft();
        }
    }

    /// Saves the draft now, if it differs from what is saved.
    pub(super) fn save_draft(&mut self) {
        self.drafts.due = None;
        let text = self.screen.composer.unsent();
        // A command is not a draft.
        let text = if text.trim().is_empty() || is_command(&text) { String::new() } else { text };
        let queued = self.chat.queue.iter().map(String::as_str);
        let parts: Vec<_> = queued.chain([text.as_str()]).filter(|part| !part.is_empty()).collect();
        let text = parts.join("\n\n");
        let (id, stored) = (self.chat.conversation.id.clone(), !self.chat.conversation.turns().is_empty());
        let moves = stored && self.drafts.in_file.is_some();
        if self.drafts.saved == text && !moves {
            return;
        }
        let Some(recorder) = &self.recorder else { return };
        if let Some(old) = self.drafts.in_file.take_if(|old| stored || text.is_empty() || *old != id) {
            let folder = self.settings.data_dir.clone();
            recorder.aside(move || unsent::discard(&folder, &old));
        }
        if stored {
            recorder.change(id, Change::Draft(text.clone()), &self.sender);
        } else if !text.is_empty() {
            let (folder, file, text) = (self.settings.data_dir.clone(), id.clone(), text.clone());
            // A draft that cannot be written is still on the screen.
            recorder.aside(move || drop(unsent::keep(&folder, &file, &text)));
            self.drafts.in_file = Some(id);
        }
        self.drafts.saved = text;
    }

    /// Before `next` is opened: saves the draft of the conversation that is left, and clears the composer for `next`. The
    /// draft stays if the conversation is not stored, or if `next` is a new one.
    pub(super) fn leave_draft(&mut self, next: &Conversation) {
        if self.drafts.carried || self.chat.conversation.turns().is_empty() || self.chat.conversation.id == next.id {
            return;
        }
        self.save_draft();
        if !is_command(&self.screen.composer.draft()) {
            self.screen.composer.clear();
        }
    }

    /// Shows the draft of the conversation that was just opened. If the composer is not empty, it becomes an earlier prompt.
    pub(super) fn show_draft(&mut self) {
        if std::mem::take(&mut self.drafts.carried) {
            // What is written belongs to the new conversation now.
            self.draft_touched();
            return;
        }
        let draft = self.chat.conversation.draft.clone();
        self.drafts.saved.clone_from(&draft);
        if draft.is_empty() {
            return;
        }
        if self.screen.composer.is_empty() {
            self.screen.composer.put_back(&draft);
        } else {
            self.screen.composer.recall(std::iter::once(draft.as_str()));
        }
    }
}

/// Whether a draft is the beginning of a slash command.
fn is_command(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| {
        let name = rest.split(char::is_whitespace).next().unwrap_or_default();
        crate::chat::command::COMMANDS.iter().any(|spec| spec.name[1..].starts_with(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_no_drafts_and_paths_are() {
        for text in ["/", "/res", "/resume 12ab", "/set top_k 3"] {
            assert!(is_command(text), "{text}");
        }
        for text in ["", "/usr/bin", "hello", " /resume"] {
            assert!(!is_command(text), "{text}");
        }
    }
}
