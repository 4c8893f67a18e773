//! Tests of the slash commands, and of the keys with the same effect.

use super::*;

#[test]
fn regenerate_branches_and_shows_only_the_new_answer() {
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
fn edit_puts_the_prompt_back_and_branches_before_it() {
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
fn copy_finds_the_answer_and_its_code_blocks() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/copy"), []);
    let id = story.ask("code").id;
    let text = "One:\n```sh\nls\n```\nTwo:\n```\npwd\n```\n";
    story.stream(id, &[text]);
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.submit("/copy"), [Effect::Copy(text.into())]);
    assert_eq!(story.submit("/copy 2"), [Effect::Copy("pwd\n".into())]);
    assert_eq!(story.submit("/copy 3"), []);
    assert_eq!(story.message(), "answer #1 has 2 code blocks");
    assert_eq!(story.submit("/copy 1,2"), [Effect::Copy("ls\n\npwd\n".into())]);
}

#[test]
fn copy_skips_an_empty_answer_and_finds_every_answer_by_number() {
    let mut story = Story::begin();
    let id = story.ask("code").id;
    story.stream(id, &["```\nls\n```\n"]);
    story.finish(id, FinishReason::Stop);
    let id = story.ask("more").id;
    story.finish(id, FinishReason::Cancelled);
    assert_eq!(story.submit("/copy"), [Effect::Copy("```\nls\n```\n".into())]);
    assert_eq!(story.submit("/copy #1.1"), [Effect::Copy("ls\n".into())]);
    assert_eq!(story.submit("/copy #2"), []);
    assert_eq!(story.message(), "answer #2 is empty");
    assert_eq!(story.submit("/copy #3"), []);
    assert_eq!(story.message(), "there are 2 answers: /copy #1 to /copy #2");
    let all = story.submit("/copy all");
    let text = "## You\n\ncode\n\n## tiny\n\n```\nls\n```\n\n\n## You\n\nmore\n\n## tiny\n\n\n";
    assert_eq!(all, [Effect::Copy(text.into())]);
    assert_eq!(story.submit("/copy everything"), [Effect::PutBack("/copy everything".into())]);
    assert!(story.message().contains("#4.2"), "{}", story.message());
}

#[test]
fn answers_to_commands_do_not_pile_up() {
    let mut story = Story::begin();
    story.submit("/system Be brief.");
    story.submit("/model");
    assert_eq!(story.notes().len(), 1, "{:?}", story.notes());
    let id = story.ask("hi").id;
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.notes(), [""; 0]);
}

#[test]
fn errors_fold_and_only_the_last_ones_stay() {
    let mut story = Story::begin();
    let folded =
        |story: &Story| story.chat.feed.entries().iter().filter(|(key, _)| story.chat.feed.is_folded(*key)).count();
    story.event(Event::Noted(Note::error("first")));
    assert_eq!(folded(&story), 0);
    story.event(Event::Noted(Note::error("second")));
    assert_eq!(folded(&story), 1);
    for n in 3..10 {
        story.event(Event::Noted(Note::warning(format!("warning {n}"))));
        let id = story.ask("hi").id;
        story.finish(id, FinishReason::Stop);
    }
    assert_eq!(story.notes(), ["warning 7", "warning 8", "warning 9"]);
    assert_eq!(folded(&story), 3);
    assert_eq!(story.chat.next_wake(), None, "no timer runs for notes");
}

#[test]
fn an_unknown_command_is_put_back_with_a_hint() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/hlep me"), [Effect::PutBack("/hlep me".into())]);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("/hlep")));
}

#[test]
fn a_change_of_model_during_an_answer_follows_it() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    assert_eq!(story.submit("/model other"), [Effect::Locate("other".into())]);
    assert_eq!(story.event(Event::Located { model: "other".into(), found: Located::Here }), []);
    let effects = story.finish(id, FinishReason::Stop);
    assert!(effects.contains(&Effect::SwitchModel("other".into())), "{effects:?}");
    story.event(Event::Switched { model: "other".into() });
    assert_eq!((story.chat.engine.model.as_str(), story.chat.options.model.as_str()), ("other", "other"));
}

