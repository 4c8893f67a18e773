//! Tests of what is shown about a server that answers.

use super::*;

fn waiting(app: &mut App, seconds: u64, why: &str) {
    let at = app.at();
    app.engine(EngineEvent::Waiting { waited: Duration::from_secs(seconds), why: why.into(), at });
}

fn connected(app: &mut App, context_length: usize) {
    let device = DeviceInfo { kind: DeviceKind::Server, name: "http://box:8000".into() };
    let info = ModelInfo { name: "m@box".into(), context_length, device, ..ModelInfo::default() };
    let at = app.at();
    app.engine(EngineEvent::Loaded { info, took: Duration::from_secs(80), at });
    app.engine(EngineEvent::Idle { release_at: None, at });
}

#[test]
fn wait_for_a_server_is_shown_with_its_time_and_reason_until_it_ends() {
    let mut app = App::new(100, 24);
    let at = app.at();
    app.send("Hi").engine(EngineEvent::Loading { at });
    waiting(&mut app, 72, "connection\x1b[2J refused");
    let screen = app.screen();
    assert!(screen.contains("waiting for smollm2-135m 1:12: connection refused"), "{screen}");
    assert!(screen.contains("waiting 1:12") && screen.contains("waiting for the server"), "{screen}");
    connected(&mut app, 4096);
    let screen = app.screen();
    assert!(!screen.contains("waiting 1:12") && screen.contains("ready"), "{screen}");
    app.engine(EngineEvent::Asleep(true));
    assert!(app.screen().contains("asleep"), "{}", app.screen());
    app.engine(EngineEvent::Asleep(false));
    assert!(!app.screen().contains("asleep"), "{}", app.screen());
    assert!(screen.contains("http://box:8000") && !screen.contains("RAM"), "{screen}");
    // The server fell asleep before it answers.
    waiting(&mut app, 3, "HTTP 503");
    assert!(app.screen().contains("waiting 0:03"), "{}", app.screen());
    app.stream("Hello ");
    assert!(!app.screen().contains("waiting"), "{}", app.screen());
}

#[test]
fn answer_of_a_server_was_waited_for_and_not_loaded() {
    let mut app = App::new(100, 24);
    app.send("Hi").stream("Hello ").finish_with(FinishReason::Stop, Usage::of([Some(9), Some(0), Some(2)]));
    assert!(app.screen().contains("· load 0.14 s"), "{}", app.screen());
    app.send("Again");
    connected(&mut app, 4096);
    let device = DeviceInfo { kind: DeviceKind::Server, name: "http://box:8000".into() };
    let id = app.request.unwrap();
    app.engine(EngineEvent::Served { id, served: Served { model: "m@box".into(), device } });
    app.stream("Hello ").finish_with(FinishReason::Stop, Usage::of([Some(9), Some(0), Some(2)]));
    assert!(app.screen().contains("· wait 0.14 s"), "{}", app.screen());
}

#[test]
fn unknown_context_and_counts_are_called_unknown() {
    let mut app = App::new(100, 24);
    app.send("Hi");
    connected(&mut app, 0);
    app.stream("Hello there ").finish_with(FinishReason::Stop, Usage::of([Some(9), None, None]));
    let screen = app.screen();
    assert!(screen.contains("9 prompt / unknown cached / unknown completion tokens"), "{screen}");
    assert!(screen.contains("/ unknown"), "{screen}");
    app.send("Again").stream("Hello ").finish_with(FinishReason::Stop, Usage::of([None; 3]));
    assert!(app.screen().contains("tokens unknown"), "{}", app.screen());
}
