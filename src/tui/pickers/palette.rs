//! The palette: every command.

use super::*;
use crate::chat::command::COMMANDS;

const KEYS: &str = "Enter runs · Esc closes";

pub(super) fn list(_: &App) -> Picker {
    let items = COMMANDS.iter().map(|spec| Item {
        id: spec.name.to_owned(),
        title: spec.name.to_owned(),
        about: spec.about.to_owned(),
        detail: spec.argument.to_owned(),
        section: "commands".to_owned(),
        excerpt: None,
    });
    Picker::new(View::Palette, "palette", KEYS).with_items(items.collect())
}

/// Runs the command, or writes its beginning into the composer if an argument must follow.
pub(super) fn picked(app: &mut App, picked: Picked) {
    let Picked::Chosen(item) = picked else { return };
    if item.detail.is_empty() {
        app.run_command(&item.id);
    } else {
        app.screen.composer.replace(&format!("{} ", item.id));
    }
}
