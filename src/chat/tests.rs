//! Tests of `update`: sequences of user and engine events, and the effects that they cause.

use super::*;
use crate::conversation::Ending;

mod commands;
mod comparing;
mod engine;
mod supply;
mod turns;

/// A chat with a simulated clock.
struct Story {
    chat: Chat,
    at: Duration,
}

fn options() -> ChatOptions {
    ChatOptions {
        model: "tiny".into(),
        sampling: SamplingChoice::default(),
        think: None,
        max_tokens: None,
        on_overflow: OverflowPolicy::Error,
    }
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".into(),
        architecture: "llama".into(),
        quantization: "Q4_1".into(),
        parameters: 135_000_000,
        context_length: 2048,
        trained_context_length: 8192,
        device: DeviceInfo { kind: DeviceKind::Cpu, name: "CPU".into() },
        memory: MemoryUse { weights: 98_000_000, kv_cache: 1, workspace: 1 },
        warnings: vec!["an unknown pre-tokenizer".into()],
        ..ModelInfo::default()
    }
}

impl Story {
    fn begin() -> Self {
        let conversation = Conversation::new(ConversationId("talk".into()), None);
        Self { chat: Chat::new(options(), conversation, Timestamp::default()), at: Duration::ZERO }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.at)
    }

    fn after(&mut self, millis: u64) -> Vec<Effect> {
        self.at += Duration::from_millis(millis);
        let now = self.now();
        self.event(Event::Tick(now))
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        update(&mut self.chat, event)
    }

    fn engine(&mut self, event: EngineEvent) -> Vec<Effect> {
        self.event(Event::Engine(event))
    }

    fn submit(&mut self, text: &str) -> Vec<Effect> {
        self.event(Event::Submit(text.into()))
    }

    /// Sends a prompt and reports it as stored; returns the request to the engine.
    fn ask(&mut self, text: &str) -> GenerationRequest {
        let saved = self.submit(text);
        let [Effect::Save(record)] = &saved[..] else { panic!("{saved:?}") };
        assert_eq!(record.turn.prompt, text);
        self.stored(record.id)
    }

    fn stored(&mut self, turn: TurnId) -> GenerationRequest {
        let mut effects = self.event(Event::Saved { turn, result: Ok(()) });
        match effects.pop() {
            Some(Effect::Generate(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn stream(&mut self, id: RequestId, pieces: &[&str]) -> Vec<Effect> {
        let at = self.now();
        let channel = Channel::Answer;
        let tokens = pieces.iter().map(|text| EngineEvent::Token { id, channel, text: (*text).into(), at });
        tokens.flat_map(|token| update(&mut self.chat, Event::Engine(token))).collect()
    }

    fn finish(&mut self, id: RequestId, reason: FinishReason) -> Vec<Effect> {
        let usage = Usage { prompt_tokens: 30, cached_tokens: 20, completion_tokens: 2, ..Usage::default() };
        let at = self.now();
        self.engine(EngineEvent::Finished { id, reason, usage, timing: Timing::default(), at })
    }

    fn fail(&mut self, id: RequestId, message: &str) -> Vec<Effect> {
        let at = self.now();
        self.engine(EngineEvent::Failed { id, error: EngineError::new(ErrorKind::Failed, message), at })
    }

    fn answer(&self, turn: usize) -> &crate::conversation::Answer {
        &self.chat.conversation.turn(TurnId(turn)).unwrap().answer
    }

    /// The hint that is shown.
    fn message(&self) -> &str {
        match self.chat.hint() {
            Some(Hint::Message(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn notes(&self) -> Vec<&str> {
        let notes = self.chat.feed.entries().iter().filter_map(|(_, entry)| match entry {
            Entry::Note(note) => Some(note.text.as_str()),
            Entry::Turn(_) => None,
        });
        notes.collect()
    }
}

fn saves(effects: &[Effect]) -> Vec<&str> {
    let saved = effects.iter().filter_map(|effect| match effect {
        Effect::Save(record) => Some(record.turn.answer.text.as_str()),
        _ => None,
    });
    saved.collect()
}

#[test]
fn a_prompt_is_stored_before_it_is_sent_to_the_engine() {
    let mut story = Story::begin();
    let effects = story.submit("hi");
    assert!(matches!(&effects[..], [Effect::Save(record)] if record.turn.prompt == "hi"));
    let request = story.stored(TurnId(0));
    assert_eq!(request.messages, [ChatMessage::new(Role::User, "hi")]);
}

#[test]
fn a_blocked_disk_does_not_block_the_answer() {
    let mut story = Story::begin();
    story.submit("hi");
    assert_eq!(story.after(1400), []);
    assert!(story.chat.next_wake().is_some());
    let effects = story.after(100);
    assert!(matches!(&effects[..], [Effect::Generate(_)]), "{effects:?}");
    assert_eq!(story.after(1500), []);
    assert_eq!(story.event(Event::Saved { turn: TurnId(0), result: Ok(()) }), [], "it is asked once");
}

#[test]
fn a_storage_error_is_noted_once_and_the_answer_continues() {
    let mut story = Story::begin();
    story.submit("hi");
    let effects = story.event(Event::Saved { turn: TurnId(0), result: Err("the disk is full".into()) });
    assert!(matches!(&effects[..], [Effect::Generate(_)]));
    story.event(Event::Saved { turn: TurnId(0), result: Err("the disk is full".into()) });
    assert_eq!(story.notes().len(), 1);
    assert!(story.notes()[0].contains("the disk is full"));
}

#[test]
fn a_streamed_answer_is_part_of_later_requests() {
    let mut story = Story::begin();
    let first = story.ask("hi").id;
    story.stream(first, &["Hel", "lo"]);
    story.finish(first, FinishReason::Stop);
    assert_eq!(story.answer(0).text, "Hello");
    assert_eq!(story.chat.activity, Activity::Idle);
    let second = story.ask("and now?");
    assert_ne!(second.id, first);
    let said: Vec<_> = second.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["hi", "Hello", "and now?"]);
}

#[test]
fn a_partial_answer_is_stored_within_a_quarter_of_a_second() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    assert!(saves(&story.stream(id, &["a"])).is_empty());
    story.after(100);
    assert!(saves(&story.stream(id, &["b"])).is_empty());
    let due = story.chat.next_wake().unwrap();
    assert!(due <= Timestamp::from_origin(Duration::from_millis(250)));
    // No further token arrives: the tick alone must save.
    assert_eq!(saves(&story.after(120)), ["ab"]);
    assert!(saves(&story.after(500)).is_empty(), "nothing new, nothing to save");
}

#[test]
fn escape_cancels_the_answer_and_keeps_its_text() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    story.stream(id, &["half"]);
    assert_eq!(story.event(Event::Stop), [Effect::Cancel(id)]);
    assert_eq!(story.event(Event::Stop), [], "once is enough");
    story.stream(id, &[" more"]);
    let effects = story.finish(id, FinishReason::Cancelled);
    assert_eq!(saves(&effects), ["half more"]);
    assert!(matches!(story.answer(0).ending, Ending::Finished { reason: FinishReason::Cancelled, .. }));
}

#[test]
fn stopping_before_the_prompt_is_stored_sends_no_request() {
    let mut story = Story::begin();
    story.submit("hi");
    story.event(Event::Stop);
    assert_eq!(story.chat.activity, Activity::Idle);
    assert_eq!(story.event(Event::Saved { turn: TurnId(0), result: Ok(()) }), []);
}

#[test]
fn control_c_stops_then_clears_then_quits_on_the_second_press() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    assert_eq!(story.event(Event::Interrupt { draft_empty: false }), [Effect::Cancel(id)]);
    story.finish(id, FinishReason::Cancelled);
    assert_eq!(story.event(Event::Interrupt { draft_empty: false }), [Effect::ClearDraft]);
    assert_eq!(story.event(Event::Interrupt { draft_empty: true }), []);
    assert_eq!(story.chat.hint(), Some(&Hint::QuitArmed));
    assert_eq!(story.event(Event::Interrupt { draft_empty: true }), [Effect::Quit(Cause::User)]);
}

#[test]
fn the_quit_hint_expires_and_is_cleared_by_typing() {
    let mut story = Story::begin();
    story.event(Event::Interrupt { draft_empty: true });
    story.after(3000);
    assert_eq!(story.chat.hint(), None);
    assert_eq!(story.event(Event::Interrupt { draft_empty: true }), []);
    story.event(Event::Typed);
    assert_eq!(story.event(Event::Interrupt { draft_empty: true }), []);
}

#[test]
fn quitting_stores_the_partial_answer() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    story.stream(id, &["half"]);
    let effects = story.event(Event::Quit(Cause::Signal(15)));
    assert_eq!(saves(&effects), ["half"]);
    assert_eq!(effects.last(), Some(&Effect::Quit(Cause::Signal(15))));
}

#[test]
fn the_first_keystroke_loads_the_model_once() {
    let mut story = Story::begin();
    assert_eq!(story.event(Event::Typed), [Effect::Load]);
    assert_eq!(story.event(Event::Typed), []);
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    assert_eq!(story.event(Event::Typed), []);
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::from_millis(5), at });
    story.engine(EngineEvent::Idle { release_at: Some(at), at });
    story.engine(EngineEvent::Releasing);
    story.engine(EngineEvent::Released { freed: 98_000_000, energy_mj: None, at });
    assert_eq!(story.chat.engine.freed, Some(98_000_000));
    assert_eq!(story.event(Event::Typed), [Effect::Load], "cold again");
}

