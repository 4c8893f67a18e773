//! The lines under the transcript while a turn is selected: which one, what can be done, and what each action keeps of
//! the KV cache.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::{footer, paint, units};
use crate::chat::{Chat, Kept, Mark, Part, TurnAction};
use crate::tui::layout::Look;

/// The actions with their keys, in display order.
pub const ACTIONS: &[(char, TurnAction, &str)] = &[
    ('e', TurnAction::Edit, "edit"),
    ('r', TurnAction::Again, "ask again"),
    ('f', TurnAction::Fork, "fork"),
    ('c', TurnAction::Continue, "continue"),
    ('d', TurnAction::Delete, "delete"),
    ('u', TurnAction::Undo, "bring back"),
    ('y', TurnAction::Copy, "copy"),
    ('b', TurnAction::Branches, "branches"),
];

/// The lines, for `width` cells; none without a selection.
pub fn lines(chat: &Chat, width: u16, look: &Look<'_>) -> Vec<Line<'static>> {
    let Some(mark) = chat.marked() else { return Vec::new() };
    let mut parts = vec![(place(chat, mark, look), look.theme.accent), ("Esc leaves".to_owned(), look.theme.dim)];
    let actions = ACTIONS.iter().filter(|(_, action, _)| is_possible(chat, mark, *action));
    parts.extend(actions.map(|(key, action, name)| (format!("{key} {name}{}", kept(chat, *action)), Style::new())));
    let rows = footer::pack(parts, usize::from(width.saturating_sub(2)).max(1), look);
    rows.into_iter().map(|row| Line::from_iter([" ".into()].into_iter().chain(row)).style(look.theme.text)).collect()
}

/// Which part is selected, and what is cached at all.
fn place(chat: &Chat, mark: Mark, look: &Look<'_>) -> String {
    let name = if mark.part == Part::Prompt { "prompt" } else { "answer" };
    let place = chat.place_of(mark.turn).map(|(number, count)| format!("{name} {number} of {count}"));
    let place = place.unwrap_or_else(|| name.to_owned());
    match chat.kept(TurnAction::Edit) {
        Some(Kept::Cold) => format!("{place} {} no model is loaded, so no token is cached", look.glyphs.dot),
        _ => place,
    }
}

fn is_possible(chat: &Chat, mark: Mark, action: TurnAction) -> bool {
    match action {
        TurnAction::Continue => chat.is_cut(mark.turn),
        TurnAction::Undo => chat.can_undelete(),
        _ => true,
    }
}

fn kept(chat: &Chat, action: TurnAction) -> String {
    match chat.kept(action) {
        None | Some(Kept::Cold) => String::new(),
        Some(Kept::Unknown) => " (keeps …)".to_owned(),
        Some(Kept::Tokens { kept, total }) => {
            format!(" (keeps {} of {})", units::count(kept), units::count(total))
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    paint::lines(frame.buffer_mut(), area, &lines(chat, area.width, look));
}
