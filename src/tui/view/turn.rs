//! An entry of the transcript, rendered to lines and kept between frames: only changed parts are rendered again.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::markdown::Markdown;
use super::{files, footer, units, wrap};
use crate::chat::{Chat, Note, NoteKind, Part as TurnPart};
use crate::conversation::{Ending, Turn, TurnId};
use crate::sanitize::{Sanitizer, sanitize};
use crate::tui::code_colours::{Coloured, Job};
use crate::tui::layout::Look;
use crate::tui::links::Links;
use crate::wording::plural;

/// Left indent of answers, in cells.
const INDENT: usize = 2;

/// Maximum characters and lines that are shown of a user's message; it is sent whole.
const LONGEST_PROMPT: usize = 4000;
const MOST_LINES: usize = 40;

/// The rendered lines of an entry.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    width: usize,
    head: Vec<Line<'static>>,
    thoughts: Stream,
    folded: Vec<Line<'static>>,
    /// The reasoning's length in bytes when its words were counted, and their number.
    words: (usize, usize),
    show_thoughts: bool,
    thought_style: Style,
    answer: Stream,
    foot: Vec<Line<'static>>,
    /// The entry is a note that is shown as one line.
    folded_note: bool,
    /// The answer has ended: the foot is final.
    ended: bool,
    /// The branches as of the last foot.
    branches: u64,
    /// The selected part, with the bar at its left.
    marked: Option<(TurnPart, Span<'static>)>,
    /// The style of a turn that is not sent.
    aside: Option<Style>,
}

/// A growing text, sanitised once and rendered as it grows.
#[derive(Debug, Default)]
struct Stream {
    taken: usize,
    sanitizer: Sanitizer,
    markdown: Markdown,
}

impl Stream {
    fn update(&mut self, text: &str, width: usize, look: &Look<'_>) {
        if let Some(fresh) = text.get(self.taken..).filter(|fresh| !fresh.is_empty()) {
            let clean = self.sanitizer.push(fresh);
            // Skip blank lines before the first word.
            let clean = if self.markdown.is_blank() { clean.trim_start_matches(['\n', '\r']) } else { &clean };
            self.markdown.push(clean);
            self.taken = text.len();
        }
        self.markdown.layout(width, look);
    }
}

impl Rendered {
    /// Updates the lines of a turn.
    pub fn update_turn(&mut self, chat: &Chat, id: TurnId, turn: &Turn, width: usize, look: &Look<'_>) {
        let room = width.saturating_sub(2 * INDENT).max(1);
        if self.width != width {
            self.width = width;
            self.head = user(turn, width, look);
            self.ended = false;
        }
        if !matches!(turn.answer.ending, Ending::Pending) {
            self.answer.markdown.finish();
            self.thoughts.markdown.finish();
        }
        self.answer.update(&turn.answer.text, room, look);
        if !turn.answer.reasoning.is_empty() {
            self.show_thoughts = chat.reasoning_open;
            self.thought_style = look.theme.reasoning;
            self.thoughts.update(&turn.answer.reasoning, room, look);
            self.folded = self.fold(chat, id, turn, room, look);
        }
        let pending = matches!(turn.answer.ending, Ending::Pending);
        let branches = chat.feed.rearranged();
        if pending || !self.ended || self.branches != branches {
            self.branches = branches;
            self.foot = foot(chat, id, turn, room, look);
            self.ended = !pending;
        }
        let bar = || Span::styled(format!("{} ", look.glyphs.quote_bar), look.theme.accent);
        self.marked = chat.marked().filter(|mark| mark.turn == id).map(|mark| (mark.part, bar()));
        self.aside = chat.is_left_out(id).then_some(look.theme.dim);
    }

    /// The first line of a part.
    pub fn start_of(&self, part: TurnPart) -> usize {
        if part == TurnPart::Prompt { 0 } else { self.head.len() }
    }

