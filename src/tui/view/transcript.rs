//! The transcript: computes the visible lines and draws only these.
//!
//! The scroll position is an entry and a line in it, so that text arriving below does not move the view.

use std::collections::HashMap;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::composer::mode;
use super::markdown::MEASURE;
use super::turn::Rendered;
use super::{paint, units, welcome, wrap};
use crate::chat::{Chat, Entry, EntryKey, Mark};
use crate::conversation::Ending;
use crate::tui::code_colours::{Coloured, Job};
use crate::tui::composer::Composer;
use crate::tui::keymap::Scroll;
use crate::tui::layout::{Areas, Look};
use crate::tui::library::Recent;
use crate::tui::links::SharedLinks;
use crate::wording::plural;

/// Below this height the blank line after the last entry is omitted.
const TIGHT: usize = 7;

/// Maximum number of entries below the visible ones that are rendered for one frame to count their lines.
const MOST_COUNTED: usize = 24;

/// Maximum number of code blocks whose colours are kept.
const MOST_COLOURED: usize = 500;

/// Turns of an opened conversation that `take_finished` returns.
const OPENED: usize = 3;

/// The first visible line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    entry: usize,
    line: usize,
}

/// The rendered entries and the scroll position, kept between frames.
#[derive(Debug, Default)]
pub struct Transcript {
    rendered: HashMap<EntryKey, Rendered>,
    /// `None`: follows the end.
    place: Option<Place>,
    height: usize,
    /// Entries up to this one were taken: they are shown elsewhere.
    taken: Option<EntryKey>,
    /// Show them here, too: one is selected.
    shows_taken: bool,
    width: usize,
    visible: Vec<Line<'static>>,
    /// Lines below the visible ones.
    below: usize,
    /// `below` holds estimates of entries that were never rendered.
    below_is_estimated: bool,
    /// The selected turn to which the view was last moved.
    marked: Option<Mark>,
    /// Code blocks to colour.
    jobs: Vec<Job>,
    /// Colours of recent code blocks, for a new theme.
    colours: HashMap<u64, Coloured>,
    /// The links of all rendered entries.
    pub links: SharedLinks,
}

impl Transcript {
    /// Drops the rendered entries, after a change of theme.
    pub fn invalidate(&mut self) {
        self.rendered.clear();
    }

    /// Code blocks that were rendered and have no colours yet.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Takes the colours of a code block; the next `layout` shows them.
    pub fn coloured(&mut self, id: u64, colours: Coloured) {
        for rendered in self.rendered.values_mut() {
            rendered.coloured(id, &colours);
        }
        if self.colours.len() >= MOST_COLOURED {
            self.colours.clear();
        }
        self.colours.insert(id, colours);
    }

    #[cfg(test)]
    pub fn rendered_count(&self) -> usize {
        self.rendered.len()
    }

    /// Whether there are lines below the visible ones.
    pub fn is_scrolled(&self) -> bool {
        self.below > 0
    }

