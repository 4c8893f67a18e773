//! The list of what helps if a prompt does not fit the context. The draft stays as it is.

use super::*;
use crate::chat::Chat;
use crate::tui::view::units;

const KEYS: &str = "Enter does it · Esc keeps the draft as it is";

pub(in crate::tui) fn list(chat: &Chat) -> Picker {
    let title = match chat.draft_count() {
        Some(count) => {
            format!("not sent: {} of {} tokens", units::count(count.prompt_tokens), units::count(count.context_length))
        }
        None => "not sent: it is longer than the context".to_owned(),
    };
    let items = chat.remedies().into_iter().map(|remedy| {
        let (title, about) = if remedy.command.is_empty() {
            (remedy.about, String::new())
        } else {
            (remedy.command.clone(), remedy.about)
        };
        Item { id: remedy.command, title, about, ..Item::default() }
    });
    Picker::new(View::Overflow, title, KEYS).with_items(items.collect())
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked
        && !item.id.is_empty()
    {
        app.run_command(&item.id);
    }
}
