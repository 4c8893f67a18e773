//! The list of stored conversations: search in titles and texts, open, rename, delete.

use super::*;

const KEYS: &str = "Enter opens · Esc closes";

pub(super) fn list(app: &mut App, _query: &str) -> Picker {
    let mut picker = Picker::new(View::Conversations, "conversations", KEYS);
    picker.empty = "No other conversation is stored yet.".into();
    if let Some(recorder) = &app.recorder {
        picker.pending = true;
        recorder.list_items(app.chat.conversation.id.clone(), &app.sender);
    }
    picker
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked {
        app.run_command(&format!("/resume {}", item.id));
    }
}

impl super::super::TurnRecorder {
    /// Reads the stored conversations, except the current one; sends them as items.
    pub(super) fn list_items(
        &self,
        current: crate::conversation::ConversationId,
        sender: &tokio::sync::mpsc::UnboundedSender<Input>,
    ) {
        let sender = sender.clone();
        self.read_list(current, move |choices| {
            let items = choices.into_iter().map(|choice| Item {
                id: choice.id,
                title: choice.title,
                detail: choice.about,
                ..Item::default()
            });
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(Input::List(View::Conversations, items.collect()));
        });
    }
}
