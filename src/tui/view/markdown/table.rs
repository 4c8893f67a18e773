//! Tables drawn with box lines. Columns take what they need; where that is too much, the widest give way and wrap.

use pulldown_cmark::Alignment;
use ratatui::text::{Line, Span};

use crate::tui::view::{Look, wrap};

type Cell = Vec<Span<'static>>;

/// A table's content, row by row; the first row is the head.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub alignments: Vec<Alignment>,
    pub rows: Vec<Vec<Cell>>,
}

/// No column is made narrower than this.
const NARROWEST: usize = 3;

impl Table {
    /// The table in at most `width` cells; as a list of its rows where it cannot be so narrow.
    pub fn draw(&self, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        if columns == 0 {
            return Vec::new();
        }
        let room = width.saturating_sub(3 * columns + 1);
        if room < columns * NARROWEST {
            return self.draw_as_list(width, look);
        }
        let widths = fit(self.natural_widths(columns), room);
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

    fn natural_widths(&self, columns: usize) -> Vec<usize> {
        let cell_width = |cell: &Cell| cell.iter().map(|span| wrap::width(&span.content)).sum::<usize>();
        (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(cell_width).max().unwrap_or(0).max(1))
            .collect()
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

/// Takes from the widest until all fit.
fn fit(mut widths: Vec<usize>, room: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() > room {
        let excess = widths.iter().sum::<usize>() - room;
        let widest = widths.iter().copied().max().unwrap_or(0);
        let second = widths.iter().copied().filter(|width| *width < widest).max().unwrap_or(NARROWEST).max(NARROWEST);
        let wide = widths.iter().filter(|width| **width == widest).count();
        let step = (widest - second.min(widest)).min(excess.div_ceil(wide)).max(1);
        let mut left = excess;
        for width in widths.iter_mut().filter(|width| **width == widest) {
            let take = step.min(left);
            *width -= take;
            left -= take;
        }
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
    fn the_widest_columns_give_way_first() {
        assert_eq!(fit(vec![3, 10, 40], 30), [3, 10, 17]);
        assert_eq!(fit(vec![20, 20, 20], 30), [10, 10, 10]);
        assert_eq!(fit(vec![5, 6], 30), [5, 6]);
        assert_eq!(fit(vec![3, 30, 31], 20).iter().sum::<usize>(), 20);
    }
}
