//! The output of the sanitizer, parsed by vte (the parser of Alacritty and others). Input: a byte, the length in
//! characters of the streamed pieces, then a text.

use std::time::Duration;

use chatnap::sanitize::{Sanitizer, sanitize, sanitize_line};

use super::{Target, take};

pub const TARGET: Target = Target {
    name: "sanitizer",
    cases: 4000,
    time: Duration::from_secs(2),
    memory: 64 << 20,
    words: &[
        "\u{1b}",
        "\u{1b}[",
        "\u{1b}]0;",
        "\u{1b}]8;;http://x\u{1b}\\",
        "\u{1b}]52;c;aGk=\u{7}",
        "\u{1b}P",
        "\u{1b}_G",
        "\u{1b}^",
        "\u{1b}X",
        "\u{1b}\\",
        "\u{1b}(B",
        "\u{1b}#8",
        "\u{1b}[?1049h",
        "\u{1b}[6n",
        "\u{7}",
        "\u{18}",
        "\u{1a}",
        "\u{9b}",
        "\u{9d}",
        "\u{90}",
        "\u{98}",
        "\u{9c}",
        "\u{9f}",
        "\u{84}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{2066}",
        "\u{2069}",
        "\u{200d}",
        "\u{fe0f}",
        "\u{feff}",
        "\u{1f3f4}",
        "\u{e0067}",
        "\u{e007f}",
        "\r\n",
        "\n",
        "\t",
        "\u{7f}",
        "\u{0}",
        "31;1m",
        "0;title",
    ],
    seeds,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    [
        "\u{1}plain text, שלום, 日本語, 👩\u{200d}👧, नमस्ते\n\tand a second line\r\n",
        "\u{3}a\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{5}a\u{1b}Pq#0;2;0\u{1b}\\b\u{1b}_Gi=1\u{1b}\\c\u{1b}^pm\u{1b}\\d\u{1b}(B\u{1b}#8\u{1b}c",
        "\u{2}a\u{9b}31mb\u{9d}0;t\u{9c}c\u{90}q\u{9c}d\u{202e}e\u{2066}f🏴\u{e0067}\u{e0062}\u{e007f}",
        "\u{ff}a\u{1b}]0;never\nended\u{1b}]0;x\u{1b}[1mb",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Records the text that vte prints and, in `steered`, the controls that it dispatches.
#[derive(Default)]
struct Screen {
    printed: String,
    steered: Vec<String>,
}

impl vte::Perform for Screen {
    fn print(&mut self, c: char) {
        self.printed.push(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\t' => self.printed.push(char::from(byte)),
            _ => self.steered.push(format!("control {byte:#x}")),
        }
    }

    fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, _: char) {
        self.steered.push("DCS".into());
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        self.steered.push("OSC".into());
    }

    fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, _: char) {
        self.steered.push("CSI".into());
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.steered.push(format!("ESC {byte:#x}"));
    }
}

fn run(input: &[u8]) -> bool {
    let ([length], bytes) = take(input);
    let text = String::from_utf8_lossy(bytes);
    let clean = sanitize(&text);

    // vte only prints, and ends in its ground state: it prints the final dot, too.
    let mut screen = Screen::default();
    vte::Parser::new().advance(&mut screen, format!("{clean}.").as_bytes());
    assert_eq!(screen.steered, Vec::<String>::new(), "out of {text:?} came {clean:?}");
    assert_eq!(screen.printed, format!("{clean}."));
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!clean.contains(reorders), "{clean:?}");

    assert_eq!(sanitize(&clean), clean, "clean text changes");
    assert!(clean.len() <= text.len());
    let line = sanitize_line(&text);
    assert!(!line.chars().any(char::is_control), "{line:?}");

    let chars: Vec<char> = text.chars().collect();
    let mut sanitizer = Sanitizer::default();
    let pieces = chars.chunks(usize::from(length).max(1)).map(|piece| piece.iter().collect::<String>());
    let mut streamed: String = pieces.map(|piece| sanitizer.push(&piece)).collect();
    streamed += &sanitizer.finish();
    assert_eq!(streamed, clean, "in pieces of {length}");
    true
}
