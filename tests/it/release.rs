//! Resident memory of the engine with the real starter model: released when idle, bounded with a full context, constant
//! over load cycles. Each measurement runs in a separate process, undisturbed by other tests.

use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use chatnap::engine::Engine;
use chatnap::engine::memory::resident_bytes;
use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::hub::HubSource;
use chatnap::protocol::*;

use crate::support;

const MIB: u64 = 1 << 20;

/// Runs one ignored test of this module in a separate process.
fn alone(name: &str) {
    let program = std::env::current_exe().unwrap();
    let arguments = [&format!("release::{name}"), "--exact", "--include-ignored", "--nocapture"];
    let output = Command::new(program).args(arguments).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn idle_engine_releases_its_memory_and_reloads_for_the_next_message() {
    alone("release_measured");
}

#[test]
fn full_context_memory_is_bounded_by_file_and_kv_cache() {
    alone("full_context_measured");
}

#[test]
fn repeated_load_and_release_does_not_leak() {
    alone("cycles_measured");
}

#[test]
fn cancelled_load_reports_the_freed_bytes() {
    alone("cancelled_load_measured");
}

/// Waits for the first event for which `fits` returns true and drops the events before it.
fn until(events: &Receiver<EngineEvent>, fits: impl Fn(&EngineEvent) -> bool) -> EngineEvent {
    loop {
        let event = events.recv_timeout(Duration::from_secs(120)).unwrap();
        let given_up = matches!(&event, EngineEvent::LoadFailed { error } if error.kind == ErrorKind::Cancelled);
        let failed = matches!(event, EngineEvent::LoadFailed { .. } | EngineEvent::Failed { .. });
        assert!(given_up || !failed, "{event:?}");
        if fits(&event) {
            return event;
        }
    }
}

fn freed(events: &Receiver<EngineEvent>) -> u64 {
    match until(events, |event| matches!(event, EngineEvent::Released { .. })) {
        EngineEvent::Released { freed, .. } => freed,
        _ => unreachable!(),
    }
}

fn start(source: Box<dyn ModelSource>, idle_window: IdleWindow, context: usize) -> (Engine, Receiver<EngineEvent>) {
    support::engine(source, idle_window, Some(context))
}

fn starter() -> Box<dyn ModelSource> {
    Box::new(HubSource::new(&support::settings("smollm2-135m")).unwrap())
}

fn file_bytes() -> u64 {
    std::fs::metadata(support::starter_model()).unwrap().len()
}

fn ask(engine: &Engine, text: &str, max_tokens: usize) {
    engine.generate(GenerationRequest {
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() }.into(),
        max_tokens: Some(max_tokens),
        ..GenerationRequest::new(engine.next_id(), vec![ChatMessage::new(Role::User, text)])
    });
}

fn finished(events: &Receiver<EngineEvent>) -> (Usage, Timing) {
    match until(events, |event| matches!(event, EngineEvent::Finished { .. })) {
        EngineEvent::Finished { usage, timing, .. } => (usage, timing),
        _ => unreachable!(),
    }
}

#[test]
#[ignore = "a test above starts it in a separate process"]
fn release_measured() {
    let file = file_bytes();
    let (engine, events) = start(starter(), IdleWindow::After(Duration::from_millis(300)), 512);
    for round in 0..3 {
        ask(&engine, "Why is the sky blue?", 12);
        until(&events, |event| matches!(event, EngineEvent::Loading { .. }));
        let (usage, timing) = finished(&events);
        assert!(usage.completion_tokens > 0 && timing.load > Duration::ZERO, "{usage:?} {timing:?}");
        let warm = resident_bytes().unwrap();
        let freed = freed(&events);
        let after = resident_bytes().unwrap();
        println!("round {round}: {warm} bytes resident, {after} after the release, {freed} freed, {file} in the file");
        let enough = file * 8 / 10;
        assert!(freed >= enough && warm.saturating_sub(after) >= enough, "{warm} → {after}, {freed} freed of {file}");
    }
}

#[test]
#[ignore = "a test above starts it in a separate process"]
fn full_context_measured() {
    const CONTEXT: usize = 2048;
    // SmolLM2-135M: 30 layers, 3 KV heads of 64 elements, keys and values, 2 bytes each.
    let cache = (CONTEXT * 30 * 3 * 64 * 2 * 2) as u64;
    let (engine, events) = start(starter(), IdleWindow::Never, CONTEXT);
    ask(&engine, &"The sky is blue today. ".repeat(330), 1000);
    let (usage, _) = finished(&events);
    assert!(usage.prompt_tokens > 1900 && usage.prompt_tokens + usage.completion_tokens > 1950, "{usage:?}");
    let most = file_bytes() + cache * 115 / 100 + 60 * 1_000_000;
    let resident = resident_bytes().unwrap();
    println!("{resident} bytes resident after {usage:?}; at most {most}");
    assert!(resident <= most, "{resident} bytes are resident, {most} are allowed");
}

#[test]
#[ignore = "a test above starts it in a separate process"]
fn cycles_measured() {
    let (engine, events) = start(starter(), IdleWindow::Never, 512);
    let rounds: usize = std::env::var("CYCLES").ok().and_then(|cycles| cycles.parse().ok()).unwrap_or(20);
    let mut cold = Vec::new();
    for _ in 0..rounds {
        ask(&engine, "Why?", 3);
        finished(&events);
        engine.release();
        freed(&events);
        cold.push(resident_bytes().unwrap());
    }
    println!("resident after each release, MiB: {:?}", cold.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>());
    let (first, last) = (cold[0], cold[rounds - 1]);
    assert!(last < first + 4 * MIB, "a cold engine grows: {cold:?}");
}

/// A source that allocates this many bytes and frees them only when the load is cancelled.
struct Greedy(u64);

impl ModelSource for Greedy {
    fn name(&self) -> String {
        "greedy".into()
    }

    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError> {
        let taken = vec![1_u8; self.0 as usize];
        progress(LoadProgress { phase: LoadPhase::Download, done: self.0, total: Some(self.0), detail: None });
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Reads the buffer, so that it is not optimised away.
        let read = taken.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        Err(EngineError::new(ErrorKind::Cancelled, format!("stopped after {read} bytes")))
    }
}

#[test]
#[ignore = "a test above starts it in a separate process"]
fn cancelled_load_measured() {
    let taken = 64 * MIB;
    let (engine, events) = start(Box::new(Greedy(taken)), IdleWindow::Never, 512);
    for _ in 0..2 {
        engine.load();
        until(&events, |event| matches!(event, EngineEvent::LoadProgress(_)));
        engine.release();
        let freed = freed(&events);
        assert!((taken * 9 / 10..=taken * 11 / 10).contains(&freed), "{freed} bytes of {taken} came back");
    }
}
