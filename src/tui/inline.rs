//! `--inline`: the interface in some rows of the normal screen. Finished turns are printed above it, so that they are in
//! the terminal's scrollback and stay there after the end.

use std::io::{self, Write};
use std::time::Duration;

use ratatui::backend::Backend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::{cursor, event, queue, terminal as crossterm};
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::layout::{Areas, Look};
use super::links::SharedLinks;
use super::output::Output;
use super::ui_state::{UiState, needs_gauge};
use super::view::files;
use super::window::Rows;
use super::{App, Input, terminal, view};
use crate::chat::Chat;

/// Timeout for events that crossterm has read already.
const QUEUED: Duration = Duration::from_millis(2);

/// Where the window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inline {
    rows: Rows,
    /// Columns and rows of the terminal.
    size: (u16, u16),
    /// The window's place is unknown: the terminal was resized, or another program used it.
    lost: bool,
    /// The terminal does not answer where its cursor is.
    silent: bool,
}

impl Inline {
    /// A window whose place is not known yet.
    pub fn new() -> Self {
        Self { lost: true, ..Self::default() }
    }

    pub fn rows(self) -> Rows {
        self.rows
    }

    /// The window must be found again before the next frame.
    pub fn lose(&mut self) {
        self.lost = true;
    }
}

impl App {
    /// Prints the turns that have ended and fits the window's height to its contents, before a frame.
    pub(super) fn place_window(&mut self) -> io::Result<()> {
        let Some(mut inline) = self.inline else { return Ok(()) };
        let size = crossterm::size()?;
        let before = inline;
        if inline.lost || inline.size != size {
            let place = if inline.silent { None } else { cursor::position().ok() };
            self.take_queued()?;
            inline.silent = place.is_none();
            inline.rows.top = self.find_top(&inline, place, size);
            inline.size = size;
        }
        inline.lost = false;
        let lines = self.screen.finished_lines(&self.chat, size.0);
        inline.rows.height = self.screen.rows_wanted(&self.chat, size);
        if lines.is_empty() && inline == before {
            return Ok(());
        }
        let first = inline.rows.top.min(size.1.saturating_sub(1));
        let mut backend = terminal::backend(&self.output, Some(Rows { top: first, ..inline.rows }));
        backend.clear()?;
        Write::flush(&mut backend)?;
        inline.rows.top = print(&self.output, &self.screen.transcript.links, &lines, first, size)?;
        inline.rows.top = make_room(&self.output, inline.rows.top, inline.rows.height, size.1)?;
        self.inline = Some(inline);
        self.terminal = terminal::screen(&self.output, Some(inline.rows))?;
        self.terminal.backend_mut().know(&self.screen.transcript.links);
        Ok(())
    }

    /// The window's first row: the cursor's row less the window's rows above the cursor. A terminal that became narrower
    /// has wrapped the rows of the composer's frame.
    fn find_top(&self, inline: &Inline, place: Option<(u16, u16)>, size: (u16, u16)) -> u16 {
        let at = self.terminal.backend().cursor;
        let above = if inline.rows.height == 0 { 0 } else { at.y };
        let framed = above.saturating_sub(self.screen.areas().composer.y);
        let wrapped = framed * (inline.size.0.saturating_sub(1) / size.0.max(1));
        match place {
            Some((0, row)) if above == 0 => row,
            // Something stands before the cursor, such as a prompt of the shell.
            Some((_, row)) if above == 0 => row + 1,
            Some((_, row)) => row.saturating_sub(above + wrapped),
            // A terminal that does not answer: the window stays, or is at the bottom.
            None if inline.rows.height > 0 => inline.rows.top,
            None => size.1.saturating_sub(1),
        }
    }

    /// Takes the keys that crossterm has read while it waited for the cursor's position: the thread that reads keys
    /// waits for new bytes.
    fn take_queued(&self) -> io::Result<()> {
        while event::poll(QUEUED)? {
            // The receiver is dropped only when the interface ends.
            let _ = self.sender.send(Input::Terminal(event::read()?));
        }
        Ok(())
    }

