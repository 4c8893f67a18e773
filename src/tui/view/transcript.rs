//! The transcript: which lines are in view, and drawing those and no others.
//!
//! The place is remembered as an entry and a line in it, so that what arrives below moves nothing.

use std::collections::HashMap;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::composer::mode;
use super::turn::Rendered;
use super::{paint, units, welcome, wrap};
use crate::chat::{Chat, Entry, EntryKey};
use crate::tui::composer::Composer;
use crate::tui::keymap::Scroll;
use crate::tui::layout::{Areas, Look};
use crate::wording::plural;

/// A transcript of fewer lines than this has none to spare.
const TIGHT: usize = 7;

/// The first line in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    entry: usize,
    line: usize,
}

/// What the transcript remembers between frames.
#[derive(Debug, Default)]
pub struct Transcript {
    rendered: HashMap<EntryKey, Rendered>,
    /// `None`: the end is in view and stays in view.
    place: Option<Place>,
    height: usize,
    width: usize,
    visible: Vec<Line<'static>>,
    below: usize,
}

impl Transcript {
    /// Forgets how everything looks, after a change of theme.
    pub fn invalidate(&mut self) {
        self.rendered.clear();
    }

    /// Whether there is something below what is in view.
    pub fn is_scrolled(&self) -> bool {
        self.below > 0
    }

    /// Goes to the end and stays there.
    pub fn follow(&mut self) {
        self.place = None;
    }

    /// Decides what is in view at this size.
    pub fn layout(&mut self, chat: &Chat, width: u16, height: u16, look: &Look<'_>) {
        let anchor = self.anchor(usize::from(width), chat);
        (self.width, self.height) = (usize::from(width), usize::from(height));
        self.visible.clear();
        self.below = 0;
        if self.width == 0 || self.height == 0 {
            return;
        }
        self.forget_gone(chat);
        if let Some((entry, letters)) = anchor {
            self.len(entry, chat, look);
            let line = self.rendered_of(entry, chat).map(|rendered| rendered.line_after(letters));
            self.place = line.map(|line| Place { entry, line });
        }
        let last = self.last_page(chat, look);
        let top = self.place.map(|place| self.clamp(place, chat, look));
        // Nothing is left to scroll to below the last page.
        self.place = self.place.filter(|_| top.is_some_and(|top| top < last));
        self.collect(top.map_or(last, |top| top.min(last)), chat, look);
    }

    /// What the first line in view holds, where another width is about to move it: its entry, and the letters before it
    /// there.
    fn anchor(&self, width: usize, chat: &Chat) -> Option<(usize, usize)> {
        let place = self.place.filter(|_| width != self.width && width > 0)?;
        let rendered = self.rendered_of(place.entry, chat)?;
        Some((place.entry, rendered.letters_before(place.line)))
    }

    fn rendered_of(&self, entry: usize, chat: &Chat) -> Option<&Rendered> {
        self.rendered.get(&chat.feed.entries().get(entry)?.0)
    }

    /// Moves; `layout` shows where to.
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

    /// Renders an entry if need be; the number of its lines.
    fn len(&mut self, entry: usize, chat: &Chat, look: &Look<'_>) -> usize {
        let is_last = entry + 1 == chat.feed.entries().len();
        let Some((key, entry)) = chat.feed.entries().get(entry) else { return 0 };
        let rendered = self.rendered.entry(*key).or_default();
        match entry {
            Entry::Turn(id) => {
                if let Some(turn) = chat.conversation.turn(*id) {
                    rendered.update_turn(chat, *id, turn, self.width, look);
                }
            }
            Entry::Note(note) => rendered.update_note(note, self.width, look),
        }
        // Where every line counts, nothing is left free below the last one.
        rendered.len() - usize::from(self.height < TIGHT && is_last)
    }

    fn clamp(&mut self, place: Place, chat: &Chat, look: &Look<'_>) -> Place {
        let entry = place.entry.min(chat.feed.entries().len().saturating_sub(1));
        let line = if entry == place.entry { place.line } else { 0 };
        Place { entry, line: line.min(self.len(entry, chat, look).saturating_sub(1)) }
    }

    /// Where the view begins when the end is in view.
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
        for entry in top.entry..chat.feed.entries().len() {
            let room = self.height - self.visible.len();
            if room == 0 && self.place.is_none() {
                break;
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

pub(super) fn draw(
    frame: &mut Frame<'_>,
    areas: &Areas,
    chat: &Chat,
    composer: &Composer,
    transcript: &Transcript,
    look: &Look<'_>,
) {
    let area = areas.transcript;
    if area.is_empty() {
        return;
    }
    let welcome;
    let lines = if chat.feed.entries().is_empty() {
        welcome = welcome::lines(chat, usize::from(area.width), usize::from(area.height), look);
        &welcome
    } else {
        &transcript.visible
    };
    paint::lines(frame.buffer_mut(), area, lines);
    if transcript.below > 0 {
        let taken = mode(areas.composer, chat, composer, true, look).map_or(0, |text| wrap::width(&text) + 1);
        draw_more(frame, areas, transcript.below, taken, look);
    }
}

/// In the upper edge of the composer's frame, where it hides nothing; where there is no frame, in as few words as leave
/// something of the last line. `taken` cells of the edge say something else.
fn draw_more(frame: &mut Frame<'_>, areas: &Areas, below: usize, taken: usize, look: &Look<'_>) {
    let (down, count, lines) = (look.glyphs.down, units::count(below), plural(below, "line"));
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
