//! Tests of keys: completion, history, search, help.

use super::*;
use crate::tui::completion::ConversationChoice;

#[test]
fn typing_a_prompt_loads_the_model_and_a_command_does_not() {
    let mut app = App::new(80, 24);
    app.type_text("/help").key(KeyCode::Enter).key(KeyCode::Esc);
    assert!(!app.effects.contains(&Effect::Load));
    app.type_text("hello");
    assert_eq!(app.effects.iter().filter(|effect| **effect == Effect::Load).count(), 1);
}

#[test]
fn a_multi_line_paste_is_not_sent() {
    let mut app = App::new(80, 24);
    app.terminal_event(TerminalEvent::Paste("one\ntwo\nthree\n".into()));
    assert!(app.request.is_none());
    assert!(app.screen().contains("two"));
    app.key(KeyCode::Enter);
    assert_eq!(app.chat.conversation.turns()[0].prompt, "one\ntwo\nthree\n");
}

#[test]
fn enter_completes_a_command_and_runs_it() {
    let mut app = App::new(80, 24);
    app.type_text("/he").key(KeyCode::Enter);
    assert!(app.chat.help);
    app.key(KeyCode::Esc).type_text("/the").key(KeyCode::Tab).type_text("light").key(KeyCode::Enter);
    assert!(app.effects.contains(&Effect::SetTheme("light".into())));
}

#[test]
fn tab_and_shift_tab_cycle_through_the_completions() {
    let mut app = App::new(80, 24);
    app.type_text("/re");
    let mut seen = Vec::new();
    for key in [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::BackTab, KeyCode::BackTab] {
        app.key(key);
        seen.push(app.screen.composer.draft());
    }
    assert_eq!(seen, ["/resume ", "/rename ", "/retry", "/release", "/retry", "/rename "]);
    assert!(app.screen().contains("/retry"), "the list stays open:\n{}", app.screen());
    // Arrow keys select, and Tab accepts the selection.
    app.key(KeyCode::Down).key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/retry");
    // Typing ends the cycle.
    app.key(KeyCode::Backspace).key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/retry");
    app.press(KeyCode::Char('u'), KeyModifiers::CONTROL).type_text("/mod").key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/model ", "the only one");
    app.key(KeyCode::Tab).key(KeyCode::Tab);
    assert_eq!(app.screen.composer.draft(), "/model llama-3.2-1b", "its names come next");
    app.key(KeyCode::Enter);
    assert!(app.effects.contains(&Effect::Locate("llama-3.2-1b".into())), "{:?}", app.effects);
}

#[test]
fn queued_prompts_return_as_separate_history_entries() {
    let mut app = App::new(80, 24);
    app.send("First question").loaded().stream("An answer that goes on");
    app.send("Second question").send("Third question").type_text("a draft");
    app.key(KeyCode::Esc).finish(FinishReason::Cancelled);
    assert_eq!(app.screen.composer.draft(), "a draft");
    assert!(app.screen().contains("The 2 prompts that waited were not sent: find them"), "{}", app.screen());
    app.key(KeyCode::Up);
    assert_eq!(app.screen.composer.draft(), "Third question");
    app.key(KeyCode::Up);
    assert_eq!(app.screen.composer.draft(), "Second question");
    app.key(KeyCode::Down).key(KeyCode::Down);
    assert_eq!(app.screen.composer.draft(), "a draft");
}

#[test]
fn earlier_prompts_are_searched_with_control_r() {
    let mut app = App::new(80, 24);
    app.press(KeyCode::Char('r'), KeyModifiers::CONTROL);
    assert!(app.screen().contains("there are no earlier prompts"), "{}", app.screen());
    fn search(app: &mut App) {
        for prompt in ["Why is the sky blue?", "What is rain?", "Why is grass green?"] {
            app.turn(prompt, "So.");
        }
        app.type_text("a draft").press(KeyCode::Char('r'), KeyModifiers::CONTROL).type_text("why");
    }
    at_all_sizes!("search", search);
    search(&mut app);
    app.press(KeyCode::Char('r'), KeyModifiers::CONTROL).key(KeyCode::Enter);
    assert_eq!(app.screen.composer.draft(), "Why is the sky blue?");
    assert_eq!(app.chat.conversation.turns().len(), 3, "it is not sent");
    app.key(KeyCode::Up);
    assert_eq!(app.screen.composer.draft(), "a draft");
    app.press(KeyCode::Char('r'), KeyModifiers::CONTROL).type_text("nothing like it").key(KeyCode::Enter);
    assert_eq!(app.screen.composer.draft(), "a draft");
    app.press(KeyCode::Char('r'), KeyModifiers::CONTROL).type_text("?").key(KeyCode::Esc);
    assert_eq!(app.screen.composer.draft(), "a draft");
    assert!(!app.chat.help);
}

