//! The list of models.

use super::*;
use crate::tui::completion;

const KEYS: &str = "Enter takes it · Esc closes";

pub(super) fn list(_: &App) -> Picker {
    let items = completion::models().into_iter().map(|choice| Item {
        id: choice.label.clone(),
        title: choice.label,
        about: choice.about,
        ..Item::default()
    });
    Picker::new(View::Models, "models", KEYS).with_items(items.collect())
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    if let Picked::Chosen(item) = picked {
        app.run_command(&format!("/model {}", item.id));
    }
}
