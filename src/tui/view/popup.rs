//! The completion list: commands, their arguments, earlier prompts.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};

use super::{paint, wrap};
use crate::tui::completion::Choice;
use crate::tui::layout::{Areas, Look};

/// Maximum visible entries.
const HIGHEST: u16 = 8;

/// Minimum width for words beside the counts.
const WORDY: u16 = 40;

pub(super) fn draw(frame: &mut Frame<'_>, areas: &Areas, entries: &[Choice], chosen: usize, look: &Look<'_>) {
    let area = area(areas, entries.len());
    if area.is_empty() {
        return;
    }
    super::paint::clear(frame, area, look);
    let rows = usize::from(area.height);
    let first = first_in_view(chosen, rows, entries.len());
    let width = usize::from(area.width);
    let column = entries.iter().map(|choice| wrap::width(&choice.label) + 2).max().unwrap_or(0).max(18);
    for (row, (index, choice)) in entries.iter().enumerate().skip(first).take(rows).enumerate() {
        let hidden = match row {
            0 if first > 0 => more(look.glyphs.up, first, area.width),
            _ if row + 1 == rows => more(look.glyphs.down, entries.len() - first - rows, area.width),
            _ => String::new(),
        };
        // The mark shows the selection on terminals without colours.
        let mark = if index == chosen { look.glyphs.prompt } else { " " };
        let room = width.saturating_sub(wrap::width(&hidden));
        let mut name = wrap::clip(&format!(" {mark} {}", choice.label), room, look.glyphs.ellipsis);
        name += &" ".repeat((column + 3).min(room).saturating_sub(wrap::width(&name)));
        let about = wrap::clip(&choice.about, room - wrap::width(&name), look.glyphs.ellipsis);
        let style = if index == chosen { look.theme.selection } else { look.theme.text };
        let dim = if index == chosen { look.theme.selection } else { look.theme.dim };
        let gap = " ".repeat(room - wrap::width(&name) - wrap::width(&about));
        let spans = [(name, style), (about, dim), (gap, style), (hidden, dim)];
        let line = Line::from_iter(spans.map(|(text, style)| Span::styled(text, style))).style(style);
        paint::line(frame.buffer_mut(), Rect { y: area.y + row as u16, height: 1, ..area }, &line);
    }
}

/// The rows above the composer that the list takes.
fn area(areas: &Areas, entries: usize) -> Rect {
    let above = areas.composer.y.saturating_sub(areas.transcript.y);
    let height = u16::try_from(entries).unwrap_or(u16::MAX).min(above).min(HIGHEST);
    Rect { y: areas.composer.y - height, height, ..areas.composer }
}

/// The entry at this cell of the screen.
pub(in crate::tui) fn entry_at(areas: &Areas, entries: usize, chosen: usize, at: Position) -> Option<usize> {
    let area = area(areas, entries);
    let first = first_in_view(chosen, usize::from(area.height), entries);
    area.contains(at).then(|| first + usize::from(at.y - area.y))
}

/// The first visible entry: the selected one is in the middle, except near the ends.
fn first_in_view(chosen: usize, rows: usize, entries: usize) -> usize {
    chosen.saturating_sub(rows / 2).min(entries.saturating_sub(rows))
}

/// Number of hidden entries on one side, as text; empty if there are none.
fn more(arrow: &str, count: usize, width: u16) -> String {
    match count {
        0 => String::new(),
        _ if width >= WORDY => format!(" {arrow} {count} more "),
        _ => format!(" {arrow}{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_entry_is_always_visible() {
        for entries in 1..30 {
            for rows in 1..=8.min(entries) {
                for chosen in 0..entries {
                    let first = first_in_view(chosen, rows, entries);
                    assert!(first <= chosen && chosen < first + rows && first + rows <= entries);
                }
            }
        }
    }
}
