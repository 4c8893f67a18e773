//! The conversation store under SIGKILL, concurrent processes, locks, full disks and damaged files.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Home, Ran, finish, read_some, signal};

const SLOW: &str = "token_ms = 10\nfallback = \"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\
    abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\"\n";

fn exported(home: &Home, id: &str) -> Value {
    home.run(&["conversations", "export", id, "--format", "json"]).json()
}

#[test]
fn sigkill_keeps_the_question_and_nearly_all_of_the_answer() {
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
        // 250 ms at one token per 10 ms are 25 tokens; doubled for a loaded machine.
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
fn eight_processes_store_all_turns() {
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
fn data_files_are_private_with_any_umask() {
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
fn answer_is_given_if_the_data_folder_is_unusable() {
    let home = Home::new();
    home.file("data/chatnap", "a file where the folder should be");
    let model = home.model("fallback = \"x\"");
    answers_without_a_store(&home.run(&["-m", &model, "-p", "hi", "--format", "json"]));
    let ran = home.run(&["-m", &model, "-c", "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "-c needs a stored conversation: {ran:?}");
}

#[test]
fn database_with_a_newer_schema_is_not_modified() {
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
fn damaged_database_is_set_aside_and_a_new_one_created() {
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
fn full_disk_before_the_first_turn_and_during_a_later_one() {
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
    // Earlier turns are intact, and without the limit new ones are stored.
    assert_eq!(home.run(&["-m", &model, "-p", "again"]).stderr, "");
    let listed = home.run(&["conversations", "list"]).stdout;
    assert!(listed.contains("kept") && listed.contains("again"), "{listed}");
}

#[test]
fn answer_of_a_running_process_is_not_marked_interrupted() {
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

/// Holds the write lock of the database, as another program would, until the connection is dropped.
fn lock(home: &Home) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(home.data().join("conversations.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn locked_database_does_not_delay_answers_and_turns_are_stored_later() {
    let home = Home::new();
    let model = home.model("fallback = \"You said: {user}\"");
    assert_eq!(home.run(&["-m", &model, "-p", "before"]).code(), 0);
    let other = lock(&home);
    let begin = Instant::now();
    let ran = home.run(&["-m", &model, "-p", "meanwhile", "--format", "json"]);
    // The program waits 1 s for the lock; the rest is slack for a loaded machine.
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    assert_eq!((ran.code(), &ran.json()["answer"]), (0, &"You said: meanwhile".into()), "{ran:?}");
    assert!(ran.json()["conversation"].is_null(), "it is not in the database: {ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("Another program has locked"), "{ran:?}");
    // Reading needs no lock, so `-c` continues the earlier conversation.
    let ran = home.run(&["-m", &model, "-c", "-p", "go on"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "You said: go on\n"), "{ran:?}");
    drop(other);
    assert_eq!(home.run(&["-m", &model, "-p", "after"]).stderr, "");
    let listed = home.run(&["conversations", "list", "--format", "json"]).json();
    let titles: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap()).collect();
    assert_eq!(titles.len(), 3, "{titles:?}");
    let id = listed.as_array().unwrap().iter().find(|one| one["title"] == "before").unwrap()["conversation"].clone();
    let kept = exported(&home, id.as_str().unwrap());
    assert_eq!(
        (&kept["turns"][1]["prompt"], &kept["turns"][1]["answer"]),
        (&"go on".into(), &"You said: go on".into())
    );
    assert_eq!((&kept["turns"][1]["parent"], &kept["turns"][1]["state"]), (&0.into(), &"stop".into()));
}

#[test]
fn tui_does_not_wait_for_a_lock_and_reports_unstored_turns() {
    let home = crate::support_pty::Home::new("fallback = \"You said: {user}\"");
    let mut tui = home.start(&[]);
    tui.send("before").wait_for("You said: before").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let database = home.folder.path().join("data/chatnap/conversations.db");
    let other = rusqlite::Connection::open(database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut tui = home.start(&[]);
    let begin = Instant::now();
    tui.send("meanwhile").wait_for("You said: meanwhile");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    tui.wait_for("Another program has locked").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    let text = tui.text();
    assert!(!text.contains("--conversation") && text.contains("could not be stored yet"), "{text}");
    drop(other);
    // The next start stores the turn; a running program stores its turn once the lock is released.
    let mut tui = home.start(&["-c"]);
    tui.wait_for("You said: meanwhile");
    let other = lock_at(&home);
    tui.send("again").wait_for("You said: again");
    drop(other);
    tui.wait_for("is stored now").type_text("\x04");
    assert_eq!(tui.wait_for_exit(), 0);
    assert!(tui.text().contains("chatnap --conversation"), "{}", tui.text());
    let kept = crate::support_pty::output(home.folder.path(), &["conversations", "show", "last"]);
    assert!(kept.contains("You said: meanwhile") && kept.contains("You said: again"), "{kept}");
}

fn lock_at(home: &crate::support_pty::Home) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(home.folder.path().join("data/chatnap/conversations.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn paused_answer_is_stored_up_to_the_shown_text() {
    let home = Home::new();
    let text = "0123456789".repeat(12);
    let model = home.model(&format!(
        "token_ms = 1\n[[answer]]\nwhen = \"talk\"\ntext = \"{text}\"\npause_after = 90\npause_ms = 60000\n"
    ));
    let mut child = home.chatnap(&["-m", &model, "-p", "talk"]).spawn().unwrap();
    let shown = read_some(&mut child, 90);
    // 250 ms, doubled for a loaded machine.
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::KILL);
    finish(child);
    assert_eq!(exported(&home, "last")["turns"][0]["answer"], shown);
}

#[test]
fn blocked_stdout_does_not_delay_sigterm_or_lose_written_text() {
    let home = Home::new();
    let text = "0123456789".repeat(20_000);
    let model = home.model(&format!("context_length = 300000\n[[answer]]\nwhen = \"talk\"\ntext = \"{text}\"\n"));
    let args = ["-m", &model, "-p", "talk", "--context-length", "300000"];
    let mut child = home.chatnap(&args).spawn().unwrap();
    read_some(&mut child, 10);
    let stored = || exported(&home, "last")["turns"][0]["answer"].as_str().unwrap().len();
    // The pipe buffers 64 KiB; then the program blocks, with all of that text stored.
    let begin = Instant::now();
    while stored() < 1 << 16 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} bytes are stored", stored());
        std::thread::sleep(Duration::from_millis(100));
    }
    let begin = Instant::now();
    signal(&child, Signal::TERM);
    let status = crate::run::wait(&mut child);
    assert_eq!(status.code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let read = finish(child).stdout.len() + 10;
    assert!(stored() >= read, "{read} bytes were written, {} are stored", stored());
}

#[test]
fn failed_allocation_exits_with_code_4() {
    let home = Home::new();
    let model = home.model("ballast_mib = 3000\nfallback = \"x\"");
    let mut shell = Command::new("bash");
    home.prepare(&mut shell);
    let binary = env!("CARGO_BIN_EXE_chatnap");
    let script = format!("ulimit -v 2000000; exec {binary} -m {model} -p hi --format json");
    let ran = finish(shell.args(["-c", &script]).spawn().unwrap());
    assert_eq!(ran.code(), 4, "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], 4, "{ran:?}");
    assert!(ran.stderr.contains("not enough memory"), "{ran:?}");
    let kept = exported(&home, "last");
    assert_eq!(kept["turns"][0]["prompt"], "hi");
}

#[test]
fn fifo_in_place_of_a_file_is_an_error_and_does_not_block() {
    let home = Home::new();
    let model = home.model("fallback = \"x\"");
    let fifo = home.path().join("fifo");
    let make = |path: &std::path::Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    make(&fifo);
    let ran = home.run(&["--config", fifo.to_str().unwrap(), "-m", &model, "-p", "hi"]);
    assert_eq!(ran.code(), 2, "{ran:?}");
    assert!(ran.stderr.contains("FIFO, not a regular file"), "{ran:?}");
    assert_eq!(home.run(&["--config", "/dev/null", "-m", &model, "-p", "hi"]).code(), 0);
    for name in ["conversations.lock", "conversations.db"] {
        let place = home.data().join(name);
        std::fs::remove_file(&place).unwrap();
        make(&place);
        let ran = home.run(&["-m", &model, "-p", "hi"]);
        assert_eq!((ran.code(), ran.stdout.as_str()), (0, "x\n"), "{ran:?}");
        assert!(ran.stderr.contains("FIFO, not a regular file"), "{ran:?}");
        std::fs::remove_file(&place).unwrap();
    }
}
