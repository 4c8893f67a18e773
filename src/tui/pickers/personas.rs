//! The list of the config file's personas.

use super::*;
use crate::sanitize::{sanitize, sanitize_line};
use crate::settings::{NO_PERSONA, Persona};

const KEYS: &str = "Enter takes it · Esc closes";

pub(super) fn list(app: &App) -> Picker {
    let current = app.layers.persona().map(|persona| persona.name.as_str());
    let file = app.layers.start().config_file.display().to_string();
    let mut picker = Picker::new(View::Personas, "personas", KEYS).with_items(items(app.layers.personas(), current));
    picker.empty = format!("No persona yet: a table [persona.NAME] in {} makes one.", sanitize_line(&file));
    picker.at(&sanitize_line(current.unwrap_or_default()))
}

fn items(personas: &[Persona], current: Option<&str>) -> Vec<Item> {
    let item = |persona: &Persona| {
        let values = persona.values.iter().filter(|(key, _)| **key != "system");
        let values = values.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ");
        let name = sanitize_line(&persona.name);
        let used = if current == Some(persona.name.as_str()) { " · in use" } else { "" };
        Item {
            id: name.clone(),
            title: name,
            about: sanitize_line(sanitize(persona.system().unwrap_or_default()).lines().next().unwrap_or_default()),
            detail: format!("{}{used}", sanitize_line(&values)),
            ..Item::default()
        }
    };
    let mut items: Vec<_> = personas.iter().map(item).collect();
    if current.is_some() {
        items.push(Item {
            id: NO_PERSONA.to_owned(),
            title: NO_PERSONA.to_owned(),
            about: "go on without a persona".to_owned(),
            ..Item::default()
        });
    }
    items
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked {
        app.run_command(&format!("/persona {}", item.id));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn personas_show_what_they_set_and_which_is_in_use() {
        let values = BTreeMap::from([("system", "Code.\nAlways.".to_owned()), ("top_k", "3".to_owned())]);
        let persona = Persona { name: "coder".into(), values };
        let shown = |current| {
            let items = items(std::slice::from_ref(&persona), current).into_iter();
            items.map(|item| [item.title, item.about, item.detail].join("|")).collect::<Vec<_>>()
        };
        assert_eq!(shown(None), ["coder|Code.|top_k 3"]);
        assert_eq!(shown(Some("coder")), ["coder|Code.|top_k 3 · in use", "none|go on without a persona|"]);
    }
}
