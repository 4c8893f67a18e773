//! Runs of `*` and `~` that CommonMark's rules for word boundaries misread.
//!
//! Chinese, Japanese and Korean put no spaces between words, so the rule that a run beside punctuation does not open or
//! close fails there. As in the amendment that <https://github.com/tats-u/markdown-cjk-friendly> proposes, such a run
//! both opens and closes: the character beside it is replaced by one of the same length that the rules accept.

use super::Copy;

/// Number of open runs, by their length.
#[derive(Default)]
pub(super) struct Open {
    single: usize,
    double: usize,
}

impl Copy<'_> {
    /// Scans the run at `at`; returns its end.
    pub(super) fn emphasis(&mut self, at: usize) -> usize {
        let length = self.run(at, self.byte(at));
        let end = at + length;
        let before = self.text.get(..at).and_then(|text| text.chars().next_back()).filter(|c| !c.is_whitespace());
        let after = self.text.get(end..).and_then(|text| text.chars().next()).filter(|c| !c.is_whitespace());
        if self.byte(at) == b'~' {
            // One tilde means "about" or "to"; two are strikethrough.
            match length {
                1 => self.hide(at..end),
                2 => self.beside_cjk(at, end, before, after),
                _ => {}
            }
            return end;
        }
        match (before, after) {
            // `src/*.rs`, `a/**/b`, `count(*)`
            (Some('/'), Some('/' | '.')) | (Some('('), Some(')')) => self.hide(at..end),
            // `.*name.*`, a regular expression
            (Some('.'), Some(_)) if !self.text[..at - 1].ends_with(char::is_alphanumeric) => self.hide(at..end),
            (Some(before), Some(after)) if length < 3 && self.is_operator(at, length, before, after) => {
                self.hide(at..end);
            }
            (before, after) => {
                self.count(length, before, after);
                self.beside_cjk(at, end, before, after);
            }
        }
        end
    }

    fn open(&mut self, length: usize) -> &mut usize {
        if length == 1 { &mut self.open.single } else { &mut self.open.double }
    }

    /// Counts the open runs: a run after a space opens, one before a space closes, one within a word closes an open run
    /// or else opens.
    fn count(&mut self, length: usize, before: Option<char>, after: Option<char>) {
        let open = self.open(length);
        match (before, after) {
            (_, None) => *open = open.saturating_sub(1),
            (None, Some(_)) => *open += 1,
            (Some(_), Some(_)) if *open > 0 => *open -= 1,
            (Some(_), Some(_)) => *open += 1,
        }
    }

    /// Whether the run is multiplication (`2*3*4`, `f(x)*g`) or exponentiation (`x**2`): it is between operands and
    /// closes no open run.
    fn is_operator(&mut self, at: usize, length: usize, before: char, after: char) -> bool {
        let operands = (before.is_ascii_alphanumeric() || matches!(before, ')' | ']' | '}'))
            && (after.is_ascii_alphanumeric() || after == '(');
        if !operands {
            return false;
        }
        let digits = before.is_ascii_digit() || after.is_ascii_digit();
        if digits && (before.is_ascii_digit() == after.is_ascii_digit() || *self.open(length) == 0) {
            return true;
        }
        if *self.open(length) > 0 {
            return false;
        }
        // `un**believ**able` is emphasis, unless the content has a space or a name of one letter precedes it.
        let line = self.ahead(at + length);
        let closed = line.find("**").is_some_and(|end| !line[..end].contains(' '));
        let name = self.text.get(..at).unwrap_or_default().bytes().rev().take_while(u8::is_ascii_alphanumeric);
        length == 1 || !closed || name.count() < 2
    }

    fn beside_cjk(&mut self, at: usize, end: usize, before: Option<char>, after: Option<char>) {
        let (Some(before), Some(after)) = (before, after) else { return };
        let place = at - before.len_utf8();
        match (is_cjk(before), is_cjk(after)) {
            (true, true) => {
                self.replace(place, before, true);
                self.replace(end, after, true);
            }
            (false, true) => self.replace(end, after, !is_punctuation(before)),
            (true, false) => self.replace(place, before, !is_punctuation(after)),
            (false, false) => {}
        }
    }

    /// Replaces `c` by a letter or punctuation of the same UTF-8 length, unless it is of that class already.
    fn replace(&mut self, at: usize, c: char, by_letter: bool) {
        let with = match (by_letter, c.len_utf8()) {
            _ if c.is_alphanumeric() == by_letter => return,
            (true, 3) => "一",
            (true, 4) => "𠀀",
            (false, 3) => "、",
            (false, 4) => "\u{10100}",
            _ => return,
        };
        if let Some(bytes) = self.read.get_mut(at..at + c.len_utf8()) {
            bytes.copy_from_slice(with.as_bytes());
        }
    }
}

/// Letters and punctuation of Chinese, Japanese and Korean, half and full width.
fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ffef}' | '\u{1aff0}'..='\u{1b2ff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Characters that the parser treats as punctuation, outside these scripts.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c,
            '\u{a1}'..='\u{a9}' | '\u{ab}'..='\u{b1}' | '\u{b4}' | '\u{b6}'..='\u{b8}' | '\u{bb}' | '\u{bf}'
            | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{20a0}'..='\u{20cf}' | '\u{2190}'..='\u{245f}'
            | '\u{2500}'..='\u{2bff}')
}
