//! Standard input as the prompt, or appended to one.

use std::time::{Duration, Instant};

use crate::run::Home;

const ECHO: &str = "fallback = \"[{user}]\"";

#[test]
fn stdin_is_the_prompt_or_follows_it() {
    let home = Home::new();
    let model = home.model(ECHO);
    assert_eq!(home.pipe(&["-m", &model], b"one line\n").stdout, "[one line]\n");
    assert_eq!(home.pipe(&["-m", &model, "-p", "Explain"], b"a\nb\n").stdout, "[Explain\n\na\nb]\n");
    assert_eq!(home.pipe(&["-m", &model], "\u{feff}Grüße".as_bytes()).stdout, "[Grüße]\n");
    assert_eq!(home.pipe(&["-m", &model, "-p", "x"], b"").stdout, "[x]\n");
    assert_eq!(home.run(&["-m", &model, "-p", "x"]).stdout, "[x]\n");
}

#[test]
fn empty_input_exits_with_code_2_at_once() {
    let home = Home::new();
    let start = Instant::now();
    for ran in [home.run::<&str>(&[]), home.pipe::<&str>(&[], b" \n\n")] {
        assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("nothing to answer"), "{ran:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(!home.data().exists());
}

#[test]
fn closed_standard_streams_do_not_hang() {
    let home = Home::new();
    let binary = env!("CARGO_BIN_EXE_chatnap");
    let mut shell = std::process::Command::new("sh");
    home.prepare(&mut shell);
    let script = format!("{binary} <&-; echo $?; {binary} -m {} -p x <&- >&- 2>&-; echo $?", home.model(ECHO));
    let out = crate::run::finish(shell.args(["-c", &script]).spawn().unwrap());
    assert_eq!(out.stdout, "2\n0\n", "{out:?}");
}

#[test]
fn input_that_is_not_utf8_or_too_large_is_refused() {
    let home = Home::new();
    let ran = home.pipe(&["--format", "json"], b"abc\xff\xfe");
    assert_eq!((ran.code(), &ran.json()["error"]["code"]), (2, &2.into()), "{ran:?}");
    assert!(ran.stderr.contains("not UTF-8") && ran.stderr.contains("byte 3"), "{ran:?}");
    let mut endless = home.chatnap::<&str>(&[]);
    endless.stdin(std::fs::File::open("/dev/zero").unwrap());
    let ran = crate::run::finish(endless.spawn().unwrap());
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr.contains("16777216"), "{ran:?}");
}

#[test]
fn open_stdin_pipe_prints_a_waiting_line_without_a_terminal() {
    let home = Home::new();
    let model = home.model(ECHO);
    let mut waiting = home.chatnap(&["-m", &model, "-p", "hi"]);
    let mut child = waiting.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let pipe = child.stdin.take().unwrap();
    let mut quiet = home.chatnap(&["-m", &model, "-p", "hi", "--quiet"]);
    let mut quiet = quiet.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let silent = quiet.stdin.take().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    drop((pipe, silent));
    let ran = crate::run::finish(child);
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.lines().count()), (0, "[hi]\n", 1), "{ran:?}");
    assert!(ran.stderr.contains("the end of standard input") && ran.stderr.contains("< /dev/null"), "{ran:?}");
    assert_eq!(crate::run::finish(quiet).stderr, "", "--quiet prints only errors");
}
