//! Streaming Markdown. Finished blocks are rendered once per width; only the last, unfinished one is rendered again as
//! text arrives, so that the cost of a token does not grow with the answer.
//!
//! The text must be sanitised already. No dependency on the chat.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Tag};
use ratatui::text::{Line, Span};

use crate::tui::code_colours::{Coloured, Job, LONGEST_BLOCK};
use crate::tui::layout::Look;
use crate::tui::links::Links;

mod code;
mod fence;
mod html;
mod open_line;
mod render;
mod source;
mod table;
mod tex;

use fence::Fence;
pub use render::MEASURE;
use render::{Number, Rendering};
use source::Source;

/// Longer paragraphs (bytes) are split at a newline. Newlines are drawn as written, so the split is not visible.
const LONGEST_PARAGRAPH: usize = 1024;

/// A longer line of a paragraph (bytes) that has not ended is split at a space.
const LONGEST_OPEN_LINE: usize = 2048;

/// Any other longer block except a list is split too (bytes); the part before the split is not rendered again.
const LONGEST_TAIL: usize = 16 * 1024;

pub(super) fn options() -> Options {
    // The older form of footnotes knows a reference without its definition, which may still follow.
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS | Options::ENABLE_OLD_FOOTNOTES
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
    /// The opening line of `fence`, in bytes of the text.
    fence_at: Range<usize>,
    /// The last line of a paragraph that was split within a line: the tail continues it.
    carry: Option<Vec<Span<'static>>>,
    /// A list was split and continues in the tail; the number of its last item, if it is ordered.
    list: Option<Option<Number>>,
    /// A blank line separates the last item before the split from the next.
    tall: bool,
    gap: bool,
    /// No more text follows.
    finished: bool,
    /// Colours of complete code blocks, by the byte at which the block begins.
    colours: HashMap<usize, Coloured>,
    /// The jobs of blocks without colours, by the same byte.
    asked: HashMap<usize, u64>,
    /// Jobs that were not taken yet.
    wanted: Vec<Job>,
    /// Links that were not taken yet.
    links: Links,
    /// Bytes rendered in total, to test that the work is linear in the length of the text.
    #[cfg(test)]
    work: usize,
}

