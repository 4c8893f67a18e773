//! The rows above the composer: load progress and queued prompts.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{paint, units, wrap};
use crate::chat::{Chat, EngineState, Loading};
use crate::protocol::{LoadPhase, LoadProgress};
use crate::sanitize::{sanitize, sanitize_line};
use crate::tui::layout::Look;
use crate::wording::bytes;

/// Maximum width of the gauge, in cells.
const WIDEST: usize = 30;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    let EngineState::Loading(loading) = &chat.engine.state else { return };
    if !area.is_empty() {
        paint::line(frame.buffer_mut(), area, &line(loading, "", chat, usize::from(area.width), look));
    }
}

/// The progress of a load, or of the download of the model `fetched`.
pub(super) fn line(loading: &Loading, fetched: &str, chat: &Chat, width: usize, look: &Look<'_>) -> Line<'static> {
    let theme = look.theme;
    if let (Some((waited, why)), "") = (&chat.engine.waiting, fetched) {
        let what = format!("waiting for {} {}: {}", units::model_name(chat), units::clock(*waited), sanitize_line(why));
        let text = wrap::clip(&format!(" {} {what}", spinner(chat, look)), width, look.glyphs.ellipsis);
        return Line::from(Span::styled(text, theme.dim));
    }
    let Some(progress) = &loading.progress else {
        let what = match fetched {
            "" => format!("loading {}", units::model_name(chat)),
            model => format!("fetching {model}"),
        };
        return Line::from(Span::styled(format!(" {} {what}", spinner(chat, look)), theme.dim));
    };
    let phase = format!(" {} ", phase_name(progress.phase));
    let named = format!(" {} {fetched} ", phase_name(progress.phase));
    let phase = if fetched.is_empty() || wrap::width(&named) + 30 > width { phase } else { named };
    let percent = loading.fraction().map(|done| format!(" {:>3.0} %", done * 100.0)).unwrap_or_default();
    let room = width.saturating_sub(wrap::width(&phase) + wrap::width(&percent) + 1);
    let figures = figures(loading, progress, room, look);
    let room = room.saturating_sub(wrap::width(&figures)).min(WIDEST);
    let mut spans = vec![Span::styled(phase, theme.accent)];
    match loading.fraction() {
        Some(done) if room >= 4 => {
            let filled = ((room as f64 * done).round() as usize).min(room);
            spans.push(Span::styled(look.glyphs.gauge[0].repeat(filled), theme.gauge));
            spans.push(Span::styled(look.glyphs.gauge[1].repeat(room - filled), theme.gauge_rest));
        }
        Some(_) => {}
        None => spans.push(Span::styled(spinner(chat, look).to_owned(), theme.gauge)),
    }
    spans.push(Span::styled(percent, theme.text));
    spans.push(Span::styled(format!(" {figures}"), theme.dim));
    Line::from(spans)
}

/// As many figures as fit `room` cells, the first one always.
fn figures(loading: &Loading, progress: &LoadProgress, room: usize, look: &Look<'_>) -> String {
    let mut parts = vec![match progress.total {
        Some(total) => format!("{} / {}", bytes(progress.done), bytes(total)),
        None => bytes(progress.done),
    }];
    if let Some(transfer) = loading.transfer() {
        parts.push(format!("{}/s", bytes(transfer.bytes_per_second as u64)));
        parts.extend(transfer.remaining.map(|left| format!("{} left", units::clock(left))));
    }
    parts.extend(progress.detail.as_deref().map(sanitize));
    let separator = format!(" {} ", look.glyphs.dot);
    let fits = |count: &usize| wrap::width(&parts[..*count].join(&separator)) <= room;
    let count = (2..=parts.len()).take_while(fits).last().unwrap_or(1);
    parts[..count].join(&separator)
}

pub(super) fn phase_name(phase: LoadPhase) -> &'static str {
    match phase {
        LoadPhase::Download => "download",
        LoadPhase::Verify => "verify",
        LoadPhase::Read => "read",
        LoadPhase::Upload => "upload",
    }
}

/// The spinner's current frame.
pub(super) fn spinner(chat: &Chat, look: &Look<'_>) -> &'static str {
    let steps = chat.now().since(crate::clock::Timestamp::default()).as_millis() / 125;
    look.glyphs.spinner[(steps % look.glyphs.spinner.len() as u128) as usize]
}

pub(super) fn draw_queue(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    let rows = usize::from(area.height);
    let width = usize::from(area.width);
    let lines = chat.queue.iter().take(rows).enumerate().map(|(index, prompt)| {
        let more = chat.queue.len().saturating_sub(rows);
        let more = if index + 1 == rows && more > 0 { format!(" (and {more} more)") } else { String::new() };
        let first = sanitize(prompt.trim().lines().next().unwrap_or_default());
        let rest = if prompt.trim().contains('\n') { format!(" {}", look.glyphs.ellipsis) } else { String::new() };
        let text = format!(" queued {} {first}{rest}{more}", look.glyphs.prompt);
        Line::from(Span::styled(wrap::clip(&text, width, look.glyphs.ellipsis), look.theme.dim))
    });
    let lines: Vec<_> = lines.collect();
    paint::lines(frame.buffer_mut(), area, &lines);
}
