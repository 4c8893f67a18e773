//! Servers as engine, against a scripted server that writes bytes. Tests are numbered as the groups of cases that a
//! client must handle; those of pure parts are beside the code, in `src/engine/remote`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chatnap::engine::remote::session::Session;
use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::engine::{Engine, EngineOptions};
use chatnap::protocol::*;
use serde_json::json;

use crate::run::{self, Home};
use crate::support_pty;
use crate::support_server::{Exchange, Scripted, delta, end, models};
use crate::support_tls::{self, Secure};

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
    let options = EngineOptions {
        source: Box::new(Remote(server, model.map(str::to_owned))),
        idle_window: IdleWindow::After(Duration::ZERO),
        context_length: None,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        chat_template: None,
    };
    let (sender, events) = channel();
    (Engine::start(options, move |event| drop(sender.send(event))).unwrap(), events)
}

fn request(id: RequestId, text: &str) -> GenerationRequest {
    GenerationRequest {
        id,
        messages: vec![ChatMessage::new(Role::User, text)],
        sampling: SamplingChoice::default(),
        think: None,
        max_tokens: None,
        on_overflow: OverflowPolicy::Error,
        repeat: None,
        conversation: None,
    }
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
fn case_09_stream_is_read_however_it_is_cut() {
    for size in [1, 3, 4000] {
        let cut = Scripted::chat(move |mut exchange| {
            let text = format!(": ping\r\n\r\n{}event: keepalive\ndata:\n\n{}{}", delta("é漢"), delta("🦀"), end());
            exchange.stream("\u{feff}");
            exchange.send_cut(text, size);
        });
        ask(server(&cut.address)).is("é漢🦀", FinishReason::Stop);
    }
}

#[test]
fn case_09_answer_is_sanitised_on_its_way_to_the_terminal() {
    let steers = Scripted::chat(|mut exchange| exchange.stream(delta("a\u{0}\u{1b}[2Jb") + &end()));
    let home = Home::new();
    let ran = home.run(&["--server", &steers.address, "-p", "Hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "ab\n"), "{ran:?}");
}

/// The bodies of an answer with what becomes of it: text, reasoning, and the finish reason or a part of the error.
type Body = (&'static str, String, &'static str, &'static str, Result<FinishReason, &'static str>);

fn bodies() -> Vec<Body> {
    let text = delta("a");
    let finish = |reason: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {}, "finish_reason": reason}]}));
    let frame = |value: serde_json::Value| format!("data: {value}\n\n");
    let of = |delta: serde_json::Value| frame(json!({"choices": [{"delta": delta}]}));
    let done = "data: [DONE]\n\n";
    let stop = Ok(FinishReason::Stop);
    let error = frame(json!({"error": {"message": "boom", "code": 500}}));
    vec![
        ("10 no DONE", format!("{text}{}", finish("stop")), "a", "", stop),
        ("10 no reason", format!("{text}{done}"), "a", "", stop),
        ("10 neither", text.clone(), "a", "", Err("did not end its answer")),
        ("10 text after DONE", format!("{text}{done}{text}"), "a", "", stop),
        ("11 length", format!("{text}{}{done}", finish("length")), "a", "", Ok(FinishReason::Length)),
        ("11 content_filter", format!("{text}{}{done}", finish("content_filter")), "a", "", stop),
        ("11 abort", format!("{text}{}{done}", finish("abort")), "a", "", Err("did not end its answer")),
        ("11 error", format!("{text}{}{done}", finish("error")), "a", "", Err("ended the answer with an error")),
        ("13 strange frames", format!("{}{text}{}", frame(json!({"cost": 1})), finish("stop")), "a", "", stop),
        (
            "14 both fields",
            format!("{}{text}{done}", of(json!({"reasoning": "r", "reasoning_content": "r"}))),
            "a",
            "r",
            stop,
        ),
        ("14 marks", format!("{}{}{done}", delta("<think>r</th"), delta("ink>a")), "a", "r", stop),
        ("14 parts", format!("{}{done}", of(json!({"content": [{"type": "text", "text": "a"}]}))), "a", "", stop),
        (
            "14 role and null",
            format!("{}{text}{done}", of(json!({"role": "assistant", "content": null}))),
            "a",
            "",
            stop,
        ),
        ("15 first frame", format!("{error}{done}"), "", "", Err("boom")),
        ("15 after text", format!("{text}{error}{done}"), "a", "", Err("boom")),
        ("15 field error", format!("{text}error: {{\"code\":500,\"message\":\"boom\"}}\n\n"), "a", "", Err("boom")),
        ("15 text", "{\"error\":\"boom\"}".into(), "", "", Err("boom")),
        ("15 object", "{\"object\":\"error\",\"message\":\"boom\"}".into(), "", "", Err("boom")),
        ("15 detail", "{\"detail\":\"boom\"}".into(), "", "", Err("boom")),
        ("15 HTML", "<html><title>Busy</title>".into(), "", "", Err("Busy")),
        (
            "16 empty",
            format!("{}{done}", frame(json!({"choices": [], "usage": {"prompt_tokens": 9}}))),
            "",
            "",
            Err("may be longer than its context"),
        ),
        (
            "17 whole",
            json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}).to_string(),
            "a",
            "",
            stop,
        ),
    ]
}

