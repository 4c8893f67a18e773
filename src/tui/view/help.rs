//! The help: every key and command, over everything else.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::border;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, BorderType};

use super::Look;
use crate::chat::command::COMMANDS;

/// Every key that does something beyond editing, and the editing keys worth knowing.
pub const KEYS: &[(&str, &str)] = &[
    ("Enter", "send; queued while an answer is written"),
    ("Alt+Enter, Ctrl-J", "new line (Shift+Enter where the terminal tells)"),
    ("Esc, Ctrl-C", "stop the answer, keep its text"),
    ("Ctrl-C", "clear the line; twice: quit"),
    ("Ctrl-D", "on an empty line: quit"),
    ("PgUp, PgDn", "scroll, as the wheel does; Shift+Up/Down by a line"),
    ("Ctrl-Home, Ctrl-End", "to the beginning, to the end and follow"),
    ("Up, Down", "earlier prompts; Tab, Shift-Tab complete commands"),
    ("Ctrl-A/E/K/U/W/Y", "edit as in a shell; Ctrl-_ takes back"),
    ("Ctrl-G", "go on writing in $VISUAL or $EDITOR"),
    ("Ctrl-T", "show or fold what the model thought"),
    ("Ctrl-L, Ctrl-Z", "draw anew; back to the shell (fg returns)"),
];

/// Corners and lines for locales without box lines.
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

/// Above the composer where there is room for all of it, so that no frame cuts through the other; else everywhere.
pub(super) fn area(screen: Rect, composer: Rect) -> Rect {
    let above = Rect { height: composer.y.saturating_sub(screen.y), ..screen };
    let shortest = KEYS.len() + 1 + COMMANDS.len().div_ceil(4) + 2;
    if usize::from(above.height) >= shortest { above } else { screen }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, look: &Look<'_>) {
    let text = text(look, area.height);
    let (width, height) = (text.width() as u16 + 4, text.height() as u16 + 2);
    let framed = area.height >= 8 && area.width >= 24;
    if !framed {
        super::clear(frame, area, look);
        return frame.render_widget(text, area);
    }
    let area = super::centred(area, width, height);
    super::clear(frame, area, look);
    let block = Block::bordered().border_style(look.theme.border_active).title(" chatnap: Esc closes ");
    let block = if look.glyphs.boxes { block.border_type(BorderType::Rounded) } else { block.border_set(ASCII_BORDER) };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(text, Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner });
}

/// Commands in two columns where that is what makes them fit.
fn text(look: &Look<'_>, height: u16) -> Text<'static> {
    let theme = look.theme;
    let entry = |key: String, about: &str| {
        Line::from(vec![Span::styled(format!("{key:<21}"), theme.accent), Span::styled(about.to_owned(), theme.text)])
    };
    let mut lines: Vec<Line<'static>> = KEYS.iter().map(|(key, about)| entry((*key).to_owned(), about)).collect();
    lines.push(Line::default());
    if usize::from(height) >= KEYS.len() + COMMANDS.len() + 3 {
        lines.extend(COMMANDS.iter().map(|spec| entry(format!("{} {}", spec.name, spec.argument), spec.about)));
    } else {
        for row in COMMANDS.chunks(4) {
            let names: String =
                row.iter().map(|spec| format!("{:<17}", format!("{} {}", spec.name, spec.argument))).collect();
            lines.push(Line::from(Span::styled(names.trim_end().to_owned(), theme.accent)));
        }
    }
    Text::from(lines)
}
