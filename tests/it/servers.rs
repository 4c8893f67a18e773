//! Servers as engine, against a scripted server that writes bytes. Tests are numbered as the groups of cases that a
//! client must handle; those of pure parts are beside the code, in `src/engine/remote`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chatnap::engine::Engine;
use chatnap::engine::remote::session::Session;
use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::protocol::*;
use serde_json::json;

use crate::run::{self, Home};
use crate::support;
use crate::support_pty;
use crate::support_server::{Exchange, Scripted, delta, end, models};
use crate::support_tls::{self, Secure};

mod bodies;
mod program;
mod settings;

/// A source of a server's model.
struct Remote(Server, Option<String>);

impl ModelSource for Remote {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn locate(&mut self, _: &mut dyn FnMut(LoadProgress), _: &CancelFlag) -> Result<ModelFiles, EngineError> {
        Err(EngineError::new(ErrorKind::Failed, "a server has no files"))
    }

    fn server(&self) -> Option<(Server, Option<String>)> {
        Some((self.0.clone(), self.1.clone()))
    }
}

fn server(address: &str) -> Server {
    Server {
        name: "box".into(),
        url: address.to_owned(),
        wait: Duration::from_secs(20),
        silence: Some(Duration::from_secs(20)),
        ..Server::default()
    }
}

fn start(server: Server, model: Option<&str>) -> (Engine, Receiver<EngineEvent>) {
    support::engine(Box::new(Remote(server, model.map(str::to_owned))), IdleWindow::After(Duration::ZERO), None)
}

fn request(id: RequestId, text: &str) -> GenerationRequest {
    GenerationRequest::new(id, vec![ChatMessage::new(Role::User, text)])
}

/// What became of a request.
#[derive(Debug, Default)]
struct Told {
    answer: String,
    reasoning: String,
    /// The finish reason, or the error.
    end: Option<Result<FinishReason, EngineError>>,
    usage: Usage,
    timing: Timing,
    /// Why the server was awaited.
    waits: Vec<String>,
    warnings: Vec<String>,
    /// Number of turns that were left out of the prompt.
    trimmed: Option<usize>,
    info: Option<ModelInfo>,
}

impl Told {
    fn error(&self) -> &EngineError {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    #[track_caller]
    fn is(&self, answer: &str, reason: FinishReason) {
        assert_eq!((self.answer.as_str(), &self.end), (answer, &Some(Ok(reason))), "{self:?}");
    }

    fn hear(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Token { channel: Channel::Answer, text, .. } => self.answer.push_str(&text),
            EngineEvent::Token { text, .. } => self.reasoning.push_str(&text),
            EngineEvent::Waiting { why, .. } => self.waits.push(why),
            EngineEvent::Warning(text) => self.warnings.push(text),
            EngineEvent::Prefill { trimmed_turns, .. } if trimmed_turns > 0 => self.trimmed = Some(trimmed_turns),
            EngineEvent::Loaded { info, .. } => self.info = Some(info),
            EngineEvent::Finished { reason, usage, timing, .. } => {
                (self.end, self.usage, self.timing) = (Some(Ok(reason)), usage, timing);
            }
            EngineEvent::Failed { error, .. } => self.end = Some(Err(error)),
            _ => {}
        }
    }
}

/// All that is told until a request ends.
fn listen(events: &Receiver<EngineEvent>) -> Told {
    let mut told = Told::default();
    while told.end.is_none() {
        told.hear(events.recv_timeout(Duration::from_secs(40)).expect("an end"));
    }
    told
}

fn ask(server: Server) -> Told {
    let (engine, events) = start(server, None);
    engine.generate(request(engine.next_id(), "Hi"));
    listen(&events)
}

fn hello(mut exchange: Exchange) {
    exchange.stream(delta("Hel") + &delta("lo") + &end());
}

