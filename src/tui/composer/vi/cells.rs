//! The text as a sequence of cells, and the movements over it. A place is the index of a cell; the end of the text is the
//! number of cells.

use ratatui_textarea::{DataCursor, TextArea};
use unicode_segmentation::UnicodeSegmentation;

/// What a cell is, for movements by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Blank,
    Word,
    Sign,
    /// The end of a line that is not empty.
    LineEnd,
    /// The end of an empty line, which counts as a word.
    EmptyLine,
    /// A placeholder.
    Paste,
}

#[derive(Clone, Debug)]
struct Cell {
    text: String,
    class: Class,
    row: usize,
    /// Column in characters.
    column: usize,
}

/// The cells of a text.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    cells: Vec<Cell>,
    /// Row and column after the last cell.
    end: (usize, usize),
}

/// How a movement bounds an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Motion {
    /// Up to the place, without it.
    Exclusive,
    /// With the cell at the place.
    Inclusive,
    /// Whole lines.
    Lines,
}

/// A range of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: usize,
    pub to: usize,
    /// Whole lines; `to` is the beginning of the line after them, or the end of the text.
    pub lines: bool,
}

impl Span {
    pub fn chars(from: usize, to: usize) -> Self {
        Self { from, to: to.max(from), lines: false }
    }

    /// A place in its last line.
    pub fn last(self) -> usize {
        self.to.saturating_sub(1).max(self.from)
    }
}

impl Cells {
    /// The cells of `area`; each of `names` is one cell wherever it stands.
    pub fn of(area: &TextArea<'_>, names: &[String]) -> Self {
        let mut cells = Vec::new();
        let mut end = (0, 0);
        let count = area.lines().len();
        for (row, line) in area.lines().iter().enumerate() {
            let mut column = 0;
            for text in units(line, names) {
                let chars = text.chars().count();
                let class = class(text, chars > 1 && names.iter().any(|name| name == text));
                cells.push(Cell { text: text.to_owned(), class, row, column });
                column += chars;
            }
            if row + 1 < count {
                let class = if column == 0 { Class::EmptyLine } else { Class::LineEnd };
                cells.push(Cell { text: "\n".to_owned(), class, row, column });
            }
            end = (row, column);
        }
        Self { cells, end }
    }

    fn class(&self, at: usize) -> Option<Class> {
        self.cells.get(at).map(|cell| cell.class)
    }

    fn is_line_end(&self, at: usize) -> bool {
        matches!(self.class(at), None | Some(Class::LineEnd | Class::EmptyLine))
    }

    pub fn is_blank(&self, at: usize) -> bool {
        matches!(self.class(at), None | Some(Class::Blank | Class::LineEnd))
    }

    /// Row and column of a place.
    pub fn place(&self, at: usize) -> (usize, usize) {
        self.cells.get(at).map_or(self.end, |cell| (cell.row, cell.column))
    }

    /// The place of the cursor.
    pub fn cursor(&self, area: &TextArea<'_>) -> usize {
        let DataCursor(row, column) = area.cursor();
        self.cells.partition_point(|cell| (cell.row, cell.column + cell.text.chars().count()) <= (row, column))
    }

    /// `at`, or the last cell of its line if it is the line's end: in normal mode the cursor is on a cell.
    pub fn clamped(&self, at: usize) -> usize {
        if self.is_line_end(at) && at > self.line_start(at) { at - 1 } else { at }
    }

    pub fn line_start(&self, at: usize) -> usize {
        (0..at).rev().find(|before| self.is_line_end(*before)).map_or(0, |end| end + 1)
    }

    pub fn line_end(&self, at: usize) -> usize {
        (at..self.cells.len()).find(|at| self.is_line_end(*at)).unwrap_or(self.cells.len())
    }

    pub fn first_letter(&self, at: usize) -> usize {
        let (start, end) = (self.line_start(at), self.line_end(at));
        (start..end).find(|at| !self.is_blank(*at)).unwrap_or(end)
    }

    pub fn left(&self, at: usize, count: usize) -> usize {
        at.saturating_sub(count).max(self.line_start(at))
    }

    /// At most the end of the line.
    pub fn right(&self, at: usize, count: usize) -> usize {
        (at + count).min(self.line_end(at))
    }

    /// Number of characters between two places.
    pub fn chars(&self, from: usize, to: usize) -> usize {
        self.cells[from.min(to)..to.min(self.cells.len())].iter().map(|cell| cell.text.chars().count()).sum()
    }

