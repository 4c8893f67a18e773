//! Repaints whole rows that contain multi-codepoint graphemes (flags, families, skin tones): terminals disagree about
//! their width, and ratatui's cell diff would leave stale cells.

use std::collections::BTreeMap;

use ratatui::buffer::{Buffer, CellDiffOption};

/// Rows of the last frame that contain such graphemes, with their text.
#[derive(Debug, Default)]
pub(super) struct RowRepainter(BTreeMap<u16, String>);

impl RowRepainter {
    /// Forces a full write of each row of `next` that has changed and contains, or contained, such a grapheme.
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

/// Several codepoints, except accents on a letter: these take one cell in every terminal.
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
    fn a_row_that_contained_an_emoji_sequence_is_rewritten_whole() {
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
    fn unchanged_rows_and_plain_rows_are_not_rewritten() {
        let mut doubtful = RowRepainter::default();
        let lines = ["🇩🇪 ab", "日本 e\u{301}", "plain"];
        let mut frames = [(); 3].map(|()| Buffer::with_lines(lines));
        frames.iter_mut().for_each(|frame| doubtful.mark(frame));
        assert_eq!(columns(&frames[1], &frames[2]), []);
    }
}
