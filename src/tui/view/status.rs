//! The status line: model, device, the engine's state with the countdown, memory, persona, context; or a hint.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{gauge, paint, units, wrap};
use crate::chat::{Chat, EngineState, Hint, Loading};
use crate::protocol::DeviceKind;
use crate::sanitize::{sanitize, sanitize_line};
use crate::tui::layout::{Areas, Look};
use crate::wording::bytes;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    if area.is_empty() {
        return;
    }
    let width = usize::from(area.width);
    match hint(chat) {
        Some(text) if wrap::width(&text) < width => {
            paint::line(frame.buffer_mut(), area, &Span::styled(format!(" {text}"), look.theme.hint).into());
        }
        _ => paint::line(frame.buffer_mut(), area, &line(chat, width, look)),
    }
}

/// Draws a hint that is too long for the status line above the composer, wrapped.
pub(super) fn draw_long_hint(frame: &mut Frame<'_>, areas: &Areas, chat: &Chat, look: &Look<'_>) {
    let width = areas.composer.width.saturating_sub(2);
    let Some(text) = hint(chat).filter(|text| wrap::width(text) > usize::from(width) && width > 0) else { return };
    let lines = wrap::wrap(&[Span::styled(text, look.theme.hint)], usize::from(width));
    let above = areas.composer.y.saturating_sub(areas.transcript.y);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(above);
    let area = Rect { y: areas.composer.y - height, height, ..areas.composer };
    super::paint::clear(frame, area, look);
    let lines: Vec<_> = lines.into_iter().map(|spans| wrap::prepend(Span::raw(" "), spans)).collect();
    paint::lines(frame.buffer_mut(), area, &lines);
}

fn hint(chat: &Chat) -> Option<String> {
    Some(match chat.hint()? {
        Hint::QuitArmed => "press Ctrl-C again to quit".to_owned(),
        Hint::EditArmed => "press Esc again to change your last prompt".to_owned(),
        Hint::Message(text) => sanitize(text).replace('\n', " "),
    })
}

type Part = (String, Style);

/// Below this width the engine's state is shown in a short form.
const NARROW: usize = 40;

/// The parts that fit; the least important ones are dropped first.
fn line(chat: &Chat, width: usize, look: &Look<'_>) -> Line<'static> {
    let separator = format!(" {} ", look.glyphs.dot);
    let total = |parts: &[Part]| {
        parts.iter().map(|(text, _)| wrap::width(text)).sum::<usize>()
            + wrap::width(&separator) * parts.len().saturating_sub(1)
    };
    let mut left = left(chat, width < NARROW, look);
    let mut right = vec![persona(chat, look), context(chat, false, look), Some(("? help".into(), look.theme.dim))];
    let device = usize::from(chat.engine.info.is_some());
    let mut shortened = false;
    // Shortened or dropped in this order: words of the context, the device, the end of a long name, words of the state,
    // the help's key, the persona, the memory, the context, the model.
    for step in 0..9 {
        let shown: Vec<Part> = right.iter().flatten().cloned().collect();
        let taken = total(&left) + total(&shown) + 3;
        if taken <= width {
            break;
        }
        match step {
            0 => right[1] = context(chat, true, look),
            1 if left.len() > 2 => drop(left.remove(device)),
            2 => shorten(&mut left[0].0, taken - width, look),
            3 if width >= NARROW => {
                left[1] = state(chat, true, look);
                shortened = true;
            }
            4 => right[2] = None,
            5 => right[0] = None,
            6 => left.truncate(2),
            7 => right[1] = None,
            8 if left.len() > 1 => drop(left.remove(0)),
            _ => {}
        }
    }
    let right: Vec<Part> = right.into_iter().flatten().collect();
    if width >= NARROW && shortened {
        restore(&mut left, state(chat, false, look), width.saturating_sub(total(&right) + 3), &total);
    }
    let gap = width.saturating_sub(total(&left) + total(&right) + 2);
    let mut spans = vec![Span::raw(" ")];
    spans.extend(joined(left, &separator, look));
    spans.push(Span::raw(" ".repeat(gap)));
    spans.extend(joined(right, &separator, look));
    Line::from(spans)
}

/// Replaces the shortened state by the whole one if what was dropped after it has made room for it.
fn restore(left: &mut [Part], whole: Part, room: usize, total: &dyn Fn(&[Part]) -> usize) {
    let place = usize::from(left.len() > 1);
    let short = std::mem::replace(&mut left[place], whole);
    if total(left) > room {
        left[place] = short;
    }
}

/// Shortens a name by `cells`, if at least `KNOWN_BY` cells are left.
fn shorten(name: &mut String, cells: usize, look: &Look<'_>) {
    const KNOWN_BY: usize = 14;
    if let Some(left) = wrap::width(name).checked_sub(cells).filter(|left| *left >= KNOWN_BY) {
        *name = wrap::clip(name, left, look.glyphs.ellipsis);
    }
}

fn joined(parts: Vec<Part>, separator: &str, look: &Look<'_>) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (text, style) in parts {
        if !spans.is_empty() {
            spans.push(Span::styled(separator.to_owned(), look.theme.dim));
        }
        spans.push(Span::styled(text, style));
    }
    spans
}

