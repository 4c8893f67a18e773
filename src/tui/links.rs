//! Links that a terminal can open (OSC 8). The underline colour of a linked piece of text holds the number of its
//! address: a colour that no theme sets, so that links survive wrapping and layout. The backend turns it into the
//! terminal's sequence, and never sends the colour.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Style};

/// Longer addresses are not linked, in bytes: some terminals refuse them.
const LONGEST: usize = 2000;

/// Addresses by number. `None`: two of them have the same number, and neither is linked.
#[derive(Clone, Debug, Default)]
pub struct Links(HashMap<u32, Option<String>>);

/// `style` for text that opens `url`; unchanged if the address is not one that may be opened.
pub fn linked(style: Style, url: &str) -> Style {
    match address(url) {
        Some(address) => {
            let number = number(&address);
            let [_, red, green, blue] = number.to_be_bytes();
            style.underline_color(Color::Rgb(red, green, blue))
        }
        None => style,
    }
}

/// The number of the link that a piece of text with this underline colour opens.
pub fn number_of(color: Option<Color>) -> Option<u32> {
    match color {
        Some(Color::Rgb(red, green, blue)) => Some(u32::from_be_bytes([0, red, green, blue])),
        _ => None,
    }
}

fn number(address: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    (hasher.finish() & 0x00ff_ffff) as u32
}

/// The address as it is sent to a terminal: printable ASCII, of a scheme that opens a page or a message.
fn address(url: &str) -> Option<String> {
    let url = url.trim();
    let lower = url.get(..8.min(url.len())).unwrap_or_default().to_ascii_lowercase();
    let known = ["http://", "https://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme));
    if !known || url.len() > LONGEST || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let mut address = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => address.push(char::from(byte)),
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(address)
}

/// A table that the transcript fills and the backend reads.
#[derive(Clone, Debug, Default)]
pub struct SharedLinks(Arc<Mutex<Links>>);

impl SharedLinks {
    pub fn merge(&self, links: &Links) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).merge(links);
    }

    /// The address of a piece of text with this underline colour.
    pub fn address(&self, color: Option<Color>) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.get(&number_of(color)?)?.clone()
    }

    fn opening(&self, color: Option<Color>) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).opening(color)
    }
}

impl Links {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, url: &str) {
        let Some(address) = address(url) else { return };
        let known = self.0.entry(number(&address)).or_insert_with(|| Some(address.clone()));
        if known.as_ref() != Some(&address) {
            *known = None;
        }
    }

    /// Adds the links of another table.
    pub fn merge(&mut self, other: &Self) {
        for (number, address) in &other.0 {
            let known = self.0.entry(*number).or_insert_with(|| address.clone());
            if known != address {
                *known = None;
            }
        }
    }

    /// The sequence that begins the link of a piece of text with this underline colour.
    pub fn opening(&self, color: Option<Color>) -> Option<String> {
        let number = number_of(color)?;
        let address = self.0.get(&number)?.as_ref()?;
        // The identity joins the parts of a link that is wrapped.
        Some(format!("\x1b]8;id={number:x};{address}\x1b\\"))
    }
}

/// The sequence that ends a link.
pub const CLOSING: &str = "\x1b]8;;\x1b\\";

/// Whether the terminal shows links, from the variables that terminals set. Others ignore the sequence or print it.
pub fn are_shown(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let term = variable("TERM").unwrap_or_default();
    let program = variable("TERM_PROGRAM").unwrap_or_default();
    let known = ["iTerm.app", "WezTerm", "ghostty", "vscode", "Hyper", "rio", "WarpTerminal", "tmux"];
    let vte = variable("VTE_VERSION").and_then(|version| version.parse::<u32>().ok());
    let by_term = ["kitty", "foot", "alacritty", "ghostty", "wezterm", "contour"];
    !matches!(term.as_str(), "dumb" | "linux")
        && (known.contains(&program.as_str())
            || by_term.iter().any(|name| term.contains(name))
            || vte.is_some_and(|version| version >= 5000)
            || ["WT_SESSION", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "DOMTERM"].iter().any(|name| is_set(name)))
}

/// A backend that writes links.
#[derive(Debug)]
pub struct LinkingBackend<W: Write> {
    inner: CrosstermBackend<W>,
    /// `None`: the terminal shows no links.
    links: Option<SharedLinks>,
}

impl<W: Write> LinkingBackend<W> {
    pub fn new(writer: W, links: bool) -> Self {
        Self { inner: CrosstermBackend::new(writer), links: links.then(SharedLinks::default) }
    }

    /// Takes the table of the links, if the terminal shows them.
    pub fn know(&mut self, links: &SharedLinks) {
        if let Some(known) = &mut self.links {
            *known = links.clone();
        }
    }
}

impl<W: Write> Write for LinkingBackend<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.inner)
    }
}