#[test]
fn cases_10_to_17_every_body_becomes_an_answer_or_an_error() {
    let all = bodies();
    let texts: Vec<String> = all.iter().map(|(_, body, ..)| body.clone()).collect();
    let server_of_test = Scripted::chat(move |mut exchange| {
        let body = texts[exchange.before].clone();
        exchange.stream("");
        exchange.send_cut(body, 7);
    });
    let (engine, events) = start(server(&server_of_test.address), None);
    for (what, _, answer, reasoning, expected) in &all {
        engine.generate(request(engine.next_id(), "Hi"));
        let told = listen(&events);
        assert_eq!((told.answer.as_str(), told.reasoning.as_str()), (*answer, *reasoning), "{what}: {told:?}");
        match expected {
            Ok(reason) => assert_eq!(told.end, Some(Ok(*reason)), "{what}"),
            Err(part) => assert!(told.error().message.contains(part), "{what}: {told:?}"),
        }
    }
    // None of the failures was sent again.
    assert_eq!(server_of_test.prompts().len(), all.len());
}

#[test]
fn case_12_counts_are_the_servers_or_unknown() {
    let usage = |value: serde_json::Value| format!("data: {}\n\n", json!({"choices": [], "usage": value}));
    let cached = json!({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}});
    let cases = [
        (String::new(), [None; 3]),
        (usage(json!(null)) + &usage(json!({})), [None; 3]),
        (usage(json!({"prompt_tokens": 9, "completion_tokens": 2})), [Some(9), None, Some(2)]),
        (usage(cached.clone()), [Some(9), Some(0), Some(2)]),
        (usage(json!({"completion_tokens": 1})) + &usage(cached), [Some(9), Some(0), Some(2)]),
    ];
    for (frames, expected) in cases {
        let counts = Scripted::chat(move |mut exchange| {
            exchange.stream(delta("a") + &frames + "data: [DONE]\n\n");
        });
        assert_eq!(ask(server(&counts.address)).usage.known(), expected);
    }
}

#[test]
fn case_12_json_of_an_answer_has_null_for_what_the_server_does_not_tell() {
    let silent = Scripted::chat(|mut exchange| exchange.stream(delta("a") + "data: [DONE]\n\n"));
    let home = Home::new();
    let ran = home.run(&["--server", &silent.address, "-p", "Hi", "--format", "json"]);
    let json = ran.json();
    let usage = json!({"prompt_tokens": null, "cached_tokens": null, "completion_tokens": null, "total_tokens": null});
    assert_eq!((&json["usage"], &json["device"]["kind"]), (&usage, &json!("server")), "{ran:?}");
    assert_eq!((&json["timing"]["prefill_ms"], &json["timing"]["tokens_per_second"]), (&json!(null), &json!(null)));
    assert!(json["timing"]["wait_ms"].is_number(), "{ran:?}");
    assert_eq!(json["device"]["name"], json!(silent.address));
    assert_eq!(json["model"], json!(format!("m@{}", silent.address)));
}

