//! Draws the composer: frame, prompt mark, text and cursor.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Span;
use ratatui::widgets::{Block, BorderType};

use super::{units, wrap};
use crate::chat::Chat;
use crate::protocol::OverflowPolicy;
use crate::tui::composer::Composer;
use crate::tui::layout::{Areas, Look, MARK};

pub(super) fn draw(
    frame: &mut Frame<'_>,
    areas: &Areas,
    chat: &Chat,
    composer: &Composer,
    scrolled: bool,
    look: &Look<'_>,
) {
    let area = areas.composer;
    if area.is_empty() {
        return;
    }
    if areas.framed() {
        let corners = if look.glyphs.boxes { BorderType::Rounded } else { BorderType::Plain };
        let block = Block::bordered().border_type(corners).border_style(look.theme.border_active);
        let block = if look.glyphs.boxes { block } else { block.border_set(super::help::ASCII_BORDER) };
        frame.render_widget(block, area);
        draw_mode(frame, area, mode(area, chat, composer, scrolled, look), look);
        draw_hidden(frame, area, composer.hidden(areas.composer_text().height), look);
        draw_count(frame, area, chat, look);
    }
    let text = areas.composer_text();
    if text.x >= area.x + MARK && !text.is_empty() {
        let mark = Span::styled(look.glyphs.prompt, look.theme.accent);
        frame.render_widget(mark, Rect { x: text.x - MARK, y: text.y, width: 1, height: 1 });
    }
    if text.is_empty() {
        return;
    }
    if composer.is_empty() {
        let words = if composer.is_searching() { "part of an earlier prompt" } else { "Ask anything" };
        let words = super::wrap::clip(words, usize::from(text.width), look.glyphs.ellipsis);
        frame.render_widget(Span::styled(words, look.theme.placeholder), text);
    } else {
        composer.draw(text, frame.buffer_mut());
    }
}

/// Label of the frame's upper edge during a search or an edit, in the longest form that fits.
pub(super) fn mode(area: Rect, chat: &Chat, composer: &Composer, scrolled: bool, look: &Look<'_>) -> Option<String> {
    let dot = look.glyphs.dot;
    let vi = composer.vi_label();
    let label = |text: &str| match &vi {
        Some(vi) if text.is_empty() => format!(" {vi} "),
        Some(vi) => format!(" {vi} {dot}{text}"),
        None => text.to_owned(),
    };
    let forms = if composer.is_searching() {
        [format!(" search earlier prompts {dot} Enter takes {dot} Esc leaves "), " search earlier prompts ".into()]
    } else if chat.is_editing() {
        let (what, short) = match chat.edited() {
            Some((number, count)) if number < count => (format!("prompt {number}"), format!("prompt {number}")),
            _ => ("your last prompt".to_owned(), "your last".to_owned()),
        };
        let whole = format!(" in place of {what} {dot} Ctrl-C leaves that as it is ");
        [label(&whole), label(&format!(" in place of {short} "))]
    } else {
        vi.as_ref()?;
        [label(""), label("")]
    };
    // The right end of the edge shows the number of lines below.
    let room = usize::from(area.width).saturating_sub(if scrolled { 16 } else { 4 });
    let [.., shortest] = &forms;
    let text = forms.iter().find(|text| wrap::width(text) <= room).unwrap_or(shortest);
    Some(wrap::clip(text, room, look.glyphs.ellipsis))
}

fn draw_mode(frame: &mut Frame<'_>, area: Rect, text: Option<String>, look: &Look<'_>) {
    if let Some(text) = text {
        let width = wrap::width(&text) as u16;
        frame.render_widget(Span::styled(text, look.theme.accent), Rect { x: area.x + 2, y: area.y, width, height: 1 });
    }
}

/// Draws the number of hidden lines of the draft, in the frame's lower edge.
fn draw_hidden(frame: &mut Frame<'_>, area: Rect, (above, below): (u16, u16), look: &Look<'_>) {
    let signs = [(look.glyphs.up, above), (look.glyphs.down, below)];
    let signs = signs.into_iter().filter(|(_, lines)| *lines > 0).map(|(sign, lines)| format!("{sign} {lines} "));
    let text: String = signs.collect();
    if !text.is_empty() && area.width > 12 {
        let text = format!(" {text}");
        let width = wrap::width(&text) as u16;
        let spot = Rect { x: area.x + 2, y: area.bottom() - 1, width: width.min(area.width - 4), height: 1 };
        frame.render_widget(Span::styled(text, look.theme.dim), spot);
    }
}

/// Draws the prompt tokens with the draft, in the frame's lower edge.
fn draw_count(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    let Some(count) = chat.draft_count() else { return };
    let so_many = format!(" {} of {} tokens ", units::count(count.prompt_tokens), units::count(count.context_length));
    let dot = look.glyphs.dot;
    let (text, style) = match (count.is_too_long(), chat.overflow_policy()) {
        (false, _) if chat.is_editing() => {
            (format!("{so_many}{dot} {} kept in the cache ", units::count(count.cached_tokens)), look.theme.dim)
        }
        (false, _) => (so_many, look.theme.dim),
        (true, OverflowPolicy::Error) => (format!("{so_many}{} too long ", look.glyphs.dot), look.theme.warning),
        (true, OverflowPolicy::Trim) => {
            let what = match count.left_out {
                Some(1) => "the oldest turn is left out".to_owned(),
                Some(turns) => format!("the oldest {} turns are left out", units::count(turns)),
                None => "too long".to_owned(),
            };
            (format!("{so_many}{dot} {what} "), look.theme.warning)
        }
    };
    let width = wrap::width(&text) as u16;
    if let Some(x) = area.right().checked_sub(width + 2).filter(|x| *x > area.x) {
        frame.render_widget(Span::styled(text, style), Rect { x, y: area.bottom() - 1, width, height: 1 });
    }
}

/// Position of the terminal's own cursor, which input methods and screen readers also use.
pub(super) fn cursor(areas: &Areas, composer: &Composer) -> Option<Position> {
    let text = areas.composer_text();
    let (row, column) = composer.cursor_on_screen();
    (!text.is_empty()).then(|| super::paint::position(column, row, text))
}