#[test]
fn case_01_refused_connection_is_awaited_and_the_prompt_sent_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (engine, events) = start(server(&format!("http://{address}")), None);
    engine.generate(request(engine.next_id(), "Hi"));
    // The server comes up only when the client has noticed that it is not there.
    let mut told = Told::default();
    while told.waits.is_empty() {
        told.hear(events.recv_timeout(Duration::from_secs(40)).unwrap());
    }
    let up = Scripted::on(TcpListener::bind(address).unwrap(), |mut exchange| match exchange.request.method.as_str() {
        "GET" => exchange.json(&models()),
        _ => hello(exchange),
    });
    let after = listen(&events);
    after.is("Hello", FinishReason::Stop);
    assert_eq!(up.prompts().len(), 1);
    assert!(told.waits[0].to_lowercase().contains("refused"), "{:?}", told.waits);
    assert!(after.timing.load > Duration::ZERO);
}

#[test]
fn case_02_server_without_headers_is_awaited_and_silence_ends_an_answer() {
    let slow = Scripted::chat(|exchange| {
        std::thread::sleep(Duration::from_millis(700));
        hello(exchange);
    });
    let patient = Server { silence: None, wait: Duration::ZERO, ..server(&slow.address) };
    ask(patient).is("Hello", FinishReason::Stop);
    assert_eq!(slow.prompts().len(), 1);

    let stalls = Scripted::chat(|mut exchange| {
        exchange.stream(delta("so far"));
        exchange.is_closed_by_client();
    });
    let told = ask(Server { silence: Some(Duration::from_millis(200)), ..server(&stalls.address) });
    assert_eq!(told.answer, "so far");
    assert!(told.error().message.contains("silent for too long"), "{told:?}");
    assert_eq!(stalls.prompts().len(), 1);
}

#[test]
fn case_03_chain_of_303_keeps_the_key_on_its_host_and_sends_the_prompt_once() {
    let chain = Scripted::start(|mut exchange| {
        let path = exchange.request.path.clone();
        let step = path.split("token=").nth(1).map_or(0, |n| n.parse::<usize>().unwrap());
        match exchange.request.method.as_str() {
            "GET" if path.ends_with("/models") => exchange.json(&models()),
            "GET" if path.ends_with("/health") => exchange.status(200, "", ""),
            _ if step < 12 => exchange.status(
                303,
                &format!("Location: {path}\r\n").replace(&path, &format!("/v1/chat/completions?token={}", step + 1)),
                "",
            ),
            _ => hello(exchange),
        }
    });
    let headers = vec![("X-Key".to_owned(), HeaderSource::Text("s3cret".into()))];
    ask(Server { headers: headers.clone(), ..server(&chain.address) }).is("Hello", FinishReason::Stop);
    let followed: Vec<_> = chain.requests().into_iter().filter(|request| request.path.contains("token=")).collect();
    assert_eq!((chain.prompts().len(), followed.len()), (1, 12));
    assert!(followed.iter().all(|request| request.header("x-key") == Some("s3cret") && request.body.is_null()));

    let other = Scripted::start(hello);
    let target = other.address.clone();
    let away = Scripted::chat(move |mut exchange| exchange.status(303, &format!("Location: {target}/x\r\n"), ""));
    ask(Server { headers, ..server(&away.address) }).is("Hello", FinishReason::Stop);
    let there = other.requests().remove(0);
    assert_eq!((there.method.as_str(), there.header("x-key")), ("GET", None));
}

#[test]
fn case_04_moved_prompt_keeps_its_body_and_a_circle_is_an_error() {
    let moved = Scripted::chat(|mut exchange| match exchange.request.path.as_str() {
        "/v2/chat" => hello(exchange),
        _ => exchange.status(307, "Location: /v2/chat\r\n", ""),
    });
    ask(server(&moved.address)).is("Hello", FinishReason::Stop);
    let last = moved.prompts().pop().unwrap();
    assert_eq!((last.path.as_str(), &last.body["messages"][0]["content"]), ("/v2/chat", &json!("Hi")));

    let circle = Scripted::chat(|mut exchange| exchange.status(308, "Location: /v1/chat/completions\r\n", ""));
    let told = ask(server(&circle.address));
    assert!(told.error().message.contains("in a circle"), "{told:?}");
}