#[test]
fn case_18_compressed_chunked_and_buffered_answers_are_read() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all((delta("Hel") + &delta("lo") + &end()).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let gzip = Scripted::chat(move |mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n");
        exchange.send_cut(&packed, 5);
    });
    ask(server(&gzip.address)).is("Hello", FinishReason::Stop);

    let chunked = Scripted::chat(|mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in [delta("Hel"), delta("lo"), end()] {
            exchange.send(format!("{:x}\r\n{part}\r\n", part.len()));
        }
        exchange.send("0\r\n\r\n");
    });
    ask(server(&chunked.address)).is("Hello", FinishReason::Stop);

    let brotli = Scripted::chat(|mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nConnection: close\r\n\r\n");
        exchange.send_cut(include_bytes!("../fixtures/servers/hello.br"), 5);
    });
    ask(server(&brotli.address)).is("Hello", FinishReason::Stop);

    let unknown = Scripted::chat(|mut exchange| exchange.status(200, "Content-Encoding: zstd\r\n", "x"));
    let told = ask(server(&unknown.address));
    assert!(told.error().message.contains("zstd"), "{told:?}");
}

#[test]
fn case_18_answer_over_http2_is_read() {
    let secure = Secure::start();
    let trusting = Server { certificate: Some(support_tls::certificate()), ..server(&secure.address) };
    ask(trusting).is("Hello", FinishReason::Stop);
    assert_eq!(
        secure.requests(),
        ["GET /v1/models HTTP/2.0", "GET /health HTTP/2.0", "POST /v1/chat/completions HTTP/2.0"]
    );
}

#[test]
fn case_19_refused_field_is_left_out_once_and_remembered() {
    let strict = Scripted::chat(|mut exchange| {
        let sent = exchange.request.body.clone();
        match ["top_k", "stream_options"].iter().find(|name| sent.get(**name).is_some()) {
            Some(name) => {
                exchange.status(400, "", &json!({"error": {"message": format!("Unknown field: {name}")}}).to_string());
            }
            None => hello(exchange),
        }
    });
    let (engine, events) = start(server(&strict.address), None);
    let picky = |engine: &Engine| {
        let mut request = request(engine.next_id(), "Hi");
        request.sampling.top_k = Some(3);
        request
    };
    engine.generate(picky(&engine));
    let told = listen(&events);
    told.is("Hello", FinishReason::Stop);
    assert_eq!(told.warnings, ["box refuses top_k, so it is left out"]);
    assert_eq!(strict.prompts().len(), 3);
    engine.generate(picky(&engine));
    listen(&events).is("Hello", FinishReason::Stop);
    assert_eq!(strict.prompts().len(), 4);
}

#[test]
fn case_20_model_is_the_only_one_or_has_to_be_named() {
    let one = Scripted::chat(hello);
    ask(server(&(one.address.clone() + "/v1/"))).is("Hello", FinishReason::Stop);
    assert_eq!(one.prompts()[0].body["model"], "m");

    let many = Scripted::start(|mut exchange| match exchange.request.method.as_str() {
        "GET" => exchange.json(&json!({"data": [{"id": "org/a:1"}, {"id": "b"}]})),
        _ => exchange.status(404, "", "{\"error\":{\"message\":\"no such model\"}}"),
    });
    let told = ask(server(&many.address));
    assert_eq!(told.error().kind, ErrorKind::ModelNotFound);
    assert!(told.error().message.contains("org/a:1, b"), "{told:?}");
    let (engine, events) = start(server(&many.address), Some("c"));
    engine.generate(request(engine.next_id(), "Hi"));
    let told = listen(&events);
    assert_eq!(told.error().message, "box has no model c: no such model. It has org/a:1, b.");
}

