//! Tests of the figures that are derived from the engine's events.

use super::*;

fn progress(phase: LoadPhase, done: u64, total: Option<u64>) -> EngineEvent {
    EngineEvent::LoadProgress(LoadProgress { phase, done, total, detail: None })
}

#[test]
fn load_progress_never_decreases_over_the_phases() {
    let mut story = Story::begin();
    let at = story.now();
    story.engine(EngineEvent::Loading { at });
    let mut last = 0.0;
    for phase in [LoadPhase::Download, LoadPhase::Verify, LoadPhase::Read, LoadPhase::Upload] {
        for done in [0, 30, 57, 100] {
            story.engine(progress(phase, done, Some(100)));
            let EngineState::Loading(loading) = &story.chat.engine.state else { panic!("not loading") };
            let fraction = loading.fraction().unwrap();
            assert!(fraction >= last && fraction <= 1.0, "{phase:?} {done}: {fraction} after {last}");
            last = fraction;
        }
    }
    assert_eq!(last, 1.0);
    story.engine(progress(LoadPhase::Read, 1, None));
    let EngineState::Loading(loading) = &story.chat.engine.state else { panic!("not loading") };
    assert_eq!(loading.fraction(), None, "the total is unknown");
}

#[test]
fn a_load_without_a_download_uses_the_whole_scale() {
    let mut story = Story::begin();
    let at = story.now();
    story.engine(EngineEvent::Loading { at }).clear();
    story.engine(progress(LoadPhase::Read, 50, Some(100)));
    let EngineState::Loading(loading) = &story.chat.engine.state else { panic!("not loading") };
    assert_eq!(loading.fraction(), Some(0.5));
}

#[test]
fn shown_memory_is_what_a_release_frees() {
    let mut story = Story::begin();
    let at = story.now();
    story.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
    assert_eq!(story.chat.engine.memory(), Some(98_000_001), "a KV cache that is not used takes no RAM");
    story.engine(EngineEvent::Resident { bytes: 119_000_000 });
    story.engine(EngineEvent::Idle { release_at: None, at });
    assert_eq!(story.chat.engine.memory(), Some(119_000_000));
    story.engine(EngineEvent::Released { freed: 119_000_000, energy_mj: None, at });
    assert_eq!((story.chat.engine.memory(), story.chat.engine.freed), (None, Some(119_000_000)));
}

#[test]
fn a_model_without_memory_shows_no_figure() {
    let mut story = Story::begin();
    let at = story.now();
    let memory = MemoryUse { weights: 0, kv_cache: 0, workspace: 0 };
    story.engine(EngineEvent::Loaded { info: ModelInfo { memory, ..info() }, took: Duration::ZERO, at });
    story.engine(EngineEvent::Resident { bytes: 4096 });
    assert_eq!(story.chat.engine.memory(), None);
    story.engine(EngineEvent::Released { freed: 4096, energy_mj: None, at });
    assert_eq!(story.chat.engine.freed, None);
}

#[test]
fn an_opened_conversation_shows_its_context_at_once() {
    let mut story = Story::begin();
    let id = story.ask("hi").id;
    let at = story.now();
    let usage = Usage { prompt_tokens: 1000, cached_tokens: 0, completion_tokens: 25, ..Usage::default() };
    story.engine(EngineEvent::Finished { id, reason: FinishReason::Stop, usage, timing: Timing::default(), at });
    let stored = story.chat.conversation.clone();
    let mut later = Story::begin();
    later.event(Event::Opened(stored));
    assert_eq!(later.chat.engine.context_used, 1025);
    later.event(Event::Switched { model: "other".into() });
    assert_eq!(later.chat.engine.context_used, 1025, "a switch of the model keeps the conversation");
}
