//! Stories of the slash commands, and of the keys that mean the same.

use super::*;

#[test]
fn asking_again_branches_and_shows_only_the_new_answer() {
    let mut story = Story::begin();
    let first = story.ask("one").id;
    story.stream(first, &["1"]);
    story.finish(first, FinishReason::Stop);
    let effects = story.submit("/regenerate");
    assert!(matches!(&effects[..], [Effect::Save(record)] if record.id == TurnId(1) && record.turn.parent.is_none()));
    let turns: Vec<_> = story.chat.feed.entries().iter().map(|(_, entry)| entry.clone()).collect();
    assert_eq!(turns, [Entry::Turn(TurnId(1))]);
    assert_eq!(story.answer(0).text, "1", "the other branch keeps its answer");
}

#[test]
fn editing_takes_the_prompt_back_and_branches_before_it() {
    let mut story = Story::begin();
    for (prompt, answer) in [("one", "1"), ("two", "2")] {
        let id = story.ask(prompt).id;
        story.stream(id, &[answer]);
        story.finish(id, FinishReason::Stop);
    }
    assert_eq!(story.submit("/edit"), [Effect::ClearDraft, Effect::PutBack("two".into())]);
    let request = story.ask("zwei");
    let said: Vec<_> = request.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["one", "1", "zwei"]);
}

#[test]
fn copying_finds_the_answer_and_its_code() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/copy"), []);
    let id = story.ask("code").id;
    let text = "One:\n```sh\nls\n```\nTwo:\n```\npwd\n```\n";
    story.stream(id, &[text]);
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.submit("/copy"), [Effect::Copy(text.into())]);
    assert_eq!(story.submit("/copy 2"), [Effect::Copy("pwd\n".into())]);
    assert_eq!(story.submit("/copy 3"), []);
}

#[test]
fn what_looks_like_a_command_and_is_none_comes_back() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/hlep me"), [Effect::PutBack("/hlep me".into())]);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("/hlep")));
}

#[test]
fn another_model_waits_for_the_answer_to_end() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    assert_eq!(story.submit("/model other"), []);
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.submit("/model other"), [Effect::SwitchModel("other".into())]);
    story.event(Event::Switched { model: "other".into() });
    assert_eq!(story.chat.engine.model, "other");
}

#[test]
fn one_answer_is_no_answers() {
    let mut story = Story::begin();
    for (prompt, counted) in [("one", "1 answer: 30 prompt tokens, "), ("two", "2 answers: 60 prompt tokens, ")] {
        let id = story.ask(prompt).id;
        story.finish(id, FinishReason::Stop);
        story.submit("/stats");
        assert!(story.notes().last().unwrap().starts_with(counted), "{:?}", story.notes());
    }
}

