//! Renders Markdown blocks to styled lines.

use std::collections::HashMap;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::fence::Fence;
use super::html;
use super::source::Source;
use super::table::Table;
use super::tex;
use crate::cells;
use crate::tui::code_colours::Coloured;
use crate::tui::layout::Look;
use crate::tui::links::{Links, linked};
use crate::tui::view::wrap;

mod blocks;

/// Longest line of prose, in cells: longer ones are hard to read. Code and tables may be wider.
pub const MEASURE: usize = 100;

/// What the rendering of a part of a text depends on.
pub(super) struct Rendering<'a> {
    /// In cells.
    pub width: usize,
    /// Number of the last item before the part, if it continues an ordered list that was split.
    pub continued: Option<Number>,
    /// The beginning of the first line, if the part continues a paragraph that was split.
    pub carry: Option<Vec<Span<'static>>>,
    /// The byte of the text at which the part begins.
    pub base: usize,
    /// Colours of code blocks, by the byte of the text at which the block begins.
    pub colours: &'a HashMap<usize, Coloured>,
}

impl Rendering<'_> {
    pub fn blocks(self, source: &Source<'_>, look: &Look<'_>) -> Blocks {
        let mut writer = Writer::new(source, look, self);
        for (event, range) in source.events() {
            writer.event(event, range);
        }
        writer.flush();
        Blocks {
            lines: writer.lines,
            ends_tall: writer.ends_tall,
            number: writer.last_number,
            code: writer.blocks,
            links: writer.links,
        }
    }
}

pub(super) struct Blocks {
    pub lines: Vec<Line<'static>>,
    /// The last list item holds more than one paragraph: a blank line separates it from the next.
    pub ends_tall: bool,
    /// The number of the last item of the last list.
    pub number: Option<Number>,
    /// Code blocks without colours: their bytes in the text, language and code.
    pub code: Vec<(Range<usize>, String, String)>,
    pub links: Links,
}

/// The number of a list item. Items keep the number that was written: models start lists at 7 or leave gaps. A list in
/// which all items have the same number is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    first: u64,
    written: u64,
    shown: u64,
}

impl Number {
    /// The number of the item after `last`, with the number `written` in the source.
    fn after(last: Option<Self>, written: u64) -> Self {
        match last {
            Some(last) if last.first == written && last.written == written => {
                Self { shown: last.shown.saturating_add(1), ..last }
            }
            Some(last) => Self { first: last.first, written, shown: written },
            None => Self { first: written, written, shown: written },
        }
    }
}

/// An open container, with the prefix for each line inside it.
enum Container {
    Quote,
    List { ordered: bool, number: Option<Number> },
    Item { marker: Option<String>, indent: usize, paragraphs: usize, tall: bool },
}

struct Writer<'a> {
    source: &'a Source<'a>,
    look: &'a Look<'a>,
    given: Rendering<'a>,
    last_number: Option<Number>,
    lines: Vec<Line<'static>>,
    containers: Vec<Container>,
    spans: Vec<Span<'static>>,
    styles: Vec<Style>,
    /// A blank line is due before the next block.
    gap: bool,
    code: Option<(Fence, String)>,
    blocks: Vec<(Range<usize>, String, String)>,
    table: Option<Table>,
    /// Where the last table cell ends in the source.
    cell_end: usize,
    link: Option<(String, String, usize)>,
    links: Links,
    /// The text before this byte was shown as part of a formula.
    shown: usize,
    html: bool,
    /// A `<br>` was before: the blank after it is not part of the text.
    after_break: bool,
    /// Open HTML tags that have a style.
    tags: Vec<html::Element>,
    ends_tall: bool,
}

