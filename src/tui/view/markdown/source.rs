//! What the parser reads in the place of a text. Some of what models write is not Markdown, and a parser would change it:
//! formulas, paths, URLs, names such as `__init__`. In a copy of the same length such parts are letters, which no parser
//! touches; what is shown comes from the text itself.
//!
//! Where CommonMark's own rules would show something else than was written, the copy differs, too: `*` beside Chinese,
//! Japanese and Korean letters, a `*` that multiplies, a line of dashes below prose, a link definition, cells that a
//! table's head has no column for.

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
    /// The copy: as long as the text, with a character's boundary wherever a part begins or ends.
    read: Cow<'t, str>,
    /// Parts that nothing may be cut through, in order.
    whole: Vec<Range<usize>>,
}

impl<'t> Source<'t> {
    /// Reads `text`. If it is `growing`, more of it may follow: a formula that begins in its last block and has no end may
    /// still get one.
    pub fn new(text: &'t str, growing: bool) -> Self {
        if !text.bytes().any(|byte| SIGNS.contains(&byte)) {
            return Self { text, read: Cow::Borrowed(text), whole: Vec::new() };
        }
        let mut copy = Copy::new(text, growing);
        copy.scan();
        let read = String::from_utf8(copy.read).map_or(Cow::Borrowed(text), Cow::Owned);
        Self { text, read, whole: copy.whole }
    }

    /// The parser's events, with their places in the text.
    pub fn events(&self) -> OffsetIter<'_> {
        Parser::new_ext(&self.read, super::options()).into_offset_iter()
    }

    /// What the parser read there.
    pub fn read(&self, range: Range<usize>) -> &str {
        self.read.get(range).unwrap_or_default()
    }

    /// What was written where the parser read `parsed`, a part of `range`.
    pub fn written<'a>(&'a self, parsed: &'a str, range: Range<usize>) -> &'a str {
        let (Some(read), Some(text)) = (self.read.get(range.clone()), self.text.get(range)) else { return parsed };
        if read == text {
            return parsed;
        }
        read.find(parsed).and_then(|at| text.get(at..at + parsed.len())).unwrap_or(text)
    }

    /// The last newline that stands in no such part, and before the text's own last character.
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

/// A text without any of these bytes is its own copy.
const SIGNS: &[u8] = b"$\\*~_|[>=-:";

/// Bytes of a line that are looked at from one place: a line that is one long riddle may not take a frame's time.
const LOOKAHEAD: usize = 300;

/// What a byte of such a part becomes.
const LETTER: u8 = b'x';

/// The copy while it is made: one pass over the text.
struct Copy<'t> {
    text: &'t str,
    growing: bool,
    read: Vec<u8>,
    whole: Vec<Range<usize>>,
    /// Where the block that is being read ends, at the latest: at a blank line or a fence.
    block_end: usize,
    line_start: usize,
    /// Places of what may separate cells in the line so far.
    pipes: Vec<usize>,
    /// What was looked for in vain, and how far: looking again from a place in between is in vain, too.
    missing: Vec<(String, Range<usize>)>,
    lines: lines::Lines,
    open: emphasis::Open,
    /// Lengths of runs of backticks that nothing closes before `block_end`.
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

    /// How many bytes at `at` are this one.
    fn run(&self, at: usize, byte: u8) -> usize {
        self.bytes().get(at..).map_or(0, |rest| rest.iter().take_while(|next| **next == byte).count())
    }

    /// The end of the line at `at`: its newline, or the text's end.
    fn line_end(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |length| at + length)
    }

    /// The rest of the line at `at`, or as much of it as is looked at.
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

    /// Reads the line at `start`, and as many more as a part that begins in it takes. Where the next one begins.
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

    /// Reads what stands at `at`, and says where the next begins.
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

    /// Code goes to the next run of as many backticks; without one the backticks are letters.
    fn code(&mut self, at: usize) -> usize {
        let length = self.run(at, b'`');
        let mut next = at + length;
        while !self.unclosed.contains(&length) && next < self.block_end {
            match self.run(next, b'`') {
                0 => next += 1,
                run if run == length => {
                    self.join_cells(at..next);
                    return next + run;
                }
                run => next += run,
            }
        }
        self.unclosed.push(length);
        at + length
    }

    /// A pipe in code separates no cells. An escaped one is left to the parser, which takes the backslash away.
    fn join_cells(&mut self, code: Range<usize>) {
        for at in code {
            if self.byte(at) == b'|' && self.byte(at - 1) != b'\\' {
                self.hide(at..at + 1);
            }
        }
    }

    /// `<https://…>` or a tag.
    fn tag(&self, at: usize) -> Option<usize> {
        let line = self.ahead(at + 1);
        let begins = line.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        let end = line.find('>').filter(|_| begins)?;
        (!line.get(..end)?.contains(['<', '`'])).then_some(at + end + 2)
    }

    /// The address of a link, after its text.
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

/// Whether a word may begin behind this byte.
fn begins_part(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"|`([{\"'*_~<>,;".contains(&byte)
}

#[cfg(test)]
mod tests;
