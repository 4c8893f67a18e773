//! Fenced code blocks, rendered line by line, so that no line of a long one is rendered twice.

use ratatui::text::{Line, Span};

use super::code::Highlighter;
use crate::tui::code_colours::Coloured;
use crate::tui::layout::Look;
use crate::tui::view::wrap;

/// The language: the first word of an info string.
pub(super) fn language(info: &str) -> &str {
    info.split([' ', ',', '{']).next().unwrap_or_default()
}

/// An open code fence, with the highlighter's state.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    mark: char,
    length: usize,
    indent: usize,
    info: String,
    highlighter: Highlighter,
    /// The colours of the complete block, once they are known.
    colours: Option<Coloured>,
    /// Lines rendered so far.
    done: usize,
}

impl Fence {
    /// Parses the opening line at the start of `text`; also returns its length in bytes, with the newline.
    pub fn open(text: &str, info: String, colours: Option<Coloured>) -> (Self, usize) {
        let line = text.lines().next().unwrap_or_default();
        let fence = line.trim_start();
        let mark = fence.chars().next().unwrap_or('`');
        let length = fence.chars().take_while(|c| *c == mark).count().max(3);
        let highlighter = Highlighter::new(language(&info));
        let indent = line.len() - fence.len();
        let fence = Self { mark, length, indent, info, highlighter, colours, done: 0 };
        (fence, text.find('\n').map_or(text.len(), |at| at + 1))
    }

    /// A fence for a complete code block with this info string.
    pub fn whole(info: &str, colours: Option<Coloured>) -> Self {
        let highlighter = Highlighter::new(language(info));
        Self { mark: '`', length: 3, indent: 0, info: info.to_owned(), highlighter, colours, done: 0 }
    }

    pub fn language(&self) -> &str {
        language(&self.info)
    }

    /// The lines of `text` as they are shown: without the indentation of the fence.
    pub fn code(&self, text: &str) -> String {
        let lines: Vec<_> = text.lines().map(|line| &line[self.indentation(line)..]).collect();
        lines.join("\n")
    }

    fn indentation(&self, line: &str) -> usize {
        line.chars().take(self.indent).take_while(|c| *c == ' ').count()
    }

    /// Whether this complete line closes the block.
    pub fn closes(&self, line: &str) -> bool {
        let marks = line.trim();
        line.len() - line.trim_start().len() < 4 && marks.chars().all(|c| c == self.mark) && marks.len() >= self.length
    }

    /// Whether this incomplete line may become the closing fence; it is not shown until that is decided.
    pub fn may_close(&self, line: &str) -> bool {
        let marks = line.trim();
        !marks.is_empty() && marks.chars().all(|c| c == self.mark)
    }

    /// The label above the code: the info string.
    pub fn label(&self, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let name = if self.info.trim().is_empty() { "code" } else { self.info.trim() };
        let name = wrap::clip(name, width.saturating_sub(4), look.glyphs.ellipsis);
        vec![Line::from(Span::styled(format!("{} {name}", look.glyphs.code_top), look.theme.dim))]
    }

    /// Renders one line of code, wrapped at `width` cells.
    pub fn line(&mut self, line: &str, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let line = &line[self.indentation(line)..];
        let bar = |sign: &str| Span::styled(format!("{sign} "), look.theme.dim);
        let (first, more) = (bar(look.glyphs.code_bar), bar(look.glyphs.code_more));
        let spans = self.coloured(line, look).unwrap_or_else(|| self.highlighter.line(line, look));
        self.done += 1;
        let room = width.saturating_sub(wrap::width(&first.content)).max(1);
        let bars = std::iter::once(first).chain(std::iter::repeat(more));
        wrap::wrap(&spans, room).into_iter().zip(bars).map(|(spans, bar)| wrap::prepend(bar, spans)).collect()
    }

    /// The line in the colours of the complete block, if they are known for it.
    fn coloured<'t>(&self, line: &'t str, look: &Look<'_>) -> Option<Vec<Span<'t>>> {
        let pieces = self.colours.as_ref()?.get(self.done).filter(|pieces| !pieces.is_empty())?;
        let mut rest = line;
        let mut spans = Vec::with_capacity(pieces.len());
        for (length, role) in pieces {
            let (piece, left) = rest.split_at_checked(*length)?;
            spans.push(Span::styled(piece, role.style(look.theme)));
            rest = left;
        }
        rest.is_empty().then_some(spans)
    }
}
