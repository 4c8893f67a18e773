//! Tests of changes of earlier turns: selection, editing, forks, continuing, deleting, branches.

use super::*;
use crate::conversation::Change;
use crate::protocol::Role;

/// An answer that is longer than a summary.
fn long_answer() -> String {
    "one and ".repeat(300)
}

/// A conversation of two answered turns, with a loaded model.
fn two_turns() -> Story {
    turns_of([("one", "1"), ("two", "2")])
}

fn turns_of<const N: usize>(said: [(&str, &str); N]) -> Story {
    let mut story = Story::begin();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at: Timestamp::default() });
    for (prompt, answer) in said {
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
    story.engine(EngineEvent::Released { freed: 1, energy_mj: None, at });
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

fn counted(story: &mut Story, prompt_tokens: usize, left_out: Option<usize>) {
    story.event(Event::DraftChanged { prompt: true });
    let effects = story.after(200);
    let id = effects.iter().find_map(|effect| if let Effect::Count(id) = effect { Some(*id) } else { None }).unwrap();
    story.engine(EngineEvent::Counted { id, prompt_tokens, cached_tokens: 0, left_out, context_length: 2048 });
}

fn commands(story: &Story) -> Vec<String> {
    story.chat.remedies().into_iter().map(|remedy| remedy.command).collect()
}

#[test]
fn a_draft_that_does_not_fit_is_refused_with_what_helps() {
    let mut story = two_turns();
    counted(&mut story, 2000, Some(0));
    assert!(!story.chat.refuses_draft());
    counted(&mut story, 3000, Some(1));
    assert!(story.chat.refuses_draft());
    assert_eq!(story.event(Event::Refused), [Effect::Open(View::Overflow, String::new())]);
    assert_eq!(commands(&story), ["/context 4096", "/context trim", "/new", ""]);
    counted(&mut story, 9000, None);
    assert_eq!(commands(&story), [""], "longer than the model was made for, also alone");
    story.chat.options.on_overflow = OverflowPolicy::Trim;
    assert!(story.chat.refuses_draft());
    counted(&mut story, 3000, Some(1));
    assert!(!story.chat.refuses_draft(), "the oldest turn is left out");
    assert!(story.chat.is_left_out(TurnId(0)) && !story.chat.is_left_out(TurnId(1)));
    story.event(Event::DraftChanged { prompt: false });
    assert!(!story.chat.is_left_out(TurnId(0)));
}

fn overflow(story: &mut Story, id: RequestId) -> Vec<Effect> {
    let error = EngineError::new(ErrorKind::ContextOverflow, "The prompt takes 9000 tokens.");
    let at = story.now();
    story.engine(EngineEvent::Failed { id, error, at })
}

#[test]
fn a_prompt_that_the_engine_refuses_returns_to_the_composer() {
    let mut story = two_turns();
    story.submit("/edit 1");
    let id = story.ask("much too long").id;
    let effects = overflow(&mut story, id);
    let talk = ConversationId("talk".into());
    assert_eq!(
        effects,
        [
            Effect::Change(talk.clone(), Change::Removed(TurnId(2), true)),
            Effect::Select(talk, TurnId(1)),
            Effect::PutBack("much too long".into()),
            Effect::Open(View::Overflow, String::new()),
        ]
    );
    assert_eq!(shown(&story), [TurnId(0), TurnId(1)]);
    assert!(story.chat.is_editing() && story.notes().len() == 1, "only the warning of the model");
    assert_eq!(said(&story.ask("short")), ["short"], "it still takes the place of the first prompt");
}

#[test]
fn an_answer_that_cannot_go_on_stays_as_it_was() {
    let mut story = Story::begin();
    let id = story.ask("count").id;
    story.stream(id, &["one"]);
    story.finish(id, FinishReason::Length);
    story.submit("/continue");
    let id = story.stored(TurnId(0)).id;
    overflow(&mut story, id);
    assert!(matches!(story.answer(0).ending, Ending::Finished { reason: FinishReason::Length, .. }));
    assert_eq!(story.answer(0).text, "one");
}

#[test]
fn a_summary_replaces_the_oldest_turns_and_can_be_taken_back() {
    let long = long_answer();
    let mut story = turns_of([("one", &long), ("two", "2")]);
    assert_eq!(story.submit("/compact"), [], "the last two turns stay");
    let id = story.ask("three").id;
    story.stream(id, &["3"]);
    story.finish(id, FinishReason::Stop);
    let effects = story.submit("/compact");
    let [Effect::Generate(request)] = &effects[..] else { panic!("{effects:?}") };
    assert!(said(request)[..2] == ["one", &long] && said(request)[2].starts_with("Summarise"), "{:?}", said(request));
    assert_eq!(story.submit("four"), [], "it waits for the summary");
    let id = request.id;
    story.stream(id, &["We counted", " to one."]);
    let effects = story.finish(id, FinishReason::Stop);
    assert!(matches!(&effects[0], Effect::Change(_, Change::Settings(settings)) if settings.len() == 2), "{effects:?}");
    assert!(matches!(effects.last(), Some(Effect::Save(record)) if record.turn.prompt == "four"));
    let request = story.stored(TurnId(3));
    let summary = "Summary of the earlier conversation:\nWe counted to one.";
    assert_eq!(said(&request), [summary, "two", "2", "three", "3", "four"]);
    assert!(story.chat.is_left_out(TurnId(0)));
    story.finish(request.id, FinishReason::Stop);
    story.submit("/compact none");
    assert_eq!(said(&story.ask("five"))[..2], ["one", &long]);
}

#[test]
fn a_summary_that_would_free_nothing_is_neither_written_nor_offered() {
    let mut story = turns_of([("one", "1"), ("two", "2"), ("three", "3")]);
    assert_eq!(story.submit("/compact"), []);
    assert!(story.message().contains("the oldest 1 turn holds about 1 tokens, and a summary may take 400"));
    assert!(story.chat.remedies().iter().all(|remedy| remedy.command != "/compact"));
    let story = turns_of([("one", &long_answer()), ("two", "2"), ("three", "3")]);
    assert!(story.chat.remedies().iter().any(|remedy| remedy.command == "/compact"));
}

#[test]
fn a_summary_that_its_limit_ends_keeps_whole_sentences() {
    let mut story = turns_of([("one", &long_answer()), ("two", "2"), ("three", "3")]);
    let effects = story.submit("/compact");
    let [Effect::Generate(request)] = &effects[..] else { panic!("{effects:?}") };
    assert!(said(request).last().unwrap().contains("at most 150 words") && request.max_tokens == Some(400));
    let id = request.id;
    story.stream(id, &["We counted to one. Then we cou"]);
    story.finish(id, FinishReason::Length);
    assert_eq!(story.chat.conversation.summary(), Some("We counted to one. […]"));
}

#[test]
fn a_summary_can_be_stopped() {
    let mut story = turns_of([("one", &long_answer()), ("two", "2"), ("three", "3")]);
    let effects = story.submit("/compact");
    let [Effect::Generate(request)] = &effects[..] else { panic!("{effects:?}") };
    let id = request.id;
    assert_eq!(story.event(Event::Stop), [Effect::Cancel(id)]);
    story.finish(id, FinishReason::Cancelled);
    assert!(!story.chat.is_compacting() && !story.chat.is_left_out(TurnId(0)));
}

#[test]
fn context_sets_the_length_up_to_what_the_model_was_made_for() {
    let mut story = two_turns();
    let set = |key: &str, value: &str| [Effect::Set(key.into(), Some(value.into()))];
    assert_eq!(story.submit("/context 4k"), set("context_length", "4096"));
    assert_eq!(story.submit("/context trim"), set("on_overflow", "trim"));
    assert_eq!(story.submit("/context 9000"), []);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("made for 8192")));
}