#[test]
fn a_failed_load_is_noted_and_not_retried_by_typing() {
    let mut story = Story::begin();
    story.event(Event::Typed);
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    story.engine(EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::ModelNotFound, "no such model") });
    assert_eq!(story.notes(), ["no such model"]);
    assert_eq!(story.event(Event::Typed), []);
}

#[test]
fn a_load_that_fails_again_for_a_request_is_reported_once() {
    let mut story = Story::begin();
    story.event(Event::Typed);
    let at = story.now();
    let failed = || EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::ModelNotFound, "no such model") };
    story.engine(EngineEvent::Loading { at });
    story.engine(failed());
    assert_eq!(story.notes(), ["no such model"]);
    let id = story.ask("hi").id;
    story.engine(EngineEvent::Loading { at });
    story.engine(failed());
    story.fail(id, "no such model");
    assert!(story.notes().is_empty(), "{:?}", story.notes());
    assert_eq!(story.answer(0).ending, Ending::Failed { message: "no such model".into() });
}

#[test]
fn a_failed_load_is_reported_under_the_waiting_turn() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    story.engine(EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::ModelNotFound, "no such model") });
    story.fail(id, "no such model");
    assert!(story.notes().is_empty());
    assert_eq!(story.answer(0).ending, Ending::Failed { message: "no such model".into() });
}

