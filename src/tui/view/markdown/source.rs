//! Preprocessing for the Markdown parser. Models write parts that are not Markdown and that a parser would change:
//! formulas, paths, URLs, names such as `__init__`. In a copy of the same length these parts are replaced by letters.
//! The parser reads the copy; the text that is shown comes from the original.
//!
//! The copy also differs if CommonMark's rules would change the text: `*` beside Chinese, Japanese and Korean letters,
//! `*` as multiplication, a line of dashes below prose, a link definition, table cells beyond the header's columns.

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{OffsetIter, Parser};

mod emphasis;
mod lines;
mod math;
mod words;

/// A text and its copy for the parser.
pub(super) struct Source<'t> {
    pub text: &'t str,
    /// The copy: as many bytes as the text, with character boundaries at both ends of each part.
    read: Cow<'t, str>,
    /// Parts that must not be split, in order.
    whole: Vec<Range<usize>>,
}

impl<'t> Source<'t> {
    /// Scans `text`. If it is `growing`, more of it may follow: an unclosed formula in its last block may still be
    /// closed.
    pub fn new(text: &'t str, growing: bool) -> Self {
        if !text.bytes().any(|byte| SIGNS.contains(&byte)) {
            return Self { text, read: Cow::Borrowed(text), whole: Vec::new() };
        }
        let mut copy = Copy::new(text, growing);
        copy.scan();
        let read = String::from_utf8(copy.read).map_or(Cow::Borrowed(text), Cow::Owned);
        Self { text, read, whole: copy.whole }
    }

    /// The parser's events, with their byte ranges in the text.
    pub fn events(&self) -> OffsetIter<'_> {
        Parser::new_ext(&self.read, super::options()).into_offset_iter()
    }

    /// The copy of `range`.
    pub fn read(&self, range: Range<usize>) -> &str {
        self.read.get(range).unwrap_or_default()
    }

    /// The original of `parsed`, which the parser read in `range`.
    pub fn written<'a>(&'a self, parsed: &'a str, range: Range<usize>) -> &'a str {
        let (Some(read), Some(text)) = (self.read.get(range.clone()), self.text.get(range)) else { return parsed };
        if read == text {
            return parsed;
        }
        read.find(parsed).and_then(|at| text.get(at..at + parsed.len())).unwrap_or(text)
    }

    /// The parts that must not be split and begin in `range`.
    pub fn whole_in(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.whole.partition_point(|part| part.start < range.start);
        self.whole[first..].iter().take_while(move |part| part.start < range.end).cloned()
    }

    /// Whether byte `at` is inside a part that must not be split.
    pub fn is_whole(&self, at: usize) -> bool {
        let part = self.whole.partition_point(|part| part.end <= at);
        self.whole.get(part).is_some_and(|part| part.start < at)
    }

    /// The last newline outside the parts in `whole` and before the text's last character.
    pub fn last_newline(&self) -> Option<usize> {
        let mut end = self.text.len().checked_sub(1)?;
        loop {
            let at = self.text.get(..end)?.rfind('\n')?;
            match self.whole.iter().find(|part| part.contains(&at)) {
                None => return Some(at),
                Some(part) => end = part.start,
            }
        }
    }
}

/// A text without any of these bytes needs no copy.
const SIGNS: &[u8] = b"$\\*~_|[>=-:";

/// Maximum lookahead within a line, in bytes: it bounds the time for adversarial lines.
const LOOKAHEAD: usize = 300;

/// The byte that hidden parts are filled with.
const LETTER: u8 = b'x';

/// Builds the copy in one pass over the text.
struct Copy<'t> {
    text: &'t str,
    growing: bool,
    read: Vec<u8>,
    whole: Vec<Range<usize>>,
    /// Upper bound of the current block's end: the next blank line or fence.
    block_end: usize,
    line_start: usize,
    /// Possible cell separators in the line so far.
    pipes: Vec<usize>,
    /// Delimiters that a range does not contain: a search that starts in the range skips to its end.
    missing: Vec<(String, Range<usize>)>,
    lines: lines::Lines,
    open: emphasis::Open,
    /// Lengths of backtick runs that are not closed before `block_end`.
    unclosed: Vec<usize>,
}

impl<'t> Copy<'t> {
    fn new(text: &'t str, growing: bool) -> Self {
        Self {
            text,
            growing,
            read: text.as_bytes().to_vec(),
            whole: Vec::new(),
            block_end: 0,
            line_start: 0,
            pipes: Vec::new(),
            missing: Vec::new(),
            lines: lines::Lines::default(),
            open: emphasis::Open::default(),
            unclosed: Vec::new(),
        }
    }

    fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes().get(at).copied().unwrap_or(b'\n')
    }

    /// Length of the run of `byte` at `at`.
    fn run(&self, at: usize, byte: u8) -> usize {
        self.bytes().get(at..).map_or(0, |rest| rest.iter().take_while(|next| **next == byte).count())
    }

    /// The end of the line at `at`: its newline, or the text's end.
    fn line_end(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |length| at + length)
    }

    /// The rest of the line at `at`, at most `LOOKAHEAD` bytes.
    fn ahead(&self, at: usize) -> &'t str {
        let mut end = at.saturating_add(LOOKAHEAD).min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let rest = self.text.get(at..end).unwrap_or_default();
        &rest[..rest.find('\n').unwrap_or(rest.len())]
    }

    fn hide(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.read.get_mut(range) {
            bytes.fill(LETTER);
        }
    }

    fn scan(&mut self) {
        let mut at = 0;
        while at < self.text.len() {
            at = self.line(at);
        }
    }

    /// Scans the line at `start`, and further lines if a part of it spans them; returns the start of the next line.
    fn line(&mut self, start: usize) -> usize {
        let Some(mut at) = self.begin_line(start) else { return self.line_end(start) + 1 };
        if self.block_end <= start {
            self.begin_block(start);
        }
        self.line_start = start;
        self.pipes.clear();
        let mut begins_word = true;
        loop {
            match self.byte(at) {
                b'\n' => break,
                b'|' => self.pipes.push(at),
                _ if begins_word => self.word(at),
                _ => {}
            }
            let next = self.inline(at);
            let before = self.byte(next.saturating_sub(1));
            begins_word = (begins_part(before) || next > at + 4) && before != self.byte(next);
            if let Some(newline) = self.text.get(at..next).and_then(|part| part.rfind('\n')) {
                self.line_start = at + newline + 1;
                self.pipes.clear();
            }
            at = next;
        }
        self.end_line(start, at);
        at + 1
    }

    fn begin_block(&mut self, start: usize) {
        self.open = emphasis::Open::default();
        self.unclosed.clear();
        let mut end = start;
        while end < self.text.len() {
            let line = self.text.get(end..self.line_end(end)).unwrap_or_default();
            let content = line.trim_start_matches([' ', '\t', '>']);
            if end > start && (content.is_empty() || lines::fence(content).is_some()) {
                break;
            }
            end += line.len() + 1;
        }
        self.block_end = end.min(self.text.len());
    }

    /// Scans the element at `at`; returns its end.
    fn inline(&mut self, at: usize) -> usize {
        if let Some(part) = self.whole.last().filter(|part| part.contains(&at)) {
            return part.end;
        }
        match self.byte(at) {
            b'\\' | b'$' => self.math(at).unwrap_or_else(|| self.escape(at)),
            b'`' => self.code(at),
            b'*' | b'~' => self.emphasis(at),
            b'<' => self.tag(at).unwrap_or(at + 1),
            b']' => self.destination(at).unwrap_or(at + 1),
            _ => at + self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8),
        }
    }

    fn escape(&self, at: usize) -> usize {
        let escapes = self.byte(at) == b'\\' && self.byte(at + 1).is_ascii_punctuation();
        at + if escapes { 2 } else { self.run(at, b'$').max(1) }
    }

    /// A code span ends at the next run of as many backticks; without one the backticks are text.
    fn code(&mut self, at: usize) -> usize {
        let length = self.run(at, b'`');
        let mut next = at + length;
        while !self.unclosed.contains(&length) && next < self.block_end {
            match self.run(next, b'`') {
                0 => next += 1,
                run if run == length => {
                    self.join_cells(at..next);
                    self.definitions(at..next);
                    return next + run;
                }
                run => next += run,
            }
        }
        self.unclosed.push(length);
        at + length
    }

    /// Hides pipes in a code span: they separate no cells. Escaped ones stay: the parser removes the backslash.
    fn join_cells(&mut self, code: Range<usize>) {
        for at in code {
            if self.byte(at) == b'|' && self.byte(at - 1) != b'\\' {
                self.hide(at..at + 1);
            }
        }
    }

    /// `<https://…>` or an HTML tag; returns its end.
    fn tag(&self, at: usize) -> Option<usize> {
        let line = self.ahead(at + 1);
        let begins = line.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        let end = line.find('>').filter(|_| begins)?;
        (!line.get(..end)?.contains(['<', '`'])).then_some(at + end + 2)
    }

    /// The destination of a link, after its text; returns its end.
    fn destination(&self, at: usize) -> Option<usize> {
        let line = Some(self.ahead(at + 1)).filter(|line| line.starts_with('('))?;
        let mut depth = 0usize;
        for (length, byte) in line.bytes().enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' if depth == 1 => return Some(at + length + 2),
                b')' => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

/// Whether a word may begin after this byte.
fn begins_part(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"|`([{\"'*_~<>,;".contains(&byte)
}

#[cfg(test)]
mod tests;
