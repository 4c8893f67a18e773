//! What stands where nothing was said yet.

use ratatui::text::{Line, Span};

use super::{Look, wrap};
use crate::chat::{Chat, EngineState};

pub(super) fn lines(chat: &Chat, width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let theme = look.theme;
    let model = super::model_name(chat);
    let here = format!("{model} runs in this process.");
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
    let rows = [
        ("chatnap".to_owned(), theme.accent),
        (String::new(), theme.text),
        (claim, theme.text),
        (how.to_owned(), theme.dim),
        (String::new(), theme.text),
        ("Enter sends, ? shows the keys, / the commands.".to_owned(), theme.dim),
    ];
    let room = width.saturating_sub(4).max(1);
    let mut lines = vec![Line::default()];
    for (text, style) in rows {
        for spans in wrap::wrap(&[Span::styled(text, style)], room) {
            lines.push(wrap::prepend(Span::raw(if width > 8 { "  " } else { "" }), spans));
        }
    }
    lines
}