#[test]
fn case_20_models_of_a_server_are_listed() {
    let many =
        Scripted::start(|mut exchange| exchange.json(&json!({"data": [{"id": "a", "max_model_len": 9}, {"id": "b"}]})));
    let home = Home::new();
    let ran = home.run(&["models", "list", "--server", &many.address, "--format", "json"]);
    let expected = json!([
        {"model": "a", "context_length": 9, "server": many.address},
        {"model": "b", "context_length": null, "server": many.address},
    ]);
    assert_eq!(ran.json(), expected, "{ran:?}");
    let unknown = home.run(&["--server", "olama", "-p", "x"]);
    assert_eq!(unknown.code(), 2);
    assert!(unknown.stderr.contains("did you mean ollama?"), "{unknown:?}");
}

#[test]
fn case_21_context_and_count_are_the_servers_or_unknown() {
    let counts = Scripted::chat(|mut exchange| match exchange.request.path.as_str() {
        "/tokenize" => exchange.json(&json!({"count": 17, "max_model_len": 4096})),
        _ => hello(exchange),
    });
    let (engine, events) = start(server(&counts.address), None);
    engine.generate(request(engine.next_id(), "Hi"));
    assert_eq!(listen(&events).info.map(|info| info.context_length), Some(4096));
    let messages = vec![ChatMessage::new(Role::User, "How long?")];
    engine.count(CountRequest { id: engine.next_id(), messages, max_tokens: None, think: None });
    loop {
        if let EngineEvent::Counted { prompt_tokens, context_length, .. } =
            events.recv_timeout(Duration::from_secs(20)).unwrap()
        {
            assert_eq!((prompt_tokens, context_length), (17, 4096));
            break;
        }
    }
    let plain = Scripted::start(|mut exchange| match exchange.request.method.as_str() {
        "GET" => exchange.json(&json!({"data": [{"id": "m"}]})),
        _ => hello(exchange),
    });
    assert_eq!(ask(server(&plain.address)).info.map(|info| info.context_length), Some(0));
}