    /// The address of the link at this cell of a visible line.
    pub fn link_in_row(&self, row: usize, column: usize) -> Option<String> {
        let mut end = 0;
        let at = |span: &&Span<'static>| {
            end += wrap::width(&span.content);
            column < end
        };
        self.links.address(self.visible.get(row)?.spans.iter().find(at)?.style.underline_color)
    }

    /// Text of a visible line.
    pub fn text_of_row(&self, row: usize) -> Option<String> {
        Some(self.visible.get(row)?.spans.iter().map(|span| span.content.as_ref()).collect())
    }

    /// The lines of the turns that have ended, and of the notes between them, which are not shown from now on. Of a
    /// conversation that was opened, the last `OPENED` turns.
    pub fn take_finished(&mut self, chat: &Chat, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let has_ended = |entry: &Entry| match entry {
            Entry::Turn(id) => chat
                .conversation
                .turn(*id)
                .is_some_and(|turn| chat.activity.on(*id).is_none() && !matches!(turn.answer.ending, Ending::Pending)),
            Entry::Note(_) => false,
        };
        let open = |entry: &Entry| matches!(entry, Entry::Turn(_)) && !has_ended(entry);
        let fresh = |(key, _): &&(EntryKey, Entry)| self.taken.is_none_or(|taken| *key > taken);
        let entries = chat.feed.entries();
        let old = entries.len() - entries.iter().filter(fresh).count();
        let end = entries[old..].iter().position(|(_, entry)| open(entry)).map_or(entries.len(), |open| old + open);
        let Some(last) = (old..end).rev().find(|index| has_ended(&entries[*index].1)) else { return Vec::new() };
        (self.width, self.height) = (width, TIGHT);
        let mut lines = Vec::new();
        for entry in old.max((last + 1).saturating_sub(OPENED))..=last {
            let count = self.len(entry, chat, look);
            lines.extend(self.rendered_of(entry, chat).into_iter().flat_map(|shown| (0..count).map(|n| shown.line(n))));
        }
        self.taken = entries.get(last).map(|(key, _)| *key);
        self.place = None;
        lines
    }

    /// Lines of the entries that are shown, at most `most`.
    pub fn rows_wanted(&mut self, chat: &Chat, width: usize, most: usize, look: &Look<'_>) -> usize {
        (self.width, self.height) = (width, TIGHT);
        let mut rows = 0;
        for entry in (0..chat.feed.entries().len()).rev() {
            if rows >= most || self.is_taken(entry, chat) {
                break;
            }
            rows += self.len(entry, chat, look);
        }
        rows.min(most)
    }

    /// Whether entries that were taken are shown here, too.
    pub fn show_taken(&mut self, shown: bool) {
        self.shows_taken = shown;
    }

    fn is_taken(&self, entry: usize, chat: &Chat) -> bool {
        if self.shows_taken {
            return false;
        }
        let key = chat.feed.entries().get(entry).map(|(key, _)| *key);
        self.taken.is_some_and(|taken| key.is_some_and(|key| key <= taken))
    }

    /// Scrolls to the end and follows it.
    pub fn follow(&mut self) {
        self.place = None;
    }

    /// Computes the visible lines for this size.
    pub fn layout(&mut self, chat: &Chat, width: u16, height: u16, look: &Look<'_>) {
        let anchor = self.anchor(usize::from(width), chat);
        (self.width, self.height) = (usize::from(width), usize::from(height));
        self.visible.clear();
        (self.below, self.below_is_estimated) = (0, false);
        if self.width == 0 || self.height == 0 {
            return;
        }
        self.forget_gone(chat);
        if let Some((entry, letters)) = anchor {
            self.len(entry, chat, look);
            let line = self.rendered_of(entry, chat).map(|rendered| rendered.line_after(letters));
            self.place = line.map(|line| Place { entry, line });
        }
        self.show_mark(chat, look);
        let last = self.last_page(chat, look);
        let top = self.place.map(|place| self.clamp(place, chat, look));
        // At the last page, follow the end.
        self.place = self.place.filter(|_| top.is_some_and(|top| top < last));
        self.collect(top.map_or(last, |top| top.min(last)), chat, look);
    }

    /// Moves the view to the selected turn when another one is selected: its beginning is at a third of the height.
    fn show_mark(&mut self, chat: &Chat, look: &Look<'_>) {
        let mark = chat.marked();
        if std::mem::replace(&mut self.marked, mark) == mark {
            return;
        }
        let Some(mark) = mark else { return };
        let turn = Entry::Turn(mark.turn);
        let Some(entry) = chat.feed.entries().iter().position(|(_, entry)| *entry == turn) else { return };
        self.len(entry, chat, look);
        let line = self.rendered_of(entry, chat).map_or(0, |rendered| rendered.start_of(mark.part));
        self.place = Some(self.up(Place { entry, line }, self.height / 3, chat, look));
    }

    /// If the width is about to change: the entry of the first visible line and the number of letters before the line,
    /// to find it again in the new wrapping.
    fn anchor(&self, width: usize, chat: &Chat) -> Option<(usize, usize)> {
        let place = self.place.filter(|_| width != self.width && width > 0)?;
        let rendered = self.rendered_of(place.entry, chat)?;
        Some((place.entry, rendered.letters_before(place.line)))
    }

    fn rendered_of(&self, entry: usize, chat: &Chat) -> Option<&Rendered> {
        self.rendered.get(&chat.feed.entries().get(entry)?.0)
    }

    /// Changes the scroll position; `layout` applies it.
    pub fn scroll(&mut self, scroll: Scroll, chat: &Chat, look: &Look<'_>) {
        if self.width == 0 || self.height == 0 {
            return;
        }
        let page = self.height.saturating_sub(1).max(1);
        let from = self.place.unwrap_or_else(|| self.last_page(chat, look));
        self.place = match scroll {
            Scroll::Up(lines) => Some(self.up(from, lines, chat, look)),
            Scroll::PageUp => Some(self.up(from, page, chat, look)),
            Scroll::Down(lines) => Some(self.down(from, lines, chat, look)),
            Scroll::PageDown => Some(self.down(from, page, chat, look)),
            Scroll::Top => Some(Place { entry: 0, line: 0 }),
            Scroll::Follow => None,
        };
        let last = self.last_page(chat, look);
        self.place = self.place.filter(|place| *place < last);
    }

    fn forget_gone(&mut self, chat: &Chat) {
        let entries = chat.feed.entries();
        if self.rendered.len() > entries.len() {
            self.rendered.retain(|key, _| entries.iter().any(|(known, _)| known == key));
        }
    }

    /// Renders an entry if it has changed; returns its number of lines.
    fn len(&mut self, entry: usize, chat: &Chat, look: &Look<'_>) -> usize {
        if self.is_taken(entry, chat) {
            return 0;
        }
        let is_last = entry + 1 == chat.feed.entries().len();
        let Some((key, entry)) = chat.feed.entries().get(entry) else { return 0 };
        let rendered = self.rendered.entry(*key).or_default();
        match entry {
            Entry::Turn(id) => {
                if let Some(turn) = chat.conversation.turn(*id) {
                    rendered.update_turn(chat, *id, turn, self.width, look);
                    let mut known = false;
                    for job in rendered.take_jobs() {
                        match self.colours.get(&job.id) {
                            Some(colours) => known |= rendered.coloured(job.id, colours),
                            None => self.jobs.push(job),
                        }
                    }
                    let links = rendered.take_links();
                    if !links.is_empty() {
                        self.links.merge(&links);
                    }
                    if known {
                        rendered.update_turn(chat, *id, turn, self.width, look);
                    }
                }
            }
            Entry::Note(note) => {
                let folded = chat.feed.is_folded(*key) && !chat.reasoning_open;
                rendered.update_note(note, folded, self.width, look);
            }
        }
        // On a low screen, omit the blank line after the last entry.
        rendered.len() - usize::from(self.height < TIGHT && is_last)
    }

    fn clamp(&mut self, place: Place, chat: &Chat, look: &Look<'_>) -> Place {
        let entry = place.entry.min(chat.feed.entries().len().saturating_sub(1));
        let line = if entry == place.entry { place.line } else { 0 };
        Place { entry, line: line.min(self.len(entry, chat, look).saturating_sub(1)) }
    }

    /// The scroll position at which the last line is at the bottom.
    fn last_page(&mut self, chat: &Chat, look: &Look<'_>) -> Place {
        let mut missing = self.height;
        for entry in (0..chat.feed.entries().len()).rev() {
            let len = self.len(entry, chat, look);
            if len >= missing {
                return Place { entry, line: len - missing };
            }
            missing -= len;
        }
        Place { entry: 0, line: 0 }
    }

    fn up(&mut self, from: Place, mut lines: usize, chat: &Chat, look: &Look<'_>) -> Place {
        let mut place = self.clamp(from, chat, look);
        while lines > place.line {
            if place.entry == 0 {
                return Place { entry: 0, line: 0 };
            }
            lines -= place.line;
            place.entry -= 1;
            place.line = self.len(place.entry, chat, look);
        }
        place.line -= lines;
        place
    }

    fn down(&mut self, from: Place, lines: usize, chat: &Chat, look: &Look<'_>) -> Place {
        let mut place = self.clamp(from, chat, look);
        place.line += lines;
        while place.entry < chat.feed.entries().len() {
            let len = self.len(place.entry, chat, look);
            if place.line < len {
                break;
            }
            place.line -= len;
            place.entry += 1;
        }
        place
    }

    fn collect(&mut self, top: Place, chat: &Chat, look: &Look<'_>) {
        let mut line = top.line;
        let mut counted = 0;
        for entry in top.entry..chat.feed.entries().len() {
            let room = self.height - self.visible.len();
            if room == 0 && self.place.is_none() {
                break;
            }
            if room == 0 {
                self.below += match self.rendered_of(entry, chat).and_then(|rendered| rendered.len_at(self.width)) {
                    Some(known) => known,
                    None if counted < MOST_COUNTED => {
                        counted += 1;
                        self.len(entry, chat, look)
                    }
                    None => {
                        self.below_is_estimated = true;
                        self.estimate(entry, chat)
                    }
                };
                continue;
            }
            let len = self.len(entry, chat, look);
            let end = len.min(line + room);
            let lines =
                self.rendered_of(entry, chat).map(|rendered| (line..end).map(|line| rendered.line(line)).collect());
            let lines: Vec<_> = lines.unwrap_or_default();
            self.visible.extend(lines);
            self.below += len.saturating_sub(end.max(line));
            line = 0;
        }
    }
}

