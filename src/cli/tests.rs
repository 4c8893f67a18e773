//! Tests of command line parsing, without a process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;

use super::*;
use crate::failure::Code;

struct Run<'a> {
    stdin: &'a [u8],
    stdin_is_terminal: bool,
    stdout_is_terminal: bool,
}

const TERMINAL: Run<'static> = Run { stdin: b"", stdin_is_terminal: true, stdout_is_terminal: true };

fn piped(stdin: &[u8]) -> Run<'_> {
    Run { stdin, stdin_is_terminal: false, stdout_is_terminal: true }
}

impl Run<'_> {
    fn of(&self, argv: &[&str]) -> Result<Invocation, Failure> {
        let argv = std::iter::once("chatnap").chain(argv.iter().copied()).map(OsString::from).collect();
        let mut stdin = Cursor::new(self.stdin);
        let mut streams = Streams {
            stdin_is_terminal: self.stdin_is_terminal,
            stdout_is_terminal: self.stdout_is_terminal,
            stdin: &mut stdin,
        };
        let environment = |name: &str| (name == "CHATNAP_CONFIG").then(|| OsString::from("/dev/null"));
        interpret(argv, &environment, &mut streams)
    }

    fn prompt(&self, argv: &[&str]) -> String {
        match self.of(argv).unwrap() {
            Invocation::OneShot(_, one_shot) => one_shot.prompt,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, argv: &[&str]) -> String {
        let failure = self.of(argv).unwrap_err();
        assert_eq!(failure.code, Code::Usage, "{failure:?}");
        failure.message
    }
}

#[test]
fn two_terminals_and_no_prompt_start_the_interactive_chat() {
    assert!(matches!(TERMINAL.of(&[]).unwrap(), Invocation::Interactive { resume: None, .. }));
    assert!(matches!(TERMINAL.of(&["-c"]).unwrap(), Invocation::Interactive { resume: Some(Resume::Last), .. }));
    let id = Some(Resume::Id("abc".into()));
    assert!(matches!(TERMINAL.of(&["--conversation", "abc"]).unwrap(),
        Invocation::Interactive { resume, .. } if resume == id));
}

#[test]
fn standard_input_is_appended_to_the_prompt() {
    assert_eq!(TERMINAL.prompt(&["-p", "hi"]), "hi");
    assert_eq!(piped(b"some text\n").prompt(&[]), "some text");
    assert_eq!(piped(b"diff\r\n").prompt(&["-p", "Explain"]), "Explain\n\ndiff");
    assert_eq!(piped(b"").prompt(&["-p", "hi"]), "hi");
    assert_eq!(piped(b"\xef\xbb\xbfbom").prompt(&[]), "bom");
    assert_eq!(piped(b"a\n\n").prompt(&[]), "a\n");
}

#[test]
fn missing_prompt_is_a_usage_error() {
    assert!(piped(b"").refusal(&[]).contains("nothing to answer"));
    assert!(piped(b" \n").refusal(&["-p", ""]).contains("nothing to answer"));
    let no_output = Run { stdout_is_terminal: false, ..TERMINAL };
    assert!(no_output.refusal(&[]).contains("nothing to answer"));
    assert!(TERMINAL.refusal(&["--stats"]).contains("--stats needs a prompt"));
}

#[test]
fn invalid_command_line_gets_a_hint() {
    for (argv, said) in [
        (&["hello"][..], "chatnap -p \"hello\" to ask it"),
        (&["-m", "x", "tell", "me", "a story", "--stats"], "chatnap -p \"tell me a story\" to ask it"),
        (&["what is $HOME?"], "chatnap -p 'what is $HOME?' to ask it"),
        (&["- buy milk"], "chatnap -p \"- buy milk\" to ask it"),
        (&["modles"], "Did you mean chatnap models, or chatnap -p \"modles\""),
        (&["-p", ""], "-p was given an empty text"),
        (&["-p", "-"], "Standard input is read without it"),
    ] {
        let told = TERMINAL.refusal(argv);
        assert!(told.contains(said), "{argv:?}: {told}");
    }
    assert!(piped(b"text").refusal(&["-p", "-"]).contains("cat FILE | chatnap"));
    assert!(!TERMINAL.refusal(&["models", "nosuch"]).contains("-p"), "that is not a prompt");
    assert_eq!(piped(b"text").prompt(&["-p", ""]), "text");
}

#[test]
fn non_utf8_and_endless_input_is_rejected() {
    assert!(piped(b"abc\xff").refusal(&[]).contains("byte 3"));
    let mut endless = std::io::repeat(b'a');
    let mut streams = Streams { stdin_is_terminal: false, stdout_is_terminal: false, stdin: &mut endless };
    let failure = interpret(vec!["chatnap".into()], &|_| None, &mut streams).unwrap_err();
    assert!(failure.message.contains("16777216"), "{failure:?}");
}

