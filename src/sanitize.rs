//! Sanitises untrusted text for the terminal: model output, history, stdin, file names, server errors.
//!
//! Keeps a state machine's state between pieces, so that a sequence split across tokens is caught too. The states
//! follow ECMA-48 and xterm's "Control Sequences", with one exception: the text of an unterminated string is shown at
//! the line's end. That is safe, because its introducer was removed. Independent of the front end.

/// Maximum length of a control string (OSC, DCS, APC, PM, SOS), in characters; a longer one is shown as text.
const LONGEST_STRING: usize = 4096;

/// Maximum parameter characters of a CSI sequence; further ones are shown as text.
const LONGEST_CSI: usize = 256;

/// An emoji flag of a region (England, Scotland, …) is a black flag and at most this many tag characters.
const LONGEST_FLAG: u8 = 7;

const ESC: char = '\u{1b}';

mod json;

pub use json::{json, json_pretty};

/// Sanitises a stream of text piece by piece.
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
    /// In a control string, with its text and number of characters so far.
    String { held: String, count: usize },
    /// ESC within a control string, with its text: `\` ends it.
    StringEscape { held: String },
}

impl Sanitizer {
    /// Sanitises the next piece. Newlines and tabs stay; escape sequences (CSI, OSC, DCS, APC, PM, SOS, C1 forms, split
    /// ones, unterminated ones), other control characters and bidi controls are removed. A lone carriage return,
    /// U+0085, U+2028 and U+2029 become newlines. The text of an unfinished control string is held back until it ends,
    /// breaks the line or grows too long.
    pub fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.step(c, &mut out);
        }
        out
    }

    /// Ends the stream; returns the text that an unterminated control string has held back.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if let State::String { held, .. } | State::StringEscape { held } = std::mem::take(&mut self.state) {
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
            // ESC ends a control string even if no backslash follows, as in xterm.
            State::StringEscape { .. } if c == '\\' => {}
            State::StringEscape { .. } => self.escape(c, out),
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
            // Terminated by BEL or ST, or cancelled by CAN or SUB.
            '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => {}
            ESC => self.state = State::StringEscape { held },
            // Another C1 control starts a new sequence.
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

/// Characters that control a terminal or reorder, hide or annotate the text around them. U+200E, U+200F and U+061C are
/// kept: right-to-left text needs them and they reorder only themselves. So are joiners and variation selectors.
pub(crate) fn is_harmful(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Default-ignorable characters without effect in a terminal: soft hyphens, zero width spaces, Khmer and Mongolian
/// vowel signs without a form, invisible operators, tags.
pub(crate) fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'
        | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Sanitises a complete text.
pub fn sanitize(text: &str) -> String {
    let mut sanitizer = Sanitizer::default();
    let mut out = sanitizer.push(text);
    out.push_str(&sanitizer.finish());
    out
}

/// Sanitises a text for one line (a title, a file name, an error within a sentence). Newlines and tabs become spaces.
pub fn sanitize_line(text: &str) -> String {
    sanitize(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests;
