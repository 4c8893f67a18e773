//! Draws the whole screen from the chat and the interface's state. Drawing changes neither.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Block;

use super::ui_state::UiState;
use crate::chat::Chat;

mod composer;
pub mod files;
mod footer;
mod gauge;
pub mod glyphs;
pub mod help;
pub mod markdown;
pub mod marked;
mod paint;
pub mod panel;
pub mod picker;
pub mod popup;
mod status;
pub(super) mod supply;
pub mod transcript;
mod turn;
pub mod units;
mod welcome;
pub mod wrap;

/// Draws lines without the rest of the screen.
pub fn draw_lines(buffer: &mut Buffer, area: Rect, lines: &[Line<'static>]) {
    paint::lines(buffer, area, lines);
    paint::clean(buffer);
}

/// Draws a frame. Call `UiState::layout` for this size first.
pub fn draw(frame: &mut Frame<'_>, chat: &Chat, screen: &UiState) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let look = screen.look();
    frame.render_widget(Block::new().style(look.theme.text), area);
    let areas = screen.areas();
    gauge::draw_queue(frame, areas.queue, chat, &look);
    files::draw(frame, areas.files, &screen.chips);
    gauge::draw(frame, areas.gauge, chat, &look);
    supply::draw(frame, areas.gauge, chat, &look);
    composer::draw(frame, &areas, chat, &screen.composer, screen.transcript.is_scrolled(), &look);
    transcript::draw(frame, &areas, chat, &screen.composer, &screen.transcript, &screen.recent, &look);
    panel::draw(frame, areas.panel, chat, &look);
    marked::draw(frame, areas.actions, chat, &look);
    status::draw(frame, areas.status, chat, &look);
    popup::draw(frame, &areas, &screen.completions(), screen.chosen_completion(), &look);
    status::draw_long_hint(frame, &areas, chat, &look);
    if let Some(list) = screen.list() {
        let cursor = picker::draw(frame, picker::over(area, &areas), list, &look);
        frame.set_cursor_position(cursor);
    } else if chat.help {
        help::draw(frame, help::area(area, areas.composer), screen.help_top(), &look);
    } else if let Some(cursor) = composer::cursor(&areas, &screen.composer) {
        frame.set_cursor_position(cursor);
    }
    paint::clean(frame.buffer_mut());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
