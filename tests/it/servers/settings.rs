//! Cases 19 to 23: fields, models, context, keys and certificates.

use super::*;

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
