//! Long conversations, and reasoning that is folded.

use super::*;
use crate::conversation::Ending;

/// A stored conversation of `turns` turns, whose answers have eight lines each.
fn stored(turns: usize, reasoning: &str) -> Conversation {
    let mut conversation = Conversation::new(ConversationId("stored".into()), None);
    for n in 0..turns {
        let id = conversation.ask(conversation.head(), format!("Question {n}?"), "scripted");
        if let Some(turn) = conversation.turn_mut(id) {
            turn.answer.push(Channel::Reasoning, reasoning);
            turn.answer.push(Channel::Answer, &format!("Answer {n}.\n\n- a\n- b\n- c\n- d\n- e\n- f\n"));
            turn.answer.ending = Ending::Finished { reason: FinishReason::Stop, usage: Usage::default(), timing: None };
        }
    }
    conversation
}

#[test]
fn the_way_to_the_beginning_renders_what_is_shown_and_estimates_the_rest() {
    let mut app = App::new(80, 24);
    app.event(Event::Opened(stored(2000, "")));
    assert!(app.screen().contains("Answer 1999."));
    app.press(KeyCode::Home, KeyModifiers::CONTROL);
    let screen = app.screen();
    assert!(screen.contains("Question 0?") && screen.contains("more below (about "), "{screen}");
    let rendered = app.screen.transcript.rendered_count();
    assert!(rendered < 100, "{rendered} entries were rendered");
    app.press(KeyCode::PageDown, KeyModifiers::NONE);
    assert!(app.screen().contains("Question 2?"));
    app.press(KeyCode::End, KeyModifiers::CONTROL);
    assert!(app.screen().contains("Answer 1999."));
}

#[test]
fn a_short_conversation_has_an_exact_count_of_the_lines_below() {
    let mut app = App::new(80, 24);
    app.event(Event::Opened(stored(12, ""))).press(KeyCode::Home, KeyModifiers::CONTROL);
    let screen = app.screen();
    assert!(screen.contains("more below (") && !screen.contains("about"), "{screen}");
}

#[test]
fn folded_reasoning_shows_its_last_line_while_it_streams() {
    let mut app = App::new(80, 24);
    app.send("Think.").loaded();
    app.token(Channel::Reasoning, "First I look.\n\nThen I \u{1b}[31mcount to three.\n");
    let screen = app.screen();
    assert!(screen.contains("▸ thinking for") && screen.contains("    Then I count to three."), "{screen}");
    assert!(!screen.contains("First I look."));
    app.token(Channel::Reasoning, &format!("\n{}the very end", "word ".repeat(40)));
    assert!(app.screen().contains("word the very end"));
    app.stream("Three.");
    assert!(!app.screen().contains("the very end"));
}

#[test]
fn a_stored_turn_says_how_long_its_reasoning_is() {
    let mut app = App::new(80, 24);
    app.event(Event::Opened(stored(1, "Three words here.")));
    assert!(app.screen().contains("▸ thought 3 words  (Ctrl-T)"), "{}", app.screen());
}
