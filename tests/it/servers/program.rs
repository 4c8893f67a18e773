//! Servers in the whole program: one-shots, the interface, `compare`, `report`, `usage`.

use super::*;

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
