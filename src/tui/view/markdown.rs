//! Markdown as it streams in. Blocks that are finished are rendered once for each width; only the last, unfinished one
//! is rendered again as text arrives, so that an answer of any length costs each token about the same.
//!
//! Reads text that was made harmless already. Knows no chat.

use pulldown_cmark::{CodeBlockKind, Event, Options, Tag};
use ratatui::text::Line;

use crate::tui::layout::Look;

mod code;
mod fence;
mod render;
mod source;
mod table;

use fence::Fence;
use render::Number;
use source::Source;

/// A paragraph longer than this is cut at a line's end: lines are drawn as they were written, so nobody sees it.
const LONGEST_PARAGRAPH: usize = 1024;

/// So is any other single block that is longer than this: what was drawn of it stays as it is.
const LONGEST_TAIL: usize = 16 * 1024;

pub(super) fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// A Markdown text that grows at its end, and its lines at one width.
#[derive(Debug, Default)]
pub struct Markdown {
    text: String,
    width: usize,
    /// Text before this is rendered for good.
    settled: usize,
    lines: Vec<Line<'static>>,
    tail: Vec<Line<'static>>,
    /// The text's length when the tail was rendered.
    tail_of: usize,
    fence: Option<Fence>,
    /// A list was cut and goes on in the tail; the number of its last item, if its items have any.
    list: Option<Option<Number>>,
    /// The last item of a list that was cut stands apart from the next.
    tall: bool,
    gap: bool,
    /// Bytes that were rendered, again and again; says whether the work grows with the text or with its square.
    #[cfg(test)]
    work: usize,
}

impl Markdown {
    /// Appends text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Brings the lines up to date for `width` cells.
    pub fn layout(&mut self, width: usize, look: &Look<'_>) {
        if width != self.width {
            let text = std::mem::take(&mut self.text);
            *self = Self { text, width, tail_of: usize::MAX, ..Self::default() };
        }
        if self.tail_of == self.text.len() {
            return;
        }
        while self.settle(look) {}
        self.render_tail(look);
        self.tail_of = self.text.len();
    }

    /// Whether nothing was pushed yet.
    pub fn is_blank(&self) -> bool {
        self.text.is_empty()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len() + self.tail.len()
    }

    /// A line by its number.
    pub fn line(&self, index: usize) -> Option<&Line<'static>> {
        self.lines.get(index).or_else(|| self.tail.get(index.checked_sub(self.lines.len())?))
    }

    /// Renders for good what cannot change any more. True where more might follow at once.
    fn settle(&mut self, look: &Look<'_>) -> bool {
        if self.fence.is_some() {
            return self.settle_code(look);
        }
        let rest = &self.text[self.settled..];
        let Some(cut) = Cut::find(rest) else { return false };
        let end = self.settled + cut.end;
        let (from, list) = (self.settled, self.list.take());
        self.settled = end;
        let (text, mut number) = (self.text[from..end].to_owned(), list.flatten());
        if !text.trim().is_empty() {
            self.begin_block(list.is_some());
            let rendered = render::blocks(&Source::new(&text, false), self.width, number, look);
            self.lines.extend(rendered.lines);
            self.gap = !cut.inside;
            self.tall = rendered.ends_tall;
            number = rendered.number;
        }
        self.list = cut.in_list.then_some(number);
        if let Some(info) = cut.fence {
            self.begin_block(false);
            let (fence, length) = Fence::open(&self.text[self.settled..], info);
            self.lines.extend(fence.label(self.width, look));
            self.settled += length;
            self.fence = Some(fence);
        }
        true
    }

    fn begin_block(&mut self, joined: bool) {
        if self.gap && (!joined || self.tall) {
            self.lines.push(Line::default());
        }
        self.gap = false;
    }

    fn settle_code(&mut self, look: &Look<'_>) -> bool {
        let Some(fence) = &mut self.fence else { return false };
        while let Some(length) = self.text[self.settled..].find('\n') {
            let line = &self.text[self.settled..self.settled + length];
            self.settled += length + 1;
            if fence.closes(line) {
                self.fence = None;
                self.gap = true;
                return true;
            }
            self.lines.extend(fence.line(line, self.width, look));
        }
        false
    }

    fn render_tail(&mut self, look: &Look<'_>) {
        self.tail.clear();
        let rest = &self.text[self.settled..];
        #[cfg(test)]
        {
            self.work += rest.len();
        }
        if let Some(fence) = &self.fence {
            if !rest.is_empty() && !fence.may_close(rest) {
                self.tail = fence.clone().line(rest, self.width, look);
            }
        } else if !rest.trim().is_empty() {
            let rendered = render::blocks(&Source::new(rest, true), self.width, self.list.flatten(), look).lines;
            if self.gap && !rendered.is_empty() && (self.list.is_none() || self.tall) {
                self.tail.push(Line::default());
            }
            self.tail.extend(rendered);
        }
    }
}

