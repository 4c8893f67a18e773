//! What the beginning of a line makes of it, where that is not what was meant.

use std::ops::Range;

use super::{Copy, LETTER};

/// A title of more characters is prose.
const LONGEST_TITLE: usize = 80;

/// Cells of a row that are looked at.
const MOST_CELLS: usize = 1000;

/// What is known of the lines before.
#[derive(Default)]
pub(super) struct Lines {
    /// The open code fence: its character and length, and how far it is indented.
    fence: Option<(u8, usize, usize)>,
    paragraph: Option<Paragraph>,
    /// Columns of the table whose rows these are.
    columns: Option<usize>,
    /// The last line is a rule.
    after_rule: bool,
    /// Cells of the last line, if it may be a table's head.
    head: Option<usize>,
}

/// The open paragraph.
struct Paragraph {
    lines: usize,
    /// It stands in an item of a list.
    in_item: bool,
    /// It may be the text of a heading.
    title: bool,
}

/// The character and the length of a code fence that this line opens.
pub(super) fn fence(content: &str) -> Option<(u8, usize)> {
    let mark = content.bytes().next().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = content.bytes().take_while(|byte| *byte == mark).count();
    let info = content.get(length..)?;
    (length >= 3 && !(mark == b'`' && info.contains('`'))).then_some((mark, length))
}

/// The length of the marker that begins an item of a list, with its space.
fn marker(content: &str) -> Option<usize> {
    let digits = content.bytes().take_while(u8::is_ascii_digit).count();
    let sign = content.as_bytes().get(digits)?;
    let is_marker = if digits == 0 { b"-*+".contains(sign) } else { digits < 10 && b".)".contains(sign) };
    let space = content.as_bytes().get(digits + 1).is_some_and(|next| matches!(next, b' ' | b'\t'));
    (is_marker && space).then_some(digits + 2)
}

/// Whether a line that begins so cannot go on with a paragraph's sentence.
pub(super) fn begins_block(content: &str) -> bool {
    marker(content).is_some() || fence(content).is_some() || content.starts_with(['#', '|', '>'])
}

impl Copy<'_> {
    /// Reads what stands before a line's text; where that begins. `None`: the line is not Markdown.
    pub(super) fn begin_line(&mut self, start: usize) -> Option<usize> {
        let end = self.line_end(start);
        let (mut at, mut in_item) = (start, false);
        loop {
            let rest = self.text.get(at..end).unwrap_or_default();
            match rest.bytes().next() {
                Some(b' ' | b'\t') => at += 1,
                // `>5` and `>=` compare.
                Some(b'>') if rest.as_bytes().get(1).is_some_and(|next| next.is_ascii_digit() || *next == b'=') => {
                    self.hide(at..at + 1);
                    break;
                }
                Some(b'>') if self.lines.fence.is_none() => at += 1,
                _ => match marker(rest).filter(|_| self.lines.fence.is_none()) {
                    Some(length) if !is_rule(rest) => (at, in_item) = (at + length, true),
                    _ => break,
                },
            }
        }
        let content = self.text.get(at..end).unwrap_or_default();
        let indent = at - start;
        if let Some((mark, length, opened)) = self.lines.fence {
            let marks = content.trim_end();
            let closes = marks.len() >= length && marks.bytes().all(|byte| byte == mark) && indent < opened + 4;
            self.lines.fence = (!closes).then_some((mark, length, opened));
            return None;
        }
        if let Some((mark, length)) = fence(content) {
            self.lines = Lines { fence: Some((mark, length, indent)), ..Lines::default() };
            return None;
        }
        if content.is_empty() {
            self.lines = Lines::default();
            return None;
        }
        if in_item {
            self.lines = Lines { paragraph: Some(Paragraph { lines: 0, in_item, title: false }), ..Lines::default() };
        }
        self.underline(start, at..end);
        self.definition(at, content);
        Some(at)
    }

    /// A line of dashes below prose is a rule, and below few words the line of a heading; one or two dashes, or equals
    /// signs below prose, are what was written.
    fn underline(&mut self, start: usize, line: Range<usize>) {
        let content = self.text.get(line.clone()).unwrap_or_default().trim_end();
        let Some(mark) = content.bytes().next().filter(|mark| matches!(mark, b'-' | b'=')) else { return };
        let Some(paragraph) = self.lines.paragraph.as_ref().filter(|paragraph| paragraph.lines > 0) else { return };
        let outside = paragraph.in_item && line.start < start + 2;
        if outside || !content.bytes().all(|byte| byte == mark) || paragraph.title && content.len() >= 3 {
            return;
        }
        let instead = if mark == b'-' && content.len() >= 3 { b'*' } else { LETTER };
        if let Some(bytes) = self.read.get_mut(line.start..line.start + content.len()) {
            bytes.fill(instead);
        }
    }

    /// `[name]: address` would not be shown at all.
    fn definition(&mut self, at: usize, content: &str) {
        let name = content.strip_prefix('[').and_then(|rest| rest.find(']'));
        if name.is_some_and(|length| content[length + 2..].starts_with(':')) {
            self.hide(at..at + 1);
        }
    }

    /// Takes note of a line that was read from `start` to `end`.
    pub(super) fn end_line(&mut self, start: usize, end: usize) {
        let Some(line) = self.text.get(start..end) else { return };
        let content = line.trim_matches([' ', '\t', '>']);
        let inner = inner(&self.pipes, start, line);
        if let Some(columns) = self.lines.columns {
            for pipe in inner.iter().skip(columns - 1) {
                self.hide(*pipe..pipe + 1);
            }
            return;
        }
        let delimits = content.contains('-') && content.bytes().all(|byte| b"|:- \t".contains(&byte));
        if let Some(columns) = self.lines.head.filter(|head| delimits && *head == inner.len() + 1) {
            self.lines = Lines { columns: Some(columns), ..Lines::default() };
            return;
        }
        self.lines.head = (!self.pipes.is_empty()).then_some(inner.len() + 1);
        if content.starts_with('#') || is_rule(content) {
            self.lines = Lines { after_rule: is_rule(content), ..Lines::default() };
            return;
        }
        // What follows a rule at once is the head of a document, whose end is no heading's line.
        let title =
            !self.lines.after_rule && content.chars().count() <= LONGEST_TITLE && !content.ends_with(ENDS_PROSE);
        match &mut self.lines.paragraph {
            Some(paragraph) => {
                paragraph.title = false;
                paragraph.lines += 1;
            }
            None => self.lines.paragraph = Some(Paragraph { lines: 1, in_item: false, title }),
        }
    }
}

/// What ends a sentence, and no title.
const ENDS_PROSE: &[char] = &['.', ',', ':', ';', '!', '?', '…', '。', '，', '：', '；', '！', '？', '、', ')', '|'];

/// A line of three or more of one of these and of nothing else.
fn is_rule(content: &str) -> bool {
    let mut marks = content.bytes().filter(|byte| !matches!(byte, b' ' | b'\t'));
    let Some(mark) = marks.next().filter(|mark| b"-*_".contains(mark)) else { return false };
    marks.clone().count() >= 2 && marks.all(|byte| byte == mark)
}

/// The pipes between cells: not one at either end of the line.
fn inner(pipes: &[usize], start: usize, line: &str) -> Vec<usize> {
    let first = start + line.len() - line.trim_start_matches([' ', '\t', '>']).len();
    let last = (start + line.trim_end().len()).saturating_sub(1);
    pipes.iter().copied().filter(|pipe| *pipe != first && *pipe != last).take(MOST_CELLS).collect()
}
