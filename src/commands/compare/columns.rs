//! Two texts in columns beside each other, wrapped by the cells that they take.

use unicode_segmentation::UnicodeSegmentation;

use crate::cells::{drawn, pieces, width};
use crate::sanitize::{sanitize, sanitize_line};

/// Between the columns.
const GAP: &str = " │ ";

/// Cells of a column below which the texts stand one below the other.
const LEAST: usize = 20;

/// Two texts with their titles within `columns` cells.
pub(super) fn beside(titles: [&str; 2], texts: [&str; 2], columns: usize) -> String {
    let room = columns.saturating_sub(width(GAP)) / 2;
    if room < LEAST {
        let part = |place: usize| format!("{}\n\n{}\n", sanitize_line(titles[place]), sanitize(texts[place].trim()));
        return format!("{}\n{}", part(0), part(1));
    }
    let column = |place: usize| {
        let mut lines = wrap(&sanitize_line(titles[place]), room);
        lines.push("─".repeat(room));
        lines.extend(wrap(&sanitize(texts[place].trim()), room));
        lines
    };
    let (left, right) = (column(0), column(1));
    let line = |at: usize| {
        let (left, right) = (left.get(at).map_or("", String::as_str), right.get(at).map_or("", String::as_str));
        let text = format!("{left}{}{GAP}{right}", " ".repeat(room.saturating_sub(width(left))));
        text.trim_end().to_owned() + "\n"
    };
    (0..left.len().max(right.len())).map(line).collect()
}

/// The lines of `text`, broken at spaces, and within words that are longer than a line.
fn wrap(text: &str, room: usize) -> Vec<String> {
    text.lines().flat_map(|line| wrap_line(&drawn(&line.replace('\t', "    ")), room)).collect()
}

fn wrap_line(line: &str, room: usize) -> Vec<String> {
    let (mut lines, mut current, mut taken) = (Vec::new(), String::new(), 0);
    for word in line.split_word_bounds() {
        let cells = width(word);
        if taken + cells <= room {
            current.push_str(word);
            taken += cells;
            continue;
        }
        if taken > 0 {
            lines.push(std::mem::take(&mut current));
            taken = 0;
        }
        if word.trim().is_empty() {
            continue;
        }
        for (piece, cells) in pieces(word) {
            if taken + cells > room {
                lines.push(std::mem::take(&mut current));
                taken = 0;
            }
            current.push_str(piece);
            taken += cells;
        }
    }
    lines.push(current);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_beside_each_other_and_are_wrapped_by_cells() {
        let text = beside(["A: x", "B: y"], ["one two three four five", "日本語の説明 は長い文です\n\nend"], 47);
        assert_eq!(
            text,
            "A: x                   │ B: y\n\
             ────────────────────── │ ──────────────────────\n\
             one two three four     │ 日本語の説明 は長い文\n\
             five                   │ です\n\
             \u{20}                      │\n\
             \u{20}                      │ end\n"
        );
    }

    #[test]
    fn narrow_terminal_gets_one_below_the_other_and_nothing_harmful() {
        let text = beside(["A", "B"], ["x\x1b[31my", "z"], 30);
        assert!(text.starts_with("A\n\n") && text.ends_with("B\n\nz\n") && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn long_words_are_broken() {
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("  code\tx", 30), ["  code    x"]);
        assert_eq!(wrap("", 3), [""; 0]);
    }
}
