//! The welcome text of an empty conversation.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::wrap;
use crate::chat::{Chat, EngineState};
use crate::sanitize::sanitize_line;
use crate::settings::AUTO;
use crate::tui::layout::Look;
use crate::tui::library::Recent;
use crate::wording::is_on_server;

/// Widest line, in cells.
const WIDEST: usize = 100;

/// The longest form that fits in `height` lines of `width` cells; the shortest one explains only the keys.
pub(super) fn lines(
    chat: &Chat,
    recent: &[Recent],
    width: usize,
    height: usize,
    look: &Look<'_>,
) -> Vec<Line<'static>> {
    let (theme, (claim, how)) = (look.theme, model(chat));
    let title = ("chatnap".to_owned(), theme.accent);
    let (claim, how) = ((claim, theme.text), (how, theme.dim));
    let machine = machine(chat).into_iter().map(|text| (text, theme.dim));
    let keys = ("Enter sends, ? shows the keys, / the commands.".to_owned(), theme.dim);
    let blank = (String::new(), theme.text);
    // Without room for both, the offer of a download replaces the keys: Enter accepts only what is shown.
    let short = if chat.offer().is_some() { how.clone() } else { keys.clone() };
    let full = [blank.clone(), title.clone(), blank.clone(), claim.clone()].into_iter().chain(machine);
    let forms = [
        full.chain([how.clone(), blank.clone(), keys.clone()]).collect(),
        vec![blank.clone(), title.clone(), blank.clone(), claim.clone(), how.clone(), blank.clone(), keys.clone()],
        vec![blank.clone(), claim.clone(), how, keys.clone()],
        vec![blank, claim, short.clone()],
        vec![short],
    ];
    let mut drawn = forms.into_iter().map(|rows| draw(rows, width));
    let last = drawn.next_back().unwrap_or_default();
    let mut lines = drawn.find(|lines| lines.len() <= height).unwrap_or(last);
    lines.extend(recent_lines(recent, width, height.saturating_sub(lines.len()), look));
    lines
}

fn draw(rows: Vec<(String, Style)>, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(4).max(1);
    let wrapped = rows.into_iter().flat_map(|(text, style)| wrap::wrap(&[Span::styled(text, style)], room));
    wrapped.map(|spans| wrap::prepend(indent(width), spans)).collect()
}

fn indent(width: usize) -> Span<'static> {
    Span::raw(if width > 8 { "  " } else { "" })
}

/// A heading and a line for each conversation; as many as fit in `height` lines, none if there is room for none.
fn recent_lines(recent: &[Recent], width: usize, height: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    const HEAD: usize = 2;
    if recent.is_empty() || height <= HEAD || width < 30 {
        return Vec::new();
    }
    let head = vec![indent(width), Span::styled("Recent conversations: Down or Ctrl-S chooses one.", look.theme.dim)];
    let head = wrap::wrap(&head, width).into_iter().take(1).map(Line::from);
    let rows = recent.iter().take(height - HEAD).map(|recent| recent_line(recent, width.min(WIDEST + 4), look));
    [Line::default()].into_iter().chain(head).chain(rows).collect()
}

/// Title, first line, and at the right age and model.
fn recent_line(recent: &Recent, width: usize, look: &Look<'_>) -> Line<'static> {
    let (theme, room) = (look.theme, width.saturating_sub(4));
    let about = wrap::clip(&recent.about, room / 2, look.glyphs.ellipsis);
    let left = room.saturating_sub(wrap::width(&about) + 2);
    let title = wrap::clip(&recent.title, left, look.glyphs.ellipsis);
    let mut spans = vec![indent(width), Span::styled(title.clone(), theme.text)];
    let mut used = wrap::width(&title);
    if !recent.first.is_empty() && used + 12 < left {
        let first = wrap::clip(&format!("  {}", recent.first), left - used, look.glyphs.ellipsis);
        used += wrap::width(&first);
        spans.push(Span::styled(first, theme.dim));
    }
    spans.push(Span::raw(" ".repeat(left - used + 2)));
    spans.push(Span::styled(about, theme.dim));
    Line::from(spans)
}

/// The devices and the models on disk, if they are known.
fn machine(chat: &Chat) -> Vec<String> {
    let Some(advice) = &chat.supply.advice else { return Vec::new() };
    let on_disk = match advice.on_disk.as_str() {
        "" => "No model is on disk yet.".to_owned(),
        found => format!("On disk: {}.", sanitize_line(found)),
    };
    vec![format!("This machine: {}. {on_disk}", sanitize_line(&advice.machine))]
}

/// The model's state, and the next step.
fn model(chat: &Chat) -> (String, String) {
    let model = super::units::model_name(chat);
    let here = match chat.options.model.as_str() {
        AUTO => "The model runs in this process.".to_owned(),
        name if is_on_server(name) => {
            let how = "It is asked at your first keystroke; a server that sleeps is awaited.";
            return (format!("{model} answers on a server."), how.to_owned());
        }
        _ => format!("{model} runs in this process."),
    };
    if let Some(how) = super::supply::welcome(chat) {
        return (here, how);
    }
    let (claim, how) = match chat.engine.state {
        EngineState::Failed => {
            (format!("{model} could not be loaded."), "/model NAME takes another one, or tries this one again.")
        }
        EngineState::Warm | EngineState::Idle { .. } => {
            (here, "It is loaded, and gives its memory back when it is idle.")
        }
        EngineState::Cold | EngineState::Loading(_) | EngineState::Releasing => {
            (here, "It loads at your first keystroke and gives its memory back when it is idle.")
        }
    };
    (claim, how.to_owned())
}
