//! The list of branches: each fork of the conversation with its versions, then the deleted turns. A choice shows that
//! branch, or brings the turn back.

use super::*;
use crate::chat::Chat;
use crate::chat::branches::{Fork, Version, forks};
use crate::conversation::{Turn, TurnId};
use crate::sanitize::sanitize_line;
use crate::wording::plural;

const KEYS: &str = "Enter shows the branch · Esc closes";
const KEYS_DELETED: &str = "Enter shows the branch, or brings the deleted turn back · Esc closes";

/// The heading of the deleted turns.
const DELETED: &str = "deleted";

/// Longest text of a deleted turn, in characters.
const LONGEST: usize = 200;

pub(in crate::tui) fn list(chat: &Chat) -> Picker {
    let forks = forks(&chat.conversation);
    let versions = forks.iter().flat_map(|fork| fork.versions.iter().map(|version| item(fork, version)));
    let removed = chat.conversation.removed();
    let deleted = removed.iter().filter_map(|id| Some(deleted(*id, chat.conversation.turn(*id)?)));
    let items: Vec<_> = versions.chain(deleted).collect();
    let marked = chat.marked().map(|mark| mark.turn);
    let at = forks.iter().flat_map(|fork| &fork.versions).rfind(|version| version.shown);
    let at = marked.or(at.map(|version| version.turn));
    let keys = if removed.is_empty() { KEYS } else { KEYS_DELETED };
    let mut picker = Picker::new(View::Branches, "branches", keys);
    picker.empty = "There is one branch: /edit, /retry and /continue of an earlier turn begin others.".into();
    let picker = picker.with_items(items);
    match at {
        Some(turn) => picker.at(&turn.0.to_string()),
        None => picker,
    }
}

fn item(fork: &Fork, version: &Version) -> Item {
    let after = fork.after.as_ref().map(|prompt| format!(" after: {}", sanitize_line(prompt.trim())));
    let section: String = format!("turn {}{}", fork.number, after.unwrap_or_default()).chars().take(60).collect();
    let words = sanitize_line(&version.words);
    let kind = if version.of_answer { "answer" } else { "prompt" };
    let title = if words.is_empty() { format!("({kind} without text)") } else { words };
    let turns = format!("{} {}", version.turns, plural(version.turns, "turn"));
    Item {
        id: version.turn.0.to_string(),
        title,
        about: sanitize_line(&version.answer),
        detail: if version.shown { format!("shown, {turns}") } else { turns },
        section,
        excerpt: None,
    }
}

fn deleted(id: TurnId, turn: &Turn) -> Item {
    let first = |text: &str| sanitize_line(&text.trim().chars().take(LONGEST).collect::<String>());
    let (title, about) = (first(&turn.prompt), first(&turn.answer.text));
    let title = if title.is_empty() { "(prompt without text)".to_owned() } else { title };
    let section = DELETED.to_owned();
    Item { id: id.0.to_string(), title, about, detail: DELETED.to_owned(), section, excerpt: None }
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked
        && let Ok(turn) = item.id.parse()
    {
        app.chat_event(Event::ShowBranch(TurnId(turn)));
    }
}