#[test]
fn case_21_oldest_turns_are_left_out_where_the_server_counts_exactly() {
    let llama = Scripted::start(|mut exchange| {
        let messages = exchange.request.body["messages"].as_array().map_or(0, Vec::len);
        match exchange.request.path.as_str() {
            "/v1/models" => exchange.json(&json!({"data": [{"id": "m", "owned_by": "llamacpp"}]})),
            "/props" => exchange.json(&json!({"default_generation_settings": {"n_ctx": 100}})),
            "/v1/chat/completions/input_tokens" => exchange.json(&json!({"input_tokens": messages * 15})),
            "/v1/chat/completions" => hello(exchange),
            _ => exchange.status(200, "", "{}"),
        }
    });
    let (engine, events) = start(server(&llama.address), None);
    let mut long = request(engine.next_id(), "first");
    for text in ["second", "third", "last"] {
        long.messages.extend([ChatMessage::new(Role::Assistant, "answer"), ChatMessage::new(Role::User, text)]);
    }
    long.messages.insert(0, ChatMessage::new(Role::System, "system"));
    engine.generate(GenerationRequest { on_overflow: OverflowPolicy::Trim, ..long.clone() });
    let told = listen(&events);
    told.is("Hello", FinishReason::Stop);
    // 8 messages take 120 of 100 tokens; 4 take 60, and a quarter of the context stays free.
    assert_eq!(told.trimmed, Some(2));
    let texts = |body: &serde_json::Value| {
        let all = body["messages"].as_array().unwrap().iter();
        all.map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let sent = |request: &crate::support_server::Request| request.path == "/v1/chat/completions";
    let prompts: Vec<_> = llama.prompts().into_iter().filter(sent).collect();
    assert_eq!(texts(&prompts[0].body), ["system", "third", "answer", "last"]);
    // Without the permission nothing is left out.
    engine.generate(GenerationRequest { id: engine.next_id(), ..long });
    assert_eq!(listen(&events).trimmed, None);
    let prompts: Vec<_> = llama.prompts().into_iter().filter(sent).collect();
    assert_eq!(prompts[1].body["messages"].as_array().map(Vec::len), Some(8));
}

#[test]
fn case_22_key_is_sent_and_nowhere_repeated() {
    const KEY: &str = "sk-very-secret-key";
    let echoes = Scripted::chat(|mut exchange| {
        let key = exchange.request.header("authorization").unwrap_or_default().to_owned();
        match exchange.before {
            0 => hello(exchange),
            _ => exchange.status(401, "", &json!({"error": {"message": format!("Bad key: {key}")}}).to_string()),
        }
    });
    let home = Home::new();
    let config = format!(
        "[server.mine]\nurl = \"{}\"\nkey_env = \"MY_KEY\"\nheader_env = {{ X-Id = \"MY_ID\" }}\n",
        echoes.address
    );
    home.file("config/chatnap/config.toml", config);
    let log = home.path().join("log");
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let mut command = home.chatnap(&["--server", "mine", "-p", "Hi", "--log"]);
        command.arg(&log).env("MY_KEY", KEY).env("MY_ID", "id-number-7").env("CHATNAP_LOG", "trace");
        outputs.push(run::finish(command.spawn().unwrap()));
    }
    let (good, bad) = (&outputs[0], &outputs[1]);
    assert_eq!((good.stdout.as_str(), bad.code()), ("Hello\n", 1), "{outputs:?}");
    assert!(bad.stderr.contains("Bad key: Bearer [secret]") && bad.stderr.contains("MY_KEY"), "{bad:?}");
    let first = echoes.prompts().remove(0);
    assert_eq!(first.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(first.header("x-id"), Some("id-number-7"));
    let mut folders = vec![home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let content = std::fs::read(entry.path()).unwrap();
                let holds = content.windows(KEY.len()).any(|window| window == KEY.as_bytes());
                assert!(!holds, "{} holds the key", entry.path().display());
            }
        }
    }
    assert!(outputs.iter().all(|ran| !ran.stderr.contains(KEY) && !ran.stdout.contains(KEY)));
}

#[test]
fn case_22_header_with_the_conversation_is_the_same_for_all_its_prompts() {
    let plain = Scripted::chat(hello);
    let home = Home::new();
    let config = format!(
        "[server.mine]\nurl = \"{}\"\nheaders = {{ Modal-Session-ID = \"{{conversation}}\" }}\n",
        plain.address
    );
    home.file("config/chatnap/config.toml", config);
    let first = home.run(&["--server", "mine", "-p", "Hi", "--format", "json"]).json();
    let id = first["conversation"].as_str().unwrap();
    assert_eq!(home.run(&["--server", "mine", "-p", "Again", "-c"]).code(), 0);
    assert_eq!(home.run(&["--server", "mine", "-p", "Other"]).code(), 0);
    let sent: Vec<_> =
        plain.prompts().iter().map(|request| request.header("modal-session-id").map(str::to_owned)).collect();
    assert_eq!((sent[0].as_deref(), &sent[1]), (Some(id), &sent[0]));
    assert!(sent[2].is_some() && sent[2] != sent[0], "{sent:?}");
}

#[test]
fn case_22_key_comes_from_a_command() {
    let plain = Scripted::chat(hello);
    let key = KeySource::Command("printf k-from-command".into());
    ask(Server { key, ..server(&plain.address) }).is("Hello", FinishReason::Stop);
    assert_eq!(plain.prompts()[0].header("authorization"), Some("Bearer k-from-command"));
}

