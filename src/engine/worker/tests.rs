//! The whole engine, with its threads and a scripted model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::engine::Engine;
use crate::engine::source::{ModelFiles, ModelSource};

/// Locates a script file without any progress.
struct ScriptSource(PathBuf);

impl ModelSource for ScriptSource {
    fn name(&self) -> String {
        "script".into()
    }

    fn locate(&mut self, _: &mut dyn FnMut(LoadProgress), _: &CancelFlag) -> Result<ModelFiles, EngineError> {
        Ok(ModelFiles::Scripted(self.0.clone()))
    }
}

/// An engine that runs a script, and its events.
struct Play {
    engine: Option<Engine>,
    events: Receiver<EngineEvent>,
    folder: tempfile::TempDir,
}

impl Play {
    fn new(script: &str, idle_window: IdleWindow) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.toml"), script).unwrap();
        let (sender, events) = std::sync::mpsc::channel();
        let options = options(folder.path().join("script.toml"), idle_window);
        let engine = Engine::start(options, move |event| drop(sender.send(event))).unwrap();
        Self { engine: Some(engine), events, folder }
    }

    fn warm(script: &str) -> Self {
        Self::new(script, IdleWindow::Never)
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn ask(&self, messages: &[(Role, &str)]) -> RequestId {
        self.ask_with(messages, |_| ())
    }

    fn say(&self, text: &str) -> RequestId {
        self.ask(&[(Role::User, text)])
    }

    fn ask_with(&self, messages: &[(Role, &str)], change: impl FnOnce(&mut GenerationRequest)) -> RequestId {
        let id = self.engine().next_id();
        let messages = messages.iter().map(|(role, text)| ChatMessage::new(*role, *text)).collect();
        let mut request = GenerationRequest::new(id, messages);
        change(&mut request);
        self.engine().generate(request);
        id
    }

    /// The events up to and including the first for which `fits` is true.
    fn until(&self, fits: impl Fn(&EngineEvent) -> bool) -> Vec<EngineEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{events:#?}"));
            events.push(event);
            if fits(&events[events.len() - 1]) {
                return events;
            }
        }
    }

    fn end_of(&self, id: RequestId) -> Vec<EngineEvent> {
        self.until(|event| terminal(event) == Some(id))
    }

    /// Drops the engine, which must take less than 2 s, and returns the remaining events.
    fn close(&mut self) -> Vec<EngineEvent> {
        let started = Instant::now();
        self.engine = None;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        self.events.try_iter().collect()
    }
}

fn options(script: PathBuf, idle_window: IdleWindow) -> EngineOptions {
    EngineOptions {
        source: Box::new(ScriptSource(script)),
        idle_window,
        context_length: None,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        chat_template: None,
    }
}

fn terminal(event: &EngineEvent) -> Option<RequestId> {
    match event {
        EngineEvent::Finished { id, .. } | EngineEvent::Failed { id, .. } => Some(*id),
        _ => None,
    }
}

