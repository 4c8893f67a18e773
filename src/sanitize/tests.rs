//! Which characters are kept or removed, and that splitting the text makes no difference.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

#[test]
fn escape_sequences_are_removed_and_the_text_around_them_is_kept() {
    for (foreign, harmless) in [
        ("a\x1b[31mred\x1b[0mb", "aredb"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1b]52;c;aGk=\x07b", "ab"),
        ("a\x1bPq#0;2;0\x1b\\b", "ab"),
        ("a\x1b_Gi=1\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        ("a\x1b[6nb\x1bcc\x1b(Bd\x1b#8e", "abcde"),
        ("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{90}q\u{9c}d", "abcd"),
        ("a\x07\x08\x00\x7fb", "ab"),
        ("a\u{202e}b\u{2066}c\u{2069}d", "abcd"),
        ("a\x1b[31\x1b[0mb", "ab"),
        ("a\x1b]0;x\x1b[1mb", "ab"),
        ("tag\u{e0001}\u{e0041}s", "tags"),
    ] {
        assert_eq!(sanitize(foreign), harmless, "{foreign:?}");
    }
}

#[test]
fn all_line_endings_become_newlines() {
    assert_eq!(sanitize("a\r\nb\rc\n\rd\r\r\ne\u{2028}f\u{85}g"), "a\nb\nc\n\nd\n\ne\nf\ng");
}

#[test]
fn languages_and_emoji_are_unchanged() {
    for text in [
        "שלום \u{200f}עולם\u{200e}!",
        "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f} 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} e\u{301}",
        "한국어 日本語 नमस्ते\tTab\nLine [31m ]0;x",
    ] {
        assert_eq!(sanitize(text), text);
    }
}

#[test]
fn the_text_of_an_unterminated_control_string_is_shown() {
    assert_eq!(sanitize("a\x1b]0;never\nended"), "a0;never\nended");
    assert_eq!(sanitize("a\x1b]0;never ended"), "a0;never ended");
    assert_eq!(sanitize("a\x1bPb\x1b"), "ab", "also if its terminator is cut");
    let long = "x".repeat(3 * LONGEST_STRING);
    let mut sanitizer = Sanitizer::default();
    assert_eq!(sanitizer.push(&format!("a\x1bP{long}")), format!("a{long}"), "shown before the stream ends");
    assert_eq!(sanitize(&format!("\x1b[{}", "1".repeat(1000))).len(), 1000 - LONGEST_CSI);
}

fn foreign() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("\x1b".to_string()),
        "[\\[\\]PX^_()\\\\#c0-9;m]",
        "[\u{0}-\u{1f}\u{7f}-\u{9f}]",
        "[\u{2028}-\u{202f}\u{2060}-\u{2069}\u{1f3f4}\u{e0061}\u{e007f}]",
        "[a-zא-ת ]{0,3}",
        Just("\r\n".to_string()),
    ];
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn control_characters_are_always_removed(text in foreign()) {
        let clean = sanitize(&text);
        let steering = |c: char| {
            (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        prop_assert!(!clean.contains(steering), "{clean:?}");
        prop_assert_eq!(sanitize(&clean), clean);
    }

    #[test]
    fn any_split_gives_the_same(text in foreign(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let chars: Vec<char> = text.chars().collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
        cuts.extend([0, chars.len()]);
        cuts.sort_unstable();
        let mut sanitizer = Sanitizer::default();
        let mut out = String::new();
        for pair in cuts.windows(2) {
            out += &sanitizer.push(&chars[pair[0]..pair[1]].iter().collect::<String>());
        }
        out += &sanitizer.finish();
        prop_assert_eq!(out, sanitize(&text));
    }

    #[test]
    fn harmless_text_is_unchanged(text in "[ -~\n\tà-üא-ת一-十😀-😎]{0,80}") {
        prop_assert_eq!(sanitize(&text), text);
    }
}

/// Records what a terminal's parser does with a text.
#[derive(Default)]
struct Terminal {
    printed: String,
    executed: Vec<u8>,
    obeyed: Vec<String>,
}

impl vte::Perform for Terminal {
    fn print(&mut self, c: char) {
        self.printed.push(c);
    }

    fn execute(&mut self, byte: u8) {
        self.executed.push(byte);
    }

    fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.obeyed.push(format!("DCS {action}"));
    }

    fn put(&mut self, byte: u8) {
        self.obeyed.push(format!("DCS byte {byte}"));
    }

    fn osc_dispatch(&mut self, parameters: &[&[u8]], _: bool) {
        self.obeyed.push(format!("OSC {parameters:?}"));
    }

    fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.obeyed.push(format!("CSI {action}"));
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.obeyed.push(format!("ESC {byte}"));
    }
}

fn parsed_by_a_terminal(text: &str) -> Terminal {
    let mut terminal = Terminal::default();
    vte::Parser::new().advance(&mut terminal, text.as_bytes());
    terminal
}

/// Bytes of a hostile model or file: introducers, parameters, terminators, halves of sequences, invalid
/// UTF-8, in any order.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = |text: &'static [u8]| Just(text.to_vec());
    let pieces = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..6),
        4 => "[a-zא-ת一-十 ]{0,4}".prop_map(String::into_bytes),
        3 => "[0-9;:<=>?]{0,5}".prop_map(String::into_bytes),
        3 => "[@-~]".prop_map(String::into_bytes),
        2 => "[ -/]{0,2}".prop_map(String::into_bytes),
        6 => prop_oneof![piece(b"\x1b"), piece(b"\x1b["), piece(b"\x1b]"), piece(b"\x1bP"), piece(b"\x1b_"), piece(b"\x1b^"), piece(b"\x1bX"), piece(b"\x1b(")],
        3 => prop_oneof![piece(b"\x07"), piece(b"\x1b\\"), piece(b"\x18"), piece(b"\x1a"), piece(b"\n"), piece(b"\r"), piece(b"\x7f")],
        3 => "[\u{80}-\u{9f}]".prop_map(String::into_bytes),
        2 => "[\u{200b}-\u{200f}\u{2028}-\u{202e}\u{2060}-\u{206f}\u{feff}\u{e0001}\u{e0041}]".prop_map(String::into_bytes),
    ];
    prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat())
}

