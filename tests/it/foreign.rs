//! Untrusted text in the output of the program: none of its control characters reach the terminal.

use crate::run::{Home, Ran};

/// C0, C1 and bidi controls, an OSC sequence, a tag character and an invisible character.
const HOSTILE: &str = "a\u{9b}31mb\u{85}\u{202e}c\u{2066}d\u{200f}\u{7f}\u{1b}]0;t\u{7}e\u{e0041}\u{feff}f";

fn is_raw(c: char) -> bool {
    c != '\n' && c.is_control()
        || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0041}')
}

/// Parses the JSON values on a run's stdout, which must not contain raw controls.
fn values(ran: &Ran) -> Vec<serde_json::Value> {
    assert!(!ran.stdout.contains(is_raw), "{ran:?}");
    let lines = serde_json::Deserializer::from_str(&ran.stdout).into_iter();
    lines.map(|value| value.unwrap_or_else(|error| panic!("{error}: {ran:?}"))).collect()
}

fn toml(text: &str) -> String {
    text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect()
}

#[test]
fn json_output_escapes_controls_and_parses_back_unchanged() {
    let home = Home::new();
    let model = home.model(&format!("fallback = \"{}\"", toml(HOSTILE)));
    let ask = |more: &[&str]| home.run(&[&["-m", &model, "-p", HOSTILE, "-s", HOSTILE], more].concat());
    assert_eq!(values(&ask(&["--format", "json"]))[0]["answer"], HOSTILE);
    let events = values(&ask(&["--format", "jsonl"]));
    let tokens: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!((tokens.as_str(), &events.last().unwrap()["answer"]), (HOSTILE, &HOSTILE.into()));
    let prompt = values(&ask(&["--dry-run", "--format", "json"]))[0]["prompt"].to_string();
    assert!(prompt.contains("\u{9b}31m"), "{prompt}");
    home.run(&["conversations", "rename", "last", HOSTILE]);
    let list = values(&home.run(&["conversations", "list", "--format", "json"]));
    assert!(list[0][0]["title"].as_str().unwrap().contains('\u{9b}'), "{list:?}");
    let found = values(&home.run(&["conversations", "search", HOSTILE, "--format", "json"]));
    assert_eq!(found[0].as_array().unwrap().len(), 2);
    let export = values(&home.run(&["conversations", "export", "last", "--format", "json"]));
    assert_eq!(export[0]["turns"][0]["answer"], HOSTILE);
    let pieces = values(&home.run(&["-m", &model, "tokenize", HOSTILE, "--format", "json"]));
    assert!(pieces[0]["ids"].as_array().is_some_and(|ids| !ids.is_empty()), "{pieces:?}");
    for failing in [
        home.run(&["-m", HOSTILE, "-p", "x", "--format", "json", "--offline"]),
        home.run(&["-m", HOSTILE, "tokenize", "x", "--format", "json", "--offline"]),
        home.run(&["conversations", "export", HOSTILE, "--format", "json"]),
        home.run(&["conversations", "list", "--format", "json", HOSTILE]),
        home.run(&["-p", "x", "--format", "json", "--theme", HOSTILE]),
    ] {
        let error = &values(&failing)[0]["error"];
        assert!(error["message"].is_string(), "{failing:?}");
        assert!(!failing.stderr.contains(|c| is_raw(c) && c != '\u{200f}' && c != '\u{feff}'), "{failing:?}");
    }
}

/// The text output of the same commands, as written to a pty.
#[test]
fn text_output_contains_no_foreign_control() {
    let home = crate::support_pty::Home::new(&format!("fallback = \"{}\"", toml(HOSTILE)));
    let runs: [&[&str]; 9] = [
        &["-p", HOSTILE, "--stats"],
        &["-p", HOSTILE, "--dry-run"],
        &["conversations", "rename", "last", HOSTILE],
        &["conversations", "list"],
        &["conversations", "list", "--format", "markdown"],
        &["conversations", "search", HOSTILE],
        &["conversations", "show", "last"],
        &["conversations", "export", HOSTILE],
        &["-p", "x", "--theme", HOSTILE],
    ];
    for arguments in runs {
        let bytes = home.output(arguments);
        let text = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let own = without_own_sequences(&text);
        let raw = |c: char| is_raw(c) && !matches!(c, '\r' | '\u{200f}' | '\u{feff}');
        assert!(!own.contains(raw), "{arguments:?}: {own:?}");
    }
}

/// `text` without what the program itself writes: styles, the erased progress line, lines that are written again.
fn without_own_sequences(text: &str) -> String {
    let mut own = String::new();
    for (index, part) in text.replace("\r\x1b[K", "").split('\x1b').enumerate() {
        let rest = part.strip_prefix('[').filter(|_| index > 0).and_then(|rest| {
            let numbers = rest.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | '?'));
            let is_own = rest.starts_with("J") || rest.starts_with("?2026") || numbers.starts_with(['m', 'A']);
            is_own.then(|| &numbers[1..])
        });
        match rest {
            Some(rest) => own.push_str(rest),
            None if index > 0 => own.extend(["\x1b", part]),
            None => own.push_str(part),
        }
    }
    own
}