impl<'a> Writer<'a> {
    fn new(source: &'a Source<'a>, look: &'a Look<'a>, given: Rendering<'a>) -> Self {
        Self {
            source,
            look,
            given,
            last_number: None,
            lines: Vec::new(),
            containers: Vec::new(),
            spans: Vec::new(),
            styles: Vec::new(),
            gap: false,
            code: None,
            blocks: Vec::new(),
            table: None,
            cell_end: 0,
            link: None,
            links: Links::default(),
            shown: 0,
            html: false,
            after_break: false,
            tags: Vec::new(),
            ends_tall: false,
        }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        let source = self.source;
        let in_formula = range.end <= self.shown && range.start < self.shown;
        match event {
            Event::Text(_) | Event::Code(_) | Event::InlineHtml(_) | Event::SoftBreak | Event::HardBreak
                if in_formula => {}
            Event::Start(tag) => self.start(tag, range),
            Event::End(tag) => self.end(tag, range),
            Event::Text(text) => self.text(&text, range),
            Event::Code(code) => self.inline(source.written(&code, range), self.look.theme.code),
            Event::InlineHtml(tag) if is_break(&tag) => {
                self.inline("\n", Style::new());
                self.after_break = true;
            }
            Event::InlineHtml(tag) if self.tag(&tag, range.end) => {}
            Event::Html(text) | Event::InlineHtml(text) => {
                self.inline(source.written(&text, range), self.look.theme.dim);
            }
            // Soft breaks are kept: models break lines deliberately.
            Event::SoftBreak | Event::HardBreak => self.line_break(range.end),
            Event::FootnoteReference(label) => {
                let mark = footnote_mark(&label, source.text.get(range).unwrap_or_default(), self.look);
                self.inline(&mark, self.look.theme.marker);
            }
            // Not enabled in the parser's options.
            Event::InlineMath(text) | Event::DisplayMath(text) => self.inline(&text, Style::new()),
            Event::Rule => self.rule(),
            Event::TaskListMarker(done) => {
                let mark = if done { self.look.glyphs.task_done } else { self.look.glyphs.task_open };
                self.inline(&format!("{mark} "), self.look.theme.marker);
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        let theme = self.look.theme;
        match tag {
            Tag::Paragraph => {
                let carry = self.given.carry.take();
                self.begin_block();
                self.spans = carry.unwrap_or_default();
                self.paragraph_of_item();
            }
            Tag::Heading { level, .. } => self.heading(level),
            Tag::BlockQuote(_) => {
                self.begin_block();
                self.mark_tall();
                self.containers.push(Container::Quote);
                self.styles.push(theme.quote);
            }
            Tag::List(number) => {
                let ordered = number.is_some();
                self.flush();
                // A list inside an item follows the item's text without a blank line.
                if self.containers.is_empty() || matches!(self.containers.last(), Some(Container::Quote)) {
                    self.begin_block();
                }
                self.gap = false;
                let number = number.and_then(|_| self.given.continued.take());
                self.containers.push(Container::List { ordered, number });
            }
            Tag::Item => self.item(range.start),
            Tag::CodeBlock(kind) => {
                self.begin_block();
                self.mark_tall();
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let colours = self.given.colours.get(&(self.given.base + range.start)).cloned();
                self.code = Some((Fence::whole(&language, colours), String::new()));
            }
            Tag::Table(alignments) => {
                self.begin_block();
                self.mark_tall();
                self.table = Some(Table { alignments, rows: Vec::new() });
            }
            Tag::TableHead => {
                self.styles.push(Style::new().add_modifier(Modifier::BOLD));
                self.new_row();
            }
            Tag::TableRow => self.new_row(),
            Tag::Emphasis => self.emphasis(),
            Tag::Strong => self.styles.push(Style::new().add_modifier(Modifier::BOLD)),
            Tag::Strikethrough => self.styles.push(Style::new().add_modifier(Modifier::CROSSED_OUT)),
            Tag::Link { dest_url, title, .. } | Tag::Image { dest_url, title, .. } => {
                let url = self.source.written(&dest_url, range);
                self.link = Some((url.to_owned(), title.to_string(), self.spans.len()));
                self.links.add(url);
                self.styles.push(linked(theme.link, url));
            }
            Tag::FootnoteDefinition(label) => {
                self.begin_block();
                let marker = format!("{} ", footnote_mark(&label, &format!("[^{label}]"), self.look));
                let indent = wrap::width(&marker);
                self.containers.push(Container::Item { marker: Some(marker), indent, paragraphs: 0, tall: false });
            }
            Tag::HtmlBlock => {
                self.begin_block();
                self.html = true;
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, range: Range<usize>) {
        match tag {
            TagEnd::Paragraph => self.end_block(),
            TagEnd::Heading(_) => {
                // An empty heading is shown as its number signs.
                if self.spans.is_empty() {
                    self.inline(self.source.text.get(range).unwrap_or_default().trim_end(), Style::new());
                }
                self.styles.pop();
                self.end_block();
            }
            TagEnd::BlockQuote(_) => {
                self.flush();
                self.containers.pop();
                self.styles.pop();
                self.gap = true;
            }
            TagEnd::List(_) => {
                self.flush();
                self.containers.pop();
                self.gap = true;
            }
            TagEnd::Item => {
                self.flush_item();
                let tall = matches!(self.containers.pop(), Some(Container::Item { tall: true, .. }));
                if tall {
                    self.mark_tall();
                }
                // No blank line between items of one paragraph.
                self.gap = tall;
                self.ends_tall = tall;
            }
            TagEnd::FootnoteDefinition => {
                self.flush_item();
                self.containers.pop();
                self.gap = true;
            }
            TagEnd::CodeBlock => self.end_code(range),
            TagEnd::Table => self.end_table(),
            TagEnd::TableHead => {
                self.styles.pop();
            }
            TagEnd::TableRow => self.end_row(range.end),
            TagEnd::TableCell => {
                self.cell_end = range.end;
                self.end_cell();
            }
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.styles.pop();
            }
            TagEnd::Link | TagEnd::Image => self.end_link(),
            TagEnd::HtmlBlock => {
                self.html = false;
                self.end_block();
            }
            _ => {}
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        self.begin_block();
        let theme = self.look.theme;
        self.styles.push(match level {
            HeadingLevel::H1 => theme.heading.add_modifier(Modifier::UNDERLINED),
            HeadingLevel::H2 => theme.heading2,
            _ => theme.heading3,
        });
    }

    /// Emphasis is italic; inside italic text, as in a quotation, it is upright.
    fn emphasis(&mut self) {
        let italic = self.style().add_modifier.contains(Modifier::ITALIC);
        let style = Style::new();
        self.styles.push(if italic {
            style.remove_modifier(Modifier::ITALIC)
        } else {
            style.add_modifier(Modifier::ITALIC)
        });
    }

    /// Marks the innermost item: it holds more than one paragraph.
    fn mark_tall(&mut self) {
        let item = self.containers.iter_mut().rev().find(|container| matches!(container, Container::Item { .. }));
        if let Some(Container::Item { tall, .. }) = item {
            *tall = true;
        }
    }

    fn paragraph_of_item(&mut self) {
        if let Some(Container::Item { paragraphs, tall, .. }) = self.containers.last_mut() {
            *paragraphs += 1;
            *tall |= *paragraphs > 1;
        }
    }

    /// Opens an item whose marker is at byte `start`.
    fn item(&mut self, start: usize) {
        self.begin_block();
        let marker = match self.containers.last_mut() {
            Some(Container::List { ordered: true, number }) => {
                let rest = self.source.text.get(start..).unwrap_or_default().trim_start();
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let next = Number::after(*number, rest[..digits].parse().unwrap_or(1));
                (*number, self.last_number) = (Some(next), Some(next));
                let sign = if rest[digits..].starts_with(')') { ')' } else { '.' };
                format!("{}{sign} ", next.shown)
            }
            _ => format!("{} ", self.look.glyphs.bullet),
        };
        let indent = wrap::width(&marker);
        self.containers.push(Container::Item { marker: Some(marker), indent, paragraphs: 0, tall: false });
        self.gap = false;
    }

    /// An item without any text still shows its marker.
    fn flush_item(&mut self) {
        self.flush();
        if matches!(self.containers.last(), Some(Container::Item { marker: Some(_), .. })) {
            let line = Line::from(self.prefix());
            self.lines.push(line);
        }
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        // An entity for a character that must not be drawn is shown as written.
        let unseen = text.contains(cells::is_unseen) && !self.source.read(range.clone()).contains(text);
        let written = if unseen {
            self.source.text.get(range.clone()).unwrap_or_default()
        } else {
            self.source.written(text, range.clone())
        };
        match &mut self.code {
            Some((_, code)) => code.push_str(written),
            None if self.source.text.get(range.clone()) == Some(written) => self.parts(range),
            None => self.inline(written, Style::new()),
        }
    }

    /// Text of the source, with the formulas and the addresses in it.
    fn parts(&mut self, range: Range<usize>) {
        let (source, mut at) = (self.source, range.start.max(self.shown));
        for whole in source.whole_in(at..range.end) {
            let part = source.text.get(whole.clone()).unwrap_or_default();
            let is_address = part.starts_with("https://") || part.starts_with("http://");
            if is_address && whole.end <= range.end && self.link.is_none() {
                self.inline(source.text.get(at..whole.start).unwrap_or_default(), Style::new());
                self.links.add(part);
                self.inline(part, linked(self.look.theme.link, part));
            } else if let Some(formula) = self.formula(part) {
                self.inline(source.text.get(at..whole.start).unwrap_or_default(), Style::new());
                self.inline(&formula, Style::new());
                self.shown = whole.end;
            } else {
                continue;
            }
            at = whole.end;
        }
        self.inline(source.text.get(at..range.end).unwrap_or_default(), Style::new());
    }

    /// A formula in Unicode, if it has an exact form and the locale has the letters.
    fn formula(&self, part: &str) -> Option<String> {
        let is_quoted = self.containers.iter().any(|container| matches!(container, Container::Quote));
        let readable = self.look.glyphs.boxes && !(is_quoted && part.contains('\n'));
        readable.then(|| tex::unicode(part)).flatten()
    }

    /// Breaks the line before byte `next`. Outside quotations and lists the next line keeps its indentation.
    fn line_break(&mut self, next: usize) {
        let rest = if self.containers.is_empty() { self.source.read(next..self.source.text.len()) } else { "" };
        let indentation = &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()];
        self.inline(&format!("\n{indentation}"), Style::new());
    }

    fn inline(&mut self, text: &str, style: Style) {
        let text = if std::mem::take(&mut self.after_break) { text.trim_start_matches(' ') } else { text };
        if text.is_empty() {
            return;
        }
        self.spans.push(Span::styled(text.to_owned(), self.style().patch(style)));
    }

    /// The style of the open elements.
    fn style(&self) -> Style {
        self.styles.iter().fold(Style::new(), |all, style| all.patch(*style))
    }
}

impl Writer<'_> {
    /// Applies an HTML tag that has a style; `end`: the byte after it. False if it is shown as written: it has no style,
    /// or its other half is missing.
    fn tag(&mut self, tag: &str, end: usize) -> bool {
        let Some((element, opens)) = html::Element::of(tag) else { return false };
        if opens {
            let rest = self.source.text.get(end..).unwrap_or_default();
            let is_closed = element.is_closed_in(rest);
            if is_closed {
                self.tags.push(element);
                self.styles.push(element.style(self.look.theme));
            }
            return is_closed;
        }
        let closes = self.tags.last() == Some(&element);
        if closes {
            self.tags.pop();
            self.styles.pop();
        }
        closes
    }
}

/// The mark of a footnote: a raised number, or the label as `written`.
fn footnote_mark(label: &str, written: &str, look: &Look<'_>) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = label.chars().map(|c| Some(RAISED[c.to_digit(10)? as usize]));
    match raised.collect::<Option<String>>().filter(|_| look.glyphs.boxes && label.len() <= 3) {
        Some(mark) => mark,
        None => written.to_owned(),
    }
}

/// Whether an HTML tag is a line break, which models write in tables.
fn is_break(tag: &str) -> bool {
    let name = tag.trim_start_matches('<').trim_end_matches('>').trim_end_matches('/').trim();
    name.eq_ignore_ascii_case("br")
}