/// Where a text can be cut so that what stands before will not change.
struct Cut {
    end: usize,
    /// A fenced code block with this info string begins at `end`.
    fence: Option<String>,
    /// What stands before the cut ends with items of a list that goes on.
    in_list: bool,
    /// The cut goes through a block.
    inside: bool,
}

#[derive(Default)]
struct LastBlock {
    start: usize,
    fence: Option<String>,
    list: bool,
    paragraph: bool,
    items: Vec<usize>,
}

impl Cut {
    fn find(text: &str) -> Option<Self> {
        // A line that is not whole may still turn out to belong to the block before it.
        let text = &text[..text.rfind('\n').map_or(0, |newline| newline + 1)];
        let mut depth = 0usize;
        let mut blocks = 0;
        let mut last = LastBlock::default();
        let source = Source::new(text, true);
        for (event, range) in source.events() {
            let starts = matches!(event, Event::Start(_));
            if depth == 0 && !matches!(event, Event::End(_)) {
                blocks += 1;
                // A block's range begins after its indentation; the cut takes the whole line.
                let start = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
                last = LastBlock { start, ..LastBlock::default() };
                match &event {
                    Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => last.fence = Some(info.to_string()),
                    Event::Start(Tag::List(_)) => last.list = true,
                    Event::Start(Tag::Paragraph) => last.paragraph = true,
                    _ => {}
                }
            } else if depth == 1 && matches!(event, Event::Start(Tag::Item)) {
                last.items.push(text[..range.start].rfind('\n').map_or(0, |newline| newline + 1));
            }
            match event {
                _ if starts => depth += 1,
                Event::End(_) => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        last.cut(&source, blocks)
    }
}

impl LastBlock {
    fn cut(self, source: &Source<'_>, blocks: usize) -> Option<Cut> {
        let text = source.text;
        let whole_line = |info: &String| text[self.start..].contains('\n').then(|| info.clone());
        let fence = self.fence.as_ref().and_then(whole_line);
        let plain = |end, inside| Some(Cut { end, fence: None, in_list: false, inside });
        if fence.is_some() {
            return Some(Cut { end: self.start, fence, in_list: false, inside: false });
        }
        if blocks > 1 && self.start > 0 {
            return plain(self.start, false);
        }
        // A first item begins the list, also where blank lines stand before it: there is nothing to cut off.
        if let (true, [_, .., end]) = (self.list, self.items.as_slice()) {
            return Some(Cut { end: *end, fence: None, in_list: true, inside: false });
        }
        let longest = if self.paragraph { LONGEST_PARAGRAPH } else { LONGEST_TAIL };
        if text.len() > longest && !self.list {
            let end = source.last_newline().filter(|end| *end > 0)? + 1;
            // What follows the last line is a blank one: the block ends here.
            return plain(end, !text[end..].trim().is_empty());
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