#[test]
fn case_23_server_without_encryption_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let told = ask(server(&format!("https://{address}")));
    assert!(told.error().message.contains("does not speak TLS"), "{told:?}");
}

#[test]
fn case_23_certificate_that_is_not_trusted_is_an_error_that_names_the_setting() {
    let secure = Secure::start();
    let told = ask(server(&secure.address));
    let said = &told.error().message;
    assert!(
        said.contains("its certificate is not trusted") && said.contains("certificate in [server.NAME]"),
        "{told:?}"
    );
    assert_eq!((secure.requests().len(), told.waits.len()), (0, 0), "{told:?}");

    let home = Home::new();
    let config = format!(
        "[server.mine]\nurl = \"{}\"\ncertificate = \"{}\"\n",
        secure.address,
        support_tls::certificate().display()
    );
    home.file("config/chatnap/config.toml", config);
    let ran = home.run(&["--server", "mine", "-p", "Hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "Hello\n"), "{ran:?}");
    // The variable that other programs use works as well.
    let mut command = Home::new().chatnap(&["--server", &secure.address, "-p", "Hi"]);
    command.env("SSL_CERT_FILE", support_tls::certificate());
    let ran = run::finish(command.spawn().unwrap());
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "Hello\n"), "{ran:?}");

    let missing = Server { certificate: Some("/nowhere/c.pem".into()), ..server(&secure.address) };
    let told = ask(missing);
    assert!(told.error().message.contains("/nowhere/c.pem"), "{told:?}");
}

#[test]
fn case_23_key_that_crosses_a_network_unencrypted_is_told() {
    let plain = Scripted::chat(hello);
    // No name of this machine, but it leads here.
    let elsewhere = plain.address.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let key = KeySource::Command("printf k-123456".into());
    let warned = |told: &Told| told.warnings.iter().filter(|text| text.contains("unencrypted")).count();
    let told = ask(Server { key: key.clone(), ..server(&elsewhere) });
    told.is("Hello", FinishReason::Stop);
    assert_eq!(warned(&told), 1, "{told:?}");
    assert_eq!(warned(&ask(Server { key, ..server(&plain.address) })), 0);
    assert_eq!(warned(&ask(server(&elsewhere))), 0);
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

#[test]
fn prompt_from_a_pipe_is_answered_after_the_wait_which_is_shown() {
    let waking = Scripted::start(|mut exchange| match (exchange.request.method.as_str(), exchange.before) {
        ("GET", 0..2) => exchange.status(503, "Retry-After: 0\r\n", "{\"error\":\"waking up\"}"),
        ("GET", _) => exchange.json(&models()),
        _ => hello(exchange),
    });
    let home = Home::new();
    let ran = home.pipe(&["-m", &format!("m@{}", waking.address)], b"Hi\n");
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "Hello\n"), "{ran:?}");
    assert!(ran.stderr.contains("waking up (HTTP 503)"), "{ran:?}");
    assert_eq!(waking.prompts()[0].body["messages"][0]["content"], "Hi");
    assert_eq!(waking.prompts().len(), 1);
}

/// A server that is asleep until `awake` is set.
fn sleeper() -> (Scripted, Arc<AtomicBool>) {
    let awake = Arc::new(AtomicBool::new(false));
    let is_awake = Arc::clone(&awake);
    let server = Scripted::start(move |mut exchange| match exchange.request.method.as_str() {
        _ if !is_awake.load(Ordering::SeqCst) => exchange.status(503, "Retry-After: 0\r\n", "{\"error\":\"asleep\"}"),
        "GET" => exchange.json(&models()),
        _ => hello(exchange),
    });
    (server, awake)
}

