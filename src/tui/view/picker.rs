//! Draws the open list: query, items with their hits, and the preview of the selected item.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType};

use super::{paint, units, wrap};
use crate::chat::View;
use crate::tui::fuzzy;
use crate::tui::layout::{Areas, Look};
use crate::tui::picker::{Item, Picker};

/// Widest list without a preview, in cells.
const WIDEST: u16 = 100;

/// Minimum height for a frame.
pub(super) const ROOMY: u16 = 8;

/// Minimum width of the frame for a preview beside the list.
const WITH_PREVIEW: u16 = 90;

/// The area for a list on this screen: above the composer or the status line, if there is room.
pub(super) fn over(screen: Rect, areas: &Areas) -> Rect {
    let until = |y: u16| Rect { height: y.saturating_sub(screen.y), ..screen };
    let places = [until(areas.composer.y), until(areas.status.y)];
    places.into_iter().find(|place| place.height >= ROOMY).unwrap_or(screen)
}

fn is_framed(area: Rect) -> bool {
    area.height >= ROOMY && area.width >= 30
}
/// Width of the list of themes, which leaves the transcript beside it visible.
const ASIDE: u16 = 44;

/// Draws the list over `area` and returns the position of the cursor.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, picker: &Picker, look: &Look<'_>) -> Position {
    let framed = is_framed(area);
    let area = if framed { place(area, picker) } else { area };
    paint::clear(frame, area, look);
    let inner = if framed { border(frame, area, picker, look) } else { area };
    let (inner, preview) = with_preview(inner, picker);
    if let Some(area) = preview {
        draw_preview(frame, area, picker, look);
    }
    let cursor = draw_query(frame, Rect { height: 1.min(inner.height), ..inner }, picker, look);
    let list = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    draw_items(frame, list, picker, look);
    cursor
}

/// The frame: as wide as the screen allows, and not higher than the list needs.
fn place(area: Rect, picker: &Picker) -> Rect {
    if picker.view == View::Themes {
        return aside(area, picker);
    }
    let widest = if picker.preview.is_some() { area.width } else { WIDEST };
    let width = area.width.min(widest);
    let wanted = match &picker.preview {
        Some(_) => area.height,
        None => u16::try_from(rows(picker).len()).unwrap_or(u16::MAX).max(1).saturating_add(3),
    };
    let height = wanted.clamp(ROOMY, area.height.max(ROOMY)).min(area.height);
    // The upper edge stays where it is while the list becomes shorter.
    Rect { x: area.x + (area.width - width) / 2, y: area.y, width, height }
}

/// On the right, or on a narrow screen in the lower half.
fn aside(area: Rect, picker: &Picker) -> Rect {
    let wanted = u16::try_from(rows(picker).len()).unwrap_or(u16::MAX).saturating_add(3);
    if area.width < 3 * ASIDE / 2 {
        let height = wanted.clamp(8, (area.height / 2).max(8)).min(area.height);
        return Rect { y: area.bottom() - height, height, ..area };
    }
    Rect { x: area.right() - ASIDE, width: ASIDE, height: wanted.clamp(8, area.height.max(8)).min(area.height), ..area }
}

