//! The log file: what it contains, what it must not contain, and that nothing of it is written to stderr.

use crate::run::Home;

const SECRET: &str = "a-prompt-that-stays-private";
const ANSWER: &str = "an-answer-that-stays-private";

fn script() -> String {
    format!("[[answer]]\ntext = \"{ANSWER}\"\n")
}

#[test]
fn log_contains_phases_and_no_text_of_prompts_or_answers() {
    for level in ["debug", "trace"] {
        let home = Home::new();
        let model = home.model(&script());
        let path = home.path().join("run.log");
        let log = path.to_str().unwrap();
        let mut command = home.chatnap(&["-m", &model, "-p", SECRET, "-s", SECRET, "--log", log]);
        command.env("CHATNAP_LOG", level).env("HF_TOKEN", SECRET);
        let ran = crate::run::finish(command.spawn().unwrap());
        assert_eq!((ran.code(), ran.stdout.trim()), (0, ANSWER), "{ran:?}");
        assert_eq!(ran.stderr, "", "nothing of the log");
        let log = std::fs::read_to_string(&path).unwrap();
        for part in ["started", "database opened", "headers read", "loaded", "answered", "engine state", "took="] {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(!log.contains(SECRET) && !log.contains(ANSWER) && !log.contains('\x1b'), "{log}");
    }
}

#[test]
fn variable_alone_writes_to_the_state_folder_and_nothing_is_written_without_it() {
    let home = Home::new();
    let model = home.model(&script());
    let folder = home.path().join("state");
    let run = |level: &str| {
        let mut command = home.chatnap(&["-m", &model, "-p", "hi"]);
        command.env("XDG_STATE_HOME", &folder).env("CHATNAP_LOG", level);
        crate::run::finish(command.spawn().unwrap())
    };
    assert_eq!(run("").code(), 0);
    assert!(!folder.exists());
    assert_eq!(run("info").code(), 0);
    let log = std::fs::read_to_string(folder.join("chatnap/chatnap.log")).unwrap();
    assert!(log.contains("INFO") && !log.contains("DEBUG"), "{log}");
    let refused = run("loud");
    assert!(refused.code() == 2 && refused.stderr.contains("is not a level"), "{refused:?}");
}

#[test]
fn log_that_cannot_be_written_is_a_usage_error() {
    let home = Home::new();
    let ran = home.run(&["-p", "hi", "--log", "/nowhere/x.log"]);
    assert!(ran.code() == 2 && ran.stderr.contains("/nowhere/x.log cannot be written"), "{ran:?}");
}