#[test]
fn case_05_temporary_errors_are_tried_again_and_final_ones_are_not() {
    let waking = Scripted::chat(|mut exchange| match exchange.before {
        0 => exchange.status(503, "Retry-After: 0\r\n", "<html><title>Warming up</title>"),
        1 => exchange.status(429, "Retry-After: 0\r\n", "{\"error\":{\"message\":\"slow down\"}}"),
        _ => hello(exchange),
    });
    let told = ask(server(&waking.address));
    told.is("Hello", FinishReason::Stop);
    assert!(told.waits.iter().any(|why| why == "a web page: Warming up (HTTP 503)"), "{told:?}");
    assert!(told.waits.iter().any(|why| why == "slow down (HTTP 429)"), "{told:?}");
    for code in [400, 401, 402, 403, 404, 422] {
        let refuses =
            Scripted::chat(move |mut exchange| exchange.status(code, "", "{\"error\":{\"message\":\"never\"}}"));
        let told = ask(server(&refuses.address));
        assert!(told.error().message.contains("never"), "{told:?}");
        assert_eq!((refuses.prompts().len(), told.answer.as_str()), (1, ""), "{code}");
    }
}

#[test]
fn case_06_loading_model_is_a_wait_that_does_not_send_the_prompt() {
    let loading = Scripted::start(|mut exchange| match (exchange.request.method.as_str(), exchange.before) {
        ("GET", 0..3) => {
            let body = json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}});
            exchange.status(503, "Retry-After: 0\r\n", &body.to_string());
        }
        ("GET", _) => exchange.json(&models()),
        _ => hello(exchange),
    });
    let told = ask(server(&loading.address));
    told.is("Hello", FinishReason::Stop);
    assert!(told.waits.iter().any(|why| why == "Loading model (HTTP 503)"), "{told:?}");
    let methods: Vec<_> = loading.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "GET", "GET", "GET", "GET", "POST"]);
}

#[test]
fn case_06_health_is_polled_where_the_list_does_not_tell() {
    let loading = Scripted::start(|mut exchange| match (exchange.request.path.as_str(), exchange.before) {
        ("/v1/models", _) => exchange.json(&json!({"data": [{"id": "m", "owned_by": "llamacpp"}]})),
        ("/health", 0..4) => exchange.status(503, "Retry-After: 0\r\n", "{\"error\":{\"message\":\"Loading model\"}}"),
        ("/health", _) => exchange.json(&json!({"status": "ok"})),
        ("/props", _) => exchange.json(&json!({"default_generation_settings": {"n_ctx": 2048}})),
        _ => hello(exchange),
    });
    let told = ask(server(&loading.address));
    told.is("Hello", FinishReason::Stop);
    assert!(told.waits.iter().any(|why| why == "Loading model (HTTP 503)"), "{told:?}");
    assert_eq!((loading.prompts().len(), told.info.map(|info| info.context_length)), (1, Some(2048)));
}

#[test]
fn case_07_lost_connection_is_tried_again_before_the_first_byte_only() {
    let drops = Scripted::chat(|exchange| {
        if exchange.before > 0 {
            hello(exchange)
        }
    });
    ask(server(&drops.address)).is("Hello", FinishReason::Stop);
    assert_eq!(drops.prompts().len(), 2);

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for head in [chunked.to_owned(), "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n".into()] {
        let breaks = Scripted::chat(move |mut exchange| {
            let text = delta("so far");
            let length = if head.contains("chunked") { format!("{:x}\r\n", text.len()) } else { String::new() };
            exchange.send(format!("{head}{length}{text}"));
        });
        let told = ask(server(&breaks.address));
        assert_eq!((told.answer.as_str(), breaks.prompts().len()), ("so far", 1));
        assert!(told.error().message.contains("text so far is kept"), "{told:?}");
    }
}

