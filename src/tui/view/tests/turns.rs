//! Tests of the selection of turns and of the list of branches.

use super::*;
use crate::chat::branches::forks;
use crate::tui::pickers::{branches, context, overflow};

/// Answers what the selection asked the engine to count.
fn count_all(app: &mut App) {
    let id = |effect: &Effect| if let Effect::CountMessages(id, _) = effect { Some(*id) } else { None };
    let asked: Vec<_> = app.effects.iter().filter_map(id).collect();
    for (place, id) in asked.into_iter().enumerate() {
        let (prompt_tokens, cached_tokens) = (1060 + place, 1030 + place);
        app.engine(EngineEvent::Counted { id, prompt_tokens, cached_tokens, left_out: Some(0), context_length: 8192 });
    }
}

fn alt_up(app: &mut App) {
    app.press(KeyCode::Up, KeyModifiers::ALT);
}

#[test]
fn a_selected_turn_shows_what_can_be_done_and_what_is_kept() {
    at_all_sizes!("selected", |app| {
        app.turn("Why is the sky blue?", ANSWER).turn("And the sea?", "It mirrors the sky.").type_text("a draft");
        alt_up(app);
        alt_up(app);
        count_all(app);
    });
}

#[test]
fn the_selection_scrolls_to_the_turn_and_takes_the_keys() {
    let mut app = App::new(80, 24);
    for n in 1..=12 {
        app.turn(&format!("Question {n}?"), "One.\n\nTwo.\n\nThree.\n");
    }
    for _ in 0..24 {
        alt_up(&mut app);
    }
    let screen = app.screen();
    assert!(screen.contains("▎ Question 1?") && screen.contains("prompt 1 of 12"), "{screen}");
    app.key(KeyCode::Down);
    assert!(app.screen().contains("▎ One."), "{}", app.screen());
    app.type_text("/x");
    assert_eq!(app.screen.composer.draft(), "/x", "another letter leaves the selection");
    assert!(app.chat.marked().is_none());
    app.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    for _ in 0..24 {
        alt_up(&mut app);
    }
    app.key(KeyCode::Char('e'));
    assert_eq!(app.screen.composer.draft(), "Question 1?");
    let screen = app.screen();
    assert!(screen.contains("in place of prompt 1") && !screen.contains("Esc leaves"), "{screen}");
    alt_up(&mut app);
    app.key(KeyCode::Esc);
    assert!(!app.screen().contains("Esc leaves"));
}

#[test]
fn the_selection_says_that_nothing_is_cached_without_a_model() {
    let mut app = App::new(100, 24);
    app.turn("Why?", "Because.");
    let at = app.at();
    app.engine(EngineEvent::Releasing).engine(EngineEvent::Released { freed: 1, energy_mj: None, at });
    alt_up(&mut app);
    let screen = app.screen();
    assert!(screen.contains("no model is loaded, so no token is cached") && !screen.contains("keeps"), "{screen}");
}

#[test]
fn a_cut_answer_can_be_continued_from_the_selection() {
    let mut app = App::new(100, 24);
    app.send("Count.").loaded().stream("one two").finish(FinishReason::Length);
    alt_up(&mut app);
    assert!(app.screen().contains("c continue"), "{}", app.screen());
    app.key(KeyCode::Char('c')).stream(" three").finish(FinishReason::Stop);
    let screen = app.screen();
    assert!(screen.contains("one two three") && screen.matches("Count.").count() == 1, "{screen}");
}

#[test]
fn a_deleted_turn_disappears_and_comes_back() {
    let mut app = App::new(80, 24);
    app.turn("Question one?", "First.").turn("Question two?", "Second.");
    for _ in 0..3 {
        alt_up(&mut app);
    }
    app.key(KeyCode::Char('d'));
    let screen = app.screen();
    assert!(!screen.contains("Question one?") && screen.contains("u bring back"), "{screen}");
    app.key(KeyCode::Char('u'));
    let screen = app.screen();
    let (one, two) = (screen.find("Question one?").unwrap(), screen.find("Question two?").unwrap());
    assert!(one < two, "{screen}");
}

