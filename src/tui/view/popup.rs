//! The list of commands that what was typed may become.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Areas, Look, wrap};
use crate::tui::screen::Screen;

pub(super) fn draw(frame: &mut Frame<'_>, areas: &Areas, screen: &Screen, look: &Look<'_>) {
    let entries = screen.completions();
    if entries.is_empty() {
        return;
    }
    let above = areas.composer.y.saturating_sub(areas.transcript.y);
    let height = (entries.len() as u16).min(above).min(8);
    if height == 0 {
        return;
    }
    let area = Rect { y: areas.composer.y - height, height, ..areas.composer };
    super::clear(frame, area, look);
    let chosen = screen.chosen_completion();
    let first = (chosen + 1).saturating_sub(usize::from(height));
    let width = usize::from(area.width);
    let column = entries.iter().map(|choice| choice.label.len() + 2).max().unwrap_or(0).max(18);
    for (row, (index, choice)) in entries.iter().enumerate().skip(first).take(usize::from(height)).enumerate() {
        // The mark also tells where no colour does.
        let mark = if index == chosen { look.glyphs.prompt } else { " " };
        let name = format!(" {mark} {:<column$}", choice.label);
        let about = wrap::clip(&choice.about, width.saturating_sub(wrap::width(&name)), look.glyphs.ellipsis);
        let style = if index == chosen { look.theme.selection } else { look.theme.text };
        let dim = if index == chosen { look.theme.selection } else { look.theme.dim };
        let line = Line::from(vec![Span::styled(name, style), Span::styled(about, dim)]).style(style);
        frame.render_widget(line, Rect { y: area.y + row as u16, height: 1, ..area });
    }
}