impl<W: Write> Backend for LinkingBackend<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let cells: Vec<_> = content.collect();
        for run in cells.chunk_by(|(_, _, one), (_, _, other)| one.underline_color == other.underline_color) {
            let color = run.first().map(|(_, _, cell)| cell.underline_color);
            if number_of(color).is_none() {
                self.inner.draw(run.iter().copied())?;
                continue;
            }
            let plain: Vec<_> = run.iter().map(|(x, y, cell)| (*x, *y, without_link(cell))).collect();
            let opening = self.links.as_ref().and_then(|links| links.opening(color));
            if let Some(opening) = &opening {
                self.inner.write_all(opening.as_bytes())?;
            }
            self.inner.draw(plain.iter().map(|(x, y, cell)| (*x, *y, cell)))?;
            if opening.is_some() {
                self.inner.write_all(CLOSING.as_bytes())?;
            }
        }
        Ok(())
    }

    fn append_lines(&mut self, lines: u16) -> io::Result<()> {
        self.inner.append_lines(lines)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        self.inner.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.inner.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        self.inner.size()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        self.inner.window_size()
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.inner)
    }
}

fn without_link(cell: &Cell) -> Cell {
    let mut cell = cell.clone();
    cell.underline_color = Color::Reset;
    cell
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::Terminal;
    use ratatui::text::{Line, Span};

    use super::*;

    fn written(links: bool) -> String {
        let mut out = Vec::new();
        let mut backend = LinkingBackend::new(&mut out, links);
        let (mut table, shared) = (Links::default(), SharedLinks::default());
        table.add("https://example.org/ü");
        shared.merge(&table);
        backend.know(&shared);
        let style = linked(Style::new(), "https://example.org/ü");
        let mut cells = Vec::new();
        for (at, (text, style)) in
            [("a", Style::new()), ("b", style), ("c", style), ("d", Style::new())].iter().enumerate()
        {
            let mut cell = Cell::default();
            cell.set_symbol(text).set_style(*style);
            cells.push((at as u16, 0, cell));
        }
        backend.draw(cells.iter().map(|(x, y, cell)| (*x, *y, cell))).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_of_linked_cells_is_one_link_and_no_colour_is_sent() {
        let text = written(true);
        let link = text.split("\x1b]8;id=").nth(1).unwrap();
        assert!(link.split_once(';').unwrap().1.starts_with("https://example.org/%C3%BC\x1b\\"), "{text:?}");
        assert!(text.contains('b') && link.find("bc").unwrap() < link.find(CLOSING).unwrap(), "{text:?}");
        assert_eq!(text.matches(CLOSING).count(), 1);
        assert!(!text.contains("58;"), "no underline colour: {text:?}");
        assert!(!written(false).contains("]8;"));
    }

    #[test]
    fn only_pages_and_messages_are_linked() {
        for url in ["https://a.b", "HTTP://a.b/c?d=e#f", "mailto:a@b.c"] {
            assert_ne!(linked(Style::new(), url), Style::new(), "{url}");
        }
        for url in ["file:///etc/passwd", "javascript:1", "/a", "a.md", "https://a b", "https://a\x1b]8;;", "ssh://a"] {
            assert_eq!(linked(Style::new(), url), Style::new(), "{url:?}");
        }
        assert_eq!(address("https://a.b/\"<>`").unwrap(), "https://a.b/%22%3C%3E%60");
    }

    #[test]
    fn two_addresses_of_one_number_are_not_linked() {
        let mut links = Links::default();
        links.add("https://a.b/");
        let color = linked(Style::new(), "https://a.b/").underline_color;
        assert!(links.opening(color).is_some());
        let mut other = Links::default();
        other.0.insert(number_of(color).unwrap(), Some("https://evil.example/".into()));
        links.merge(&other);
        assert_eq!(links.opening(color), None);
    }

    #[test]
    fn terminals_that_show_links_are_known_by_their_variables() {
        let shown = |set: &[(&str, &str)]| {
            are_shown(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(shown(&[("TERM", "xterm-kitty")]) && shown(&[("VTE_VERSION", "7200"), ("TERM", "xterm-256color")]));
        assert!(!shown(&[("TERM", "xterm-256color")]) && !shown(&[("TERM", "linux"), ("WT_SESSION", "1")]));
        assert!(!shown(&[("VTE_VERSION", "4800")]));
    }

    /// The type is used as ratatui's backend.
    #[test]
    fn a_frame_is_drawn_on_it() {
        let mut out = Vec::new();
        let backend = LinkingBackend::new(&mut out, true);
        let options =
            ratatui::TerminalOptions { viewport: ratatui::Viewport::Fixed(ratatui::layout::Rect::new(0, 0, 10, 1)) };
        let mut terminal = Terminal::with_options(backend, options).unwrap();
        let line = Line::from(Span::styled("x", linked(Style::new(), "https://a.b/")));
        terminal.draw(|frame| frame.render_widget(line, frame.area())).unwrap();
        drop(terminal);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains('x') && !text.contains("]8;"), "an unknown link is text: {text:?}");
    }
}
