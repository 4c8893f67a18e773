//! The whole screen from a chat and what the interface remembers. Drawing changes nothing.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::widgets::{Block, Clear};

use super::screen::Screen;
use super::theme::Theme;
use crate::chat::Chat;
use crate::sanitize::sanitize;

mod composer;
mod footer;
mod gauge;
pub mod glyphs;
pub mod help;
pub mod markdown;
mod paint;
mod popup;
mod status;
pub mod transcript;
mod turn;
pub mod units;
mod welcome;
pub mod wrap;

use glyphs::Glyphs;

/// How things look: what every part of the view needs.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Colours by role.
    pub theme: &'a Theme,
    /// Signs.
    pub glyphs: &'static Glyphs,
}

/// Where the parts of the screen are. Any of them may have no height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// What was said.
    pub transcript: Rect,
    /// Prompts that wait.
    pub queue: Rect,
    /// Progress of a load.
    pub gauge: Rect,
    /// The composer with its frame.
    pub composer: Rect,
    /// The line at the bottom.
    pub status: Rect,
}

/// From this height on there is room for frames and empty lines.
const ROOMY: u16 = 10;

impl Areas {
    /// Shares out `area`: `rows` lines are in the composer, `queued` prompts wait.
    pub fn of(area: Rect, rows: u16, queued: usize, loading: bool) -> Self {
        let roomy = area.height >= ROOMY && area.width >= 20;
        let mut left = area.height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let frame = if roomy { 2 } else { 0 };
        let composer = take(rows.clamp(1, (area.height / 3).max(1)) + frame);
        let status = take(u16::from(area.height > 1));
        let gauge = take(u16::from(loading && area.height > 3));
        let queue = take(if roomy { queued.min(3) as u16 } else { 0 });
        let transcript = left;
        let mut y = area.y;
        let mut place = |height: u16| {
            let placed = Rect { x: area.x, y, width: area.width, height };
            y += height;
            placed
        };
        Self {
            transcript: place(transcript),
            queue: place(queue),
            gauge: place(gauge),
            composer: place(composer),
            status: place(status),
        }
    }

    /// Whether the composer has a frame.
    pub fn framed(&self) -> bool {
        self.composer.height >= 3 && self.composer.width >= 20 && self.status.bottom() >= ROOMY
    }

    /// The part of the composer that text goes in.
    pub fn composer_text(&self) -> Rect {
        composer::text_area(self.composer, self.framed())
    }
}

/// Draws everything. `screen` was laid out for this size before.
pub fn draw(frame: &mut Frame<'_>, chat: &Chat, screen: &Screen) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let look = screen.look();
    frame.render_widget(Block::new().style(look.theme.text), area);
    let areas = screen.areas();
    gauge::draw_queue(frame, areas.queue, chat, &look);
    gauge::draw(frame, areas.gauge, chat, &look);
    composer::draw(frame, &areas, chat, screen, &look);
    transcript::draw(frame, &areas, chat, screen, &look);
    status::draw(frame, areas.status, chat, &look);
    popup::draw(frame, &areas, screen, &look);
    status::draw_long_hint(frame, &areas, chat, &look);
    if chat.help {
        help::draw(frame, help::area(area, areas.composer), screen.help_top(), &look);
    } else if let Some(cursor) = composer::cursor(&areas, screen) {
        frame.set_cursor_position(cursor);
    }
    paint::clean(frame.buffer_mut());
}

/// A rectangle of at most this size in the middle of `area`.
fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Empties `area` and paints it in the theme's background.
fn clear(frame: &mut Frame<'_>, area: Rect, look: &Look<'_>) {
    frame.render_widget(Clear, area);
    frame.render_widget(Block::new().style(look.theme.text), area);
}

/// The model's name in few words: a path's last part.
fn model_name(chat: &Chat) -> String {
    let name = sanitize(&chat.engine.model).replace(['\n', '\t'], " ");
    let is_path = name.starts_with(['/', '.', '~']) || name.starts_with("scripted:");
    match name.trim_end_matches('/').rsplit_once('/') {
        Some((_, last)) if is_path => last.trim_end_matches('/').to_owned(),
        _ => name,
    }
}

fn position(x: usize, y: usize, area: Rect) -> Position {
    let inside =
        |value: usize, low: u16, size: u16| (low + value.min(usize::from(size.saturating_sub(1))) as u16).max(low);
    Position { x: inside(x, area.x, area.width), y: inside(y, area.y, area.height) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