impl Transcript {
    /// About how many lines an entry has, without rendering it: so the way to the beginning of a long conversation
    /// costs no more than one screen.
    fn estimate(&self, entry: usize, chat: &Chat) -> usize {
        let line = self.width.clamp(1, MEASURE);
        let lines = |text: &str| text.len() / line + 1;
        match chat.feed.entries().get(entry) {
            Some((_, Entry::Turn(id))) => chat.conversation.turn(*id).map_or(0, |turn| {
                // The blank lines, the fold line and the figures.
                lines(&turn.prompt) + lines(&turn.answer.text) + 4
            }),
            Some((_, Entry::Note(note))) => lines(&note.text),
            None => 0,
        }
    }
}

pub(super) fn draw(
    frame: &mut Frame<'_>,
    areas: &Areas,
    chat: &Chat,
    composer: &Composer,
    transcript: &Transcript,
    recent: &[Recent],
    look: &Look<'_>,
) {
    let area = areas.transcript;
    if area.is_empty() {
        return;
    }
    let welcome;
    let lines = if chat.feed.entries().is_empty() {
        welcome = welcome::lines(chat, recent, usize::from(area.width), usize::from(area.height), look);
        &welcome
    } else {
        &transcript.visible
    };
    paint::lines(frame.buffer_mut(), area, lines);
    if transcript.below > 0 {
        let taken = mode(areas.composer, chat, composer, true, look).map_or(0, |text| wrap::width(&text) + 1);
        let count = if transcript.below_is_estimated {
            format!("about {}", units::count(rounded(transcript.below)))
        } else {
            units::count(transcript.below)
        };
        draw_more(frame, areas, (&count, &plural(transcript.below, "line")), taken, look);
    }
}

