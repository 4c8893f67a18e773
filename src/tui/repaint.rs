//! Rows that have to be written whole. Terminals disagree about the width of what is one sign of several characters: a
//! flag, a family, a skin's tone. ratatui writes only the cells that changed, so what such a sign left in cells beside
//! its own would stay on the screen.

use std::collections::BTreeMap;

use ratatui::buffer::{Buffer, CellDiffOption};

/// The rows with such signs in the frame that was drawn last, with their text.
#[derive(Debug, Default)]
pub(super) struct RowRepainter(BTreeMap<u16, String>);

impl RowRepainter {
    /// Has those rows of `next` written whole that hold such a sign, or held one, and are not what they were.
    pub fn mark(&mut self, next: &mut Buffer) {
        let area = next.area;
        let before = std::mem::take(&mut self.0);
        for y in area.top()..area.bottom() {
            let doubtful = (area.left()..area.right()).any(|x| is_doubtful(next[(x, y)].symbol()));
            let text = doubtful.then(|| (area.left()..area.right()).map(|x| next[(x, y)].symbol()).collect::<String>());
            if before.get(&y) != text.as_ref() {
                for x in area.left()..area.right() {
                    let cell = &mut next[(x, y)];
                    if cell.diff_option == CellDiffOption::None {
                        cell.set_diff_option(CellDiffOption::AlwaysUpdate);
                    }
                }
            }
            if let Some(text) = text {
                self.0.insert(y, text);
            }
        }
    }
}

/// Several characters, and not only accents on a letter: those take one cell everywhere.
fn is_doubtful(symbol: &str) -> bool {
    symbol.chars().nth(1).is_some() && symbol.chars().any(|c| c >= '\u{1f000}' || matches!(c, '\u{200d}' | '\u{fe0f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(from: &Buffer, to: &Buffer) -> Vec<(u16, u16)> {
        from.diff(to).into_iter().map(|(x, y, _)| (x, y)).collect()
    }

    #[test]
    fn a_flag_leaves_nothing_behind_where_it_takes_cells_of_its_own() {
        for sign in ["🇩🇪", "👩‍👩‍👧‍👦", "👍🏽", "❤️"] {
            let mut doubtful = RowRepainter::default();
            let mut first = Buffer::with_lines([format!("{sign} ab"), "plain".to_owned()]);
            let width = first.area.width;
            doubtful.mark(&mut first);
            let mut second = Buffer::empty(first.area);
            second.set_string(0, 1, "plain", ratatui::style::Style::new());
            doubtful.mark(&mut second);
            let written = columns(&first, &second);
            assert_eq!(written, (0..width).map(|x| (x, 0)).collect::<Vec<_>>(), "{sign}");
        }
    }

    #[test]
    fn a_row_that_stays_is_not_written_again_and_plain_rows_never_are() {
        let mut doubtful = RowRepainter::default();
        let lines = ["🇩🇪 ab", "日本 e\u{301}", "plain"];
        let mut frames = [(); 3].map(|()| Buffer::with_lines(lines));
        frames.iter_mut().for_each(|frame| doubtful.mark(frame));
        assert_eq!(columns(&frames[1], &frames[2]), []);
    }
}
