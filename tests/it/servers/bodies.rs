//! Cases 9 to 18: how the bytes of an answer become text, counts and an end, however they are cut.

use super::*;

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
        exchange.send_cut(include_bytes!("../../fixtures/servers/hello.br"), 5);
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

/// What real servers sent for the question for the capital of France: the list of models, the streamed answer, what it begins
/// with, and its counts.
type Recorded = (&'static [u8], &'static [u8], &'static str, [Option<usize>; 3]);

const RECORDED: [Recorded; 2] = [
    (
        include_bytes!("../../fixtures/servers/llama-server-models.http"),
        include_bytes!("../../fixtures/servers/llama-server-chat.http"),
        "L'Étoile, la Marseillaise, la femme au roi",
        [Some(37), Some(0), Some(64)],
    ),
    (
        include_bytes!("../../fixtures/servers/vllm-models.http"),
        include_bytes!("../../fixtures/servers/vllm-chat.http"),
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