#[test]
fn no_command_is_silent_where_there_is_nothing_to_do() {
    for command in ["/reasoning", "/release", "/new", "/copy", "/copy 1", "/edit", "/regenerate", "/hlep", "/theme"] {
        let mut story = Story::begin();
        story.submit(command);
        assert!(story.chat.hint().is_some(), "{command}");
    }
    for (command, told) in [
        ("/stats", "No answers yet"),
        ("/system", "There is no system message; /system TEXT sets one."),
        ("/model", "tiny: not loaded yet"),
    ] {
        let mut story = Story::begin();
        story.submit(command);
        assert!(story.notes()[0].starts_with(told), "{:?}", story.notes());
    }
    let mut story = Story::begin();
    let hint = |story: &Story| match story.chat.hint() {
        Some(Hint::Message(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    story.event(Event::ToggleReasoning);
    assert!(story.chat.reasoning_open && hint(&story).contains("shown from now on"));
    story.submit("/reasoning");
    assert!(!story.chat.reasoning_open && hint(&story).contains("folded from now on"));
    let at = story.now();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
    assert_eq!(story.submit("/load"), []);
    assert!(hint(&story).contains("loaded already"));
    story.ask("hi");
    assert_eq!(story.submit("/release"), [Effect::Release]);
    assert!(hint(&story).contains("as soon as the answer has ended"));
}

#[test]
fn figures_that_nobody_knows_are_not_told() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    story.finish(id, FinishReason::Stop);
    story.submit("/stats");
    assert!(!story.notes()[0].contains("unknown") && !story.notes()[0].contains("inter-token"), "{:?}", story.notes());
}

#[test]
fn a_system_message_is_shown_and_removed() {
    let mut story = Story::begin();
    story.submit("/system Be brief.");
    story.submit("/system");
    assert!(story.notes()[1].contains("Be brief.\n/system none removes it"), "{:?}", story.notes());
    story.submit("/system none");
    assert_eq!(story.ask("hi").messages, [ChatMessage::new(Role::User, "hi")]);
}

#[test]
fn an_edit_that_is_dropped_leaves_the_last_turn_where_it_is() {
    let mut story = Story::begin();
    let id = story.ask("one").id;
    story.stream(id, &["1"]);
    story.finish(id, FinishReason::Stop);
    story.submit("/edit");
    assert!(story.chat.is_editing());
    assert_eq!(story.event(Event::Interrupt { draft_empty: false }), [Effect::ClearDraft]);
    assert!(!story.chat.is_editing());
    let said: Vec<_> = story.ask("two").messages.into_iter().map(|message| message.content).collect();
    assert_eq!(said, ["one", "1", "two"]);
    // The same where the prompt was deleted by hand: the next Ctrl-C drops the edit, and does not ask whether to quit.
    story.finish(RequestId(2), FinishReason::Stop);
    story.submit("/edit");
    story.event(Event::Interrupt { draft_empty: true });
    assert!(!story.chat.is_editing() && story.chat.hint() != Some(&Hint::QuitArmed));
}

#[test]
fn branches_are_shown_one_after_the_other_and_noted() {
    let mut story = Story::begin();
    let answer = |story: &mut Story, id, text| {
        story.stream(id, &[text]);
        story.finish(id, FinishReason::Stop);
    };
    assert_eq!(story.submit("/branch"), []);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("one branch")));
    for (prompt, text) in [("one", "1"), ("two", "2")] {
        let id = story.ask(prompt).id;
        answer(&mut story, id, text);
    }
    story.submit("/regenerate");
    let id = story.stored(TurnId(2)).id;
    answer(&mut story, id, "zwei");
    let turns =
        |story: &Story| -> Vec<Entry> { story.chat.feed.entries().iter().map(|(_, entry)| entry.clone()).collect() };
    let talk = || ConversationId("talk".into());
    assert_eq!(story.submit("/branch"), [Effect::Select(talk(), TurnId(1))]);
    assert_eq!(turns(&story), [Entry::Turn(TurnId(0)), Entry::Turn(TurnId(1))]);
    let said: Vec<_> = story.ask("three").messages.into_iter().map(|message| message.content).collect();
    assert_eq!(said, ["one", "1", "two", "2", "three"]);
    story.finish(RequestId(4), FinishReason::Stop);
    // The fork lies before the last turn now, and the other branch has none after it.
    assert_eq!(story.submit("/branch"), [Effect::Select(talk(), TurnId(2))]);
    assert_eq!(story.submit("/branch"), [Effect::Select(talk(), TurnId(3))]);
    assert_eq!(turns(&story), [0, 1, 3].map(|id| Entry::Turn(TurnId(id))));
}

#[test]
fn escape_twice_on_an_empty_line_changes_the_last_prompt() {
    let mut story = Story::begin();
    assert_eq!(story.event(Event::StopOrEdit), []);
    assert_eq!(story.chat.hint(), None, "nothing was asked yet");
    let id = story.ask("one").id;
    assert_eq!(story.event(Event::StopOrEdit), [Effect::Cancel(id)]);
    story.finish(id, FinishReason::Cancelled);
    assert_eq!(story.event(Event::StopOrEdit), []);
    assert_eq!(story.chat.hint(), Some(&Hint::EditArmed));
    story.event(Event::Typed);
    story.event(Event::StopOrEdit);
    assert!(!story.chat.is_editing(), "typing in between forgets the first");
    assert_eq!(story.event(Event::StopOrEdit), [Effect::ClearDraft, Effect::PutBack("one".into())]);
    assert!(story.chat.is_editing());
}

#[test]
fn another_conversation_is_taken_up_and_one_that_is_not_there_changes_nothing() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/resume"), [Effect::PutBack("/resume ".into())], "which one is to be chosen");
    let id = story.ask("one").id;
    assert_eq!(story.submit("/resume 12ab"), [], "an answer is under way");
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.submit("/resume 12ab"), [Effect::Resume("12ab".into())]);
    assert_eq!(story.submit("two"), [], "it waits to see where it belongs");
    let effects = story.event(Event::NotOpened("There is none. This one goes on.".into()));
    assert!(matches!(&effects[..], [Effect::Save(record)] if record.turn.parent == Some(TurnId(0))), "{effects:?}");
    story.event(Event::Saved { turn: TurnId(1), result: Ok(()) });
    story.finish(RequestId(2), FinishReason::Stop);
    story.submit("/resume 12ab");
    story.event(Event::Opened(Conversation::new(ConversationId("12abcd".into()), None)));
    assert_eq!(story.chat.conversation.id.0, "12abcd");
    assert!(story.chat.feed.entries().is_empty());
}
