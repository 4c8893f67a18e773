//! The kinds of lists: which items each has, and what is done with a choice. Each kind is a file; most choices run a slash
//! command.

use ratatui::crossterm::event::KeyCode;

use super::App;
use super::completion::ConversationChoice;
use super::input::Input;
use super::picker::{Item, Picked, Picker, Preview};
use crate::chat::{Event, View};

pub(super) mod branches;
pub(super) mod context;
mod conversations;
pub(super) mod models;
pub(super) mod overflow;
mod palette;
mod personas;
pub(super) mod settings;
mod themes;

pub(super) use conversations::Library;
pub(super) use themes::items as theme_items;

impl App {
    /// Opens the list of this kind, filtered by `query`.
    pub(super) fn open_view(&mut self, view: View, query: &str) {
        let picker = match view {
            View::Palette => palette::list(self),
            View::Conversations => conversations::list(self, query),
            View::Models => models::list(self),
            View::Themes => themes::list(self),
            View::Branches => branches::list(&self.chat),
            View::Context => context::list(&self.chat),
            View::Overflow => overflow::list(&self.chat),
            View::Personas => personas::list(self),
            View::Settings => settings::list(self),
        };
        // A query selects the best match; without one, the list's own selection stays.
        self.screen.open_list(if query.is_empty() { picker } else { picker.with_query(query) });
        self.dirty = true;
    }

    /// Performs what a key did in the list of this kind.
    pub(super) fn picked(&mut self, view: View, picked: Picked) {
        match view {
            View::Palette => palette::picked(self, picked),
            View::Conversations => conversations::picked(self, picked),
            View::Models => models::picked(self, picked),
            View::Themes => themes::picked(self, picked),
            View::Branches => branches::picked(self, picked),
            View::Context => context::picked(self, picked),
            View::Overflow => overflow::picked(self, picked),
            View::Personas => personas::picked(self, picked),
            View::Settings => settings::picked(self, picked),
        }
    }

    /// The stored conversations were read: `/resume` offers them, and an open palette contains them.
    pub(super) fn set_talks(&mut self, talks: Vec<ConversationChoice>) {
        self.screen.talks = talks;
        if self.screen.list().is_some_and(|list| list.view == View::Palette) {
            self.fill(View::Palette, palette::items(self));
        }
    }

    /// Sets the items of the list of this kind, if it is open.
    pub(super) fn fill(&mut self, view: View, items: Vec<Item>) {
        if let Some(list) = self.screen.list_mut().filter(|list| list.view == view) {
            list.set_items(items);
        }
    }

    /// Shows a preview in the list of this kind, if it is open.
    pub(super) fn preview(&mut self, view: View, preview: Preview) {
        if let Some(list) = self.screen.list_mut().filter(|list| list.view == view) {
            list.preview = Some(preview);
        }
    }

    /// Runs a slash command as if it had been typed, without touching the draft.
    fn run_command(&mut self, command: &str) {
        self.chat_event(Event::Submit(command.to_owned()));
    }
}