#[test]
fn an_edit_is_labelled_and_its_cleared_draft_is_kept() {
    let mut app = App::new(80, 24);
    app.turn("Why is the sky blue?", "So.").send("/edit");
    assert!(app.screen().contains("in place of your last prompt"), "{}", app.screen());
    app.type_text(" And red?").press(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(app.screen.composer.is_empty() && !app.screen().contains("in place of"), "{}", app.screen());
    app.key(KeyCode::Up);
    assert_eq!(app.screen.composer.draft(), "Why is the sky blue? And red?");
}

#[test]
fn an_answer_shows_its_branch_number() {
    let mut app = App::new(100, 24);
    app.turn("Why?", "So.").send("/retry").stream("Therefore.").finish(FinishReason::Stop);
    assert!(app.screen().contains("2 of 2 branches (/branch lists them)"), "{}", app.screen());
}

#[test]
fn the_help_scrolls_on_a_small_screen() {
    for (width, height) in [(40, 10), (20, 5), (80, 10)] {
        let mut app = App::new(width, height);
        app.key(KeyCode::Char('?'));
        let mut seen = app.screen();
        for _ in 0..40 {
            seen += &app.key(KeyCode::PageDown).screen();
        }
        for text in ["Enter", "/quit", "leave", "(fg"] {
            assert!(seen.contains(text), "{text} at {width}x{height}:\n{}", app.screen());
        }
        app.key(KeyCode::Home);
        assert!(app.screen().contains("Enter"), "{}", app.screen());
        app.key(KeyCode::Esc).key(KeyCode::Char('?'));
        assert!(app.screen().contains("Enter"), "it opens at its first line");
    }
}

#[test]
fn resume_completes_by_title() {
    let mut app = App::new(80, 24);
    let talk =
        |id: &str, title: &str| ConversationChoice { id: id.into(), title: title.into(), about: "3 turns".into() };
    app.screen.talks = vec![talk("12abcdef", "Why is the sky blue?"), talk("34abcdef", "Names for a cat 🐈")];
    app.type_text("/resume ");
    assert!(app.screen().contains(" › Why is the sky blue?") && app.screen().contains("3 turns"), "{}", app.screen());
    app.type_text("cat").key(KeyCode::Enter);
    assert!(app.effects.contains(&Effect::Resume("34abcdef".into())), "{:?}", app.effects);
    assert!(app.screen.composer.is_empty());
}

/// Delivers `count` arrow keys that arrived in one read.
fn arrows(app: &mut App, up: bool, count: usize) {
    app.screen();
    let outcomes = app.screen.arrows(up, count, &app.chat);
    for outcome in outcomes {
        if let Outcome::Chat(event) = outcome {
            app.event(event);
        }
    }
}

#[test]
fn several_arrow_keys_at_once_scroll_only_if_the_draft_has_one_row() {
    let long: String = (1..=60).map(|n| format!("Paragraph {n}.\n\n")).collect();
    let mut app = App::new(80, 24);
    app.turn("Tell me a lot.", &long);
    arrows(&mut app, true, 3);
    assert!(app.screen().contains("3 lines") || app.screen().contains("more below (3"), "{}", app.screen());
    arrows(&mut app, false, 3);
    assert!(!app.screen().contains("more below"), "{}", app.screen());
    for line in 1..=4 {
        app.type_text(&format!("line {line}")).press(KeyCode::Enter, KeyModifiers::ALT);
    }
    app.screen();
    arrows(&mut app, true, 3);
    assert!(!app.screen().contains("more below"), "{}", app.screen());
    app.type_text("!");
    assert_eq!(app.screen.composer.draft(), "line 1\n!line 2\nline 3\nline 4\n");
}

#[test]
fn several_arrow_keys_at_once_move_in_a_list() {
    let mut app = App::new(80, 24);
    app.type_text("/");
    arrows(&mut app, false, 3);
    let fourth = crate::chat::command::COMMANDS[3].name;
    assert!(app.screen().contains(&format!(" › {fourth}")), "{}", app.screen());
}
