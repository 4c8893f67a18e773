//! Words of texts and queries for the search: folded to lower case without accents. Each character of a script without
//! spaces between words is a word of its own, so that any part of such a text is found.

use std::ops::Range;

/// Base letters of U+00C0 to U+017F, in order; `.`: not changed. The text is in lower case before.
const BASES: &str = "\
aaaaaa.ceeeeiiii.nooooo..uuuuy..aaaaaa.ceeeeiiii.nooooo..uuuuy.y\
aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii..jjkk.llllllllllnnnnnn...oooooo..rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzz.";

/// A word: its place in the text in bytes, and its folded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub place: Range<usize>,
    pub folded: String,
}

/// The words of a text, in order.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = chars.find(|(_, c)| c.is_alphanumeric())?;
        let mut word = Word { place: start..start + first.len_utf8(), folded: String::new() };
        fold(first, &mut word.folded);
        if !stands_alone(first) {
            while let Some((at, c)) = chars.next_if(|(_, c)| belongs(*c)) {
                word.place.end = at + c.len_utf8();
                fold(c, &mut word.folded);
            }
        }
        Some(word)
    })
}

fn belongs(c: char) -> bool {
    (c.is_alphanumeric() && !stands_alone(c)) || is_accent(c)
}

fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// Whether the character belongs to a script without spaces between words, or to Korean, where parts of words matter.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

fn fold(c: char, out: &mut String) {
    if c.is_ascii() {
        return out.push(c.to_ascii_lowercase());
    }
    for lower in c.to_lowercase().filter(|lower| !is_accent(*lower)) {
        let base = (lower as usize).checked_sub(0xc0).and_then(|place| BASES.as_bytes().get(place).copied());
        out.push(base.filter(|base| *base != b'.').map_or(lower, char::from));
    }
}

/// The words of a text, separated by spaces, for the index.
pub(super) fn index_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in words(text) {
        out.push_str(&word.folded);
        out.push(' ');
    }
    out
}

/// What the user searches for: phrases, all of which must be found. The last word of a phrase is a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    phrases: Vec<Vec<String>>,
}

impl Query {
    /// Splits the text at spaces; words in double quotes are one phrase. Text without letters and digits is left out.
    pub(super) fn parse(text: &str) -> Self {
        let parts = text.split('"').enumerate().flat_map(|(n, part)| {
            let separator = |c: char| n % 2 == 0 && c.is_whitespace();
            part.split(separator).map(|phrase| words(phrase).map(|word| word.folded).collect()).collect::<Vec<_>>()
        });
        Self { phrases: parts.filter(|phrase: &Vec<String>| !phrase.is_empty()).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// The query in the language of FTS5.
    pub(super) fn expression(&self) -> String {
        let phrases: Vec<_> = self.phrases.iter().map(|phrase| format!("\"{}\"*", phrase.join(" "))).collect();
        phrases.join(" AND ")
    }

    /// The places in `text` that match, with the number of the phrase, in order.
    pub(super) fn places(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let words: Vec<Word> = words(text).collect();
        let at = |start: usize| {
            let number = self.phrases.iter().position(|phrase| begins_with(&words[start..], phrase))?;
            let end = words[start + self.phrases[number].len() - 1].place.end;
            Some((words[start].place.start..end, number))
        };
        (0..words.len()).filter_map(at).collect()
    }

    /// Whether all phrases are in `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        let words: Vec<Word> = words(text).collect();
        let is_there = |phrase: &Vec<String>| (0..words.len()).any(|start| begins_with(&words[start..], phrase));
        self.phrases.iter().all(is_there)
    }
}

fn begins_with(words: &[Word], phrase: &[String]) -> bool {
    let Some((last, whole)) = phrase.split_last() else { return false };
    words.len() > whole.len()
        && whole.iter().zip(words).all(|(wanted, word)| word.folded == *wanted)
        && words[whole.len()].folded.starts_with(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_scripts_without_spaces_are_split() {
        assert_eq!(index_text("Café GRÜßE, l'été e\u{301}t 学习Rust ２"), "cafe gruße l ete et 学 习 rust ２ ");
        assert_eq!(BASES.len(), 0x180 - 0xc0);
        let word = words("  Žižek!").next().unwrap();
        assert_eq!((word.place, word.folded.as_str()), (2..9, "zizek"));
    }

    #[test]
    fn query_has_all_words_as_prefixes_and_quoted_phrases() {
        let query = Query::parse("Vast \"and my\" ++ 学习 x\"");
        assert_eq!(query.expression(), r#""vast"* AND "and my"* AND "学 习"* AND "x"*"#);
        assert!(Query::parse(" ++ \" ").is_empty());
    }

    #[test]
    fn places_are_those_of_whole_words_in_the_unchanged_text() {
        let text = "The VAST, and Mystérious 深度学习.";
        let marked = |query: &str| -> Vec<&str> {
            Query::parse(query).places(text).into_iter().map(|(place, _)| &text[place]).collect()
        };
        assert_eq!(marked("vast myst"), ["VAST", "Mystérious"]);
        assert_eq!(marked("度学"), ["度学"]);
        assert_eq!(marked("\"vast and\" ast"), ["VAST, and"]);
        assert!(Query::parse("vast mysterious").matches(text) && !Query::parse("vast other").matches(text));
        assert!(Query::parse("va vast").matches(text));
    }
}