/// The text of `/stats`.
fn stats(story: &mut Story) -> String {
    match story.submit("/stats").as_slice() {
        [Effect::ShowStats(text)] => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stats_use_singular_and_plural() {
    assert!(stats(&mut Story::begin()).starts_with("No answers yet"));
    let mut story = Story::begin();
    for (prompt, counted) in [("one", "1 answer: 30 prompt tokens, "), ("two", "2 answers: 60 prompt tokens, ")] {
        let id = story.ask(prompt).id;
        story.finish(id, FinishReason::Stop);
        let shown = stats(&mut story);
        assert!(shown.starts_with(counted), "{shown}");
    }
}

#[test]
fn commands_without_an_effect_show_a_message() {
    for command in ["/reasoning", "/release", "/new", "/copy", "/copy 1", "/edit", "/regenerate", "/hlep"] {
        let mut story = Story::begin();
        story.submit(command);
        assert!(story.chat.hint().is_some(), "{command}");
    }
    let mut story = Story::begin();
    story.submit("/system");
    assert!(story.notes()[0].starts_with("There is no system message; /system TEXT sets one."), "{:?}", story.notes());
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
fn stats_omit_unknown_figures() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    story.finish(id, FinishReason::Stop);
    let shown = stats(&mut story);
    assert!(!shown.contains("unknown") && !shown.contains("inter-token"), "{shown}");
}

#[test]
fn a_system_message_is_shown_and_removed() {
    let mut story = Story::begin();
    story.submit("/system Be brief.");
    story.submit("/system");
    assert!(story.notes()[0].contains("Be brief.\n/system none removes it"), "{:?}", story.notes());
    story.submit("/system none");
    assert_eq!(story.ask("hi").messages, [ChatMessage::new(Role::User, "hi")]);
}

#[test]
fn cancelling_an_edit_keeps_the_last_turn() {
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
    // The same if the prompt was deleted by hand: the next Ctrl-C cancels the edit and does not arm quitting.
    story.finish(RequestId(2), FinishReason::Stop);
    story.submit("/edit");
    story.event(Event::Interrupt { draft_empty: true });
    assert!(!story.chat.is_editing() && story.chat.hint() != Some(&Hint::QuitArmed));
}

#[test]
fn escape_twice_in_an_empty_composer_edits_the_last_prompt() {
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
fn resume_opens_a_conversation_and_a_missing_one_changes_nothing() {
    let mut story = Story::begin();
    for (command, query) in [("/resume", ""), ("/list", ""), ("/find blue sky", "blue sky")] {
        assert_eq!(story.submit(command), [Effect::Open(View::Conversations, query.into())]);
    }
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

fn tuned(remembered: &[(&str, &str)]) -> Event {
    Event::Tuned(Box::new(Tuned {
        sampling: SamplingChoice { temperature: Some(0.2), ..SamplingChoice::default() },
        think: Some(false),
        max_tokens: Some(5),
        on_overflow: OverflowPolicy::Trim,
        reasoning_open: Some(true),
        persona: None,
        remembered: remembered.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    }))
}

#[test]
fn settings_apply_to_the_next_prompt_and_are_stored() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/set"), [Effect::Open(View::Settings, String::new())]);
    assert_eq!(story.submit("/set parameter top_k 3"), [Effect::Set("top_k".into(), Some("3".into()))]);
    assert_eq!(story.submit("/persona"), [Effect::Open(View::Personas, String::new())]);
    assert_eq!(story.submit("/persona coder"), [Effect::SetPersona("coder".into())]);
    assert_eq!(story.event(tuned(&[("temperature", "0.2")])), [], "the first turn stores the settings");
    let request = story.ask("hi");
    assert_eq!((request.sampling.temperature, request.max_tokens), (Some(0.2), Some(5)));
    assert_eq!(request.think, Some(false));
    assert_eq!(request.on_overflow, OverflowPolicy::Trim);
    assert!(story.chat.reasoning_open);
    story.finish(request.id, FinishReason::Stop);
    let effects = story.event(tuned(&[("temperature", "0.2"), ("seed", "1")]));
    assert!(matches!(&effects[..], [Effect::Change(_, Change::Settings(all))] if all.len() == 2), "{effects:?}");
    assert_eq!(story.event(tuned(&[("temperature", "0.2"), ("seed", "1")])), []);
}

#[test]
fn system_message_of_a_stored_conversation_is_stored_at_once() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/system Be\nbrief."), []);
    let request = story.ask("hi");
    assert_eq!(request.messages[0].content, "Be\nbrief.");
    story.finish(request.id, FinishReason::Stop);
    for (command, text) in [("/system Be long.", "Be long."), ("/set system \"x\"", "x"), ("/system none", "")] {
        let stored = Change::System(text.into());
        assert_eq!(story.submit(command), [Effect::Change(ConversationId("talk".into()), stored)]);
    }
    assert_eq!(story.event(Event::System("of a persona".into())).len(), 1);
    assert_eq!(story.ask("again").messages[0].content, "of a persona");
}

#[test]
fn names_of_other_programs_are_understood() {
    for command in ["/bye", "/exit", "/quit"] {
        assert_eq!(Story::begin().submit(command), [Effect::Quit(Cause::User)], "{command}");
    }
    for command in ["/?", "/help", "/keys"] {
        let mut story = Story::begin();
        story.submit(command);
        assert!(story.chat.help, "{command}");
    }
    assert_eq!(Story::begin().submit("/show info"), [Effect::Open(View::Models, String::new())]);
}