fn text(events: &[EngineEvent], wanted: Channel) -> String {
    let piece = |event: &EngineEvent| match event {
        EngineEvent::Token { channel, text, .. } if *channel == wanted => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(piece).collect()
}

fn finished(events: &[EngineEvent]) -> (FinishReason, Usage, Timing) {
    match events.last() {
        Some(EngineEvent::Finished { reason, usage, timing, .. }) => (*reason, *usage, timing.clone()),
        other => panic!("{other:?}"),
    }
}

fn failed(events: &[EngineEvent]) -> EngineError {
    match events.last() {
        Some(EngineEvent::Failed { error, .. }) => error.clone(),
        other => panic!("{other:?}"),
    }
}

fn released(event: &EngineEvent) -> bool {
    matches!(event, EngineEvent::Released { .. })
}

const CHAT: &str = "[[answer]]\ntext = 'Hello!'\n[[answer]]\ntext = 'Fine, thänks.'\n[[answer]]\ntext = 'Bye.'";

#[test]
fn events_are_in_order_and_timings_add_up() {
    let play = Play::warm("load_ms = 100\ntoken_ms = 10\n[[answer]]\ntext = 'Héllo'");
    let started = Instant::now();
    let id = play.say("hi");
    let events = play.end_of(id);
    let wall = started.elapsed();
    let order: Vec<_> = events.iter().map(std::mem::discriminant).collect();
    let mut stages = order.clone();
    stages.dedup();
    assert_eq!(stages.len(), 7, "{events:#?}");
    assert!(matches!(events[0], EngineEvent::Loading { .. }));
    assert_eq!(text(&events, Channel::Answer), "Héllo");
    let (reason, usage, timing) = finished(&events);
    assert_eq!(reason, FinishReason::Stop);
    // <|im_start|> "user\nhi" <|im_end|> "\n" <|im_start|> "assistant\n": a token a byte, six for "Héllo".
    assert_eq!(usage, Usage { prompt_tokens: 21, cached_tokens: 0, completion_tokens: 6, ..Usage::default() });
    assert_eq!(timing.inter_token.len(), 5);
    assert_eq!(timing.inter_token.iter().sum::<Duration>(), timing.decode);
    assert!(timing.load >= Duration::from_millis(100) && timing.decode >= Duration::from_millis(50), "{timing:?}");
    assert!(timing.load + timing.ttft + timing.decode <= timing.total && timing.total <= wall, "{timing:?} {wall:?}");
    let again = finished(&play.end_of(play.say("hi"))).2;
    assert_eq!(again.load, Duration::ZERO);
}

#[test]
fn conversation_reuses_all_cached_tokens_of_earlier_turns() {
    for decoder in [false, true] {
        let play = Play::warm(&format!("device_decoder = {decoder}\n{CHAT}"));
        let mut talk = vec![(Role::System, "Be brief.".to_string())];
        let mut before = 0;
        for (user, answer) in [("hi", "Hello!"), ("how are you?", "Fine, thänks."), ("bye", "Bye.")] {
            talk.push((Role::User, user.to_string()));
            let messages: Vec<_> = talk.iter().map(|(role, text)| (*role, text.as_str())).collect();
            let events = play.end_of(play.ask(&messages));
            assert_eq!(text(&events, Channel::Answer), answer);
            let usage = finished(&events).1;
            assert!(usage.cached_tokens >= before, "{usage:?}, {before} were there");
            before = usage.total_tokens();
            talk.push((Role::Assistant, answer.to_string()));
        }
        // The second user message is edited: only the tokens before it are reused.
        let edited = [(Role::System, "Be brief."), (Role::User, "hi"), (Role::Assistant, "Hello!"), (Role::User, "No")];
        let cached = finished(&play.end_of(play.ask(&edited))).1.cached_tokens;
        // A byte is a token; `s` and `e` stand for the tokens `<|im_start|>` and `<|im_end|>`.
        let kept =
            "ssystem\nBe brief.e\n".len() + "suser\nhie\n".len() + "sassistant\nHello!e\n".len() + "suser\n".len();
        assert_eq!(cached, kept);
    }
}

#[test]
fn cached_tokens_are_zero_if_the_cache_cannot_be_truncated() {
    let play = Play::warm(&format!("cuts_cache = false\n{CHAT}"));
    play.end_of(play.say("one"));
    assert_eq!(finished(&play.end_of(play.say("two"))).1.cached_tokens, 0);
}

#[test]
fn reasoning_is_sent_on_its_own_channel() {
    let play = Play::warm("[[answer]]\ntext = \"<think>\\nHm, ½.\\n</think>\\n\\nYes.\"");
    let events = play.end_of(play.say("?"));
    assert_eq!(text(&events, Channel::Reasoning), "Hm, ½.\n");
    assert_eq!(text(&events, Channel::Answer), "Yes.");
}

#[test]
fn invalid_utf8_in_an_answer_is_replaced() {
    let play = Play::warm("[[answer]]\nbytes = [104, 105, 255, 226, 130]");
    assert_eq!(text(&play.end_of(play.say("?")), Channel::Answer), "hi\u{FFFD}\u{FFFD}");
}

#[test]
fn answer_ends_at_max_tokens_and_at_the_end_of_the_context() {
    let play = Play::warm("context_length = 40\n[[answer]]\ntext = 'A rather long answer, longer than fits.'");
    let events = play.end_of(play.ask_with(&[(Role::User, "hi")], |request| request.max_tokens = Some(3)));
    assert_eq!((finished(&events).0, text(&events, Channel::Answer).as_str()), (FinishReason::Length, "A r"));
    let events = play.end_of(play.say("hi"));
    let (reason, usage, _) = finished(&events);
    assert_eq!((reason, usage.total_tokens()), (FinishReason::Length, 40));
    let none = play.end_of(play.ask_with(&[(Role::User, "hi")], |request| request.max_tokens = Some(0)));
    assert_eq!((finished(&none).0, finished(&none).1.completion_tokens), (FinishReason::Length, 0));
}

#[test]
fn prompt_that_exceeds_the_context_is_an_error_with_counts_or_is_trimmed_by_whole_turns() {
    let play = Play::warm("context_length = 80\nfallback = '{first}/{system}'");
    let error = failed(&play.end_of(play.say(&"x".repeat(200))));
    assert_eq!(error.kind, ErrorKind::ContextOverflow);
    assert!(error.message.contains("219") && error.message.contains("80"), "{error}");
    let talk = [
        (Role::System, "S"),
        (Role::User, "one"),
        (Role::Assistant, "1"),
        (Role::User, "two"),
        (Role::Assistant, "2"),
        (Role::User, "three"),
    ];
    assert_eq!(failed(&play.end_of(play.ask(&talk))).kind, ErrorKind::ContextOverflow);
    let events = play.end_of(play.ask_with(&talk, |request| {
        request.on_overflow = OverflowPolicy::Trim;
        request.max_tokens = Some(8);
    }));
    assert_eq!(text(&events, Channel::Answer), "two/S");
    let trimmed = events.iter().find_map(|event| match event {
        EngineEvent::Prefill { trimmed_turns, .. } => Some(*trimmed_turns),
        _ => None,
    });
    assert_eq!(trimmed, Some(1));
    let hopeless =
        play.ask_with(&[(Role::User, &*"x".repeat(200))], |request| request.on_overflow = OverflowPolicy::Trim);
    assert_eq!(failed(&play.end_of(hopeless)).kind, ErrorKind::ContextOverflow);
}

#[test]
fn cancel_works_in_the_queue_and_during_a_load() {
    let play = Play::new(
        "load_ms = 10_000\nload_steps = 1000\nprefill_token_ms = 20\nprefill_chunk = 2\ntoken_ms = 20",
        IdleWindow::Never,
    );
    let (first, second) = (play.say("a"), play.say("b"));
    play.engine().cancel(second);
    assert_eq!(finished(&play.end_of(second)).0, FinishReason::Cancelled);
    let started = Instant::now();
    play.engine().cancel(first);
    assert_eq!(finished(&play.end_of(first)).0, FinishReason::Cancelled);
    play.until(released);
    assert!(started.elapsed() < Duration::from_secs(1), "cold only after {:?}", started.elapsed());
}

#[test]
fn cancel_during_prefill_and_answer_keeps_the_evaluated_tokens() {
    let play = Play::warm("prefill_token_ms = 20\nprefill_chunk = 2\ntoken_ms = 20\nfallback = 'endless {user}'");
    let id = play.say("prefill");
    play.until(|event| matches!(event, EngineEvent::Prefill { done: 4, .. }));
    play.engine().cancel(id);
    let (reason, usage, _) = finished(&play.end_of(id));
    assert_eq!((reason, usage.completion_tokens), (FinishReason::Cancelled, 0));
    let id = play.say("prefill");
    let events = play.until(|event| matches!(event, EngineEvent::Token { .. }));
    assert!(events.iter().any(|event| matches!(event, EngineEvent::Prefill { cached: 4.., .. })), "{events:#?}");
    play.engine().cancel(id);
    let rest = play.end_of(id);
    let (reason, usage, _) = finished(&rest);
    assert_eq!(reason, FinishReason::Cancelled);
    assert_eq!(usage.completion_tokens, 1 + text(&rest, Channel::Answer).len());
    play.engine().cancel(id);
    assert_eq!(text(&play.end_of(play.say("x")), Channel::Answer), "endless x", "a late cancel has no effect");
}

#[test]
fn idle_engine_releases_and_the_next_request_loads_again() {
    let play = Play::new("load_ms = 20\nballast_mib = 8", IdleWindow::After(Duration::from_millis(150)));
    for turn in 0..3 {
        let events = play.end_of(play.say("hi"));
        assert!(matches!(events[0], EngineEvent::Loading { .. }), "{turn}: {events:#?}");
        assert_eq!(text(&events, Channel::Answer), "You said: hi");
        let idle = Instant::now();
        let events = play.until(released);
        let first = events.iter().find(|event| !matches!(event, EngineEvent::Resident { .. }));
        assert!(matches!(first, Some(EngineEvent::Idle { release_at: Some(_), .. })), "{events:#?}");
        assert!((100..5000).contains(&idle.elapsed().as_millis()), "{:?}", idle.elapsed());
    }
}

#[test]
fn requests_during_load_and_release_wait_and_are_answered() {
    let play = Play::new("load_ms = 50", IdleWindow::After(Duration::ZERO));
    for _ in 0..20 {
        let ids = [play.say("a"), play.say("b")];
        play.engine().release();
        ids.iter().for_each(|&id| assert_eq!(finished(&play.end_of(id)).0, FinishReason::Stop));
    }
}

#[test]
fn failure_fails_one_turn_and_the_engine_answers_the_next() {
    let kinds = [
        ("out_of_memory", ErrorKind::OutOfMemory),
        ("device", ErrorKind::Failed),
        ("panic", ErrorKind::Failed),
        ("invalid", ErrorKind::Failed),
    ];
    for (kind, expected) in kinds {
        let play = Play::warm(&format!("[[failure]]\nat = 'token'\nafter = 3\nkind = '{kind}'\nwhen = 'break'"));
        let events = play.end_of(play.say("break"));
        assert_eq!(failed(&events).kind, expected);
        assert_eq!(text(&events, Channel::Answer), "You", "the text before the failure is kept");
        let events = play.end_of(play.say("go on"));
        assert_eq!(text(&events, Channel::Answer), "You said: go on");
        assert!(events.iter().any(released), "the broken model was released: {events:#?}");
    }
}

#[test]
fn lost_device_is_a_fatal_error_and_a_restarted_device_answers() {
    let play = Play::warm("[[failure]]\nat = 'token'\nkind = 'fatal'\nwhen = 'a'\ntimes = 1");
    let (first, second) = (play.say("a"), play.say("b"));
    assert_eq!(failed(&play.end_of(first)).kind, ErrorKind::Fatal);
    let events = play.end_of(second);
    assert!(events.iter().any(released), "the lost model was released: {events:#?}");
    assert_eq!(text(&events, Channel::Answer), "You said: b");
}

#[test]
fn device_lost_twice_in_a_row_stays_lost_until_a_switch() {
    let play = Play::warm("[[failure]]\nat = 'token'\nkind = 'fatal'\nwhen = 'break'");
    let (first, second) = (play.say("break"), play.say("break"));
    assert_eq!(failed(&play.end_of(first)).kind, ErrorKind::Fatal);
    assert_eq!(failed(&play.end_of(second)).kind, ErrorKind::Fatal);
    assert_eq!(failed(&play.end_of(play.say("c"))).kind, ErrorKind::Fatal);
    play.engine().switch(options(play.folder.path().join("script.toml"), IdleWindow::Never));
    assert_eq!(text(&play.end_of(play.say("d")), Channel::Answer), "You said: d");
}

#[test]
fn load_that_fails_or_panics_fails_its_requests_and_the_next_request_loads_again() {
    for kind in ["invalid", "panic", "out_of_memory"] {
        let play = Play::warm(&format!("[[failure]]\nat = 'load'\nafter = 2\nkind = '{kind}'\ntimes = 1\n"));
        let (first, second) = (play.say("a"), play.say("b"));
        let events = play.end_of(first);
        assert!(events.iter().any(|event| matches!(event, EngineEvent::LoadFailed { .. })));
        failed(&events);
        // If the second request arrived after the failure, it is answered.
        play.end_of(second);
        assert_eq!(text(&play.end_of(play.say("c")), Channel::Answer), "You said: c");
    }
}

#[test]
fn switch_applies_to_the_requests_after_it() {
    let play = Play::warm("fallback = 'old'");
    assert_eq!(text(&play.end_of(play.say("a")), Channel::Answer), "old");
    let other = play.folder.path().join("other.toml");
    std::fs::write(&other, "fallback = 'new'").unwrap();
    let before = play.say("b");
    play.engine().switch(options(other, IdleWindow::Never));
    let after = play.say("c");
    assert_eq!(text(&play.end_of(before), Channel::Answer), "old");
    assert_eq!(text(&play.end_of(after), Channel::Answer), "new");
}

fn counting(id: u64, messages: Vec<ChatMessage>) -> CountRequest {
    CountRequest { id: RequestId(id), messages, max_tokens: None, think: None }
}

#[test]
fn a_begun_answer_is_continued_without_another_turn() {
    let play = Play::warm("fallback = 'one two three'");
    let begun = |text: &str| vec![ChatMessage::new(Role::User, "count"), ChatMessage::new(Role::Assistant, text)];
    let events = play.end_of(play.ask(&[(Role::User, "count"), (Role::Assistant, "one tw")]));
    assert_eq!(text(&events, Channel::Answer), "o three");
    // The answer is in the cache; a count says so, with what another prompt keeps of it.
    play.engine().count(counting(9, begun("one two")));
    let events = play.until(|event| matches!(event, EngineEvent::Counted { .. }));
    let Some(EngineEvent::Counted { prompt_tokens, cached_tokens, .. }) = events.last() else { panic!() };
    assert_eq!(*cached_tokens, prompt_tokens - 1);
}

#[test]
fn a_template_without_a_switch_for_reasoning_is_told_once() {
    let play = Play::warm("");
    let ask = |think| play.end_of(play.ask_with(&[(Role::User, "hi")], |request| request.think = think));
    let told = |events: &[EngineEvent]| {
        events.iter().filter(|event| matches!(event, EngineEvent::Warning(text) if text == NO_THINK_SWITCH)).count()
    };
    assert_eq!([ask(None), ask(Some(false)), ask(Some(true))].map(|events| told(&events)), [0, 1, 0]);
}

#[test]
fn a_count_says_how_many_turns_would_be_left_out() {
    let play = Play::warm("context_length = 200");
    play.end_of(play.say("hi"));
    let long = "x".repeat(60);
    let turns = |count: usize| {
        let pairs = [ChatMessage::new(Role::User, long.clone()), ChatMessage::new(Role::Assistant, "y")];
        let mut messages: Vec<_> = pairs.into_iter().cycle().take(2 * count).collect();
        messages.push(ChatMessage::new(Role::User, "z"));
        messages
    };
    let left_out = |messages| {
        play.engine().count(counting(9, messages));
        match play.until(|event| matches!(event, EngineEvent::Counted { .. })).pop() {
            Some(EngineEvent::Counted { left_out, .. }) => left_out,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(left_out(turns(1)), Some(0));
    assert_eq!(left_out(turns(3)), Some(2));
    assert_eq!(left_out(vec![ChatMessage::new(Role::User, "z".repeat(300))]), None);
}

#[test]
fn tokens_are_counted_while_a_model_is_loaded() {
    let play = Play::warm("");
    play.end_of(play.say("hi"));
    play.engine().count(counting(77, vec![ChatMessage::new(Role::User, "hi")]));
    let events = play.until(|event| matches!(event, EngineEvent::Counted { .. }));
    let expected = EngineEvent::Counted {
        id: RequestId(77),
        prompt_tokens: 21,
        cached_tokens: 20,
        left_out: Some(0),
        context_length: 8192,
    };
    assert_eq!(events.last(), Some(&expected));
}

#[test]
fn dropping_the_engine_ends_every_request_within_two_seconds() {
    for script in
        ["load_ms = 60_000", "token_ms = 50", "prefill_token_ms = 200\nprefill_chunk = 1", "token_ms = 60_000"]
    {
        let mut play = Play::new(script, IdleWindow::Never);
        let ids = [play.say("a long story"), play.say("b")];
        std::thread::sleep(Duration::from_millis(150));
        let told: Vec<_> = play.close().iter().filter_map(terminal).collect();
        assert_eq!(told.len(), 2, "{script}: {told:?}");
        assert!(ids.iter().all(|id| told.contains(id)));
    }
}

#[test]
fn load_progress_is_rate_limited_and_the_last_report_is_complete() {
    let started = Instant::now();
    let play = Play::warm("load_ms = 200\nload_steps = 200\nload_phases = ['download', 'read']\nload_bytes = 1000");
    let events = play.end_of(play.say("hi"));
    let seen: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            EngineEvent::LoadProgress(progress) => Some((progress.phase, progress.done)),
            _ => None,
        })
        .collect();
    let most = 6.0 + 30.0 * started.elapsed().as_secs_f64();
    assert!((seen.len() as f64) < most.min(200.0), "{seen:?}");
    assert!(seen.contains(&(LoadPhase::Download, 1000)) && seen.last() == Some(&(LoadPhase::Read, 1000)), "{seen:?}");
}

#[derive(Clone, Debug)]
enum Act {
    Ask,
    Cancel(usize),
    Load,
    Release,
    Switch,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Ask),
        3 => (0usize..8).prop_map(Act::Cancel),
        1 => Just(Act::Load),
        1 => Just(Act::Release),
        1 => Just(Act::Switch),
        3 => (0u64..15).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn each_request_gets_exactly_one_terminal_event(
        acts in proptest::collection::vec(act(), 1..30),
        window in 0u64..12,
    ) {
        let script = "load_ms = 8\ntoken_ms = 0.3\n[[failure]]\nat = 'token'\nafter = 5\nkind = 'panic'\ntimes = 1\n\
                      [[failure]]\nat = 'load'\nafter = 3\nkind = 'invalid'\ntimes = 1";
        let mut play = Play::new(script, IdleWindow::After(Duration::from_millis(window)));
        let mut ids = Vec::new();
        for act in acts {
            match act {
                Act::Ask => ids.push(play.say("hello")),
                Act::Cancel(back) => ids.iter().rev().nth(back).into_iter().for_each(|&id| play.engine().cancel(id)),
                Act::Load => play.engine().load(),
                Act::Release => play.engine().release(),
                Act::Switch => {
                    let window = IdleWindow::After(Duration::from_millis(window));
                    play.engine().switch(options(play.folder.path().join("script.toml"), window));
                }
                Act::Wait(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            }
        }
        let mut told: HashMap<RequestId, usize> = HashMap::new();
        let mut ended = |events: Vec<EngineEvent>| {
            for event in events {
                match (terminal(&event), &event) {
                    (Some(id), _) => *told.entry(id).or_default() += 1,
                    (None, EngineEvent::Token { id, .. }) => assert!(!told.contains_key(id), "a token after the end"),
                    _ => {}
                }
            }
        };
        ended(play.close());
        prop_assert_eq!(told.len(), ids.len());
        prop_assert!(told.values().all(|&count| count == 1));
    }
}