#[test]
fn escape_cancels_a_load_without_a_request() {
    let mut story = Story::begin();
    story.event(Event::Typed);
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    assert_eq!(story.event(Event::Stop), [Effect::Release]);
    story.engine(EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::Cancelled, "stopped") });
    assert!(story.notes().is_empty());
    assert_eq!(story.chat.engine.state, EngineState::Cold);
}

#[test]
fn queued_prompts_are_sent_one_after_the_other() {
    let mut story = Story::begin();
    let first = story.ask("one").id;
    assert_eq!(story.submit("two"), []);
    assert_eq!(story.submit("three"), []);
    assert_eq!(story.chat.queue, ["two", "three"]);
    story.stream(first, &["1"]);
    let effects = story.finish(first, FinishReason::Stop);
    assert!(matches!(effects.last(), Some(Effect::Save(record)) if record.turn.prompt == "two"));
    let second = story.stored(TurnId(1));
    assert_eq!(second.messages.len(), 3);
    assert_eq!(story.chat.queue, ["three"]);
}

#[test]
fn a_failure_returns_the_queued_prompts() {
    let mut story = Story::begin();
    let first = story.ask("one").id;
    story.submit("two");
    story.submit("three");
    let effects = story.fail(first, "out of memory");
    assert_eq!(effects.last(), Some(&Effect::ReturnPrompts(vec!["two".into(), "three".into()])));
    assert!(story.chat.queue.is_empty());
    assert_eq!(story.notes(), ["The 2 prompts that waited were not sent: find them in the composer and with Up."]);
}

