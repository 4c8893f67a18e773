//! `chatnap usage` on stores that one-shots fill and on rows that the tests write.

use rusqlite::{Connection, params};

use crate::run::Home;

const HELLO: &str = "fallback = \"hi\"\nload_ms = 50\n";

/// A home with one stored answer.
fn asked() -> Home {
    let home = Home::new();
    assert_eq!(home.run(&["-m", &home.model(HELLO), "-p", "Hello?"]).code(), 0);
    home
}

#[test]
fn empty_store_has_zero_counts_and_says_so() {
    let home = Home::new();
    let ran = home.run(&["usage"]);
    assert!(ran.code() == 0 && ran.stdout.starts_with("No answer is stored"), "{ran:?}");
    let told = home.run(&["usage", "--format", "json"]).json();
    assert_eq!((&told["answers"], &told["loads"]), (&0.into(), &0.into()), "{told}");
    assert!(told["idle_window"].is_null() && told["gpu"]["energy_joules"].is_null(), "{told}");
    assert_eq!(home.run(&["usage", "--format", "csv"]).stdout.lines().count(), 1);
    assert!(!home.data().exists(), "reading creates nothing");
}

#[test]
fn answers_and_tokens_of_one_shots_are_counted() {
    let home = asked();
    let answer = home.run(&["-m", &home.model(HELLO), "-p", "Again?", "--format", "json"]).json();
    let told = home.run(&["usage", "--since", "1h", "--format", "json"]).json();
    assert_eq!(told["answers"], 2, "{told}");
    let completion = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(told["usage"]["completion_tokens"], 2 * completion, "{told}");
    assert!(told["models"][0]["model"].as_str().unwrap().starts_with("scripted:"), "{told}");
    assert_eq!(
        (&told["models"][0]["answers"], &told["models"][0]["device"]["kind"]),
        (&2.into(), &"cpu".into()),
        "{told}"
    );
    // Each of the two programs loaded the model and gave its memory back at its end.
    assert_eq!((&told["loads"], &told["releases"]), (&2.into(), &2.into()), "{told}");
    assert_eq!(told["cpu"]["held_is_lower_bound"], false, "{told}");
    let table = home.run(&["usage"]).stdout;
    assert!(table.contains("what it costs") && table.contains("example prices"), "{table}");
    let csv = home.run(&["usage", "--format", "csv"]).stdout;
    assert!(csv.starts_with("model,device_kind,device,answers,"), "{csv}");
    // Nothing was asked after that moment.
    assert_eq!(home.run(&["usage", "--since", "0s", "--format", "json"]).json()["answers"], 0);
}

#[test]
fn stored_answer_that_the_cache_prints_again_costs_no_tokens() {
    let home = Home::new();
    let model = home.model(HELLO);
    let once = ["-m", &model, "--temperature", "0", "--cache", "-p", "Hello?"];
    let first = home.run(&[&once[..], &["--format", "json"]].concat()).json();
    assert_eq!(home.run(&once).code(), 0);
    let told = home.run(&["usage", "--format", "json"]).json();
    assert_eq!((&told["answers"], &told["from_cache"], &told["loads"]), (&2.into(), &1.into(), &1.into()), "{told}");
    assert_eq!(told["usage"]["total_tokens"], first["usage"]["total_tokens"], "{told}");
}

#[test]
fn wrong_times_are_usage_errors() {
    let home = Home::new();
    for (since, part) in [("soon", "7d, 24h or 30m"), ("2999-01-01", "has not begun yet")] {
        let ran = home.run(&["usage", "--since", since]);
        assert!(ran.code() == 2 && ran.stderr.contains(part), "{ran:?}");
    }
}

#[test]
fn stale_prices_are_marked_with_their_date() {
    let home = asked();
    home.file("config/chatnap/config.toml", "[prices]\ngpu_hour = 3\nsource = \"a page\"\ndate = 2020-02-03\n");
    let table = home.run(&["usage"]).stdout;
    assert!(table.contains("(a page, 2020-02-03: STALE, more than 180 days old)"), "{table}");
    assert_eq!(home.run(&["usage", "--format", "json"]).json()["prices"]["stale"], true);
}

