//! Tests of the lists over the transcript, and of the start screen's conversations.

use super::*;
use crate::chat::View;
use crate::tui::library::Recent;
use crate::tui::picker::{Excerpt, Item, Picker, Preview};

fn recent() -> Vec<Recent> {
    let recent = |title: &str, first: &str, about: &str| Recent {
        title: title.into(),
        first: first.into(),
        about: about.into(),
    };
    vec![
        recent("Why is the sky blue?", "", "5 min ago · smollm2-135m"),
        recent("Names", "Give me a name for a cat 🐈 that listens to nobody, ever, and sleeps", "yesterday · qwen3-4b"),
        recent("日本語の質問がここにあります", "", "12 days ago · gemma-3-4b"),
    ]
}

fn conversations(query: &str) -> Picker {
    let item = |id: &str, title: &str, section: &str, excerpt: Option<(&str, std::ops::Range<usize>)>| Item {
        id: id.into(),
        title: title.into(),
        about: if id == "2" { "Give me a name for a cat that listens to nobody".into() } else { String::new() },
        detail: "smollm2-135m · 12 turns · 14:02".into(),
        section: section.into(),
        excerpt: excerpt.map(|(text, hit)| Excerpt { text: text.into(), hits: vec![hit] }),
    };
    let hit = (!query.is_empty()).then_some(("… so the sky scatters short waves more than long ones", 8..11));
    let items = vec![
        item("1", "Why is the sky blue?", "today", hit),
        item("2", "Names", "yesterday", None),
        item("3", "日本語の質問", "November 2026", None),
    ];
    let mut picker = Picker::new(View::Conversations, "conversations", "Enter opens · Ctrl-R renames · Esc closes")
        .filtered_by_owner()
        .with_items(items)
        .with_query(query);
    let text = "› Why is the sky blue?\n\nBecause air scatters short waves more than long ones.";
    picker.preview = Some(Preview { id: "1".into(), text: text.into() });
    picker
}

#[test]
fn the_start_screen_lists_recent_conversations() {
    at_all_sizes!("recent", |app| app.screen.recent = recent());
}

#[test]
fn down_on_the_start_screen_opens_the_list() {
    let opened = |app: &mut App| {
        app.screen();
        let key = KeyEvent::new(KeyCode::Down, KeyModifiers::NONE);
        app.screen.terminal_event(TerminalEvent::Key(key), &app.chat)
    };
    let mut app = App::new(80, 24);
    assert_eq!(opened(&mut app), [], "there is nothing to choose from");
    app.screen.recent = recent();
    assert_eq!(opened(&mut app), [Outcome::Open(View::Conversations)]);
    app.type_text("x");
    assert_eq!(opened(&mut app), [], "a draft is being written");
    app.key(KeyCode::Backspace).turn("Why?", "So.");
    assert_eq!(opened(&mut app), [], "the conversation has begun");
}

#[test]
fn the_list_of_conversations_is_drawn() {
    at_all_sizes!("conversations", |app| {
        app.turn("Why?", "So.");
        app.screen.open_list(conversations(""));
    });
    at_all_sizes!("conversations_found", |app| {
        app.turn("Why?", "So.");
        app.screen.open_list(conversations("sky"));
    });
}

#[test]
fn a_list_survives_many_resizes() {
    for asks in [false, true] {
        let mut app = App::new(80, 24);
        let mut picker = conversations("sky");
        if asks {
            picker.ask("new title", "1", "a long title ".repeat(20));
        }
        app.screen.open_list(picker);
        for step in 0..60u16 {
            app.resize(1 + step * 37 % 230, 1 + step * 53 % 60).screen();
            app.key(KeyCode::Down).screen();
        }
    }
}

#[test]
fn the_palette_finds_across_kinds() {
    use crate::tui::completion::{ConversationChoice, everything};
    use crate::tui::theme::ThemeName;
    let talk = ConversationChoice { id: "12ab".into(), title: "A dark sky".into(), about: "3 turns".into() };
    let theme = ThemeName { name: "dark".into(), kind: None, own: false };
    let found = |query: &str| {
        let items =
            everything(std::slice::from_ref(&talk), std::slice::from_ref(&theme)).into_iter().map(|choice| Item {
                id: choice.text,
                title: choice.label,
                about: choice.about,
                section: choice.kind.heading().into(),
                ..Item::default()
            });
        let picker = Picker::new(View::Palette, "palette", "").with_items(items.collect()).with_query(query);
        picker.shown().map(|item| item.id.clone()).collect::<Vec<_>>()
    };
    assert!(found("dark").contains(&"/theme dark".to_owned()) && found("dark").contains(&"/resume 12ab".to_owned()));
    assert!(found("qwen 4b").contains(&"/model qwen3-4b".to_owned()));
    assert_eq!(found("stats")[0], "/stats");
}
