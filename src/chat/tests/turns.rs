//! Tests of changes of earlier turns: selection, editing, forks, continuing, deleting, branches.

use super::*;
use crate::conversation::Change;
use crate::protocol::Role;

/// A conversation of two answered turns, with a loaded model.
fn two_turns() -> Story {
    let mut story = Story::begin();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at: Timestamp::default() });
    for (prompt, answer) in [("one", "1"), ("two", "2")] {
        let id = story.ask(prompt).id;
        story.stream(id, &[answer]);
        story.finish(id, FinishReason::Stop);
    }
    story
}

fn said(request: &GenerationRequest) -> Vec<&str> {
    request.messages.iter().map(|message| message.content.as_str()).collect()
}

fn shown(story: &Story) -> Vec<TurnId> {
    let turns = story.chat.feed.entries().iter().filter_map(|(_, entry)| match entry {
        Entry::Turn(id) => Some(*id),
        Entry::Note(_) => None,
    });
    turns.collect()
}

fn mark(story: &Story) -> Option<(usize, Part)> {
    story.chat.marked().map(|mark| (mark.turn.0, mark.part))
}

#[test]
fn the_selection_steps_through_prompts_and_answers() {
    let mut story = two_turns();
    story.event(Event::Mark(Step::On));
    assert_eq!(mark(&story), None, "there is nothing after the end");
    let mut seen = Vec::new();
    for _ in 0..5 {
        story.event(Event::Mark(Step::Back));
        seen.push(mark(&story).unwrap());
    }
    let (prompt, answer) = (Part::Prompt, Part::Answer);
    assert_eq!(seen, [(1, answer), (1, prompt), (0, answer), (0, prompt), (0, prompt)]);
    for _ in 0..4 {
        story.event(Event::Mark(Step::On));
    }
    assert_eq!(mark(&story), None, "after the last part the selection ends");
    story.submit("/turns");
    story.event(Event::Marked(TurnAction::Leave));
    assert_eq!(mark(&story), None);
}

#[test]
fn an_early_turn_is_edited_on_a_new_branch() {
    let mut story = two_turns();
    assert_eq!(story.submit("/edit 1"), [Effect::ClearDraft, Effect::PutBack("one".into())]);
    assert_eq!(story.chat.edited(), Some((1, 2)));
    assert_eq!(shown(&story), [TurnId(0), TurnId(1)], "until it is sent, all is shown");
    assert_eq!(said(&story.ask("uno")), ["uno"]);
    assert_eq!(shown(&story), [TurnId(2)]);
    assert_eq!(story.chat.edited(), None);
}

#[test]
fn each_action_says_what_it_keeps_before_it_is_done() {
    let mut story = two_turns();
    let effects = story.event(Event::Mark(Step::Back));
    let asked: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::CountMessages(id, messages) => (*id, messages.len(), messages.last().unwrap().content.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    // Edit and fork begin with an empty prompt; asking again sends the prompt; the answer was not cut.
    let sizes: Vec<_> = asked.iter().map(|(_, count, last)| (*count, last.as_str())).collect();
    assert_eq!(sizes, [(3, ""), (3, "two"), (5, "")]);
    assert_eq!(story.chat.kept(TurnAction::Edit), Some(Kept::Unknown));
    for (place, (id, ..)) in asked.iter().enumerate() {
        let (prompt_tokens, cached_tokens) = (50 + place, 40 + place);
        let counted =
            EngineEvent::Counted { id: *id, prompt_tokens, cached_tokens, left_out: Some(0), context_length: 2048 };
        story.engine(counted);
    }
    let kept = |kept, total| Some(Kept::Tokens { kept, total });
    assert_eq!(story.chat.kept(TurnAction::Edit), kept(40, 50));
    assert_eq!(story.chat.kept(TurnAction::Delete), kept(40, 50));
    assert_eq!(story.chat.kept(TurnAction::Again), kept(41, 51));
    assert_eq!(story.chat.kept(TurnAction::Fork), kept(42, 52));
    assert_eq!(story.chat.kept(TurnAction::Copy), None);
    let at = story.now();
    story.engine(EngineEvent::Releasing);
    story.engine(EngineEvent::Released { freed: 1, at });
    assert_eq!(story.chat.kept(TurnAction::Edit), Some(Kept::Cold));
}

#[test]
fn a_fork_copies_the_branch_up_to_the_turn_and_stores_it() {
    let mut story = two_turns();
    story.submit("/regenerate");
    let id = story.stored(TurnId(2)).id;
    story.stream(id, &["zwei"]);
    story.finish(id, FinishReason::Stop);
    let effects = story.submit("/fork 1");
    let [Effect::Fork(copy)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(copy.turns().len(), 1);
    let mut copy = (**copy).clone();
    copy.id = ConversationId("copy".into());
    let effects = story.event(Event::Forked(copy));
    let [Effect::Save(record)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.conversation.0.as_str(), record.turn.answer.text.as_str()), ("copy", "1"));
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("/resume talk")));
    assert_eq!(said(&story.ask("three")), ["one", "1", "three"]);
}