#[test]
fn prompt_in_the_interface_is_answered_after_the_wait_which_is_shown() {
    let (server, awake) = sleeper();
    let home = support_pty::Home::new("");
    let mut tui = home.start(&["-m", &format!("m@{}", server.address)]);
    tui.send("Hi");
    tui.wait_for("waiting for the server").wait_for("asleep (HTTP 503)");
    awake.store(true, Ordering::SeqCst);
    tui.wait_for("Hello").wait_for("ready");
    assert_eq!(server.prompts().len(), 1);
    // The server sleeps again: the wait is shown before the next answer, too.
    awake.store(false, Ordering::SeqCst);
    tui.send("Again");
    tui.wait_for("waiting 0:0");
    awake.store(true, Ordering::SeqCst);
    tui.wait_for_times("unknown cached", 2).type_text("\x03\x03");
    assert_eq!(tui.wait_for_exit(), 0);
}

#[test]
fn model_of_a_server_can_be_chosen_in_the_interface() {
    let server = Scripted::chat(hello);
    let home = support_pty::Home::new("fallback = \"own\"");
    let mut tui = home.start(&[]);
    tui.send("Hi").wait_for("warm, releases");
    tui.send(&format!("/model m@{}", server.address));
    tui.wait_for("The next prompt is answered by");
    tui.send("Hi again").wait_for("Hello").wait_for("unknown cached");
    let sent = server.prompts().remove(0).body;
    assert_eq!((&sent["model"], &sent["messages"][1]["content"]), (&json!("m"), &json!("own")));
    tui.type_text("\x03\x03");
    assert_eq!(tui.wait_for_exit(), 0);
}

