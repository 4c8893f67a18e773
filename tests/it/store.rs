//! What is kept when things go wrong: kill -9, many processes, full disks, damaged files.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Home, Ran, finish, read_some, signal};

const SLOW: &str = "token_ms = 10\nfallback = \"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\
    abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\"\n";

fn exported(home: &Home, id: &str) -> Value {
    home.run(&["conversations", "export", id, "--format", "json"]).json()
}

#[test]
fn killed_at_any_moment_the_question_is_there_and_the_answer_close_behind() {
    let home = Home::new();
    let model = home.model(SLOW);
    for n in 0..24 {
        let mut child = home.chatnap(&["-m", &model, "-p", &format!("question {n}")]).spawn().unwrap();
        let seen = read_some(&mut child, 1 + 5 * (n % 12)).len();
        signal(&child, Signal::KILL);
        let printed = seen + finish(child).stdout.len();
        let kept = exported(&home, "last");
        assert_eq!(kept["turns"][0]["prompt"], format!("question {n}"));
        let answer = kept["turns"][0]["answer"].as_str().unwrap();
        // 250 ms of a token each 10 ms, and as much again for a machine that is busy with other tests.
        assert!(answer.len() + 50 >= printed, "{printed} printed, {} kept", answer.len());
    }
    home.run(&["-m", &model, "-p", "the last one", "--max-tokens", "3"]);
    let listed = home.run(&["conversations", "list", "--format", "json"]).json();
    let states: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| exported(&home, one["conversation"].as_str().unwrap())["turns"][0]["state"].clone())
        .collect();
    assert_eq!((states.len(), &states[0]), (25, &"length".into()));
    assert!(states[1..].iter().all(|state| state == "interrupted"), "{states:?}");
}

#[test]
fn eight_processes_lose_nothing() {
    let home = Home::new();
    let model = home.model("fallback = \"{user}\"");
    std::thread::scope(|scope| {
        for process in 0..8 {
            let (home, model) = (&home, &model);
            scope.spawn(move || {
                for n in 0..4 {
                    let ran = home.run(&["-m", model, "-p", &format!("{process}/{n}")]);
                    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{ran:?}");
                }
            });
        }
    });
    let listed = home.run(&["conversations", "list", "--format", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 32);
}

#[test]
fn everything_is_private_whatever_the_umask() {
    let home = Home::new();
    let mut shell = Command::new("sh");
    home.prepare(&mut shell);
    let script = format!("umask 0; exec {} -m {} -p hi", env!("CARGO_BIN_EXE_chatnap"), home.model("fallback = \"x\""));
    assert_eq!(finish(shell.args(["-c", &script]).spawn().unwrap()).code(), 0);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    for entry in std::fs::read_dir(home.data()).unwrap().flatten() {
        let wanted = if entry.path().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry.path()), wanted, "{:?}", entry.path());
    }
}

fn answers_without_a_store(ran: &Ran) {
    assert_eq!((ran.code(), &ran.json()["answer"]), (0, &"x".into()), "{ran:?}");
    assert!(ran.json()["conversation"].is_null(), "{ran:?}");
    assert!(ran.stderr.starts_with("chatnap: warning: this conversation will not be kept."), "{ran:?}");
}

#[test]
fn where_nothing_can_be_stored_the_answer_still_comes() {
    let home = Home::new();
    home.file("data/chatnap", "a file where the folder should be");
    let model = home.model("fallback = \"x\"");
    answers_without_a_store(&home.run(&["-m", &model, "-p", "hi", "--format", "json"]));
    let ran = home.run(&["-m", &model, "-c", "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "going on with nothing is no going on: {ran:?}");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let home = Home::new();
    let model = home.model("fallback = \"x\"");
    home.run(&["-m", &model, "-p", "hi"]);
    let database = home.data().join("conversations.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&database).unwrap();
    answers_without_a_store(&home.run(&["-m", &model, "-p", "hi", "--format", "json"]));
    assert_eq!(std::fs::read(&database).unwrap(), before);
    assert_eq!(home.run(&["conversations", "list"]).code(), 1);
}

#[test]
fn a_damaged_file_is_kept_and_a_new_one_started() {
    let home = Home::new();
    let model = home.model("fallback = \"x\"");
    home.file("data/chatnap/conversations.db", "garbage ".repeat(1000));
    let ran = home.run(&["-m", &model, "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "x\n"));
    assert!(ran.stderr.contains("is kept as "), "{ran:?}");
    let kept =
        std::fs::read_dir(home.data()).unwrap().flatten().find(|e| e.file_name().to_string_lossy().contains("damaged"));
    assert_eq!(std::fs::read(kept.unwrap().path()).unwrap(), "garbage ".repeat(1000).as_bytes());
    assert_eq!(home.run(&["conversations", "list"]).stdout.lines().count(), 2);
}

#[test]
fn a_full_disk_at_the_start_and_in_the_middle() {
    let home = Home::new();
    let model = home.model("context_length = 200000\nfallback = \"x\"");
    let limited = |blocks: u32, prompt: &str| {
        let mut shell = Command::new("bash");
        home.prepare(&mut shell);
        let binary = env!("CARGO_BIN_EXE_chatnap");
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {binary} -m {model} -p {prompt} --context-length 150000 --format json"
        );
        finish(shell.args(["-c", &script]).spawn().unwrap())
    };
    let ran = limited(0, "hi");
    assert_eq!((ran.code(), &ran.json()["answer"]), (0, &"x".into()), "{ran:?}");
    assert!(ran.stderr.contains("warning"), "{ran:?}");
    assert_eq!(home.run(&["-m", &model, "-p", "kept"]).code(), 0);
    let long = "y".repeat(100_000);
    let ran = limited(64, &long);
    assert_eq!((ran.code(), &ran.json()["answer"]), (0, &"x".into()), "{ran:?}");
    assert!(ran.stderr.contains("could not be kept"), "{}", ran.stderr);
    // What was stored before is sound, and there is room again.
    assert_eq!(home.run(&["-m", &model, "-p", "again"]).stderr, "");
    let listed = home.run(&["conversations", "list"]).stdout;
    assert!(listed.contains("kept") && listed.contains("again"), "{listed}");
}

#[test]
fn a_living_answer_is_not_taken_for_an_interrupted_one() {
    let home = Home::new();
    let mut child = home.chatnap(&["-m", &home.model(SLOW), "-p", "hi"]).spawn().unwrap();
    read_some(&mut child, 40);
    std::thread::sleep(Duration::from_millis(50));
    home.run(&["-m", "scripted:/nowhere", "-p", "x"]);
    let listed = home.run(&["conversations", "search", "hi", "--format", "json"]).json();
    let id = listed[0]["conversation"].as_str().unwrap().to_owned();
    assert_eq!(exported(&home, &id)["turns"][0]["state"], "pending");
    assert_eq!(finish(child).code(), 0);
    assert_eq!(exported(&home, &id)["turns"][0]["state"], "stop");
}
