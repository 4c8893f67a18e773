//! The list of themes. The selected one is drawn at once; Esc goes back to the one in use.

use super::*;
use crate::tui::theme::ThemeName;

const KEYS: &str = "Enter takes it · Esc goes back";

pub(super) fn list(app: &App) -> Picker {
    app.list_themes();
    let mut list = Picker::new(View::Themes, "themes", KEYS);
    list.set_items(items(&app.screen.themes, &app.settings.theme));
    list.pending = app.screen.themes.is_empty();
    list.at(&app.settings.theme)
}

/// An item for each theme; `current` is the one in use.
pub fn items(themes: &[ThemeName], current: &str) -> Vec<Item> {
    let item = |theme: &ThemeName| Item {
        id: theme.name.clone(),
        title: theme.name.clone(),
        about: theme.about(),
        detail: if theme.name == current { "in use".to_owned() } else { String::new() },
        ..Item::default()
    };
    themes.iter().map(item).collect()
}

pub(super) fn picked(app: &mut App, picked: Picked) {
    match picked {
        Picked::Chosen(item) => app.set_theme(item.id),
        Picked::Moved(_) | Picked::Closed => app.show_theme(),
        _ => {}
    }
}
