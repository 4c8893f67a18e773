//! The help overlay: every key and command.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::border;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, BorderType};

use super::wrap;
use crate::chat::command::COMMANDS;
use crate::tui::layout::Look;

/// Every key binding beyond plain editing, and the main editing keys.
pub const KEYS: &[(&str, &str)] = &[
    ("Enter", "send; queued while an answer is written"),
    ("Alt+Enter, Ctrl-J", "new line (Shift+Enter if the terminal sends it)"),
    ("Esc, Ctrl-C", "stop the answer, keep its text; Esc twice: /edit"),
    ("Ctrl-C", "clear the line (Up brings it back); twice: quit"),
    ("Ctrl-D", "on an empty line: quit"),
    ("PgUp, PgDn", "scroll, as the wheel does; Shift+Up/Down by a line"),
    ("Ctrl-Home, Ctrl-End", "to the beginning, to the end and follow"),
    ("Up, Down, Ctrl-R", "earlier prompts; search in them"),
    ("@", "attach a file: @path, completed with Tab; Backspace detaches it"),
    ("Tab, Shift-Tab", "complete a command or a name; the next, the one before"),
    ("Ctrl-A/E/K/U/W/Y", "edit as in a shell; Ctrl-_ takes back"),
    ("Ctrl-O", "palette: every command, model, theme, conversation"),
    ("Ctrl-S, F2", "the conversations; the models"),
    ("Alt+Up, Alt+Down", "select a turn: edit, ask again, fork, delete, copy"),
    ("Ctrl-X", "statistics beside the transcript"),
    ("Ctrl-G", "go on writing in $VISUAL, $EDITOR, vi or nano"),
    ("Ctrl-T", "show or fold what the model thought"),
    ("Ctrl-L, Ctrl-Z", "draw anew; back to the shell (fg returns)"),
];

/// Frame for locales without box-drawing characters.
pub(super) const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// The area above the composer if the help fits there, so that the frames do not overlap; else the whole screen.
pub(in crate::tui) fn area(screen: Rect, composer: Rect) -> Rect {
    let above = Rect { height: composer.y.saturating_sub(screen.y), ..screen };
    if above.height >= LOWEST { above } else { screen }
}

/// Lowest area above the composer for the help; it scrolls if it is higher.
const LOWEST: u16 = 16;

/// Width of the key column, in cells.
const COLUMN: usize = 21;

/// Minimum width for keys and descriptions side by side.
const WIDE: usize = 60;

/// The help laid out for an area: its lines and the number of visible rows.
struct Page {
    lines: Vec<Line<'static>>,
    rows: usize,
    framed: bool,
}

impl Page {
    fn of(area: Rect, look: &Look<'_>) -> Self {
        let framed = area.height >= 8 && area.width >= 24;
        let (side, top) = if framed { (4, 2) } else { (0, 0) };
        let rows = usize::from(area.height.saturating_sub(top));
        Self { lines: lines(look, usize::from(area.width.saturating_sub(side))), rows, framed }
    }

    /// The largest scroll offset.
    fn last_top(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }
}

/// The largest scroll offset of the help in `area`, and the lines of a page.
pub(in crate::tui) fn scroll_range(area: Rect, look: &Look<'_>) -> (usize, usize) {
    let page = Page::of(area, look);
    (page.last_top(), page.rows)
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, top: usize, look: &Look<'_>) {
    let page = Page::of(area, look);
    let (top, scrolls) = (top.min(page.last_top()), page.last_top() > 0);
    let below = page.lines.len().saturating_sub(top + page.rows);
    let text = Text::from_iter(page.lines.into_iter().skip(top).take(page.rows));
    if !page.framed {
        super::paint::clear(frame, area, look);
        return frame.render_widget(text, area);
    }
    // If the help scrolls, the frame keeps its width.
    let width = if scrolls { area.width } else { text.width() as u16 + 4 };
    let area = super::paint::centred(area, width, text.height() as u16 + 2);
    super::paint::clear(frame, area, look);
    let block = Block::bordered().border_style(look.theme.border_active).title(" chatnap: Esc closes ");
    let block = if scrolls {
        let (up, down) = (look.glyphs.up, look.glyphs.down);
        block.title_bottom(Line::from(format!(" {up}{down} scroll {} {below} more ", look.glyphs.dot)).right_aligned())
    } else {
        block
    };
    let block = if look.glyphs.boxes { block.border_type(BorderType::Rounded) } else { block.border_set(ASCII_BORDER) };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(text, Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner });
}

/// Every key and command in `width` cells.
fn lines(look: &Look<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<_> = KEYS.iter().flat_map(|(key, about)| entry(key, about, width, look)).collect();
    lines.push(Line::default());
    let commands = COMMANDS.iter().map(|spec| (format!("{} {}", spec.name, spec.argument), spec.about));
    lines.extend(commands.flat_map(|(name, about)| entry(name.trim_end(), about, width, look)));
    lines
}

/// A key and its description: side by side, or one above the other below `WIDE` cells.
fn entry(key: &str, about: &'static str, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let theme = look.theme;
    if width >= WIDE {
        let (first, rest) = (Span::styled(format!("{key:<COLUMN$}"), theme.accent), Span::raw(" ".repeat(COLUMN)));
        return wrap::wrap_prefixed(about, theme.text, &first, &rest, width);
    }
    let indent = Span::raw("  ");
    let mut lines: Vec<_> = wrap::wrap(&[Span::styled(key, theme.accent)], width).into_iter().map(Line::from).collect();
    lines.extend(wrap::wrap_prefixed(about, theme.text, &indent, &indent, width));
    lines
}
