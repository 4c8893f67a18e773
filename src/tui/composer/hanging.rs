//! Blanks at the beginning of a wrapped row. The text area wraps before them; the rows are drawn without them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use ratatui_textarea::{CursorMove, TextArea};

use super::Composer;

/// A longer draft is drawn as the text area wraps it: all of its rows would be drawn on each keystroke.
const MOST_ROWS: u16 = 100;

/// The blanks at the beginning of each of the `rows` rows, 0 for the first row of a line; empty if no line is wrapped.
pub(super) fn blanks(area: &TextArea<'static>, width: u16, rows: u16) -> Vec<u16> {
    let lines = u16::try_from(area.lines().len()).unwrap_or(u16::MAX);
    if rows <= lines || rows > MOST_ROWS {
        return Vec::new();
    }
    let mut probe = area.clone();
    probe.cancel_selection();
    probe.move_cursor(CursorMove::Jump(0, 0));
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, rows));
    (&probe).render(buffer.area, &mut buffer);
    let of_row = |y| (0..width).take_while(|x| buffer.cell((*x, y)).is_some_and(|cell| cell.symbol() == " ")).count();
    let mut blanks: Vec<_> = (0..rows).map(|y| u16::try_from(of_row(y)).unwrap_or(width)).collect();
    for line in 0..lines {
        probe.move_cursor(CursorMove::Jump(line, 0));
        if let Some(first) = blanks.get_mut(probe.screen_cursor().row) {
            *first = 0;
        }
    }
    blanks
}

impl Composer {
    /// The blanks that are not drawn at the beginning of a row of the wrapped draft.
    pub(super) fn hanging(&self, row: usize) -> u16 {
        self.hanging.get(row).copied().unwrap_or_default()
    }

    /// Draws the visible rows of the draft into `place`.
    pub fn draw(&self, place: Rect, buffer: &mut Buffer) {
        (&self.area).render(place, buffer);
        let (top, _) = self.area.scroll_offset();
        for y in place.y..place.bottom() {
            let blanks = self.hanging(usize::from(top + y - place.y));
            if blanks == 0 {
                continue;
            }
            for x in place.x..place.right() {
                let from = x.saturating_add(blanks);
                let moved = buffer.cell((from, y)).filter(|_| from < place.right()).cloned();
                if let Some(cell) = buffer.cell_mut((x, y)) {
                    match moved {
                        Some(moved) => *cell = moved,
                        None => drop(cell.set_symbol(" ")),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows as they are drawn, with `|` at the cursor.
    fn drawn(text: &str, width: u16) -> Vec<String> {
        let mut composer = Composer::default();
        composer.set(text);
        let place = Rect::new(0, 0, width, composer.layout(width));
        let mut buffer = Buffer::empty(place);
        composer.draw(place, &mut buffer);
        let (row, column) = composer.cursor_on_screen();
        let rows = place.rows().enumerate().map(|(y, line)| {
            let mut cells: Vec<_> =
                line.columns().filter_map(|cell| Some(buffer.cell(cell.as_position())?.symbol())).collect();
            if y == row {
                cells.insert(column, "|");
            }
            cells.concat().trim_end().to_owned()
        });
        rows.collect()
    }

    #[test]
    fn a_wrapped_row_does_not_begin_with_a_blank() {
        assert_eq!(drawn("four two", 4), ["four", "two|"]);
        assert_eq!(drawn("sixsix  two abc", 6), ["sixsix", "two", "abc|"]);
        assert_eq!(drawn("four ", 4), ["four", "|"], "the blank that ends the draft");
        assert_eq!(drawn("four two\n x", 4), ["four", "two", " x|"], "an indented line stays");
    }
}