    /// Removes the window and leaves the cursor where it was; the modes are restored after it.
    pub(super) fn leave_window(&mut self) {
        if let Some(inline) = &mut self.inline {
            let mut backend = terminal::backend(&self.output, Some(inline.rows));
            // A closed terminal needs no restoration.
            let _ = backend.clear().and_then(|()| Write::flush(&mut backend));
            *inline = Inline::new();
        }
    }
}

/// Prints lines from row `top` on; the terminal scrolls what does not fit. Returns the row after them.
fn print(output: &Output, links: &SharedLinks, lines: &[Line<'static>], top: u16, size: (u16, u16)) -> io::Result<u16> {
    let most = usize::from(size.1.saturating_sub(1)).max(1);
    let mut top = top;
    for chunk in lines.chunks(most) {
        let count = chunk.len() as u16;
        let first = make_room(output, top, count + 1, size.1)?;
        let area = Rect { x: 0, y: 0, width: size.0, height: count };
        let (blank, mut drawn) = (Buffer::empty(area), Buffer::empty(area));
        view::draw_lines(&mut drawn, area, chunk);
        let mut backend = terminal::backend(output, Some(Rows { top: first, height: count }));
        backend.know(links);
        // Without the blanks after the text, which a narrower terminal would wrap.
        backend.draw(blank.diff(&drawn).into_iter())?;
        Write::flush(&mut backend)?;
        top = first + count;
    }
    Ok(top)
}

/// Scrolls the terminal until `rows` rows fit from row `top` on; returns where they begin then.
fn make_room(output: &Output, top: u16, rows: u16, all: u16) -> io::Result<u16> {
    let below = rows.saturating_sub(1);
    let mut out = output.clone();
    let mut bytes = Vec::new();
    queue!(bytes, cursor::MoveTo(0, top))?;
    bytes.extend(std::iter::repeat_n(b'\n', usize::from(below)));
    out.write_all(&bytes)?;
    let scrolled = (top + below).saturating_sub(all.saturating_sub(1));
    Ok(top.saturating_sub(scrolled))
}

/// Rows for notices and completions above the composer.
const POPUP: u16 = 8;

impl UiState {
    /// Rendered turns that have ended since the last call, which the transcript then no longer shows.
    fn finished_lines(&mut self, chat: &Chat, width: u16) -> Vec<Line<'static>> {
        let look = Look { theme: &self.theme, glyphs: self.glyphs };
        self.transcript.take_finished(chat, usize::from(width), &look)
    }

    /// Rows that the interface needs on a terminal of this size.
    fn rows_wanted(&mut self, chat: &Chat, (columns, rows): (u16, u16)) -> u16 {
        let most = (rows / 2).max(10).min(rows);
        if self.list().is_some() || chat.help || self.panel || chat.marked().is_some() {
            return rows.min(30);
        }
        let area = Rect { x: 0, y: 0, width: columns, height: most };
        let text = Areas::of(area, 1, 0, false, true).composer_text().width;
        let composer = self.composer.layout(text).clamp(1, (rows / 3).max(1)) + 2;
        let queued = u16::try_from(chat.queue.len()).unwrap_or(u16::MAX).min(3);
        let look = Look { theme: &self.theme, glyphs: self.glyphs };
        let chips = files::rows(&self.chips(chat), usize::from(columns), &look).len() as u16;
        let shown = match chat.feed.entries().is_empty() {
            true => 7,
            false => self.transcript.rows_wanted(chat, usize::from(columns), usize::from(most), &look),
        };
        let popup = u16::try_from(self.completions().len()).unwrap_or(u16::MAX).min(POPUP);
        let shown = u16::try_from(shown).unwrap_or(u16::MAX).max(popup).max(1);
        shown.saturating_add(composer + queued + chips + u16::from(needs_gauge(chat)) + 1).min(most)
    }
}