fn border(frame: &mut Frame<'_>, area: Rect, picker: &Picker, look: &Look<'_>) -> Rect {
    let (shown, all) = (picker.shown().count(), picker.len());
    let count = match () {
        () if picker.pending => " reading… ".to_owned(),
        () if shown == all => format!(" {} ", units::count(all)),
        () => format!(" {} of {} ", units::count(shown), units::count(all)),
    };
    let keys = if picker.asked().is_some() { "Enter takes it · Esc leaves" } else { picker.keys };
    let keys = fit_keys(keys, usize::from(area.width.saturating_sub(6)));
    let keys = wrap::clip(&keys, usize::from(area.width.saturating_sub(6)), look.glyphs.ellipsis);
    let corners = if look.glyphs.boxes { BorderType::Rounded } else { BorderType::Plain };
    let block = Block::bordered()
        .border_type(corners)
        .border_style(look.theme.border_active)
        .title(Span::styled(format!(" {} ", picker.title), look.theme.accent))
        .title(Line::from(Span::styled(count, look.theme.dim)).right_aligned())
        .title_bottom(Span::styled(format!(" {keys} "), look.theme.dim));
    let block = if look.glyphs.boxes { block } else { block.border_set(super::help::ASCII_BORDER) };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// Without the parts before the last one that do not fit: the last one tells how to close the list.
fn fit_keys(keys: &str, width: usize) -> String {
    let mut parts: Vec<_> = keys.split(" · ").collect();
    while parts.len() > 2 && wrap::width(&parts.join(" · ")) > width {
        parts.remove(parts.len() - 2);
    }
    parts.join(" · ")
}

/// Divides the area between the list and the preview, if there is one and room for it.
fn with_preview(area: Rect, picker: &Picker) -> (Rect, Option<Rect>) {
    if picker.preview.is_none() || area.width < WITH_PREVIEW {
        return (area, None);
    }
    let list = Rect { width: area.width * 9 / 20, ..area };
    let x = list.right() + 3;
    (list, Some(Rect { x, width: area.right() - x, ..area }))
}

fn draw_preview(frame: &mut Frame<'_>, area: Rect, picker: &Picker, look: &Look<'_>) {
    let bar = if look.glyphs.boxes { "│" } else { "|" };
    for y in area.y..area.bottom() {
        frame.render_widget(Span::styled(bar, look.theme.border), Rect { x: area.x - 2, y, width: 1, height: 1 });
    }
    let shown = picker.selected().zip(picker.preview.as_ref()).filter(|(item, preview)| item.id == preview.id);
    let Some((_, preview)) = shown else { return };
    let lines = wrap::wrap(&[Span::styled(preview.text.as_str(), look.theme.text)], usize::from(area.width));
    let lines: Vec<_> = lines.into_iter().take(usize::from(area.height)).map(Line::from).collect();
    paint::lines(frame.buffer_mut(), area, &lines);
}

fn draw_query(frame: &mut Frame<'_>, area: Rect, picker: &Picker, look: &Look<'_>) -> Position {
    let (label, text) = match picker.asked() {
        Some((ask, text)) => (format!("{}: ", ask.label), text),
        None => (format!("{} ", look.glyphs.prompt), picker.query()),
    };
    let room = usize::from(area.width).saturating_sub(wrap::width(&label) + 1);
    let visible = end_of(text, room);
    let mut spans = vec![Span::styled(label, look.theme.accent)];
    if text.is_empty() && picker.asked().is_none() {
        spans.push(Span::styled(wrap::clip("type to search", room, look.glyphs.ellipsis), look.theme.placeholder));
    }
    let used = wrap::width(&spans[0].content) + wrap::width(visible);
    spans.push(Span::styled(visible.to_owned(), look.theme.text));
    paint::line(frame.buffer_mut(), area, &Line::from(spans));
    paint::position(used, 0, area)
}

/// The longest end of `text` that fits in `room` cells.
fn end_of(text: &str, room: usize) -> &str {
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    let mut fitting = starts.map(|start| &text[start..]).skip_while(|rest| wrap::width(rest) > room);
    fitting.next().unwrap_or_default()
}

/// A row of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row<'a> {
    Section(&'a str),
    Item(usize, &'a Item),
    Excerpt(&'a Item),
}

fn rows(picker: &Picker) -> Vec<Row<'_>> {
    let (mut rows, mut section) = (Vec::new(), "");
    for (place, item) in picker.shown().enumerate() {
        if picker.has_sections() && item.section != section {
            rows.push(Row::Section(&item.section));
            section = &item.section;
        }
        rows.push(Row::Item(place, item));
        if item.excerpt.is_some() {
            rows.push(Row::Excerpt(item));
        }
    }
    rows
}

fn draw_items(frame: &mut Frame<'_>, area: Rect, picker: &Picker, look: &Look<'_>) {
    let rows = rows(picker);
    if rows.is_empty() {
        let text = match () {
            () if picker.pending => "reading…",
            () if picker.len() == 0 && picker.query().trim().is_empty() => picker.empty.as_str(),
            () => "nothing matches; Ctrl-U clears the query",
        };
        let lines = wrap::wrap(&[Span::styled(text, look.theme.dim)], usize::from(area.width));
        let lines: Vec<_> = lines.into_iter().map(Line::from).collect();
        return paint::lines(frame.buffer_mut(), area, &lines);
    }
    let chosen = picker.selected_place();
    let first = first_in_view(&rows, chosen, usize::from(area.height));
    for (line, row) in area.rows().zip(rows.iter().skip(first)) {
        let drawn = match row {
            Row::Section(name) => Line::from(Span::styled((*name).to_owned(), look.theme.dim)),
            Row::Item(place, item) => item_line(item, *place == chosen, picker.query(), usize::from(area.width), look),
            Row::Excerpt(item) => excerpt_line(item, usize::from(area.width), look),
        };
        paint::line(frame.buffer_mut(), line, &drawn);
    }
}

/// The first visible row: the selected item is in the middle, except near the ends.
fn first_in_view(rows: &[Row<'_>], chosen: usize, height: usize) -> usize {
    let at = rows.iter().position(|row| matches!(row, Row::Item(place, _) if *place == chosen)).unwrap_or(0);
    at.saturating_sub(height / 2).min(rows.len().saturating_sub(height))
}

/// The place of the item at this cell of the screen, as `draw` lays the list out.
pub(in crate::tui) fn item_at(screen: Rect, areas: &Areas, picker: &Picker, at: Position) -> Option<usize> {
    let area = over(screen, areas);
    let framed = is_framed(area);
    let area = if framed { place(area, picker) } else { area };
    let inner = if framed {
        Rect {
            x: area.x + 2,
            y: area.y + 1,
            width: area.width.saturating_sub(4),
            height: area.height.saturating_sub(2),
        }
    } else {
        area
    };
    let (inner, _) = with_preview(inner, picker);
    let list = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let rows = rows(picker);
    let first = first_in_view(&rows, picker.selected_place(), usize::from(list.height));
    let line = list.contains(at).then(|| first + usize::from(at.y - list.y))?;
    // The excerpt below an item belongs to it.
    rows.get(..=line)?.iter().rev().take(2).find_map(|row| match row {
        Row::Item(place, _) => Some(Some(*place)),
        Row::Section(_) => Some(None),
        Row::Excerpt(_) => None,
    })?
}

/// Mark, title with its hits, description, and the detail at the right.
fn item_line(item: &Item, chosen: bool, query: &str, width: usize, look: &Look<'_>) -> Line<'static> {
    let theme = look.theme;
    let (text, dim) = if chosen { (theme.selection, theme.selection) } else { (theme.text, theme.dim) };
    let mark = if chosen { look.glyphs.prompt } else { " " };
    let detail = if item.detail.is_empty() { String::new() } else { format!("  {}", item.detail) };
    let detail = if wrap::width(&detail) + 16 <= width { detail } else { String::new() };
    let room = width.saturating_sub(2 + wrap::width(&detail));
    let title = wrap::clip(&item.title, room, look.glyphs.ellipsis);
    let mut used = wrap::width(&title);
    let mut spans = vec![Span::styled(format!("{mark} "), text)];
    spans.extend(marked(&title, &fuzzy::positions(query, &title), text, look));
    if !item.about.is_empty() && used + 6 < room {
        let about = wrap::clip(&format!("  {}", item.about), room - used, look.glyphs.ellipsis);
        used += wrap::width(&about);
        spans.push(Span::styled(about, dim));
    }
    spans.push(Span::styled(" ".repeat(room.saturating_sub(used)), text));
    spans.push(Span::styled(detail, dim));
    Line::from(spans).style(text)
}

/// `title` with the characters at `hits` emphasised.
fn marked(title: &str, hits: &[usize], style: Style, look: &Look<'_>) -> Vec<Span<'static>> {
    let hit = hit_style(style, look);
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (place, c) in title.chars().enumerate() {
        let wanted = if hits.binary_search(&place).is_ok() { hit } else { style };
        match spans.last_mut() {
            Some(last) if last.style == wanted => last.content.to_mut().push(c),
            _ => spans.push(Span::styled(c.to_string(), wanted)),
        }
    }
    spans
}

fn hit_style(style: Style, look: &Look<'_>) -> Style {
    let colours = if style.bg == look.theme.selection.bg { style } else { look.theme.accent };
    colours.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
}

fn excerpt_line(item: &Item, width: usize, look: &Look<'_>) -> Line<'static> {
    let Some(excerpt) = &item.excerpt else { return Line::default() };
    let mut spans = vec![Span::raw("    ")];
    let mut at = 0;
    for hit in &excerpt.hits {
        let (Some(before), Some(inside)) = (excerpt.text.get(at..hit.start), excerpt.text.get(hit.clone())) else {
            continue;
        };
        spans.push(Span::styled(before.to_owned(), look.theme.dim));
        spans.push(Span::styled(inside.to_owned(), hit_style(look.theme.text, look)));
        at = hit.end;
    }
    spans.push(Span::styled(excerpt.text.get(at..).unwrap_or_default().to_owned(), look.theme.dim));
    let mut lines = wrap::wrap(&spans, width.max(8)).into_iter();
    Line::from(lines.next().unwrap_or_default())
}
