//! The palette: commands, models, themes and conversations in one list.

use super::*;
use crate::tui::completion;

const KEYS: &str = "Enter runs it · Tab writes it into the line · Esc closes";

pub(super) fn list(app: &mut App) -> Picker {
    if let Some(recorder) = &app.recorder {
        recorder.list(app.chat.conversation.id.clone(), &app.sender);
    }
    Picker::new(View::Palette, "palette", KEYS).with_items(items(app))
}

/// The entries, with the conversations as far as they have been read.
pub(super) fn items(app: &App) -> Vec<Item> {
    let entries = completion::everything(&app.screen.talks, &app.screen.themes)
        .into_iter()
        .chain(app.screen.personas.clone())
        .map(completion::with_noun)
        .map(|choice| Item {
            id: choice.text,
            title: choice.label,
            about: choice.about,
            section: choice.kind.heading().to_owned(),
            ..Item::default()
        });
    entries.collect()
}

/// Runs the command, or writes its beginning into the composer if an argument must follow.
pub(super) fn picked(app: &mut App, picked: Picked) {
    match picked {
        // It begins a mention in the draft.
        Picked::Chosen(item) if item.id.trim_end() == "/file" => app.run_command("/file"),
        Picked::Chosen(item) if !item.id.ends_with(' ') => app.run_command(&item.id),
        Picked::Chosen(item) => app.screen.write_line(&item.id),
        Picked::Key(key, Some(item)) if key.code == KeyCode::Tab => {
            app.screen.close_list();
            app.screen.write_line(&item.id);
        }
        _ => {}
    }
}