#[test]
fn a_change_of_settings_keeps_what_is_left_out() {
    let mut story = two_turns();
    story.submit("/compact 1");
    let tuned = Tuned {
        sampling: SamplingChoice::default(),
        think: None,
        max_tokens: None,
        on_overflow: OverflowPolicy::Error,
        reasoning_open: None,
        persona: None,
        remembered: [("seed".to_owned(), "7".to_owned())].into(),
    };
    story.event(Event::Tuned(Box::new(tuned)));
    assert!(story.chat.is_left_out(TurnId(0)) && story.chat.conversation.settings.len() == 2);
}

#[test]
fn chosen_turns_are_left_out() {
    let mut story = two_turns();
    assert_eq!(story.submit("/compact 7"), []);
    story.submit("/compact 1");
    assert_eq!(said(&story.ask("three")), ["two", "2", "three"]);
    assert_eq!(shown(&story), [TurnId(0), TurnId(1), TurnId(2)], "it stays on the screen");
}

#[test]
fn the_end_of_an_answer_stores_the_sampling_that_was_used() {
    let mut story = Story::begin();
    story.chat.options.sampling.top_k = Some(7);
    let request = story.ask("hi");
    assert_eq!((request.sampling.temperature, request.sampling.top_k), (None, Some(7)));
    let choice = SamplingChoice { temperature: Some(0.2), top_k: Some(99), ..SamplingChoice::default() };
    let sampling = Recommended::from(SamplingSource::Catalogue, choice);
    let (info, at) = (ModelInfo { sampling, ..info() }, story.now());
    story.engine(EngineEvent::Loaded { info, took: Duration::ZERO, at });
    // A change during the answer is for the next prompt.
    story.chat.options.sampling.temperature = Some(1.5);
    let effects = story.finish(request.id, FinishReason::Stop);
    let stored = effects.iter().find_map(|effect| match effect {
        Effect::Save(record) => record.sampling.clone(),
        _ => None,
    });
    assert_eq!(stored.map(|used| (used.temperature, used.top_k, used.top_p)), Some((0.2, 7, 0.95)));
}