/// Cancels when `ready` has been told, and checks that the client closes its connection.
fn cancel_when(ready: fn(&Told, &Scripted) -> bool, answer: fn(&mut Exchange)) -> Told {
    let (closed, is_closed) = channel();
    let closed = std::sync::Mutex::new(closed);
    let server_of_test = Scripted::chat(move |mut exchange| {
        answer(&mut exchange);
        let _ = closed.lock().unwrap().send(exchange.is_closed_by_client());
    });
    let (engine, events) = start(server(&server_of_test.address), None);
    let id = engine.next_id();
    engine.generate(request(id, "Hi"));
    let mut told = Told::default();
    while !ready(&told, &server_of_test) {
        if let Ok(event) = events.recv_timeout(Duration::from_millis(20)) {
            told.hear(event);
        }
    }
    engine.cancel(id);
    assert_eq!(is_closed.recv_timeout(Duration::from_secs(5)), Ok(true));
    while told.end.is_none() {
        told.hear(events.recv_timeout(Duration::from_secs(5)).unwrap());
    }
    told
}

#[test]
fn case_08_cancel_closes_the_connection_before_and_during_the_answer() {
    let before = cancel_when(|_, server| server.prompts().len() == 1, |_| ());
    before.is("", FinishReason::Cancelled);
    let during = cancel_when(|told, _| told.answer == "part", |exchange| exchange.stream(delta("part")));
    during.is("part", FinishReason::Cancelled);
    assert_eq!(during.usage.known(), [None; 3]);
}

#[test]
fn case_08_cancel_ends_a_wait() {
    let never = Scripted::start(|mut exchange| exchange.status(503, "", "asleep"));
    let (engine, events) = start(server(&never.address), None);
    let id = engine.next_id();
    engine.generate(request(id, "Hi"));
    let mut told = Told::default();
    while told.waits.is_empty() {
        told.hear(events.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    engine.cancel(id);
    while told.end.is_none() {
        told.hear(events.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    told.is("", FinishReason::Cancelled);
}

#[test]
fn case_24_sleep_is_asked_only_where_that_does_not_wake_the_server() {
    let llama = Scripted::start(|mut exchange| match exchange.request.path.as_str() {
        "/props" => exchange.json(&json!({"is_sleeping": true})),
        "/v1/models" => exchange.json(&json!({"data": [{"id": "m", "owned_by": "llamacpp"}]})),
        _ => exchange.status(200, "", "{}"),
    });
    let open = |server: &Scripted| {
        Session::open(self::server(&server.address), None, &CancelFlag::default(), &mut |_| ()).unwrap()
    };
    let mut session = open(&llama);
    let before = llama.requests().len();
    assert_eq!(session.is_asleep(), Some(true));
    let asked: Vec<_> = llama.requests().drain(before..).map(|request| (request.method, request.path)).collect();
    assert_eq!(asked, [("GET".to_owned(), "/props".to_owned())]);

    let other = Scripted::start(|mut exchange| exchange.json(&json!({"data": [{"id": "m"}]})));
    let mut session = open(&other);
    let before = other.requests().len();
    assert_eq!((session.is_asleep(), other.requests().len()), (None, before));
}

#[test]
fn case_25_prompts_that_wait_are_answered_in_order() {
    let waking = Scripted::start(|mut exchange| match (exchange.request.method.as_str(), exchange.before) {
        ("GET", 0..2) => exchange.status(503, "", "asleep"),
        ("GET", _) => exchange.json(&models()),
        _ => {
            let text = exchange.request.body["messages"][0]["content"].as_str().unwrap().to_owned();
            exchange.stream(delta(&text) + &end());
        }
    });
    let (engine, events) = start(server(&waking.address), None);
    engine.generate(request(engine.next_id(), "one"));
    engine.generate(request(engine.next_id(), "two"));
    let (first, second) = (listen(&events), listen(&events));
    first.is("one", FinishReason::Stop);
    second.is("two", FinishReason::Stop);
    assert!(first.timing.load > Duration::ZERO && first.timing.ttft < first.timing.total);
}
