//! The list of settings: value and origin of each; Enter changes it.

use super::*;
use crate::sanitize::sanitize_line;
use crate::settings::{Applies, DEFAULT, KEYS as SETTINGS, Key, Origin, named};

const KEYS: &str = "Enter changes · Del takes back · Esc closes";
const CHOICES: &str = "Enter takes it · Esc closes";

/// Longest value that the list shows, in characters.
const LONGEST: usize = 24;

pub(super) fn list(app: &App) -> Picker {
    Picker::new(View::Settings, "settings", KEYS).with_items(items(app))
}

fn items(app: &App) -> Vec<Item> {
    items_of(|key| (app.shown_value(key), app.setting_origin(key)))
}

/// An item for each setting, by section; `shown` returns the value and its origin.
pub(in crate::tui) fn items_of(shown: impl Fn(&Key) -> (String, Origin)) -> Vec<Item> {
    let items = SETTINGS.iter().map(|key| {
        let (value, origin) = shown(key);
        item(key, &value, &origin)
    });
    let mut items: Vec<_> = items.collect();
    // The list shows a heading for each run of equal sections.
    items.sort_by_key(|item| SETTINGS.iter().position(|key| key.facts().section == item.section));
    items
}

/// The item of a setting with this value.
fn item(key: &Key, value: &str, origin: &Origin) -> Item {
    let facts = key.facts();
    let mut value = sanitize_line(value);
    if let Some((end, _)) = value.char_indices().nth(LONGEST) {
        value.truncate(end);
        value.push('…');
    }
    let origin = match origin {
        Origin::Default => String::new(),
        Origin::Unknown => " · unless the model has its own".to_owned(),
        Origin::File { line, .. } => format!(" · file, line {line}"),
        Origin::Environment(_) => " · environment".to_owned(),
        other => format!(" · {other}"),
    };
    Item {
        id: key.name.to_owned(),
        title: key.name.to_owned(),
        about: facts.about.to_owned(),
        detail: format!("{value}{}", sanitize_line(&origin)),
        section: facts.section.to_owned(),
        excerpt: None,
    }
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    match picked {
        Picked::Chosen(item) => match item.id.split_once('=') {
            Some((name, value)) => change(app, name, value),
            None => edit(app, &item.id),
        },
        Picked::Answered { id, text } => change(app, &id, if text.is_empty() { DEFAULT } else { &text }),
        Picked::Key(key, Some(item)) if key.code == ratatui::crossterm::event::KeyCode::Delete => {
            change(app, &item.id, DEFAULT);
        }
        _ => {}
    }
}

/// Lets the user change a setting: in its own list, in a list of its values, or on the input line.
fn edit(app: &mut App, name: &str) {
    let Some(key) = named(name) else { return };
    let facts = key.facts();
    match key.name {
        "model" => return app.open_view(View::Models, ""),
        "theme" => return app.open_view(View::Themes, ""),
        "system" => {
            let text = app.chat.conversation.system.clone().unwrap_or_default();
            return app.screen.composer.replace(&format!("/system {text}"));
        }
        _ => {}
    }
    let value = app.shown_value(key);
    if !facts.choices.is_empty() {
        let picker = Picker::new(View::Settings, key.name, CHOICES).with_items(choices(key));
        return app.screen.open_list(picker.at(&format!("{}={value}", key.name)));
    }
    let mut picker = list(app).at(key.name);
    if facts.applies == Applies::AtStart {
        picker.ask(format!("{} changes only in the config file; now", key.name), key.name, value);
    } else {
        let value = if value == "none" { String::new() } else { value };
        picker.ask(format!("{}; empty takes back", key.name), key.name, value);
    }
    app.screen.open_list(picker);
}

/// An item for each valid value.
fn choices(key: &Key) -> Vec<Item> {
    let facts = key.facts();
    let values = facts.choices.iter().chain(&[DEFAULT]);
    let item = |value: &&str| Item {
        id: format!("{}={value}", key.name),
        title: (*value).to_owned(),
        about: if *value == DEFAULT { "take the change back".to_owned() } else { String::new() },
        ..Item::default()
    };
    values.map(item).collect()
}

/// Changes a setting; a wrong value is asked for again, with what is wrong about it.
fn change(app: &mut App, name: &str, value: &str) {
    let Some(key) = named(name) else { return };
    if let Err(why) = app.change_setting(key, value) {
        let mut picker = list(app).at(key.name);
        picker.ask(sanitize_line(&why), key.name, value);
        app.screen.open_list(picker);
    }
}

impl App {
    /// Shows the values of now in the list of settings, if it is open.
    pub(in crate::tui) fn refresh_settings(&mut self) {
        if self.screen.list().is_some_and(|list| list.view == View::Settings) {
            let items = items(self);
            self.fill(View::Settings, items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_shows_value_and_origin_and_cuts_what_is_long() {
        let key = named("seed").map(|key| item(key, "7", &Origin::Conversation));
        assert_eq!(key.map(|item| item.detail).as_deref(), Some("7 · this conversation"));
        let long = "x".repeat(30) + "\nand more";
        let key = named("system").map(|key| item(key, &long, &Origin::Flag("--system")));
        assert_eq!(key.map(|item| item.detail), Some(format!("{}… · flag, --system", "x".repeat(24))));
    }
}
