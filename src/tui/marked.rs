//! Keys while a turn is selected.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::ui_state::{Outcome, UiState};
use super::view::marked::ACTIONS;
use crate::chat::{Chat, Event, Step, TurnAction};

impl UiState {
    /// Handles a key of the selection; `None` if nothing is selected or the key means the same as always.
    pub(super) fn marked_key(&mut self, key: KeyEvent, chat: &Chat) -> Option<Vec<Outcome>> {
        if chat.marked().is_none() || chat.help {
            return None;
        }
        if key.kind == KeyEventKind::Release {
            return Some(Vec::new());
        }
        let act = |action| Some(vec![Outcome::Chat(Event::Marked(action))]);
        let step = |step| Some(vec![Outcome::Chat(Event::Mark(step))]);
        let plain = !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => act(TurnAction::Leave),
            KeyCode::Enter => act(TurnAction::Edit),
            KeyCode::Up => step(Step::Back),
            KeyCode::Down => step(Step::On),
            KeyCode::Char('?') => None,
            KeyCode::Char('k') if plain => step(Step::Back),
            KeyCode::Char('j') if plain => step(Step::On),
            KeyCode::Char(letter) if plain => {
                match ACTIONS.iter().find(|(key, ..)| *key == letter.to_ascii_lowercase()) {
                    Some((_, action, _)) => act(*action),
                    // The user writes on, for example a command.
                    None => {
                        self.composer.edit(key);
                        act(TurnAction::Leave)
                    }
                }
            }
            KeyCode::Backspace | KeyCode::Delete | KeyCode::Tab | KeyCode::BackTab => Some(Vec::new()),
            _ => None,
        }
    }
}