/// Model, device if known, state, and memory if the model is loaded.
fn left(chat: &Chat, narrow: bool, look: &Look<'_>) -> Vec<Part> {
    let theme = look.theme;
    let engine = &chat.engine;
    let model = wrap::clip(&super::units::model_name(chat), 32, look.glyphs.ellipsis);
    let mut parts = vec![(model, theme.status)];
    let info = engine.info.as_ref();
    if let Some(info) = info {
        let kind = match info.device.kind {
            DeviceKind::Cpu => "cpu".to_owned(),
            DeviceKind::Cuda | DeviceKind::Server => wrap::clip(&sanitize(&info.device.name), 28, look.glyphs.ellipsis),
        };
        parts.push((kind, theme.status));
    }
    let mut state = state(chat, narrow, look);
    if narrow && !chat.queue.is_empty() {
        state.0 += &format!(", {} queued", chat.queue.len());
    }
    parts.push(state);
    if let (Some(info), Some(memory)) = (info, engine.memory()) {
        let place = if info.device.kind == DeviceKind::Cuda { "VRAM" } else { "RAM" };
        parts.push((format!("{} {place}", bytes(memory)), theme.status));
    }
    parts
}

fn state(chat: &Chat, short: bool, look: &Look<'_>) -> Part {
    let theme = look.theme;
    if let Some((waited, _)) = &chat.engine.waiting {
        return (format!("waiting {}", units::clock(*waited)), theme.warning);
    }
    if chat.engine.is_loaded() && chat.engine.info.as_ref().is_some_and(|info| info.device.kind == DeviceKind::Server) {
        return if chat.engine.is_asleep { ("asleep".into(), theme.dim) } else { ("ready".into(), theme.success) };
    }
    match &chat.engine.state {
        EngineState::Cold => match chat.engine.freed {
            Some(freed) if short => (format!("cold -{}", bytes(freed)), theme.success),
            Some(freed) => (format!("cold, released {}", bytes(freed)), theme.success),
            None => ("cold".into(), theme.dim),
        },
        EngineState::Loading(loading) => (load_state(loading, short), theme.warning),
        EngineState::Warm => ("warm".into(), theme.success),
        EngineState::Idle { .. } => match chat.engine.releases_in(chat.now()) {
            Some(left) if short => (format!("warm {}", units::clock(left)), theme.success),
            Some(left) => (format!("warm, releases in {}", units::clock(left)), theme.success),
            None => ("warm, kept".into(), theme.success),
        },
        EngineState::Releasing => ("releasing".into(), theme.warning),
        EngineState::Failed => ("could not load".into(), theme.error),
    }
}

/// The same figure and phase as the gauge's.
fn load_state(loading: &Loading, short: bool) -> String {
    let percent = loading.fraction().map(|done| format!(" {:.0} %", done * 100.0)).unwrap_or_default();
    let phase = loading.progress.as_ref().filter(|_| !short).map(|progress| gauge::phase_name(progress.phase));
    format!("loading{percent}{}", phase.map(|name| format!(", {name}")).unwrap_or_default())
}

/// The persona in use.
fn persona(chat: &Chat, look: &Look<'_>) -> Option<Part> {
    const LONGEST: usize = 16;
    let name = wrap::clip(&sanitize_line(chat.persona.as_ref()?), LONGEST, look.glyphs.ellipsis);
    Some((format!("persona {name}"), look.theme.status))
}

/// Used and total positions of the context.
fn context(chat: &Chat, short: bool, look: &Look<'_>) -> Option<Part> {
    let total = chat.engine.info.as_ref()?.context_length;
    let used = chat.engine.context_used;
    if total == 0 {
        return Some((format!("context {} / unknown", units::count(used)), look.theme.status));
    }
    let style = if used * 10 >= total * 9 { look.theme.warning } else { look.theme.status };
    let text = if short {
        format!("ctx {}/{}", units::count(used), units::count(total))
    } else {
        format!("context {} / {}", units::count(used), units::count(total))
    };
    Some((text, style))
}
