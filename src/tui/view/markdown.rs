//! Streaming Markdown. Finished blocks are rendered once per width; only the last, unfinished one is rendered again as
//! text arrives, so that the cost of a token does not grow with the answer.
//!
//! The text must be sanitised already. No dependency on the chat.

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

/// Longer paragraphs (bytes) are split at a newline. Newlines are drawn as written, so the split is not visible.
const LONGEST_PARAGRAPH: usize = 1024;

/// Any other longer block except a list is split too (bytes); the part before the split is not rendered again.
const LONGEST_TAIL: usize = 16 * 1024;

pub(super) fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// A growing Markdown text, and its rendered lines at one width.
#[derive(Debug, Default)]
pub struct Markdown {
    text: String,
    width: usize,
    /// The rendering of the text before this byte is final.
    settled: usize,
    lines: Vec<Line<'static>>,
    tail: Vec<Line<'static>>,
    /// The text's length when the tail was rendered.
    tail_of: usize,
    fence: Option<Fence>,
    /// A list was split and continues in the tail; the number of its last item, if it is ordered.
    list: Option<Option<Number>>,
    /// A blank line separates the last item before the split from the next.
    tall: bool,
    gap: bool,
    /// Bytes rendered in total, to test that the work is linear in the length of the text.
    #[cfg(test)]
    work: usize,
}

impl Markdown {
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Updates the lines for `width` cells.
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

    /// Whether the text is empty.
    pub fn is_blank(&self) -> bool {
        self.text.is_empty()
    }

    /// Number of rendered lines.
    pub fn len(&self) -> usize {
        self.lines.len() + self.tail.len()
    }

    pub fn line(&self, index: usize) -> Option<&Line<'static>> {
        self.lines.get(index).or_else(|| self.tail.get(index.checked_sub(self.lines.len())?))
    }

    /// Renders the next part that can no longer change. True if another part may follow.
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

/// A split of the text such that the part before it can no longer change.
struct Cut {
    end: usize,
    /// A fenced code block with this info string begins at `end`.
    fence: Option<String>,
    /// The split is between two items of a list.
    in_list: bool,
    /// The split is inside a block.
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
        // An incomplete line may still continue the block before it.
        let text = &text[..text.rfind('\n').map_or(0, |newline| newline + 1)];
        let mut depth = 0usize;
        let mut blocks = 0;
        let mut last = LastBlock::default();
        let source = Source::new(text, true);
        for (event, range) in source.events() {
            let starts = matches!(event, Event::Start(_));
            if depth == 0 && !matches!(event, Event::End(_)) {
                blocks += 1;
                // A block's range begins after its indentation; split at the start of the line.
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
        // The first item starts the list, even after blank lines: there is nothing before it to split off.
        if let (true, [_, .., end]) = (self.list, self.items.as_slice()) {
            return Some(Cut { end: *end, fence: None, in_list: true, inside: false });
        }
        let longest = if self.paragraph { LONGEST_PARAGRAPH } else { LONGEST_TAIL };
        if text.len() > longest && !self.list {
            let end = source.last_newline().filter(|end| *end > 0)? + 1;
            // If only blank lines follow, the block ends here.
            return plain(end, !text[end..].trim().is_empty());
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