#[test]
fn a_fork_from_a_prompt_puts_it_into_the_composer() {
    let mut story = two_turns();
    story.event(Event::Mark(Step::Back));
    story.event(Event::Mark(Step::Back));
    let effects = story.event(Event::Marked(TurnAction::Fork));
    let [Effect::Fork(copy), Effect::ClearDraft, Effect::PutBack(prompt)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((copy.turns().len(), prompt.as_str()), (1, "two"));
}

#[test]
fn a_cut_answer_goes_on_from_its_text() {
    let mut story = Story::begin();
    let id = story.ask("count").id;
    story.stream(id, &["one tw"]);
    story.finish(id, FinishReason::Cancelled);
    assert!(story.chat.is_cut(TurnId(0)));
    let effects = story.submit("/continue");
    assert!(matches!(&effects[..], [Effect::Save(_)]), "{effects:?}");
    let request = story.stored(TurnId(0));
    assert_eq!(said(&request), ["count", "one tw"]);
    assert_eq!(request.messages[1].role, Role::Assistant);
    story.stream(request.id, &["o"]);
    story.finish(request.id, FinishReason::Stop);
    assert_eq!(story.answer(0).text, "one two");
    assert_eq!(story.submit("/continue"), [], "it has ended by itself");
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("ended by itself")));
}

#[test]
fn an_early_cut_answer_grows_as_another_version() {
    let mut story = Story::begin();
    let id = story.ask("count").id;
    story.stream(id, &["one tw"]);
    story.finish(id, FinishReason::Length);
    let id = story.ask("next").id;
    story.stream(id, &["n"]);
    story.finish(id, FinishReason::Stop);
    for _ in 0..3 {
        story.event(Event::Mark(Step::Back));
    }
    story.event(Event::Marked(TurnAction::Continue));
    let request = story.stored(TurnId(2));
    story.stream(request.id, &["o"]);
    story.finish(request.id, FinishReason::Stop);
    assert_eq!((story.answer(0).text.as_str(), story.answer(2).text.as_str()), ("one tw", "one two"));
    assert_eq!(shown(&story), [TurnId(2)]);
}

#[test]
fn a_deleted_turn_is_neither_shown_nor_sent_and_comes_back() {
    let mut story = two_turns();
    let effects = story.submit("/delete 1");
    let talk = ConversationId("talk".into());
    assert_eq!(effects, [Effect::Change(talk.clone(), Change::Removed(TurnId(0), true))]);
    assert_eq!(shown(&story), [TurnId(1)]);
    let request = story.ask("three");
    assert_eq!(said(&request), ["two", "2", "three"]);
    story.finish(request.id, FinishReason::Stop);
    assert_eq!(story.submit("/delete undo"), [Effect::Change(talk, Change::Removed(TurnId(0), false))]);
    assert_eq!(shown(&story), [TurnId(0), TurnId(1), TurnId(2)]);
    assert_eq!(story.submit("/delete undo"), []);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("no turn was deleted")));
}

#[test]
fn deleting_in_the_selection_selects_a_neighbour() {
    let mut story = two_turns();
    story.event(Event::Mark(Step::Back));
    story.event(Event::Marked(TurnAction::Delete));
    assert_eq!(mark(&story), Some((0, Part::Answer)));
    story.event(Event::Marked(TurnAction::Delete));
    assert_eq!(mark(&story), None);
    assert!(shown(&story).is_empty());
}

#[test]
fn a_branch_is_shown_and_stored_as_the_visible_one() {
    let mut story = two_turns();
    assert_eq!(story.submit("/branch"), [Effect::Open(View::Branches, String::new())]);
    story.submit("/edit 1");
    let id = story.ask("uno").id;
    story.stream(id, &["I"]);
    story.finish(id, FinishReason::Stop);
    let talk = ConversationId("talk".into());
    assert_eq!(story.event(Event::ShowBranch(TurnId(0))), [Effect::Select(talk, TurnId(1))]);
    assert_eq!(shown(&story), [TurnId(0), TurnId(1)]);
    assert_eq!(said(&story.ask("three")), ["one", "1", "two", "2", "three"]);
    assert_eq!(story.event(Event::ShowBranch(TurnId(2))), [], "not during an answer");
}
