//! Makes foreign text harmless before it meets a terminal: model output, history, stdin, file names, server errors.
//!
//! Keeps a state machine's state between pieces, so that a sequence split across tokens is caught too. The states
//! follow ECMA-48 and xterm's "Control Sequences"; what is more generous here (a string that never ends gives its text
//! back at the line's end) is safe, because its introducer is already gone. Knows nothing of who shows the text.

/// A control string (OSC, DCS, APC, PM, SOS) longer than this, in characters, was never meant as one: it is shown.
const LONGEST_STRING: usize = 4096;

/// Parameters of a CSI sequence beyond this are shown as the digits that they are.
const LONGEST_CSI: usize = 256;

/// An emoji flag of a region (England, Scotland, …) is a black flag and at most this many tag characters.
const LONGEST_FLAG: u8 = 7;

const ESC: char = '\u{1b}';

/// Cleans a stream of text piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Sanitizer {
    state: State,
    /// The last character was a carriage return, already shown as a newline: a line feed after it adds nothing.
    after_return: bool,
    /// Tag characters that may still follow a black flag.
    flag_tags: u8,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and intermediates (`ESC ( B`).
    EscapeIntermediate,
    /// In a CSI sequence, with the number of characters so far.
    Csi(usize),
    /// In a control string; what it held so far.
    String { held: String, count: usize },
    /// ESC within a control string: `\` ends it.
    StringEscape,
}

impl Sanitizer {
    /// The harmless form of the next piece. Newlines and tabs stay; escape sequences (CSI, OSC, DCS, APC, PM, SOS,
    /// C1 forms, split ones, unterminated ones), other control characters and bidi controls go. A lone carriage
    /// return, U+0085, U+2028 and U+2029 become newlines. What an unfinished control string holds is kept back until
    /// it ends, breaks the line or grows too long.
    pub fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.step(c, &mut out);
        }
        out
    }

    /// The text that an unterminated control string still holds, at the end of the stream.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if let State::String { held, .. } = std::mem::take(&mut self.state) {
            self.show_all(&held, &mut out);
        }
        *self = Self::default();
        out
    }

    fn step(&mut self, c: char, out: &mut String) {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(c, out),
            State::Escape => self.escape(c, out),
            State::EscapeIntermediate => match c {
                ' '..='/' => self.state = State::EscapeIntermediate,
                '0'..='~' => {}
                _ => self.ground(c, out),
            },
            State::Csi(count) => match c {
                ' '..='?' if count < LONGEST_CSI => self.state = State::Csi(count + 1),
                '@'..='~' => {}
                _ => self.ground(c, out),
            },
            State::String { held, count } => self.string(held, count, c, out),
            // ESC ends a control string even where no backslash follows, as in xterm.
            State::StringEscape if c == '\\' => {}
            State::StringEscape => self.escape(c, out),
        }
    }

    /// The character after ESC.
    fn escape(&mut self, c: char, out: &mut String) {
        self.state = match c {
            ESC => State::Escape,
            '[' => State::Csi(0),
            ']' | 'P' | 'X' | '^' | '_' => State::String { held: String::new(), count: 0 },
            ' '..='/' => State::EscapeIntermediate,
            '0'..='~' => State::Ground,
            _ => return self.ground(c, out),
        };
    }

    fn string(&mut self, mut held: String, count: usize, c: char, out: &mut String) {
        match c {
            // Ended: BEL, ST, or CAN and SUB, which cancel.
            '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => {}
            ESC => self.state = State::StringEscape,
            // Another C1 control starts anew.
            '\u{80}'..='\u{9f}' if c != '\u{85}' => self.ground(c, out),
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                self.show_all(&held, out);
                self.ground(c, out);
            }
            _ if count >= LONGEST_STRING => {
                self.show_all(&held, out);
                self.ground(c, out);
            }
            _ => {
                held.push(c);
                self.state = State::String { held, count: count + 1 };
            }
        }
    }

    fn ground(&mut self, c: char, out: &mut String) {
        match c {
            ESC => self.state = State::Escape,
            '\u{9b}' => self.state = State::Csi(0),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => self.state = State::String { held: String::new(), count: 0 },
            _ => self.show(c, out),
        }
    }

    fn show_all(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            self.show(c, out);
        }
    }

    /// Writes a character that starts no sequence, if it is harmless.
    fn show(&mut self, c: char, out: &mut String) {
        let after_return = std::mem::replace(&mut self.after_return, c == '\r');
        let flag_tags = std::mem::take(&mut self.flag_tags);
        match c {
            '\n' if after_return => {}
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{e0020}'..='\u{e007f}' if flag_tags > 0 => {
                self.flag_tags = flag_tags - 1;
                out.push(c);
            }
            _ if is_harmful(c) => {}
            _ => {
                if c == '\u{1f3f4}' {
                    self.flag_tags = LONGEST_FLAG;
                }
                out.push(c);
            }
        }
    }
}

/// Characters that steer a terminal or reorder, hide or annotate the text around them. U+200E, U+200F and U+061C stay:
/// right-to-left text needs them and they reorder nothing beyond themselves. So do joiners and variation selectors.
fn is_harmful(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The harmless form of a whole text.
pub fn sanitize(text: &str) -> String {
    let mut sanitizer = Sanitizer::default();
    let mut out = sanitizer.push(text);
    out.push_str(&sanitizer.finish());
    out
}

/// The harmless form of a text that has to fit on one line (a title, a file name, an error within a sentence).
pub fn sanitize_line(text: &str) -> String {
    sanitize(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequences_vanish_and_the_text_around_them_stays() {
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
    fn lines_end_in_newlines_however_they_were_written() {
        assert_eq!(sanitize("a\r\nb\rc\n\rd\r\r\ne\u{2028}f\u{85}g"), "a\nb\nc\n\nd\n\ne\nf\ng");
    }

    #[test]
    fn languages_and_emoji_stay_as_they_are() {
        for text in [
            "שלום \u{200f}עולם\u{200e}!",
            "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f} 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} e\u{301}",
            "한국어 日本語 नमस्ते\tTab\nLine [31m ]0;x",
        ] {
            assert_eq!(sanitize(text), text);
        }
    }

    #[test]
    fn an_unterminated_string_hides_nothing_for_ever() {
        assert_eq!(sanitize("a\x1b]0;never\nended"), "a0;never\nended");
        assert_eq!(sanitize("a\x1b]0;never ended"), "a0;never ended");
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
        fn nothing_that_steers_a_terminal_comes_through(text in foreign()) {
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
}