#[test]
fn branches_are_listed_with_the_words_that_differ() {
    at_all_sizes!("branches", |app| {
        app.turn("Tell me about the sea.", "It is wide.").turn("Why is it blue?", "It mirrors the sky.");
        app.send("/edit 1").type_text(" And of its fish.").key(KeyCode::Enter).loaded().stream("There are many fish.");
        app.finish(FinishReason::Stop).send("/retry").stream("There are few fish.").finish(FinishReason::Stop);
        assert_eq!(forks(&app.chat.conversation).len(), 1);
        let list = branches::list(&app.chat);
        app.screen.open_list(list);
    });
}

#[test]
fn the_mark_of_a_fork_stays_when_the_fork_lies_higher_up() {
    let mut app = App::new(80, 40);
    app.turn("One?", "1").turn("Two?", "2").send("/edit 1").type_text("!").key(KeyCode::Enter);
    app.stream("I").finish(FinishReason::Stop).turn("Three?", "3");
    assert!(app.screen().contains("2 of 2 branches"), "{}", app.screen());
    app.event(Event::ShowBranch(crate::conversation::TurnId(0)));
    let screen = app.screen();
    assert!(screen.contains("1 of 2 branches") && screen.contains("Two?"), "{screen}");
}

#[test]
fn turns_that_the_next_prompt_leaves_out_are_marked() {
    at_all_sizes!("left_out", left_out);
    let mut app = App::new(80, 24);
    left_out(&mut app);
    let screen = app.screen();
    let told = "left out: the next prompt goes without this turn";
    assert!(screen.contains("the oldest turn is left out") && screen.matches(told).count() == 1, "{screen}");
}

fn left_out(app: &mut App) {
    app.turn("Question one?", "First.").turn("Question two?", "Second.");
    app.chat.options.on_overflow = OverflowPolicy::Trim;
    app.type_text("a long draft").event(Event::DraftChanged { prompt: true }).after(200);
    let id = app.asked_to_count().unwrap();
    let (prompt_tokens, context_length) = (9000, 8192);
    app.engine(EngineEvent::Counted { id, prompt_tokens, cached_tokens: 0, left_out: Some(1), context_length });
}

#[test]
fn enter_on_a_draft_that_does_not_fit_keeps_it_and_offers_what_helps() {
    at_all_sizes!("overflow", |app| {
        app.turn("Why?", "So.").type_text("too much").event(Event::DraftChanged { prompt: true }).after(200);
        let id = app.asked_to_count().unwrap();
        let (prompt_tokens, context_length) = (9000, 8192);
        app.engine(EngineEvent::Counted { id, prompt_tokens, cached_tokens: 0, left_out: Some(1), context_length });
        app.key(KeyCode::Enter);
        assert_eq!(app.effects.last(), Some(&Effect::Open(crate::chat::View::Overflow, String::new())));
        assert_eq!((app.chat.conversation.turns().len(), app.screen.composer.draft()), (1, "too much".to_owned()));
        let list = overflow::list(&app.chat);
        app.screen.open_list(list);
    });
}

#[test]
fn an_edit_says_what_the_cache_keeps_before_it_is_sent() {
    let mut app = App::new(80, 24);
    app.turn("Why?", "So.").send("/edit").type_text(" not?").event(Event::DraftChanged { prompt: true }).after(200);
    let id = app.asked_to_count().unwrap();
    let (prompt_tokens, cached_tokens, context_length) = (40, 31, 8192);
    app.engine(EngineEvent::Counted { id, prompt_tokens, cached_tokens, left_out: Some(0), context_length });
    assert!(app.screen().contains("40 of 8,192 tokens · 31 kept in the cache"), "{}", app.screen());
}

#[test]
fn the_context_is_listed_by_turn() {
    fn listed(app: &mut App) {
        app.turn("Question one?", "First.").turn("Question two?", "Second.").send("/compact 1");
        let list = context::list(&app.chat);
        app.screen.open_list(list);
    }
    at_all_sizes!("context", listed);
    let mut app = App::new(80, 24);
    listed(&mut app);
    let screen = app.screen();
    assert!(screen.contains("1,041 + 51 tokens") && screen.contains("left out"), "{screen}");
}