/// A store in which a GPU answered at 10 s, 40 s and 1000 s after an hour ago, with loads of 5 s.
fn with_gpu_rows() -> (Home, i64) {
    let home = asked();
    let db = Connection::open(home.data().join(chatnap::store::DATABASE)).unwrap();
    let begin = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    let gpu = r#"{"kind":"cuda","name":"A GPU"}"#;
    let conversation: String = db.query_row("SELECT id FROM conversations", [], |row| row.get(0)).unwrap();
    db.execute("DELETE FROM turns", []).unwrap();
    db.execute("DELETE FROM loads", []).unwrap();
    for (at, load) in [(10, 5), (40, 0), (1000, 5)] {
        let us = |seconds: i64| seconds * 1_000_000;
        let timing =
            format!(r#"{{"load":{},"ttft":1000,"prefill":1000,"decode":1000,"total":{}}}"#, us(load), us(load + 2));
        db.execute(
            "INSERT INTO turns (conversation, prompt, model, asked, answer, state, prompt_tokens, cached_tokens,
               completion_tokens, timing, writer, device)
             VALUES (?1, 'q', 'big', ?2, 'a', 'stop', 1000, 500, 100, ?3, 'x', ?4)",
            params![conversation, begin + at * 1000, timing, gpu],
        )
        .unwrap();
    }
    for (at, released) in [(10_i64, Some(162_i64)), (1000, None)] {
        db.execute(
            "INSERT INTO loads (writer, model, device, asked, loaded, seen, released, bytes)
             VALUES ('x', 'big', ?1, ?2, ?3, ?4, ?5, 1000000000)",
            params![
                gpu,
                begin + at * 1000,
                begin + (at + 5) * 1000,
                begin + (at + 7) * 1000,
                released.map(|end| begin + end * 1000)
            ],
        )
        .unwrap();
    }
    (home, begin)
}

#[test]
fn held_time_costs_and_advice_are_those_of_the_rows() {
    let (home, _) = with_gpu_rows();
    home.file("config/chatnap/config.toml", "[prices]\ngpu_hour = 36\nwaiting_hour = 3600\n");
    let told = home.run(&["usage", "--since", "2h", "--format", "json"]).json();
    assert_eq!((&told["answers"], &told["loads"], &told["releases"]), (&3.into(), &2.into(), &1.into()), "{told}");
    // 147 s from the load's end to the release, and 2 s until the second load was last seen.
    assert_eq!(told["gpu"]["held_seconds"], 149.0);
    assert_eq!(told["gpu"]["held_is_lower_bound"], true);
    assert_eq!((&told["money"]["held"], &told["money"]["always_on"]), (&1.49.into(), &72.0.into()));
    assert!(told["gpu"]["energy_joules"].is_null() && told["cpu"]["held_seconds"] == 0.0, "{told}");
    // Idle: 28 s, 958 s, then up to now. A load is 5 s of waiting at one unit a second, a held second costs a hundredth.
    let windows = told["idle_window"]["windows"].as_array().unwrap();
    let loads: Vec<_> = windows.iter().map(|window| window["loads"].as_u64().unwrap()).collect();
    assert_eq!(loads, [3, 2, 2, 2, 2, 1]);
    let costs: Vec<_> = windows[..3].iter().map(|window| window["cost"].as_f64().unwrap()).collect();
    assert_eq!(costs, [15.06, 11.54, 12.74]);
    assert_eq!(told["idle_window"]["cheapest"], "1m");
    let table = home.run(&["usage"]).stdout;
    assert!(table.contains("idle_window = \"1m\"") && table.contains("at least 2 min 29 s"), "{table}");
}

#[test]
fn slash_usage_sums_up_what_is_stored() {
    let home = crate::support_pty::Home::new("fallback = \"It is one.\"\n");
    let mut tui = home.start(&[]);
    tui.send("How many?").wait_for("It is one.").wait_for("TTFT");
    tui.send("/usage").wait_for("1 answer;").wait_for("`chatnap usage` shows each model");
}