#[test]
fn reasoning_is_stored_separately_and_timed() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    let at = story.now();
    story.engine(EngineEvent::Token { id, channel: Channel::Reasoning, text: "hmm".into(), at });
    story.after(3200);
    story.stream(id, &["Yes."]);
    assert_eq!((story.answer(0).reasoning.as_str(), story.answer(0).text.as_str()), ("hmm", "Yes."));
    assert_eq!(story.chat.thought[&TurnId(0)], Duration::from_millis(3200));
}

#[test]
fn only_the_countdown_schedules_a_wake_up_each_second() {
    let mut story = Story::begin();
    assert_eq!(story.chat.next_wake(), None, "cold and idle: nothing to draw");
    let at = story.now();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
    let release_at = Timestamp::from_origin(Duration::from_millis(2500));
    story.engine(EngineEvent::Idle { release_at: Some(release_at), at });
    assert_eq!(story.chat.next_wake(), Some(Timestamp::from_origin(Duration::from_millis(500))));
    story.after(500);
    assert_eq!(story.chat.next_wake(), Some(Timestamp::from_origin(Duration::from_millis(1500))));
    story.after(2000);
    assert_eq!(story.chat.next_wake(), None, "over");
    let at = story.now();
    story.engine(EngineEvent::Idle { release_at: None, at });
    assert_eq!(story.chat.next_wake(), None);
}

#[test]
fn transfer_speed_and_time_left_use_the_last_seconds() {
    let mut story = Story::begin();
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    for done in [0, 10_000_000, 20_000_000] {
        let (phase, total) = (LoadPhase::Download, Some(100_000_000));
        story.engine(EngineEvent::LoadProgress(LoadProgress { phase, done, total, detail: None }));
        story.after(1000);
    }
    let EngineState::Loading(loading) = &story.chat.engine.state else { panic!("not loading") };
    let transfer = loading.transfer().unwrap();
    assert_eq!(transfer.bytes_per_second, 10_000_000.0);
    assert_eq!(transfer.remaining, Some(Duration::from_secs(8)));
    // The download is nine tenths of the whole load.
    assert_eq!(loading.fraction(), Some(0.9 * 0.2));
}

#[test]
fn events_of_a_finished_answer_are_ignored() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.stream(id, &["late"]), []);
    assert_eq!(story.finish(id, FinishReason::Stop), []);
    assert_eq!(story.answer(0).text, "");
}

#[test]
fn a_warning_of_the_model_is_noted_once() {
    let mut story = Story::begin();
    let at = story.now();
    for _ in 0..2 {
        story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
    }
    assert_eq!(story.notes(), ["an unknown pre-tokenizer"]);
}

#[test]
fn trimmed_turns_are_noted_once() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    let at = story.now();
    for done in [10, 20] {
        story.engine(EngineEvent::Prefill { id, done, total: 20, cached: 0, trimmed_turns: 2, at });
    }
    assert_eq!(story.notes(), ["The context is full: the oldest 2 turns were left out."]);
}

#[test]
fn a_draft_is_counted_after_a_pause_and_stale_counts_are_ignored() {
    let mut story = Story::begin();
    let counts = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| if let Effect::Count(id) = effect { Some(id) } else { None })
    };
    story.event(Event::DraftChanged { prompt: true });
    assert_eq!(counts(story.after(1000)), None, "there is no model to count with");
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at: Timestamp::default() });
    let first = counts(story.after(1)).unwrap();
    story.event(Event::DraftChanged { prompt: true });
    let counted = |id, prompt_tokens| EngineEvent::Counted {
        id,
        prompt_tokens,
        cached_tokens: 0,
        left_out: Some(0),
        context_length: 2048,
    };
    story.engine(counted(first, 7));
    assert_eq!(story.chat.draft_count(), None, "the draft is another by now");
    assert_eq!(counts(story.after(100)), None, "still writing");
    let second = counts(story.after(100)).unwrap();
    story.engine(counted(second, 8));
    assert_eq!(
        story.chat.draft_count(),
        Some(Count { prompt_tokens: 8, cached_tokens: 0, left_out: Some(0), context_length: 2048 })
    );
    assert_eq!(counts(story.after(10_000)), None, "once is enough");
    story.event(Event::DraftChanged { prompt: false });
    assert_eq!(story.chat.draft_count(), None);
}