/// Replaces each C1 control by its equivalent of two characters, which a 7-bit parser recognises. Leaves out letters with
/// the byte 9C: `vte` reads it as the end of a control string, a terminal with UTF-8 does not.
fn in_seven_bits(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\u{80}'..='\u{9f}' => out.extend([ESC, char::from(c as u8 - 0x40)]),
            _ if c.encode_utf8(&mut [0; 4]).bytes().any(|byte| byte == 0x9c) => {}
            _ => out.push(c),
        }
    }
    out
}

#[test]
fn letters_with_the_byte_of_a_string_terminator_do_not_end_a_string() {
    // ל is D7 9C.
    assert_eq!(sanitize("a\u{1b}P@ל0\u{80}b"), "ab");
    assert_eq!(sanitize("a\u{1b}]0;ל0\u{7}b ל"), "ab ל");
}

fn is_subsequence(part: &str, whole: &str) -> bool {
    let mut chars = whole.chars();
    part.chars().all(|wanted| chars.any(|c| c == wanted))
}

/// Differential: `vte`, another terminal parser, finds no control sequence in the sanitised text, however the text was
/// split into tokens, and prints no character of the original that was removed.
#[test]
fn vte_finds_no_control_sequence_and_no_text_is_lost() {
    const BUDGET: Duration = Duration::from_secs(3);
    let start = Instant::now();
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() });
    while start.elapsed() < BUDGET {
        let cuts = prop::collection::vec(1usize..5, 1..20);
        let result = runner.run(&(hostile_bytes(), cuts), |(bytes, cuts)| {
            let text = String::from_utf8_lossy(&bytes);
            let mut sanitizer = Sanitizer::default();
            let mut clean = String::new();
            let mut chars = text.chars().peekable();
            for length in cuts.iter().cycle() {
                clean += &sanitizer.push(&chars.by_ref().take(*length).collect::<String>());
                if chars.peek().is_none() {
                    break;
                }
            }
            clean += &sanitizer.finish();
            let seen = parsed_by_a_terminal(&clean);
            prop_assert!(seen.obeyed.is_empty(), "{:?} obeys {:?}", clean, seen.obeyed);
            prop_assert!(seen.executed.iter().all(|byte| matches!(byte, b'\n' | b'\t')), "{clean:?}");
            prop_assert!(!seen.printed.contains(is_harmful_outside_a_flag), "{clean:?}");
            let plain: String = parsed_by_a_terminal(&in_seven_bits(&text)).printed;
            let plain: String =
                plain.chars().filter(|c| !is_harmful(*c) && !matches!(c, '\u{2028}' | '\u{2029}')).collect();
            prop_assert!(is_subsequence(&plain, &clean), "of {plain:?} not all is in {clean:?}");
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    }
}

/// Tag characters are allowed in an emoji flag.
fn is_harmful_outside_a_flag(c: char) -> bool {
    is_harmful(c) && !matches!(c, '\u{e0020}'..='\u{e007f}')
}
