//! Changes of the theme: by `/theme`, by the list with its preview, and as the terminal's background changes.

use std::path::PathBuf;

use super::App;
use super::input::Input;
use super::pickers;
use super::theme::{AUTO, Theme, ThemeError, ThemeName};
use crate::chat::{Event, Note, View};

impl App {
    fn themes_folder(&self) -> PathBuf {
        self.settings.config_dir.join("themes")
    }

    /// Reads the names of all themes on another thread; [`Input::Themes`] has them.
    pub(super) fn list_themes(&self) {
        let (folder, sender) = (self.themes_folder(), self.sender.clone());
        // Without a thread, and after the interface has ended, the list stays as it is.
        let _ = std::thread::Builder::new().name("themes".into()).spawn(move || {
            let _ = sender.send(Input::Themes(Theme::names(&folder)));
        });
    }

    /// Takes the names of all themes.
    pub(super) fn themes_listed(&mut self, themes: Vec<ThemeName>) {
        if let Some(list) = self.screen.list_mut().filter(|list| list.view == View::Themes) {
            let first = list.pending;
            list.set_items(pickers::theme_items(&themes, &self.settings.theme));
            if first && list.query().is_empty() {
                list.select(&self.settings.theme);
            }
        }
        self.screen.themes = themes;
    }

    fn load_theme(&self, name: &str) -> Result<Theme, ThemeError> {
        Theme::load_on(name, &self.themes_folder(), self.canvas)
    }

    /// Takes the theme `name` from now on.
    pub(super) fn set_theme(&mut self, name: String) {
        match self.load_theme(&name) {
            Ok(theme) => {
                self.screen.set_theme(theme);
                let begins = name == AUTO && self.settings.theme != AUTO;
                self.settings.theme.clone_from(&name);
                if begins && self.follow_background(true).is_err() {
                    // The next frame reports a terminal that cannot be written to.
                    self.dirty = true;
                }
                self.chat_event(Event::Hinted(format!("theme {name}; theme = \"{name}\" in the config file keeps it")));
            }
            Err(error) => {
                self.show_theme();
                self.chat_event(Event::Noted(Note::error(error.0)));
            }
        }
    }

    /// Draws with the selected theme of the open list, otherwise with the one in use.
    pub(super) fn show_theme(&mut self) {
        let list = self.screen.list().filter(|list| list.view == View::Themes);
        let selected = list.and_then(|list| list.selected()).map(|item| item.id.clone());
        // A theme that cannot be read has no preview: the list says so, and Enter tells why.
        if let Ok(theme) = self.load_theme(selected.as_deref().unwrap_or(&self.settings.theme)) {
            self.screen.set_theme(theme);
        }
    }
}
