//! Tests of the list of settings and of the vi keys.

use super::*;
use crate::chat::View;
use crate::protocol::SamplingSource;
use crate::settings::{Folders, Origin, Settings};
use crate::tui::picker::Picker;
use crate::tui::pickers::settings;

fn list() -> Picker {
    let start = Settings::defaults(&Folders { data: "/d".into(), cache: "/c".into(), ..Folders::default() });
    let items = settings::items_of(|key| match key.name {
        "temperature" => ("0.2".into(), Origin::Conversation),
        "top_p" => ("0.9".into(), Origin::Recommended(SamplingSource::Gguf)),
        "repeat_penalty" => ("1".into(), Origin::Unknown),
        "top_k" => ("7".into(), Origin::Persona("coder".into())),
        "keymap" => ("vi".into(), Origin::File { path: "/c.toml".into(), line: 3 }),
        _ => ((key.get)(&start).unwrap_or_else(|| "none".into()), Origin::Default),
    });
    Picker::new(View::Settings, "settings", "Enter changes · Del takes back · Esc closes").with_items(items)
}

#[test]
fn settings_list_shows_value_and_origin() {
    at_all_sizes!("settings", |app| app.screen.open_list(list()));
    at_all_sizes!("settings_ask", |app| {
        app.screen.open_list(list());
        app.type_text("temper");
        app.screen.list_mut().unwrap().ask("temperature; empty takes back", "temperature", "0.2");
    });
}

fn vi() -> App {
    let mut app = App::new(80, 24);
    app.screen.composer.use_vi(true);
    app
}

#[test]
fn the_frame_shows_the_vi_mode() {
    let mut app = vi();
    app.type_text("hello world");
    assert!(app.screen().contains("─ insert ─"), "{}", app.screen());
    app.key(KeyCode::Esc).type_text("2d");
    assert!(app.screen().contains("─ normal 2d ─"), "{}", app.screen());
    app.type_text("b");
    assert_eq!(app.screen.composer.draft(), "d");
    app.key(KeyCode::Enter);
    assert!(app.screen().contains("─ insert ─"), "{}", app.screen());
}

#[test]
fn escape_leaves_the_insert_mode_and_still_stops_an_answer() {
    let mut app = vi();
    app.send("First question").loaded().stream("An answer that goes on");
    app.key(KeyCode::Esc);
    assert!(app.effects.iter().any(|effect| matches!(effect, Effect::Cancel(_))), "{:?}", app.effects);
    app.finish(FinishReason::Cancelled);
    app.type_text("i").type_text("/se").key(KeyCode::Esc);
    assert!(app.screen().contains("─ insert ─"), "Esc closes the list of commands first: {}", app.screen());
    app.key(KeyCode::Esc);
    assert!(app.screen().contains("─ normal ─"), "{}", app.screen());
}

#[test]
fn keys_j_and_k_move_in_the_draft_and_then_in_the_history() {
    let mut app = vi();
    app.turn("earlier", "So.").terminal_event(TerminalEvent::Paste("one\ntwo".into()));
    app.key(KeyCode::Esc).type_text("kx");
    assert_eq!(app.screen.composer.draft(), "on\ntwo");
    app.type_text("k");
    assert_eq!(app.screen.composer.draft(), "earlier");
    app.type_text("j");
    assert_eq!(app.screen.composer.draft(), "on\ntwo");
    app.press(KeyCode::Char('d'), KeyModifiers::NONE).type_text("du");
    assert_eq!(app.screen.composer.draft(), "on\ntwo");
}

#[test]
fn the_status_line_names_the_persona_while_there_is_room() {
    let mut app = App::new(80, 24);
    app.loaded();
    assert!(!app.screen().contains("persona"));
    app.chat.persona = Some("coder\u{1b}[1m of many words".into());
    let screen = app.screen();
    assert!(screen.contains("persona coder") && screen.contains("· ctx 0/8,192"), "{screen}");
    app.resize(50, 24);
    let screen = app.screen();
    assert!(!screen.contains("persona") && screen.contains("ctx 0/8,192"), "{screen}");
}
