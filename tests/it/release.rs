//! An idle engine gives its memory back, and the next message is answered all the same: measured with the real starter
//! model in a process of its own, which no other test disturbs.

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chatnap::engine::memory::resident_bytes;
use chatnap::engine::{Engine, EngineOptions};
use chatnap::hub::HubSource;
use chatnap::protocol::*;

use crate::support;

#[test]
fn an_idle_engine_gives_its_memory_back_and_wakes_for_the_next_message() {
    let program = std::env::current_exe().unwrap();
    let arguments = ["release::measured_in_a_process_of_its_own", "--exact", "--include-ignored", "--nocapture"];
    let output = Command::new(program).args(arguments).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Waits for the first event that fits; events before it are dropped.
fn until(events: &Receiver<EngineEvent>, fits: impl Fn(&EngineEvent) -> bool) -> EngineEvent {
    loop {
        let event = events.recv_timeout(Duration::from_secs(120)).unwrap();
        assert!(!matches!(event, EngineEvent::LoadFailed { .. } | EngineEvent::Failed { .. }), "{event:?}");
        if fits(&event) {
            return event;
        }
    }
}

#[test]
#[ignore = "started by the test above in a process of its own"]
fn measured_in_a_process_of_its_own() {
    let file = std::fs::metadata(support::starter_model()).unwrap().len();
    let options = EngineOptions {
        source: Box::new(HubSource::new(&support::settings("smollm2-135m")).unwrap()),
        idle_window: IdleWindow::After(Duration::from_millis(300)),
        context_length: Some(512),
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
    };
    let (sender, events) = channel();
    let engine = Engine::start(options, move |event| drop(sender.send(event))).unwrap();
    let mut cold = Vec::new();
    for round in 0..3 {
        engine.generate(GenerationRequest {
            id: engine.next_id(),
            messages: vec![ChatMessage::new(Role::User, "Why is the sky blue?")],
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            max_tokens: Some(12),
            on_overflow: OverflowPolicy::Error,
        });
        until(&events, |event| matches!(event, EngineEvent::Loading { .. }));
        let finished = until(&events, |event| matches!(event, EngineEvent::Finished { .. }));
        let EngineEvent::Finished { usage, timing, .. } = finished else { unreachable!() };
        assert!(usage.completion_tokens > 0 && timing.load > Duration::ZERO, "{usage:?} {timing:?}");
        let warm = resident_bytes().unwrap();
        let EngineEvent::Released { freed, .. } = until(&events, |event| matches!(event, EngineEvent::Released { .. }))
        else {
            unreachable!()
        };
        let after = resident_bytes().unwrap();
        println!("round {round}: {warm} bytes resident, {after} after the release, {freed} freed, {file} in the file");
        let enough = file * 8 / 10;
        assert!(freed >= enough && warm.saturating_sub(after) >= enough, "{warm} → {after}, {freed} freed of {file}");
        cold.push(after);
    }
    assert!(cold[2] < cold[0] + (16 << 20), "a cold engine grows: {cold:?}");
}