/// `count` to two digits.
fn rounded(count: usize) -> usize {
    let unit = 10usize.pow(count.checked_ilog10().unwrap_or(0).saturating_sub(1));
    count / unit * unit
}

/// Draws the number of lines below: in the upper edge of the composer's frame or, without a frame, over at most half of
/// the last line. `taken` cells of the edge hold another label.
fn draw_more(frame: &mut Frame<'_>, areas: &Areas, (count, lines): (&str, &str), taken: usize, look: &Look<'_>) {
    let down = look.glyphs.down;
    let forms = [
        format!(" {down} more below ({count} {lines}) "),
        format!(" {down} {count} {lines} "),
        format!(" {down} {count} "),
    ];
    let (right, y, room) = if areas.framed() {
        (areas.composer.right() - 2, areas.composer.y, usize::from(areas.composer.width - 4).saturating_sub(taken))
    } else {
        let area = areas.transcript;
        (area.right(), area.bottom().saturating_sub(1), usize::from(area.width / 2))
    };
    let [.., shortest] = &forms;
    let text = forms.iter().find(|text| wrap::width(text) <= room).unwrap_or(shortest);
    let text = wrap::clip(text, room, look.glyphs.ellipsis);
    let width = wrap::width(&text) as u16;
    let spot = Rect { x: right - width, y, width, height: 1 };
    frame.render_widget(Span::styled(text, look.theme.selection), spot);
}
