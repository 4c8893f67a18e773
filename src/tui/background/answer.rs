//! Finds an answer about the background among key events. crossterm does not know it and reads `ESC ] 11;rgb:0/0/0 BEL` as
//! Alt-], some letters, and Ctrl-G.

use ratatui::crossterm::event::{Event, KeyCode, KeyModifiers};

use crate::tui::theme::Background;

/// The text between Alt-] and the end, as far as it has come.
#[derive(Debug, Default)]
pub struct Answer(String);

/// What an event means for an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It belongs to the answer; more must follow.
    More,
    /// It ends the answer.
    Told(Background),
    /// It is a key: this is no answer.
    Key,
}

/// What an answer begins with, after Alt-].
const BEGIN: &str = "11;rgb";

/// Longest answer, in characters: `11;rgba:` with four channels of four digits.
const LONGEST: usize = 27;

impl Answer {
    /// Whether an answer can begin with this event.
    pub fn begins(event: &Event) -> bool {
        key(event) == Some((KeyCode::Char(']'), KeyModifiers::ALT))
    }

    /// Takes the next event.
    pub fn step(&mut self, event: &Event) -> Step {
        match key(event) {
            Some((KeyCode::Char('g'), KeyModifiers::CONTROL) | (KeyCode::Char('\\'), KeyModifiers::ALT)) => {
                parse(&self.0).map_or(Step::Key, Step::Told)
            }
            Some((KeyCode::Char(c), modifiers)) if modifiers.difference(KeyModifiers::SHIFT).is_empty() => {
                self.0.push(c);
                let begins = self.0.starts_with(BEGIN) || BEGIN.starts_with(&self.0);
                if begins && self.0.len() <= LONGEST { Step::More } else { Step::Key }
            }
            _ => Step::Key,
        }
    }
}

fn key(event: &Event) -> Option<(KeyCode, KeyModifiers)> {
    event.as_key_press_event().map(|key| (key.code, key.modifiers))
}

/// `11;rgb:R/G/B` with one to four hexadecimal digits each; `rgba` has a fourth channel.
fn parse(text: &str) -> Option<Background> {
    let rest = text.strip_prefix(BEGIN)?;
    let mut channels = rest.strip_prefix("a:").or_else(|| rest.strip_prefix(':'))?.split('/').map(channel);
    let (r, g, b) = (channels.next()??, channels.next()??, channels.next()??);
    Some(Background::of_rgb(r, g, b))
}

fn channel(digits: &str) -> Option<u8> {
    let highest = match digits.len() {
        1..=4 => (1u32 << (4 * digits.len())) - 1,
        _ => return None,
    };
    let value = u32::from_str_radix(digits, 16).ok()?;
    u8::try_from(value * 255 / highest).ok()
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;
    use crate::tui::theme::Kind;

    /// The last step of the answer with this text, which ends with `end`.
    fn last(text: &str, end: (KeyCode, KeyModifiers)) -> Step {
        let letter =
            |c: char| (KeyCode::Char(c), if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE });
        let mut answer = Answer::default();
        let keys = text.chars().map(letter).chain([end]);
        let mut steps = keys.map(|(code, modifiers)| answer.step(&Event::Key(KeyEvent::new(code, modifiers))));
        steps.find(|step| *step != Step::More).unwrap_or(Step::More)
    }

    const BEL: (KeyCode, KeyModifiers) = (KeyCode::Char('g'), KeyModifiers::CONTROL);
    const ST: (KeyCode, KeyModifiers) = (KeyCode::Char('\\'), KeyModifiers::ALT);

    #[test]
    fn answers_are_told_from_keys() {
        let told = |kind, plain| Step::Told(Background { kind, plain });
        assert_eq!(last("11;rgb:0000/2b2b/3636", BEL), told(Kind::Dark, true));
        assert_eq!(last("11;rgb:FD/F6/E3", ST), told(Kind::Light, true));
        assert_eq!(last("11;rgba:ffff/ffff/ffff/ffff", BEL), told(Kind::Light, true));
        assert_eq!(last("11;rgb:8/8/8", BEL), told(Kind::Light, false));
    }

    #[test]
    fn keys_are_not_taken_for_an_answer() {
        let enter = (KeyCode::Enter, KeyModifiers::NONE);
        for (text, end) in [("", BEL), ("12", BEL), ("11;rgb:0/0", BEL), ("11;rgb:0/0/x", BEL), ("11;rgb:0/0/0", enter)]
        {
            assert_eq!(last(text, end), Step::Key, "{text}");
        }
        assert_eq!(last(&format!("11;rgb:{}", "0".repeat(40)), BEL), Step::Key);
    }
}
