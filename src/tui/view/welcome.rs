//! The welcome text of an empty conversation.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::wrap;
use crate::chat::{Chat, EngineState};
use crate::tui::layout::Look;

/// The longest form that fits in `height` lines of `width` cells; the shortest one explains only the keys.
pub(super) fn lines(chat: &Chat, width: usize, height: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let (theme, (claim, how)) = (look.theme, model(chat));
    let title = ("chatnap".to_owned(), theme.accent);
    let (claim, how) = ((claim, theme.text), (how, theme.dim));
    let keys = ("Enter sends, ? shows the keys, / the commands.".to_owned(), theme.dim);
    let blank = (String::new(), theme.text);
    // Without room for both, the offer of a download replaces the keys.
    let keys = if chat.offer().is_some() && height < 5 { how.clone() } else { keys };
    let forms = [
        vec![blank.clone(), title.clone(), blank.clone(), claim.clone(), how.clone(), blank.clone(), keys.clone()],
        vec![blank.clone(), claim.clone(), how, keys.clone()],
        vec![blank, claim, keys.clone()],
        vec![keys],
    ];
    let mut drawn = forms.into_iter().map(|rows| draw(rows, width));
    let last = drawn.next_back().unwrap_or_default();
    drawn.find(|lines| lines.len() <= height).unwrap_or(last)
}

fn draw(rows: Vec<(String, Style)>, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(4).max(1);
    let indent = Span::raw(if width > 8 { "  " } else { "" });
    let wrapped = rows.into_iter().flat_map(|(text, style)| wrap::wrap(&[Span::styled(text, style)], room));
    wrapped.map(|spans| wrap::prepend(indent.clone(), spans)).collect()
}

/// The model's state, and the next step.
fn model(chat: &Chat) -> (String, String) {
    let model = super::units::model_name(chat);
    let here = format!("{model} runs in this process.");
    if let Some(how) = super::supply::welcome(chat).filter(|_| !chat.engine.is_loaded()) {
        return (here, how);
    }
    let (claim, how) = match chat.engine.state {
        EngineState::Failed => {
            (format!("{model} could not be loaded."), "/model NAME takes another one, or tries this one again.")
        }
        EngineState::Warm | EngineState::Idle { .. } => {
            (here, "It is loaded, and gives its memory back when nobody talks to it.")
        }
        EngineState::Cold | EngineState::Loading(_) | EngineState::Releasing => {
            (here, "It loads at your first keystroke and gives its memory back when nobody talks to it.")
        }
    };
    (claim, how.to_owned())
}