#[test]
fn invalid_flag_values_name_their_flag() {
    for argv in [
        ["--temperature", "-1"],
        ["--temperature", "inf"],
        ["--top-p", "1.1"],
        ["--min-p", "-0.1"],
        ["--top-k", "-1"],
        ["--repeat-penalty", "0"],
        ["--max-tokens", "0"],
        ["--context-length", "x"],
        ["--idle-window", "90"],
        ["--gpu-memory-utilization", "0"],
        ["--threads", "0"],
        ["--device", "gpu"],
        ["--device", "cuda:1,1"],
        ["--device", "cuda:0,"],
        ["--on-overflow", "cut"],
        ["--format", "xml"],
        ["--seed", "1.5"],
    ] {
        let said = TERMINAL.refusal(&["-p", "hi", argv[0], argv[1]]);
        assert!(said.contains(argv[0]), "{argv:?}: {said}");
    }
}

#[test]
fn flags_reach_the_settings() {
    let argv =
        ["-p", "hi", "--temperature", "0", "--seed", "3", "--idle-window", "90s", "-m", "x", "-s", "-", "--offline"];
    let Invocation::OneShot(resolved, one_shot) = TERMINAL.of(&argv).unwrap() else { panic!("one-shot") };
    let settings = resolved.settings;
    assert_eq!((settings.sampling.temperature, settings.sampling.seed), (Some(0.0), Some(3)));
    assert_eq!((settings.model.as_str(), settings.system.as_deref(), settings.offline), ("x", Some("-"), true));
    assert_eq!(one_shot.format, OneShotFormat::Text);
}

#[test]
fn chat_flag_before_a_subcommand_is_rejected() {
    assert!(TERMINAL.refusal(&["--temperature", "1", "models", "list"]).contains("--temperature"));
    assert!(TERMINAL.refusal(&["--format", "json", "gpu"]).contains("--format"));
    assert!(TERMINAL.of(&["-m", "x", "tokenize", "a"]).is_ok());
    let Invocation::Command(resolved, _) = TERMINAL.of(&["bench", "-m", "x"]).unwrap() else { panic!("command") };
    assert_eq!(resolved.settings.model, "x");
    let Invocation::Command(_, Command::Tokenize(args)) = TERMINAL.of(&["tokenize", "--special", "-- x"]).unwrap()
    else {
        panic!("command")
    };
    assert_eq!((args.special, args.text.as_deref()), (true, Some("-- x")));
}

#[test]
fn prompt_and_system_text_may_begin_with_a_dash() {
    for text in [
        "- buy milk",
        "-1 + 1 = ?",
        "--- a/file.c",
        "-",
        "--frobnicate the knobs",
        "-x",
        "-cats",
        "-p is what?",
        "--",
        "-- a",
        "--format it",
    ] {
        if text != "-" {
            assert_eq!(TERMINAL.prompt(&["-p", text]), text);
            assert_eq!(TERMINAL.prompt(&["--prompt", text, "--stats"]), text);
            assert_eq!(TERMINAL.prompt(&["-cp", text]), text);
        }
        let Invocation::OneShot(resolved, one_shot) = TERMINAL.of(&["-s", text, "-p", "hi"]).unwrap() else { panic!() };
        assert_eq!((resolved.settings.system.as_deref(), one_shot.system.as_deref()), (Some(text), Some(text)));
    }
    assert_eq!(TERMINAL.prompt(&["-p=--format"]), "--format");
    assert_eq!(TERMINAL.prompt(&["--prompt=-c"]), "-c");
}

#[test]
fn known_flag_as_prompt_or_system_text_is_rejected() {
    for (argv, word, flag) in [
        (&["-p", "--format", "json"][..], "-p", "--format"),
        (&["--prompt", "--format=json"], "--prompt", "--format=json"),
        (&["-s", "-p", "hi"], "-s", "-p"),
        (&["-m", "x", "-p", "-q"], "-p", "-q"),
        (&["-p", "--help"], "-p", "--help"),
        (&["-cp", "--stats"], "-cp", "--stats"),
    ] {
        let said = TERMINAL.refusal(argv);
        assert!(said.contains(&format!("{word} needs a text, and the flag {flag} follows it")), "{argv:?}: {said}");
    }
}

#[test]
fn subcommand_text_may_begin_with_a_dash() {
    for text in ["- item", "-1", "--- a/file.c", "-x y"] {
        let command = |argv: &[&str]| match TERMINAL.of(argv).unwrap() {
            Invocation::Command(_, command) => command,
            other => panic!("{other:?}"),
        };
        let Command::Tokenize(args) = command(&["tokenize", text]) else { panic!() };
        assert_eq!(args.text.as_deref(), Some(text));
        let Command::Tokenize(args) = command(&["tokenize", "--format", "json", text]) else { panic!() };
        assert_eq!(args.text.as_deref(), Some(text));
        let search = command(&["conversations", "search", text]);
        assert!(format!("{search:?}").contains(&format!("text: {text:?}")), "{search:?}");
        let rename = command(&["conversations", "rename", "last", text]);
        assert!(format!("{rename:?}").contains(&format!("title: {text:?}")), "{rename:?}");
    }
}

#[test]
fn clap_definitions_pass_debug_assert() {
    Args::command().debug_assert();
}