#[test]
fn a_draft_written_during_an_answer_is_counted_after_it() {
    let mut story = Story::begin();
    let request = story.ask("one?");
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at: Timestamp::default() });
    story.stream(request.id, &["1"]);
    story.event(Event::DraftChanged { prompt: true });
    assert!(!story.after(1000).iter().any(|effect| matches!(effect, Effect::Count(_))));
    story.finish(request.id, FinishReason::Stop);
    assert!(story.after(1).iter().any(|effect| matches!(effect, Effect::Count(_))));
    let messages = story.chat.messages_with("two?".into());
    let contents: Vec<_> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["one?", "1", "two?"]);
}

#[test]
fn the_limit_that_cut_an_answer_off_is_recorded() {
    let mut story = Story::begin();
    let at = story.now();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
    for (completion_tokens, limit) in [(2, Limit::MaxTokens), (2018, Limit::Context { length: 2048, trained: 8192 })] {
        let id = story.ask("go on").id;
        let usage = Usage { prompt_tokens: 30, cached_tokens: 0, completion_tokens, ..Usage::default() };
        let (reason, timing) = (FinishReason::Length, Timing::default());
        story.engine(EngineEvent::Finished { id, reason, usage, timing, at });
        assert_eq!(story.chat.limits.values().last(), Some(&limit));
    }
    let id = story.ask("go on").id;
    story.finish(id, FinishReason::Stop);
    assert_eq!(story.chat.limits.len(), 2);
}

#[test]
fn quitting_stores_the_queued_prompts() {
    let mut story = Story::begin();
    let first = story.ask("one").id;
    story.stream(first, &["half"]);
    story.submit("two");
    story.submit("three");
    let effects = story.event(Event::Quit(Cause::User));
    let saved: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Save(record) => Some((record.turn.prompt.as_str(), record.turn.parent, &record.turn.answer.ending)),
            _ => None,
        })
        .collect();
    let parents = [None, Some(TurnId(0)), Some(TurnId(1))];
    let wanted: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .zip(parents)
        .map(|(prompt, parent)| (prompt, parent, &Ending::Interrupted))
        .collect();
    assert_eq!(saved, wanted);
    assert_eq!(effects.last(), Some(&Effect::Quit(Cause::User)));
}

#[test]
fn a_prompt_sent_while_a_conversation_loads_is_queued() {
    let mut earlier = Conversation::new(ConversationId("earlier".into()), None);
    let first = earlier.ask(None, "one", "tiny");
    earlier.turn_mut(first).unwrap().answer.text = "1".into();
    let mut story = Story::begin();
    story.event(Event::Opening);
    assert_eq!(story.submit("two"), []);
    assert_eq!(story.submit("/new"), [], "nor is another one begun");
    let effects = story.event(Event::Opened(earlier.clone()));
    assert!(matches!(&effects[..], [Effect::Save(record)] if record.turn.prompt == "two"
        && record.turn.parent == Some(first) && record.conversation == earlier.id));
    let said: Vec<_> = story.stored(TurnId(1)).messages.into_iter().map(|message| message.content).collect();
    assert_eq!(said, ["one", "1", "two"]);
    assert_eq!(story.answer(0).text, "1");
    // It cannot be loaded: the queued prompt is sent in the current conversation.
    let mut story = Story::begin();
    story.event(Event::Opening);
    story.submit("two");
    let effects = story.event(Event::NotOpened("There is none. A new conversation was begun.".into()));
    assert!(matches!(&effects[..], [Effect::Save(record)] if record.turn.prompt == "two"));
    assert_eq!(story.notes(), ["There is none. A new conversation was begun."]);
    // The program ends before it is loaded: the queued prompt is stored.
    let mut story = Story::begin();
    story.event(Event::Opening);
    story.submit("two");
    let effects = story.event(Event::Quit(Cause::Signal(1)));
    assert!(matches!(&effects[..], [Effect::Save(record), Effect::Quit(_)] if record.turn.prompt == "two"));
}
