//! A conversation that another process continues at the same time: its turns are not known here until `/branch` reads them.

use crate::conversation::ConversationId;

use super::{Chat, Effect, NoteKind, View};

/// What is known of the turns of another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// There are none.
    #[default]
    Nothing,
    /// The store has some.
    Unread,
    /// They are being read; then the list of branches opens.
    Reading,
}

impl Chat {
    pub(super) fn continued_elsewhere(&mut self, id: &ConversationId) {
        if self.conversation.id != *id {
            return;
        }
        self.elsewhere = Elsewhere::Unread;
        let told = "This conversation was continued in another window too: your question began a branch. Both are kept, \
                    and /branch shows both.";
        self.note(NoteKind::Info, told);
    }

    /// `/branch`: opens the list of branches; reads the turns of another process first.
    pub(super) fn show_branches(&mut self) -> Vec<Effect> {
        let id = self.conversation.id.clone();
        let head = self.conversation.head();
        match (self.elsewhere, head) {
            (Elsewhere::Unread, Some(head)) => {
                if self.refuses_now() {
                    return Vec::new();
                }
                self.elsewhere = Elsewhere::Reading;
                self.opening = true;
                // The branch that is shown here stays the one that is shown.
                vec![Effect::Select(id.clone(), head), Effect::Resume(id.0)]
            }
            _ => vec![Effect::Open(View::Branches, String::new())],
        }
    }

    /// The turns of another process could not be read; the next `/branch` tries again.
    pub(super) fn branches_not_read(&mut self) {
        if self.elsewhere == Elsewhere::Reading {
            self.elsewhere = Elsewhere::Unread;
        }
    }

    /// Opens the list of branches after the turns of another process were read.
    pub(super) fn open_branches(&mut self) -> Vec<Effect> {
        match std::mem::take(&mut self.elsewhere) {
            Elsewhere::Reading => vec![Effect::Open(View::Branches, String::new())],
            _ => Vec::new(),
        }
    }
}
