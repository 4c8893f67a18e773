//! Line starts that CommonMark misreads: underlines of headings, link definitions, comparisons, surplus table cells.

use std::ops::Range;

use super::{Copy, LETTER};

/// Maximum characters of an underlined title; a longer line is prose.
const LONGEST_TITLE: usize = 80;

/// Maximum cells of a row that are examined.
const MOST_CELLS: usize = 1000;

/// State after the previous lines.
#[derive(Default)]
pub(super) struct Lines {
    /// The open code fence: character, length and indentation.
    fence: Option<(u8, usize, usize)>,
    /// The indentation below which a line ends the list item that the fence is in, and so the fence.
    item: usize,
    /// The quotations that the fence is in: a line with fewer marks ends it.
    quotes: usize,
    paragraph: Option<Paragraph>,
    /// Columns of the current table.
    columns: Option<usize>,
    /// The last line is a rule.
    after_rule: bool,
    /// Cells of the last line, if it may be a table's header.
    head: Option<usize>,
}

impl Lines {
    /// Whether this line ends the list item or the quotation that the open fence is in.
    fn is_outside(&self, line: &str) -> bool {
        let indent = line.len() - line.trim_start().len();
        quotes(line) < self.quotes || indent < self.item && !line.trim().is_empty()
    }
}

/// The open paragraph.
struct Paragraph {
    lines: usize,
    /// It is in a list item.
    in_item: bool,
    /// It may be the text of an underlined heading.
    title: bool,
}

/// The character and the length of a code fence that this line opens.
pub(super) fn fence(content: &str) -> Option<(u8, usize)> {
    let mark = content.bytes().next().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = content.bytes().take_while(|byte| *byte == mark).count();
    let info = content.get(length..)?;
    (length >= 3 && !(mark == b'`' && info.contains('`'))).then_some((mark, length))
}

/// Quotation marks at the start of a line.
fn quotes(line: &str) -> usize {
    line.bytes().take_while(|byte| b" \t>".contains(byte)).filter(|byte| *byte == b'>').count()
}

/// Length of a list item's marker at the start of `content`, with its space.
fn marker(content: &str) -> Option<usize> {
    let digits = content.bytes().take_while(u8::is_ascii_digit).count();
    let sign = content.as_bytes().get(digits)?;
    let is_marker = if digits == 0 { b"-*+".contains(sign) } else { digits < 10 && b".)".contains(sign) };
    let space = content.as_bytes().get(digits + 1).is_some_and(|next| matches!(next, b' ' | b'\t'));
    (is_marker && space).then_some(digits + 2)
}

/// Whether a line that starts with `content` cannot continue a paragraph.
pub(super) fn begins_block(content: &str) -> bool {
    marker(content).is_some() || fence(content).is_some() || content.starts_with(['#', '|', '>'])
}

impl Copy<'_> {
    /// Scans a line's prefixes; returns the start of its text. `None`: the line is blank or part of a code block.
    pub(super) fn begin_line(&mut self, start: usize) -> Option<usize> {
        let end = self.line_end(start);
        let line = self.text.get(start..end).unwrap_or_default();
        if self.lines.fence.is_some() && self.lines.is_outside(line) {
            self.lines = Lines::default();
        }
        let (mut at, mut in_item) = (start, false);
        loop {
            let rest = self.text.get(at..end).unwrap_or_default();
            match rest.bytes().next() {
                Some(b' ' | b'\t') => at += 1,
                // `>5` and `>=` are comparisons.
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
            if closes {
                self.lines = Lines::default();
            }
            return None;
        }
        if let Some((mark, length)) = fence(content) {
            let item = if in_item { indent } else { 0 };
            self.lines = Lines { fence: Some((mark, length, indent)), item, quotes: quotes(line), ..Lines::default() };
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

    /// A line of dashes is a rule below prose and an underline below a title. One or two dashes, and equals signs below
    /// prose, are text.
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

    /// Hides the bracket of `[name]: address`: the parser would drop a link definition.
    fn definition(&mut self, at: usize, content: &str) {
        let name = content.strip_prefix('[').and_then(|rest| rest.find(']'));
        let is_footnote =
            content.strip_prefix("[^").is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric()));
        if !is_footnote && name.is_some_and(|length| content[length + 2..].starts_with(':')) {
            self.hide(at..at + 1);
        }
    }

    /// Hides the brackets of definitions at the starts of lines in a code span: a list item or a quotation that begins
    /// there, and a heading or a rule above, end the span for the parser.
    pub(super) fn definitions(&mut self, span: Range<usize>) {
        let quoted = quotes(self.text.get(self.line_start..span.start).unwrap_or_default());
        let mut after_block = false;
        let newlines = self.text.get(span.clone()).unwrap_or_default().match_indices('\n');
        for mut at in newlines.map(|(newline, _)| span.start + newline + 1) {
            let rest = self.text.get(at..self.line_end(at)).unwrap_or_default();
            let (mut content, mut begins) = (rest, quotes(rest) > quoted);
            loop {
                content = content.trim_start_matches([' ', '\t', '>']);
                let Some(length) = marker(content) else { break };
                (content, begins) = (&content[length..], true);
            }
            at += rest.len() - content.len();
            // Elsewhere a definition cannot interrupt a paragraph.
            if begins || after_block {
                self.definition(at, content);
            }
            let line = content.trim_end();
            after_block = line.starts_with('#') || is_rule(line) || line.bytes().all(|byte| b"-=".contains(&byte));
        }
    }

    /// Updates the state after a line that was scanned from `start` to `end`; hides pipes of surplus table cells.
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
        // Text directly below a rule is front matter: the rule at its end is not an underline.
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

/// Characters that end a sentence, but not a title.
const ENDS_PROSE: &[char] = &['.', ',', ':', ';', '!', '?', '…', '。', '，', '：', '；', '！', '？', '、', ')', '|'];

/// Whether the line is a thematic break: three or more of the same mark, and only spaces between them.
fn is_rule(content: &str) -> bool {
    let mut marks = content.bytes().filter(|byte| !matches!(byte, b' ' | b'\t'));
    let Some(mark) = marks.next().filter(|mark| b"-*_".contains(mark)) else { return false };
    marks.clone().count() >= 2 && marks.all(|byte| byte == mark)
}

/// The pipes between cells, without those at the ends of the line.
fn inner(pipes: &[usize], start: usize, line: &str) -> Vec<usize> {
    let first = start + line.len() - line.trim_start_matches([' ', '\t', '>']).len();
    let last = (start + line.trim_end().len()).saturating_sub(1);
    pipes.iter().copied().filter(|pipe| *pipe != first && *pipe != last).take(MOST_CELLS).collect()
}
