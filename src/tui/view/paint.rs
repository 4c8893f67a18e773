//! Writes lines into the cells of a frame, by the widths of [`cells`]. ratatui's width of a whole span differs: it
//! counts an Arabic ligature as one cell, and a voiced half-width kana as three.

use std::num::NonZeroU16;

use ratatui::Frame;
use ratatui::buffer::{Buffer, CellDiffOption};
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear};

use crate::cells;
use crate::tui::layout::Look;

/// Writes `line` into the first row of `area`, cut at the right edge.
pub(super) fn line(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    let area = Rect { height: 1, ..area }.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    buffer.set_style(area, line.style);
    let mut x = area.x;
    for span in &line.spans {
        let style = line.style.patch(span.style);
        for (piece, width) in cells::pieces(&cells::drawn(&span.content)) {
            let Some(next) = u16::try_from(width).ok().and_then(|width| x.checked_add(width)) else { return };
            if next > area.right() {
                return;
            }
            if next > x {
                buffer[(x, area.y)].set_symbol(piece).set_style(style);
                (x + 1..next).for_each(|x| buffer[(x, area.y)].reset());
                force_width(buffer, x, area.y, piece);
            }
            x = next;
        }
    }
}

/// A half-width sound mark takes one cell, but ratatui counts two.
fn force_width(buffer: &mut Buffer, x: u16, y: u16, piece: &str) {
    if let (true, Some(one)) = (piece.starts_with(['\u{ff9e}', '\u{ff9f}']), NonZeroU16::new(1)) {
        buffer[(x, y)].set_diff_option(CellDiffOption::ForcedWidth(one));
    }
}

/// Writes `lines` into the rows of `area`.
pub(super) fn lines(buffer: &mut Buffer, area: Rect, lines: &[Line<'_>]) {
    for (row, text) in area.rows().zip(lines) {
        line(buffer, row, text);
    }
}

/// Removes characters that must not be drawn from a whole frame, including those of other widgets.
pub(super) fn clean(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.len() > 1 && symbol.chars().any(cells::is_unseen) {
            let shown = cells::drawn(symbol).into_owned();
            cell.set_symbol(if shown.is_empty() { " " } else { &shown });
        }
    }
}

/// A rectangle of at most this size in the middle of `area`.
pub(super) fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Clears `area` and fills it with the theme's background.
pub(super) fn clear(frame: &mut Frame<'_>, area: Rect, look: &Look<'_>) {
    frame.render_widget(Clear, area);
    frame.render_widget(Block::new().style(look.theme.text), area);
}

pub(super) fn position(x: usize, y: usize, area: Rect) -> Position {
    let inside =
        |value: usize, low: u16, size: u16| (low + value.min(usize::from(size.saturating_sub(1))) as u16).max(low);
    Position { x: inside(x, area.x, area.width), y: inside(y, area.y, area.height) }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;
    use ratatui::text::Span;

    use super::*;

    fn drawn(spans: &[&str]) -> Vec<String> {
        let area = Rect::new(0, 0, 12, 1);
        let mut buffer = Buffer::empty(area);
        let spans = spans.iter().enumerate().map(|(n, text)| {
            Span::styled(text.to_string(), if n % 2 == 1 { Style::new().bold() } else { Style::new() })
        });
        line(&mut buffer, area, &Line::from_iter(spans));
        Buffer::empty(area).diff(&buffer).into_iter().map(|(x, _, cell)| format!("{x}{}", cell.symbol())).collect()
    }

    #[test]
    fn spans_are_placed_by_their_drawn_width() {
        assert_eq!(drawn(&["لا", "x"]), ["0ل", "1ا", "2x"]);
        assert_eq!(drawn(&["ｶﾞ", "x"]), ["0ｶ", "1ﾞ", "2x"]);
        assert_eq!(drawn(&["日", "x", "👩\u{200d}🚀", "y"]), ["0日", "2x", "3👩\u{200d}🚀", "5y"]);
    }

    #[test]
    fn joiners_are_drawn_except_at_the_end_of_an_emoji() {
        let text = "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3} \u{d28}\u{d4d}\u{200d}";
        let symbols = |text: &str| drawn(&[text]).concat().replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(symbols(text), text.replace(' ', ""));
        assert_eq!(symbols("\u{1f469}\u{200d}"), "\u{1f469}");
    }

    #[test]
    fn characters_beyond_the_right_edge_are_not_drawn() {
        assert_eq!(drawn(&["abcdefghijk", "日"]).last().map(String::as_str), Some("10k"));
    }

    #[test]
    fn clean_removes_invisible_characters() {
        let mut buffer = Buffer::with_lines(["ab", "cd"]);
        buffer[(0, 0)].set_symbol("a\u{34f}\u{202e}");
        buffer[(1, 1)].set_symbol("\u{200b}");
        clean(&mut buffer);
        assert_eq!(buffer, Buffer::with_lines(["ab", "c "]));
    }
}
