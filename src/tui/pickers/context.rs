//! The list of turns with the tokens that each takes of the context.

use super::*;
use crate::chat::Chat;
use crate::conversation::{Ending, TurnId};
use crate::sanitize::sanitize_line;
use crate::stats::shares;
use crate::tui::view::units;

const KEYS: &str = "Enter selects the turn · /context N changes the size · /compact N leaves turns out · Esc closes";

pub(in crate::tui) fn list(chat: &Chat) -> Picker {
    let path = chat.conversation.path();
    let turns: Vec<_> = path.iter().filter_map(|id| chat.conversation.turn(*id).map(|turn| (*id, turn))).collect();
    let usage = turns.iter().map(|(_, turn)| match &turn.answer.ending {
        Ending::Finished { usage, .. } => Some(usage),
        _ => None,
    });
    let shares = shares(usage);
    let items = turns.iter().zip(&shares).enumerate().map(|(place, ((id, turn), share))| Item {
        id: id.0.to_string(),
        title: format!("{} {}", place + 1, first_line(&turn.prompt)),
        about: if chat.is_left_out(*id) { "left out".to_owned() } else { String::new() },
        detail: format!("{} + {} tokens", units::count(share.question), units::count(share.answer)),
        ..Item::default()
    });
    let used = units::count(chat.engine.context_used);
    let title = match &chat.engine.info {
        Some(info) if info.context_length == 0 => format!("context: {used} tokens of an unknown number"),
        Some(info) => format!("context: {used} of {} tokens", units::count(info.context_length)),
        None => format!("context: {used} tokens"),
    };
    let mut picker = Picker::new(View::Context, title, KEYS);
    picker.empty = "Nothing was asked yet: the context is empty.".into();
    picker.with_items(items.collect())
}

fn first_line(prompt: &str) -> String {
    sanitize_line(prompt.trim().lines().next().unwrap_or_default())
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked
        && let Ok(turn) = item.id.parse()
    {
        app.chat_event(Event::MarkTurn(TurnId(turn)));
    }
}
