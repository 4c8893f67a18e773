//! The backend that frames are drawn with: the whole terminal or, with `--inline`, some of its rows.

use std::io::{self, BufWriter, Write};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};

use super::links::{LinkingBackend, SharedLinks};
use super::output::Output;

/// Rows of the terminal, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub top: u16,
    pub height: u16,
}

/// A backend whose row 0 is the first of its rows.
#[derive(Debug)]
pub struct Window {
    inner: LinkingBackend<BufWriter<Output>>,
    /// `None`: the whole terminal.
    rows: Option<Rows>,
    /// Where the cursor was put last, in the window.
    pub cursor: Position,
}

impl Window {
    pub fn new(inner: LinkingBackend<BufWriter<Output>>, rows: Option<Rows>) -> Self {
        Self { inner, rows, cursor: Position::default() }
    }

    /// Takes the table of the links, if the terminal shows them.
    pub fn know(&mut self, links: &SharedLinks) {
        self.inner.know(links);
    }

    fn top(&self) -> u16 {
        self.rows.map_or(0, |rows| rows.top)
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut self.inner, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.inner)
    }
}

impl Backend for Window {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let top = self.top();
        self.inner.draw(content.map(|(x, y, cell)| (x, y + top, cell)))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    /// Where it was put last: a query would compete with the thread that reads keys.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.cursor = position.into();
        self.inner.set_cursor_position(Position { y: self.cursor.y + self.top(), ..self.cursor })
    }

    fn clear(&mut self) -> io::Result<()> {
        match self.rows {
            None => self.inner.clear(),
            Some(rows) => {
                // Row by row: some terminals keep a screen that is cleared at once in their scrollback.
                let all = self.inner.size()?.height;
                for y in rows.top..all {
                    self.inner.set_cursor_position(Position { x: 0, y })?;
                    self.inner.clear_region(ClearType::CurrentLine)?;
                }
                self.inner.set_cursor_position(Position { x: 0, y: rows.top })
            }
        }
    }

    fn clear_region(&mut self, kind: ClearType) -> io::Result<()> {
        match (kind, self.rows) {
            (ClearType::All, Some(_)) => self.clear(),
            _ => self.inner.clear_region(kind),
        }
    }

    fn size(&self) -> io::Result<Size> {
        let size = self.inner.size()?;
        Ok(self.rows.map_or(size, |rows| Size { height: rows.height, ..size }))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        self.inner.window_size()
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.inner)
    }
}