    /// `line` with the marks of a selected or left out turn.
    fn with_marks(&self, index: usize, mut line: Line<'static>) -> Line<'static> {
        let in_head = index < self.head.len();
        if let Some(style) = self.aside {
            if index + 1 == self.head.len() {
                line = Line::from("  left out: the next prompt goes without this turn");
            }
            line.spans.iter_mut().for_each(|span| span.style = style);
            line.style = style;
        }
        if let Some((part, bar)) = &self.marked
            && (*part == TurnPart::Prompt) == in_head
            && !(in_head && index + 1 == self.head.len())
        {
            match line.spans.first_mut() {
                Some(first) => *first = bar.clone(),
                None => line.spans.push(bar.clone()),
            }
        }
        line
    }

    /// The lines above the reasoning: its duration or length and, while it streams unseen, its last line.
    fn fold(&mut self, chat: &Chat, id: TurnId, turn: &Turn, room: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let reasoning = &turn.answer.reasoning;
        let streams = chat.activity.on(id).is_some_and(|answering| answering.thinking_since.is_some());
        if !streams && self.words.0 != reasoning.len() {
            self.words = (reasoning.len(), reasoning.split_whitespace().count());
        }
        let mut lines = vec![fold_line(chat, id, self.words.1, look)];
        let last = self.thoughts.markdown.last_line();
        if streams && !chat.reasoning_open && !last.is_empty() {
            let last = wrap::clip_start(last, room.saturating_sub(2), look.glyphs.ellipsis);
            let indent = Span::raw(" ".repeat(INDENT + 2));
            lines.push(Line::from(vec![indent, Span::styled(last, look.theme.reasoning)]));
        }
        lines
    }

    /// Updates the lines of a note.
    pub fn update_note(&mut self, note: &Note, folded: bool, width: usize, look: &Look<'_>) {
        if self.width != width || self.folded_note != folded {
            (self.width, self.folded_note) = (width, folded);
            self.head = note_lines(note, width, look);
            if folded && self.head.len() > 1 {
                self.head = vec![folded_line(note, width, look)];
            }
        }
    }

    /// Code blocks that became complete since the last call.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        let mut jobs = self.answer.markdown.take_jobs();
        jobs.extend(self.thoughts.markdown.take_jobs());
        jobs
    }

    /// Links that were rendered since the last call.
    pub fn take_links(&mut self) -> Links {
        let mut links = self.answer.markdown.take_links();
        links.merge(&self.thoughts.markdown.take_links());
        links
    }

    /// Takes the colours of code blocks; true if a block has them, so that the entry must be updated.
    pub fn coloured(&mut self, id: u64, colours: &Coloured) -> bool {
        self.answer.markdown.coloured(id, colours) | self.thoughts.markdown.coloured(id, colours)
    }

    /// Number of lines, if the entry was rendered at this width.
    pub fn len_at(&self, width: usize) -> Option<usize> {
        (self.width == width && width > 0).then(|| self.len())
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        let parts = self.parts();
        parts.iter().map(Part::len).sum()
    }

    pub fn line(&self, index: usize) -> Line<'static> {
        let line = self.plain_line(index);
        if self.aside.is_none() && self.marked.is_none() { line } else { self.with_marks(index, line) }
    }

    fn plain_line(&self, mut index: usize) -> Line<'static> {
        for part in self.parts() {
            if index < part.len() {
                return part.line(index);
            }
            index -= part.len();
        }
        Line::default()
    }

    /// Letters and digits before a line: a position that does not depend on the width.
    pub fn letters_before(&self, line: usize) -> usize {
        (0..line.min(self.len())).map(|line| letters(&self.line(line))).sum()
    }

    /// The line that holds the next letter or digit after `letters_before` of them.
    pub fn line_after(&self, letters_before: usize) -> usize {
        let mut seen = 0;
        let holds = |line: &usize| {
            seen += letters(&self.line(*line));
            seen > letters_before
        };
        (0..self.len()).find(holds).unwrap_or(self.len().saturating_sub(1))
    }

    fn parts(&self) -> [Part<'_>; 8] {
        let has_thoughts = !self.folded.is_empty();
        let thoughts = has_thoughts && self.show_thoughts;
        let has_answer = self.answer.markdown.len() > 0;
        [
            Part::Plain(&self.head),
            Part::Plain(&self.folded),
            if thoughts { Part::Thoughts(&self.thoughts.markdown, self.thought_style) } else { Part::Nothing },
            if has_thoughts && has_answer { Part::Blank } else { Part::Nothing },
            Part::Markdown(&self.answer.markdown),
            if !self.foot.is_empty() && (has_thoughts || has_answer) { Part::Blank } else { Part::Nothing },
            Part::Plain(&self.foot),
            Part::Blank,
        ]
    }
}

fn letters(line: &Line<'_>) -> usize {
    line.spans.iter().map(|span| span.content.chars().filter(|c| c.is_alphanumeric()).count()).sum()
}

enum Part<'a> {
    Nothing,
    Blank,
    Plain(&'a [Line<'static>]),
    Markdown(&'a Markdown),
    Thoughts(&'a Markdown, Style),
}

impl Part<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Blank => 1,
            Self::Plain(lines) => lines.len(),
            Self::Markdown(markdown) | Self::Thoughts(markdown, _) => markdown.len(),
        }
    }

    fn line(&self, index: usize) -> Line<'static> {
        match self {
            Self::Nothing | Self::Blank => Line::default(),
            Self::Plain(lines) => lines.get(index).cloned().unwrap_or_default(),
            Self::Markdown(markdown) => indented(markdown, index),
            Self::Thoughts(markdown, style) => indented(markdown, index).style(*style),
        }
    }
}

fn indented(markdown: &Markdown, index: usize) -> Line<'static> {
    let mut line = markdown.line(index).cloned().unwrap_or_default();
    line.spans.insert(0, Span::raw(" ".repeat(INDENT)));
    line
}