#[test]
fn a_turn_of_another_window_is_read_before_the_branches_are_listed() {
    let mut story = two_turns();
    story.event(Event::ContinuedElsewhere(ConversationId("other".into())));
    assert_eq!(story.submit("/branch"), [Effect::Open(View::Branches, String::new())]);
    let id = story.chat.conversation.id.clone();
    story.event(Event::ContinuedElsewhere(id.clone()));
    assert!(story.notes().last().unwrap().contains("continued in another window"));
    assert_eq!(story.submit("/branch"), [Effect::Select(id.clone(), TurnId(1)), Effect::Resume(id.0.clone())]);
    story.event(Event::NotOpened("The disk does not answer.".into()));
    assert_eq!(story.submit("/branch"), [Effect::Select(id.clone(), TurnId(1)), Effect::Resume(id.0)]);
    let read = story.chat.conversation.clone();
    assert_eq!(story.event(Event::Opened(read)), [Effect::Open(View::Branches, String::new())]);
    assert_eq!(story.submit("/branch"), [Effect::Open(View::Branches, String::new())]);
}

#[test]
fn turns_that_an_earlier_run_deleted_come_back_one_by_one_or_by_choice() {
    let mut story = two_turns();
    let id = story.ask("three").id;
    story.stream(id, &["3"]);
    story.finish(id, FinishReason::Stop);
    for number in ["3", "2", "1"] {
        story.submit(&format!("/delete {number}"));
    }
    let stored = story.chat.conversation.clone();
    let mut story = Story::begin();
    story.event(Event::Opened(stored));
    assert!(story.chat.can_undelete() && shown(&story).is_empty());
    let change = |turn: usize| Effect::Change(ConversationId("talk".into()), Change::Removed(TurnId(turn), false));
    assert_eq!(story.submit("/delete undo"), [change(2)]);
    assert_eq!(story.message(), "the turn is back; /branch lists 2 more deleted turns");
    assert!(story.event(Event::ShowBranch(TurnId(0))).contains(&change(0)), "chosen from the list");
    assert_eq!(shown(&story), [TurnId(0), TurnId(2)]);
    assert_eq!(story.submit("/delete undo"), [change(1)]);
    assert_eq!(story.message(), "the turn is back");
    assert!(!story.chat.can_undelete());
}

#[test]
fn a_deleted_turn_of_another_branch_comes_back_with_its_branch() {
    let mut story = two_turns();
    story.submit("/edit 2");
    let id = story.ask("deux").id;
    story.stream(id, &["2"]);
    story.finish(id, FinishReason::Stop);
    story.submit("/delete");
    story.event(Event::ShowBranch(TurnId(1)));
    story.submit("/delete undo");
    assert_eq!(shown(&story), [TurnId(0), TurnId(2)]);
}
