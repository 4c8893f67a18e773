//! The mouse, if the setting `mouse` gives it to the interface: the wheel scrolls, a click chooses from a list or opens a
//! link.

use ratatui::crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::keymap::Scroll;
use super::ui_state::{Outcome, UiState};
use super::view::{picker, popup};
use crate::chat::Chat;

/// Lines that one step of the wheel scrolls.
const STEP: usize = 3;

impl UiState {
    /// Handles a press of a button or a step of the wheel.
    pub(super) fn mouse(&mut self, event: MouseEvent, chat: &Chat) -> Vec<Outcome> {
        let at = Position::new(event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp => self.wheel(true, chat),
            MouseEventKind::ScrollDown => self.wheel(false, chat),
            MouseEventKind::Down(MouseButton::Left) => self.click(at, chat),
            _ => Vec::new(),
        }
    }

    fn wheel(&mut self, up: bool, chat: &Chat) -> Vec<Outcome> {
        if self.list().is_some() || !self.completions().is_empty() {
            return self.terminal_key(if up { KeyCode::Up } else { KeyCode::Down }, chat);
        }
        self.scroll(if up { Scroll::Up(STEP) } else { Scroll::Down(STEP) }, chat);
        Vec::new()
    }

    fn click(&mut self, at: Position, chat: &Chat) -> Vec<Outcome> {
        let (size, areas) = (self.size(), self.areas());
        if let Some(list) = self.list_mut() {
            let Some(place) = picker::item_at(size, &areas, list, at) else { return Vec::new() };
            list.select_place(place);
            return self.terminal_key(KeyCode::Enter, chat);
        }
        if chat.help {
            return Vec::new();
        }
        let entries = self.completions().len();
        if let Some(index) = popup::entry_at(&areas, entries, self.chosen_completion(), at) {
            self.choose_completion(index);
            return self.terminal_key(KeyCode::Tab, chat);
        }
        let place = areas.transcript.contains(at).then(|| (at.y - areas.transcript.y, at.x - areas.transcript.x));
        let link = place.and_then(|(row, column)| self.link(usize::from(row), usize::from(column)));
        link.map(Outcome::Follow).into_iter().collect()
    }

    fn link(&self, row: usize, column: usize) -> Option<String> {
        let known = self.transcript.link_in_row(row, column).filter(|address| address.starts_with("http"));
        known.or_else(|| link_at(&self.transcript.text_of_row(row)?, column))
    }

    fn terminal_key(&mut self, code: KeyCode, chat: &Chat) -> Vec<Outcome> {
        self.key(KeyEvent::from(code), chat)
    }
}

/// The web address at this cell of a line.
fn link_at(line: &str, column: usize) -> Option<String> {
    let mut cells = crate::cells::pieces(line).scan((0, 0), |(byte, cell), (piece, width)| {
        let (at, from) = (*byte, *cell);
        (*byte, *cell) = (at + piece.len(), from + width);
        Some((at, from..*cell))
    });
    let (at, _) = cells.find(|(_, cells)| cells.contains(&column))?;
    let ends = |c: char| c.is_whitespace() || "<>()[]{}\"'`│|".contains(c);
    let start = line[..at].rfind(ends).map_or(0, |end| end + line[end..].chars().next().map_or(1, char::len_utf8));
    let word = &line[start..];
    let word = &word[..word.find(ends).unwrap_or(word.len())];
    let word = word.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    let host = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"))?;
    (at < start + word.len() && !host.is_empty()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_at_each_of_its_cells_only() {
        let line = "日本 see (https://example.org/a?b=c). End";
        let url = Some("https://example.org/a?b=c".to_owned());
        for (column, found) in [(0, None), (9, None), (10, url.clone()), (34, url), (35, None), (40, None), (99, None)]
        {
            assert_eq!(link_at(line, column), found, "{column}");
        }
    }

    #[test]
    fn other_schemes_are_not_opened() {
        for line in ["file:///etc/passwd", "javascript:alert(1)", "https://", "ssh://host/"] {
            assert_eq!(link_at(line, 2), None, "{line}");
        }
    }
}
