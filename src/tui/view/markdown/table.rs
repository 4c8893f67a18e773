//! Tables drawn with box lines. If the columns do not fit, the widest are narrowed and their cells wrap.

use pulldown_cmark::Alignment;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use crate::tui::layout::Look;
use crate::tui::view::wrap;

type Cell = Vec<Span<'static>>;

/// A table's content, row by row; the first row is the header.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub alignments: Vec<Alignment>,
    pub rows: Vec<Vec<Cell>>,
}

/// Words longer than this, in cells, may be broken.
const LONGEST_WORD: usize = 12;

fn cell_width(cell: &Cell) -> usize {
    let line_width = |line: Cell| line.iter().map(|span| wrap::width(&span.content)).sum();
    wrap::wrap(cell, usize::MAX).into_iter().map(line_width).max().unwrap_or(0)
}

/// Width of a cell's longest unbreakable word, at most `LONGEST_WORD`. Wide characters may be broken anywhere.
fn longest_word(cell: &Cell) -> usize {
    let (mut longest, mut word) = (0, 0);
    for sign in cell.iter().flat_map(|span| span.content.graphemes(true)) {
        let width = wrap::width(sign);
        word = if width > 1 || sign.trim().is_empty() { 0 } else { word + width };
        longest = longest.max(word).max(width);
    }
    longest.min(LONGEST_WORD)
}

impl Table {
    /// Draws the table in at most `width` cells, or as a list of its rows if it does not fit.
    pub fn draw(&self, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        if columns == 0 {
            return Vec::new();
        }
        let room = width.saturating_sub(3 * columns + 1);
        let floors = self.widths(columns, longest_word);
        if floors.iter().sum::<usize>() > room {
            return self.draw_as_list(width, look);
        }
        let widths = fit(self.widths(columns, cell_width), &floors, room);
        let g = look.glyphs;
        let mut lines = vec![rule(&widths, g.table_top, look)];
        for (index, row) in self.rows.iter().enumerate() {
            lines.extend(self.draw_row(row, &widths, look));
            if index == 0 {
                lines.push(rule(&widths, g.table_middle, look));
            }
        }
        lines.push(rule(&widths, g.table_bottom, look));
        lines
    }

    /// For each column the maximum of `of` over its cells, at least 1.
    fn widths(&self, columns: usize, of: impl Fn(&Cell) -> usize) -> Vec<usize> {
        let cells = |column| self.rows.iter().filter_map(move |row| row.get(column));
        (0..columns).map(|column| cells(column).map(&of).max().unwrap_or(0).max(1)).collect()
    }

    fn draw_row(&self, row: &[Cell], widths: &[usize], look: &Look<'_>) -> Vec<Line<'static>> {
        let empty = Cell::new();
        let cells: Vec<_> =
            widths.iter().enumerate().map(|(c, width)| wrap::wrap(row.get(c).unwrap_or(&empty), *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        let bar = Span::styled(look.glyphs.table_bar, look.theme.border);
        (0..height)
            .map(|line| {
                let mut spans = vec![bar.clone()];
                for (column, width) in widths.iter().enumerate() {
                    let piece = cells[column].get(line).cloned().unwrap_or_default();
                    spans.extend(self.pad(piece, column, *width));
                    spans.push(bar.clone());
                }
                Line::from(spans)
            })
            .collect()
    }

    fn pad(&self, piece: Cell, column: usize, width: usize) -> Cell {
        let free = width.saturating_sub(piece.iter().map(|span| wrap::width(&span.content)).sum());
        let left = match self.alignments.get(column) {
            Some(Alignment::Right) => free,
            Some(Alignment::Center) => free / 2,
            _ => 0,
        };
        let mut padded = vec![Span::raw(" ".repeat(left + 1))];
        padded.extend(piece);
        padded.push(Span::raw(" ".repeat(free - left + 1)));
        padded
    }

    fn draw_as_list(&self, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let Some((head, rows)) = self.rows.split_first() else { return Vec::new() };
        let mut lines = Vec::new();
        for row in if rows.is_empty() { std::slice::from_ref(head) } else { rows } {
            for (column, cell) in row.iter().enumerate() {
                let mut spans: Cell = Vec::new();
                if let Some(name) = head.get(column).filter(|_| !rows.is_empty()) {
                    spans.extend(name.iter().cloned());
                    spans.push(Span::styled(": ", look.theme.dim));
                }
                spans.extend(cell.iter().cloned());
                lines.extend(wrap::wrap(&spans, width).into_iter().map(Line::from));
            }
            lines.push(Line::default());
        }
        lines.pop();
        lines
    }
}

/// Narrows the widest columns until all fit, none below its floor. The sum of the floors must fit.
fn fit(widths: Vec<usize>, floors: &[usize], room: usize) -> Vec<usize> {
    let mut widths: Vec<_> = widths.into_iter().map(|width| width.min(room)).collect();
    let mut total: usize = widths.iter().sum();
    while total > room {
        let above = widths.iter().zip(floors).enumerate().filter(|(_, (width, floor))| width > floor);
        let Some((widest, _)) = above.max_by_key(|(column, (width, _))| (**width, usize::MAX - column)) else { break };
        widths[widest] -= 1;
        total -= 1;
    }
    widths
}

fn rule(widths: &[usize], [left, line, cross, right]: [&str; 4], look: &Look<'_>) -> Line<'static> {
    let parts: Vec<_> = widths.iter().map(|width| line.repeat(width + 2)).collect();
    Line::from(Span::styled(format!("{left}{}{right}", parts.join(cross)), look.theme.border))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_are_narrowed_first_and_words_are_not_broken() {
        let none = [1, 1, 1];
        assert_eq!(fit(vec![3, 10, 40], &none, 30), [3, 10, 17]);
        assert_eq!(fit(vec![20, 20, 20], &none, 30), [10, 10, 10]);
        assert_eq!(fit(vec![5, 6], &none, 30), [5, 6]);
        assert_eq!(fit(vec![3, 30, 31], &none, 20).iter().sum::<usize>(), 20);
        assert_eq!(fit(vec![20, 20, 20], &[1, 12, 1], 30), [9, 12, 9]);
        let cell = |text: &str| vec![Span::raw(text.to_owned())];
        assert_eq!(longest_word(&cell("in narrow terminals")), 9);
        assert_eq!(longest_word(&cell("日本語 ab")), 2);
        assert_eq!(longest_word(&cell("https://example.org/long")), LONGEST_WORD);
    }
}