    /// The text of `span`; whole lines end with a line end.
    pub fn text(&self, span: Span) -> String {
        let cells = &self.cells[span.from.min(span.to)..span.to.min(self.cells.len())];
        let mut text: String = cells.iter().map(|cell| cell.text.as_str()).collect();
        if span.lines && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// The cells to delete for `span`: the last lines of a text go with the line end before them.
    pub fn cut_of(&self, span: Span) -> (usize, usize) {
        let last = self.cells.len();
        let more_below = span.from < last && self.is_line_end(last.saturating_sub(1));
        let to_the_end = span.lines && span.to == last && !more_below;
        let from = if to_the_end { span.from.saturating_sub(1) } else { span.from };
        (from, span.to)
    }

    /// `count` lines from the line of `at` on.
    pub fn rows(&self, at: usize, count: usize) -> Span {
        let mut end = self.line_end(at);
        for _ in 1..count {
            if end >= self.cells.len() {
                break;
            }
            end = self.line_end(end + 1);
        }
        Span { from: self.line_start(at), to: (end + 1).min(self.cells.len()), lines: true }
    }

    /// What an operator takes between `at` and the place `to` of a movement.
    pub fn span(&self, at: usize, to: usize, motion: Motion, key: char) -> Span {
        let (from, to) = (at.min(to), at.max(to));
        match motion {
            Motion::Lines => {
                Span { to: (self.line_end(to) + 1).min(self.cells.len()), lines: true, from: self.line_start(from) }
            }
            Motion::Inclusive => Span::chars(from, (to + 1).min(self.cells.len())),
            // The last word of a line ends with the line.
            Motion::Exclusive if key == 'w' => {
                let begins = (from..to).rev().take_while(|at| self.is_blank(*at)).last().unwrap_or(to);
                let end = (begins..to).find(|at| self.is_line_end(*at) && *at > from).unwrap_or(to);
                Span::chars(from, end)
            }
            Motion::Exclusive => Span::chars(from, to),
        }
    }

    /// The place to which `key` moves from `at`; `None` if it is no movement.
    pub fn motion(&self, at: usize, key: char, count: Option<usize>) -> Option<(usize, Motion)> {
        let times = count.unwrap_or(1);
        let repeat = |step: fn(&Self, usize) -> usize| (0..times).fold(at, |at, _| step(self, at));
        Some(match key {
            'h' => (self.left(at, times), Motion::Exclusive),
            'l' => (self.right(at, times), Motion::Exclusive),
            'w' => (repeat(Self::next_word), Motion::Exclusive),
            'b' => (repeat(Self::word_before), Motion::Exclusive),
            'e' => (repeat(Self::word_end), Motion::Inclusive),
            '0' => (self.line_start(at), Motion::Exclusive),
            '^' => (self.first_letter(at), Motion::Exclusive),
            '$' => (self.line_end(at), Motion::Exclusive),
            'j' => (self.row(self.place(at).0 + times), Motion::Lines),
            'k' => (self.row(self.place(at).0.saturating_sub(times)), Motion::Lines),
            'G' => (self.row(count.map_or(usize::MAX, |line| line - 1)), Motion::Lines),
            'g' => (self.row(times - 1), Motion::Lines),
            _ => return None,
        })
    }

    /// The place that `f`, `F`, `t` or `T` finds for a letter in the line of `at`. A repeated `t` goes on behind the letter
    /// that it stopped before.
    pub fn search(
        &self,
        at: usize,
        key: char,
        letter: char,
        count: usize,
        is_repeated: bool,
    ) -> Option<(usize, Motion)> {
        let skipped = usize::from(is_repeated && key.eq_ignore_ascii_case(&'t'));
        let has =
            |place: &usize| self.cells[*place].class != Class::Paste && self.cells[*place].text.starts_with(letter);
        let nth = count.max(1) - 1;
        Some(match key {
            'f' | 't' => {
                let found = (at + 1 + skipped..self.line_end(at)).filter(has).nth(nth)?;
                (if key == 't' { found - 1 } else { found }, Motion::Inclusive)
            }
            _ => {
                let found = (self.line_start(at)..at.saturating_sub(skipped)).rev().filter(has).nth(nth)?;
                (if key == 'T' { found + 1 } else { found }, Motion::Exclusive)
            }
        })
    }

    /// The first letter of a row, at most of the last one.
    fn row(&self, row: usize) -> usize {
        let row = row.min(self.end.0);
        self.first_letter(self.cells.iter().position(|cell| cell.row == row).unwrap_or(self.cells.len()))
    }

    fn next_word(&self, at: usize) -> usize {
        let mut at = at;
        let class = self.class(at);
        if !self.is_blank(at) {
            at += 1;
            while class != Some(Class::Paste)
                && class != Some(Class::EmptyLine)
                && at < self.cells.len()
                && self.class(at) == class
            {
                at += 1;
            }
        }
        while at < self.cells.len() && self.is_blank(at) {
            at += 1;
        }
        at
    }

    fn word_end(&self, at: usize) -> usize {
        let last = self.cells.len().saturating_sub(1);
        let mut at = at + 1;
        while at < last && (self.is_blank(at) || self.class(at) == Some(Class::EmptyLine)) {
            at += 1;
        }
        let class = self.class(at);
        while class != Some(Class::Paste) && at < last && self.class(at + 1) == class {
            at += 1;
        }
        at.min(last)
    }

    fn word_before(&self, at: usize) -> usize {
        let mut at = at;
        while at > 0 && self.is_blank(at - 1) {
            at -= 1;
        }
        let class = at.checked_sub(1).and_then(|before| self.class(before));
        at = at.saturating_sub(1);
        let joins = !matches!(class, Some(Class::Paste | Class::EmptyLine));
        while joins && at > 0 && self.class(at - 1) == class {
            at -= 1;
        }
        at
    }
}

fn class(text: &str, is_name: bool) -> Class {
    match text.chars().next() {
        _ if is_name => Class::Paste,
        Some(c) if c.is_whitespace() => Class::Blank,
        Some(c) if c.is_alphanumeric() || c == '_' => Class::Word,
        _ => Class::Sign,
    }
}

/// Grapheme clusters, and whole names.
fn units<'t>(line: &'t str, names: &[String]) -> Vec<&'t str> {
    let mut units = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let name = names.iter().find(|name| rest.starts_with(name.as_str())).map(String::len);
        let length = name.or_else(|| rest.graphemes(true).next().map(str::len)).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(length);
        units.push(unit);
        rest = after;
    }
    units
}