fn user(turn: &Turn, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let style = look.theme.user;
    let shown = beginning(&turn.prompt, look);
    let first = Span::styled(format!("{} ", look.glyphs.prompt), look.theme.accent.patch(style_bg(style)));
    let lines = wrap::wrap_prefixed(sanitize(&shown).trim_end(), style, &first, &Span::styled("  ", style), width);
    let chips = turn.files.iter().map(|file| {
        let chip = wrap::clip(&files::sent(file, look), width.saturating_sub(4), look.glyphs.ellipsis);
        Line::from(Span::styled(format!("  {chip}"), style.patch(look.theme.dim)))
    });
    let mut lines: Vec<_> = lines.into_iter().chain(chips).map(|line| fill(line, width).style(style)).collect();
    lines.push(Line::default());
    lines
}

/// The part of a prompt that is shown.
fn beginning(prompt: &str, look: &Look<'_>) -> String {
    let prompt = prompt.trim_end();
    let by_lines = prompt.match_indices('\n').nth(MOST_LINES - 1).map(|(end, _)| end);
    let by_length = prompt.char_indices().nth(LONGEST_PROMPT).map(|(end, _)| end);
    let (end, rest, noun) = match (by_lines, by_length) {
        (Some(end), length) if length.is_none_or(|length| end <= length) => {
            (end, prompt[end + 1..].lines().count(), "line")
        }
        (_, Some(end)) => (end, prompt[end..].chars().count(), "character"),
        (_, None) => return prompt.to_owned(),
    };
    format!("{}\n{} and {} more {}", &prompt[..end], look.glyphs.ellipsis, units::count(rest), plural(rest, noun))
}

fn style_bg(style: Style) -> Style {
    Style { fg: None, ..style }
}

/// Pads the line to the transcript's width, so that its background fills it.
fn fill(mut line: Line<'static>, width: usize) -> Line<'static> {
    let taken: usize = line.spans.iter().map(|span| wrap::width(&span.content)).sum();
    line.spans.push(Span::raw(" ".repeat(width.saturating_sub(taken))));
    line
}

fn fold_line(chat: &Chat, id: TurnId, words: usize, look: &Look<'_>) -> Line<'static> {
    let mark = if chat.reasoning_open { look.glyphs.unfolded } else { look.glyphs.folded };
    let running = chat.activity.on(id).and_then(|answering| answering.thinking_since);
    let what = match (running, chat.thought.get(&id)) {
        (Some(since), _) => format!("thinking for {}", units::duration(chat.now().since(since))),
        (None, Some(time)) => format!("thought for {}", units::duration(*time)),
        // A stored turn has no time.
        (None, None) => format!("thought {} {}", units::count(words), plural(words, "word")),
    };
    Line::from(vec![
        Span::raw(" ".repeat(INDENT)),
        Span::styled(format!("{mark} {what}  (Ctrl-T)"), look.theme.reasoning),
    ])
}

fn foot(chat: &Chat, id: TurnId, turn: &Turn, room: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let indent = Span::raw(" ".repeat(INDENT));
    let rows = match chat.activity.on(id) {
        Some(answering) => vec![footer::running(chat, answering, room, look)],
        None => footer::ended(chat, id, &turn.answer, room, look),
    };
    rows.into_iter().map(|row| wrap::prepend(indent.clone(), row)).collect()
}

/// Mark of a note, style of the mark and style of its text: the mark alone has the colour of an error, which in bold
/// makes a whole paragraph hard to read.
fn note_look(kind: NoteKind, look: &Look<'_>) -> (&'static str, Style, Style) {
    let (theme, glyphs) = (look.theme, look.glyphs);
    match kind {
        NoteKind::Info => (glyphs.note, theme.dim, theme.dim),
        NoteKind::Warning => (glyphs.warning, theme.warning, theme.text),
        NoteKind::Error => (glyphs.error, theme.error, theme.text),
    }
}

fn note_lines(note: &Note, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let (mark, colour, style) = note_look(note.kind, look);
    let text = sanitize(&note.text);
    let first = Span::styled(format!("  {mark} "), colour);
    wrap::wrap_prefixed(text.trim_end(), style, &first, &Span::raw("    "), width)
}

/// The beginning of a note of several lines, on one.
fn folded_line(note: &Note, width: usize, look: &Look<'_>) -> Line<'static> {
    let (mark, colour, _) = note_look(note.kind, look);
    let more = format!("{} (Ctrl-T)", look.glyphs.ellipsis);
    let text = sanitize(&note.text).replace('\n', " ");
    let room = width.saturating_sub(4);
    let text = match room.checked_sub(wrap::width(&more)).filter(|room| *room > 8) {
        Some(left) => wrap::clip(&text, left, "") + &more,
        None => wrap::clip(&text, room, look.glyphs.ellipsis),
    };
    Line::from(vec![Span::styled(format!("  {mark} "), colour), Span::styled(text, look.theme.dim)])
}