#[test]
fn own_model_and_server_are_compared() {
    let server = Scripted::chat(hello);
    let home = Home::new();
    let own = home.model("fallback = \"own\"");
    let ran = home.run(&["compare", "-m", &own, "-m", &format!("m@{}", server.address), "-p", "Hi"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert!(ran.stdout.contains("own") && ran.stdout.contains("Hello"), "{ran:?}");
}

#[test]
fn server_is_reported_with_its_own_figures() {
    let server = Scripted::chat(hello);
    let home = Home::new();
    let scenarios = home.file(
        "s.toml",
        "[[scenario]]\nname = \"greeting\"\n[[scenario.turns]]\nprompt = \"Hi\"\nchecks = [{ contains = \"Hello\" }, { min-cached = 1 }]\n",
    );
    let config = format!("[server.mine]\nurl = \"{}\"\ninput_tokens = 1000\noutput_tokens = 5000\n", server.address);
    home.file("config/chatnap/config.toml", config);
    let ran = home.run(&["report", "-m", "m@mine", "--scenarios", scenarios.to_str().unwrap(), "--format", "json"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    let told = ran.json();
    let turn = &told["scenarios"][0]["runs"][0]["turns"][0];
    assert_eq!((&turn["answer"], &turn["figures"]["cached_tokens"]), (&json!("Hello"), &json!(null)), "{told}");
    assert_eq!((&turn["figures"]["prompt_tokens"], &told["latency"]), (&json!(9), &json!(null)), "{told}");
    assert_eq!(told["header"]["device"]["kind"], "server");
    let notes = told["notes"].to_string();
    assert!(notes.contains("The answers cost 0.019000 USD, at 1000 and 5000 USD a million"), "{notes}");
}

#[test]
fn server_that_does_not_wake_in_time_is_an_error_that_keeps_the_question() {
    let never = Scripted::start(|mut exchange| exchange.status(503, "", "asleep"));
    let home = Home::new();
    let ran = home.run(&["--server", &never.address, "--server-wait", "never", "-p", "Keep me"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("asleep (HTTP 503)") && ran.stderr.contains("--server-wait"), "{ran:?}");
    let shown = home.run(&["conversations", "list"]);
    assert!(shown.stdout.contains("Keep me"), "{shown:?}");
}

/// What real servers sent for the question for the capital of France: the list of models, the streamed answer, what it begins
/// with, and its counts.
type Recorded = (&'static [u8], &'static [u8], &'static str, [Option<usize>; 3]);

const RECORDED: [Recorded; 2] = [
    (
        include_bytes!("../fixtures/servers/llama-server-models.http"),
        include_bytes!("../fixtures/servers/llama-server-chat.http"),
        "L'Étoile, la Marseillaise, la femme au roi",
        [Some(37), Some(0), Some(64)],
    ),
    (
        include_bytes!("../fixtures/servers/vllm-models.http"),
        include_bytes!("../fixtures/servers/vllm-chat.http"),
        "L'Étoile, la Marseillaise, la femme",
        [Some(37), Some(0), Some(64)],
    ),
];

#[test]
fn recorded_answers_of_real_servers_are_read_however_they_are_cut() {
    for (models, chat, begin, counts) in RECORDED {
        for size in [11, 1000, 1 << 20] {
            let recorded = Scripted::start(move |mut exchange| match exchange.request.path.as_str() {
                "/v1/models" => exchange.send(models),
                "/v1/chat/completions" => exchange.send_cut(chat, size),
                _ => exchange.status(404, "", ""),
            });
            let told = ask(server(&recorded.address));
            assert_eq!(told.end, Some(Ok(FinishReason::Length)), "{told:?}");
            assert!(told.answer.starts_with(begin), "{told:?}");
            assert_eq!(told.usage.known(), counts);
        }
    }
}

#[test]
fn answers_of_a_server_are_counted_with_its_prices() {
    let priced = Scripted::chat(hello);
    let silent = Scripted::chat(|mut exchange| exchange.stream(delta("a") + "data: [DONE]\n\n"));
    let home = Home::new();
    let config = format!("[server.mine]\nurl = \"{}\"\ninput_tokens = 1000\noutput_tokens = 5000\n", priced.address);
    home.file("config/chatnap/config.toml", config);
    for _ in 0..2 {
        assert_eq!(home.run(&["--server", "mine", "-p", "Hi"]).code(), 0);
    }
    assert_eq!(home.run(&["--server", &silent.address, "-p", "Hi"]).code(), 0);
    let told = home.run(&["usage", "--format", "json"]).json();
    // Two answers with 9 and 2 tokens each.
    assert_eq!(told["money"]["servers"], json!((2.0 * (9.0 * 1000.0 + 2.0 * 5000.0)) / 1e6), "{told}");
    assert_eq!((&told["money"]["unpriced_answers"], &told["money"]["tokens"]), (&json!(1), &json!(0.0)), "{told}");
    let of = |name: &str| {
        told["models"].as_array().unwrap().iter().find(|entry| entry["model"] == name).unwrap()["usage"].clone()
    };
    let counted = json!({"prompt_tokens": 18, "cached_tokens": null, "completion_tokens": 4, "total_tokens": 22});
    assert_eq!(of("m@mine"), counted);
    assert_eq!(of(&format!("m@{}", silent.address)), json!(null));
    // An export keeps which server wrote it, and what is unknown.
    let exported = home.run(&["conversations", "export", "last", "--format", "json"]);
    let turn = &exported.json()["turns"][0];
    assert_eq!((&turn["server"]["kind"], &turn["usage"]["prompt_tokens"]), (&json!("server"), &json!(null)), "{turn}");
    let file = home
        .file("exported.json", exported.stdout.replacen(exported.json()["conversation"].as_str().unwrap(), "other", 1));
    let imported = home.run(&["conversations", "import", file.to_str().unwrap()]);
    assert_eq!(imported.code(), 0, "{imported:?}");
    let again = home.run(&["conversations", "export", "last", "--format", "json"]).json();
    assert_eq!(&again["turns"][0], turn);
    let replayed = home.run(&["replay", "last"]);
    assert!(replayed.code() == 1 && replayed.stderr.contains("a server wrote it"), "{replayed:?}");
    let table = home.run(&["usage"]).stdout;
    assert!(
        table.contains("servers, at their own prices") && table.contains("2 answers of servers without"),
        "{table}"
    );
}
