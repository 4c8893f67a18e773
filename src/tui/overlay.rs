//! What lies over the transcript: one list at a time.

use super::picker::{Picked, Picker};
use super::ui_state::{Outcome, UiState};
use ratatui::crossterm::event::KeyEvent;

impl UiState {
    /// Opens a list in place of any other.
    pub fn open_list(&mut self, picker: Picker) {
        self.list = Some(picker);
    }

    /// The open list.
    pub fn list(&self) -> Option<&Picker> {
        self.list.as_ref()
    }

    /// The open list, to change it.
    pub fn list_mut(&mut self) -> Option<&mut Picker> {
        self.list.as_mut()
    }

    /// Closes the open list.
    pub fn close_list(&mut self) {
        self.list = None;
    }

    /// Passes a key to the open list; `None` if there is none.
    pub(super) fn list_key(&mut self, key: KeyEvent) -> Option<Vec<Outcome>> {
        let picker = self.list.as_mut()?;
        let picked = picker.key(key);
        Some(self.after(picked))
    }

    /// Passes a paste to the open list; `None` if there is none.
    pub(super) fn list_paste(&mut self, text: &str) -> Option<Vec<Outcome>> {
        let picker = self.list.as_mut()?;
        let picked = picker.paste(text);
        Some(self.after(picked))
    }

    /// A choice closes the list before it is performed.
    fn after(&mut self, picked: Picked) -> Vec<Outcome> {
        let Some(view) = self.list.as_ref().map(|picker| picker.view) else { return Vec::new() };
        if matches!(picked, Picked::Closed | Picked::Chosen(_)) {
            self.list = None;
        }
        if picked == Picked::Nothing { Vec::new() } else { vec![Outcome::Picked(view, picked)] }
    }
}
