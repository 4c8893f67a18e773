//! Files that a prompt names: `@path`, or `@"path with spaces"`, at the beginning or after white space.

use std::ops::Range;

/// Most mentions of a text that are looked at.
const MOST: usize = 32;

/// A word of a text that may name a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention<'a> {
    /// The word as it is written, with the `@`.
    pub word: &'a str,
    /// Its place, in bytes.
    pub range: Range<usize>,
    /// What it names, without `@` and quotes.
    pub name: &'a str,
    quoted: bool,
}

impl<'a> Mention<'a> {
    /// The names that it can stand for, in the order in which to try them: as written, then without the punctuation of a
    /// sentence behind it.
    pub fn names(&self) -> Vec<&'a str> {
        let mut names = vec![self.name];
        let bare = self.name.trim_end_matches(|c| PUNCTUATION.contains(c));
        if !self.quoted && !bare.is_empty() && bare.len() < self.name.len() {
            names.push(bare);
        }
        names
    }

    /// The word without the punctuation of a sentence behind it, for a sentence about it.
    pub fn bare_word(&self) -> &'a str {
        let bare = self.word.trim_end_matches(is_punctuation);
        if self.quoted || bare.len() <= '@'.len_utf8() { self.word } else { bare }
    }
}

/// Characters that end a sentence or a bracket, and are rarely the end of a file's name.
const PUNCTUATION: &str = ".,;:!?)]}'\"…";

/// The mentions in `text`, in order.
pub fn mentions(text: &str) -> Vec<Mention<'_>> {
    let starts = text.match_indices('@').map(|(at, _)| at).filter(|at| begins_word(&text[..*at]));
    starts.filter_map(|at| mention_at(text, at)).take(MOST).collect()
}

/// How a text mentions the file `name`.
pub fn mention(name: &str) -> String {
    let plain = !name.contains(char::is_whitespace) && !name.starts_with('"') && !name.ends_with(is_punctuation);
    if plain { format!("@{name}") } else { format!("@\"{name}\"") }
}

/// The mention that is being written at the end of `before`, the text before the cursor: the name so far, and where its
/// `@` is. A closing quote ends it.
pub fn unfinished(before: &str) -> Option<(usize, &str)> {
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let starts = before.match_indices('@').map(|(at, _)| at).filter(|at| *at >= line && begins_word(&before[..*at]));
    let written = |at: usize| {
        let rest = &before[at + 1..];
        match rest.strip_prefix('"') {
            Some(name) => (!name.contains('"')).then_some((at, name)),
            None => (!rest.contains(char::is_whitespace)).then_some((at, rest)),
        }
    };
    starts.filter_map(written).next()
}

fn begins_word(before: &str) -> bool {
    before.chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(')
}

fn mention_at(text: &str, at: usize) -> Option<Mention<'_>> {
    let rest = &text[at + 1..];
    let quoted = rest.strip_prefix('"').and_then(|rest| {
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        line.find('"').map(|end| (&line[..end], end + 2))
    });
    let plain = || {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        (&rest[..end], end)
    };
    let is_quoted = quoted.is_some();
    let (name, length) = quoted.unwrap_or_else(plain);
    let range = at..at + 1 + length;
    (!name.is_empty()).then(|| Mention { word: &text[range.clone()], range, name, quoted: is_quoted })
}

fn is_punctuation(c: char) -> bool {
    PUNCTUATION.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        mentions(text).iter().map(|mention| mention.word).collect()
    }

    #[test]
    fn a_mention_begins_a_word() {
        assert_eq!(words("@a.rs and (@b.rs) or\n@c"), ["@a.rs", "@b.rs)", "@c"]);
        assert_eq!(words("me@example.com @ x @"), [""; 0]);
        assert_eq!(words("see @\"my notes.md\", please"), ["@\"my notes.md\""]);
        assert_eq!(words("see @\"never closed\nx\""), ["@\"never"]);
        assert_eq!(mentions(&"@x ".repeat(99)).len(), MOST);
    }

    #[test]
    fn punctuation_behind_a_name_may_belong_to_the_sentence() {
        let names = |text| mentions(text)[0].names();
        assert_eq!(names("what is @src/a.rs?"), ["src/a.rs?", "src/a.rs"]);
        assert_eq!(names("(@a.rs)"), ["a.rs)", "a.rs"]);
        assert_eq!(names("@\"odd?\""), ["odd?"]);
        assert_eq!(names("@..."), ["..."]);
        let bare = |text| mentions(text)[0].bare_word();
        assert_eq!((bare("@a.rs,, and"), bare("@\"odd?\""), bare("@...")), ("@a.rs", "@\"odd?\"", "@..."));
    }

    #[test]
    fn what_names_a_file_is_found_again() {
        for name in ["a.rs", "my notes.md", "odd?", "ü/日本.txt", "~/x", ".."] {
            let text = format!("read {} now", mention(name));
            let found = mentions(&text);
            assert_eq!((found.len(), found[0].names()[0]), (1, name));
        }
    }

    #[test]
    fn the_unfinished_mention_is_at_the_end() {
        assert_eq!(unfinished("see @src/m"), Some((4, "src/m")));
        assert_eq!(unfinished("a\n@"), Some((2, "")));
        assert_eq!(unfinished("@\"my no"), Some((0, "my no")));
        for text in ["", "see", "@a ", "@\"a b\"", "me@x", "@a\nb"] {
            assert_eq!(unfinished(text), None, "{text:?}");
        }
    }
}