impl Markdown {
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Says that no more text follows: a code fence at the end is complete.
    pub fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.tail_of = usize::MAX;
        }
    }

    /// Updates the lines for `width` cells.
    pub fn layout(&mut self, width: usize, look: &Look<'_>) {
        if width != self.width {
            self.width = width;
            self.restart();
        }
        if self.tail_of == self.text.len() {
            return;
        }
        while self.settle(look) {}
        self.render_tail(look);
        self.tail_of = self.text.len();
    }

    /// Forgets the rendering, not the text.
    fn restart(&mut self) {
        let before = std::mem::take(self);
        let Self { text, width, finished, colours, asked, wanted, links, .. } = before;
        *self = Self { text, width, finished, colours, asked, wanted, links, tail_of: usize::MAX, ..Self::default() };
    }

    /// Code blocks that became complete since the last call.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.wanted)
    }

    /// Links that were rendered since the last call.
    pub fn take_links(&mut self) -> Links {
        std::mem::take(&mut self.links)
    }

    /// Takes the result of a job; true if a block of this text has it, so that the text must be laid out again.
    pub fn coloured(&mut self, id: u64, colours: &Coloured) -> bool {
        let waiting: Vec<_> = self.asked.iter().filter(|(_, asked)| **asked == id).map(|(at, _)| *at).collect();
        for at in &waiting {
            self.asked.remove(at);
            self.colours.insert(*at, colours.clone());
        }
        if !waiting.is_empty() {
            self.restart();
        }
        !waiting.is_empty()
    }

    fn want(&mut self, at: usize, language: &str, code: String) {
        let useful = !language.is_empty() && !code.trim().is_empty() && code.len() <= LONGEST_BLOCK;
        if !useful || self.colours.contains_key(&at) {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (language, &code).hash(&mut hasher);
        let id = hasher.finish();
        if self.asked.insert(at, id) != Some(id) {
            self.wanted.push(Job { id, language: language.to_owned(), code });
        }
    }

    /// Whether the text is empty.
    pub fn is_blank(&self) -> bool {
        self.text.is_empty()
    }

    /// Number of lines that can no longer change.
    pub fn final_len(&self) -> usize {
        self.lines.len()
    }

    /// The last line of the text that is not blank.
    pub fn last_line(&self) -> &str {
        self.text.trim_end().rsplit('\n').next().unwrap_or_default().trim_start()
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
            let carry = self.carry.take();
            let mut rendered = self.rendering(from, number, carry).blocks(&Source::new(&text, false), look);
            if let Some(space) = cut.joint {
                let mut line = rendered.lines.pop().unwrap_or_default().spans;
                line.extend(space.then(|| Span::raw(" ")));
                self.carry = Some(line);
            }
            self.lines.extend(rendered.lines);
            self.links.merge(&rendered.links);
            for (range, language, code) in rendered.code {
                self.want(range.start, &language, code);
            }
            self.gap = !cut.inside;
            self.tall = rendered.ends_tall;
            number = rendered.number;
        }
        self.list = cut.in_list.then_some(number);
        if let Some(info) = cut.fence {
            self.begin_block(false);
            let colours = self.colours.get(&self.settled).cloned();
            let (fence, length) = Fence::open(&self.text[self.settled..], info, colours);
            self.lines.extend(fence.label(self.width, look));
            self.fence_at = self.settled..self.settled + length;
            self.settled += length;
            self.fence = Some(fence);
        }
        true
    }

    fn rendering(&self, base: usize, number: Option<Number>, carry: Option<Vec<Span<'static>>>) -> Rendering<'_> {
        Rendering { width: self.width, continued: number, carry, base, colours: &self.colours }
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
                self.end_fence(self.settled - length - 1);
                return true;
            }
            self.lines.extend(fence.line(line, self.width, look));
        }
        false
    }

    /// Ends the fence, whose code ends at byte `end`.
    fn end_fence(&mut self, end: usize) {
        self.want_fence(end);
        self.fence = None;
        self.gap = true;
    }

    fn want_fence(&mut self, end: usize) {
        let Some(fence) = &self.fence else { return };
        let (language, code) = (fence.language().to_owned(), fence.code(&self.text[self.fence_at.end..end]));
        self.want(self.fence_at.start, &language, code);
    }

    fn render_tail(&mut self, look: &Look<'_>) {
        self.tail.clear();
        let rest = &self.text[self.settled..];
        #[cfg(test)]
        {
            self.work += rest.len();
        }
        if let Some(fence) = &self.fence {
            let closing = fence.may_close(rest);
            if !rest.is_empty() && !closing {
                self.tail = fence.clone().line(rest, self.width, look);
            }
            if self.finished {
                self.want_fence(if closing { self.settled } else { self.text.len() });
            }
        } else if !rest.trim().is_empty() {
            let from = self.settled;
            let rendering = self.rendering(from, self.list.flatten(), self.carry.clone());
            let rendered = rendering.blocks(&Source::new(rest, !self.finished), look);
            if self.gap && !rendered.lines.is_empty() && (self.list.is_none() || self.tall) {
                self.tail.push(Line::default());
            }
            self.tail.extend(rendered.lines);
            self.links.merge(&rendered.links);
            for (range, language, code) in rendered.code {
                // The last block may still grow.
                if self.finished || range.end < self.text.len() {
                    self.want(range.start, &language, code);
                }
            }
        } else if let Some(carry) = &self.carry {
            self.tail.push(Line::from(carry.clone()));
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
    /// The split is inside a line of a paragraph, and whether at a space.
    joint: Option<bool>,
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
        if text.len() > LONGEST_OPEN_LINE && !text.contains('\n') {
            let (end, space) = open_line::split(text)?;
            return Some(Self { end, fence: None, in_list: false, inside: true, joint: Some(space) });
        }
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
        let plain = |end, inside| Some(Cut { end, fence: None, in_list: false, inside, joint: None });
        if fence.is_some() {
            return Some(Cut { end: self.start, fence, in_list: false, inside: false, joint: None });
        }
        if blocks > 1 && self.start > 0 {
            return plain(self.start, false);
        }
        // The first item starts the list, even after blank lines: there is nothing before it to split off.
        if let (true, [_, .., end]) = (self.list, self.items.as_slice()) {
            return Some(Cut { end: *end, fence: None, in_list: true, inside: false, joint: None });
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
