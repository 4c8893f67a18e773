//! Tests of the mouse on the drawn screen.

use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::*;
use crate::chat::View;
use crate::tui::picker::{Item, Picked, Picker};

/// The outcomes of a mouse event at the first cell of `text` on the screen.
fn mouse(app: &mut App, kind: MouseEventKind, text: &str) -> Vec<Outcome> {
    let screen = app.screen();
    let lines = screen.lines().map(|line| line.trim_matches('"'));
    let found =
        lines.enumerate().find_map(|(row, line)| line.find(text).map(|byte| (row, line[..byte].chars().count())));
    let (row, column) = found.expect("the text is on the screen");
    let event = MouseEvent { kind, row: row as u16, column: column as u16, modifiers: KeyModifiers::NONE };
    app.screen.terminal_event(TerminalEvent::Mouse(event), &app.chat)
}

const CLICK: MouseEventKind = MouseEventKind::Down(MouseButton::Left);

#[test]
fn a_click_chooses_the_item_under_it() {
    let mut app = App::new(80, 24);
    let item =
        |id: &str| Item { id: id.into(), title: format!("title {id}"), section: "Today".into(), ..Item::default() };
    let items = ["one", "two", "three"].map(item).to_vec();
    app.screen.open_list(Picker::new(View::Themes, "Themes", "Enter takes").with_items(items));
    assert_eq!(mouse(&mut app, CLICK, "Themes"), [], "the frame is no item");
    let outcomes = mouse(&mut app, CLICK, "title three");
    assert!(
        matches!(&outcomes[..], [Outcome::Picked(View::Themes, Picked::Chosen(item))] if item.id == "three"),
        "{outcomes:?}"
    );
    assert!(app.screen.list().is_none());
}

#[test]
fn a_click_takes_a_completion() {
    let mut app = App::new(80, 24);
    app.type_text("/");
    let third = crate::chat::command::COMMANDS[2].name;
    mouse(&mut app, CLICK, third);
    assert_eq!(app.screen.composer.draft().trim_end(), third);
}

#[test]
fn a_click_on_a_web_address_opens_it() {
    let mut app = App::new(80, 24);
    app.turn("Where?", "See https://example.org/page, and nothing else.");
    assert_eq!(mouse(&mut app, CLICK, "https://"), [Outcome::Follow("https://example.org/page".into())]);
    assert_eq!(mouse(&mut app, CLICK, "nothing else"), []);
}

#[test]
fn the_wheel_scrolls_the_transcript() {
    let long: String = (1..=60).map(|n| format!("Paragraph {n}.\n\n")).collect();
    let mut app = App::new(80, 24);
    app.turn("Tell me a lot.", &long);
    mouse(&mut app, MouseEventKind::ScrollUp, "Ask anything");
    assert!(app.screen().contains("3 lines") || app.screen().contains("(3"), "{}", app.screen());
    mouse(&mut app, MouseEventKind::ScrollDown, "Ask anything");
    assert!(!app.screen().contains("more below"));
}
