//! Terminal cells: which characters of a text are drawn, and how many cells they take.
//!
//! Terminals disagree about invisible characters: some draw U+200B, U+FEFF or a Hangul filler as a cell, some do not. A
//! frame that assumes either breaks on the others, so these characters are not drawn. The stored text keeps them.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::sanitize::{is_harmful, is_ignorable};

/// Zero width joiner.
const JOINER: char = '\u{200d}';

/// Half-width sound marks of kana. Terminals draw each in its own cell.
const SOUND_MARKS: [char; 2] = ['\u{ff9e}', '\u{ff9f}'];

/// The base that is drawn for a combining mark without one, as in the Unicode charts.
const CIRCLE: &str = "\u{25cc}";

/// Width of `text` in cells, as drawn.
pub fn width(text: &str) -> usize {
    pieces(&drawn(text)).map(|(_, width)| width).sum()
}

/// `text` as drawn: without invisible characters, except those that shape their neighbours (joiners of Arabic and Indic
/// scripts, variation selectors, directional marks). Blank letters become spaces. Newlines and tabs stay.
pub fn drawn(text: &str) -> Cow<'_, str> {
    if !text.chars().any(needs_care) {
        return Cow::Borrowed(text);
    }
    let graphemes = text.graphemes(true).map(|grapheme| {
        let care = grapheme.chars().any(needs_care);
        if care { grapheme_drawn(grapheme) } else { Cow::Borrowed(grapheme) }
    });
    Cow::Owned(graphemes.collect())
}

/// Splits a drawn text into the parts that take cells of their own, with their widths in cells. Control characters are
/// omitted.
pub fn pieces(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let graphemes = text.graphemes(true).filter(|grapheme| !grapheme.contains(char::is_control));
    let parts = graphemes.flat_map(|grapheme| {
        let marks = grapheme.find(SOUND_MARKS).unwrap_or(grapheme.len());
        let (letter, marks) = grapheme.split_at(marks);
        std::iter::once(letter).chain(marks.split_inclusive(SOUND_MARKS)).filter(|part| !part.is_empty())
    });
    parts.map(|part| (part, part.width()))
}

/// Characters that must not be sent to a terminal, or whose width differs between terminals.
pub fn is_unseen(c: char) -> bool {
    is_harmful(c) && !matches!(c, '\n' | '\t') || is_ignorable(c) || blank(c).is_some()
}

/// The spaces that are drawn for a blank letter (a Hangul filler).
fn blank(c: char) -> Option<&'static str> {
    match c {
        '\u{115f}' | '\u{3164}' => Some("  "),
        '\u{ffa0}' => Some(" "),
        _ => None,
    }
}

/// Characters that may be drawn differently than written.
fn needs_care(c: char) -> bool {
    c > '~' && (is_unseen(c) || c == JOINER || c.width() == Some(0))
}

fn grapheme_drawn(grapheme: &str) -> Cow<'_, str> {
    if grapheme.contains(is_syllable_part) {
        return syllable_drawn(grapheme);
    }
    let is_flag = grapheme.starts_with('\u{1f3f4}');
    let is_tag = |c: char| matches!(c, '\u{e0020}'..='\u{e007f}');
    let mut shown = String::with_capacity(grapheme.len());
    for c in grapheme.chars() {
        match blank(c) {
            Some(spaces) => shown.push_str(spaces),
            None if is_unseen(c) && !(is_flag && is_tag(c)) => {}
            None => shown.push(c),
        }
    }
    while shown.ends_with(JOINER) && joins_emoji(&shown) {
        shown.pop();
    }
    if shown.chars().all(shapes_neighbours) {
        return Cow::Borrowed("");
    }
    on_something(shown)
}

/// Vowels and final consonants of a decomposed Hangul syllable, and the filler for its initial consonant.
fn is_syllable_part(c: char) -> bool {
    matches!(c, '\u{115f}' | '\u{1161}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7fb}')
}

/// A syllable that begins with a filler takes two cells in every terminal if any part of it is visible.
fn syllable_drawn(grapheme: &str) -> Cow<'_, str> {
    if grapheme.chars().all(|c| c == '\u{115f}' || c == '\u{1160}') {
        return Cow::Owned(grapheme.chars().filter_map(blank).collect());
    }
    on_something(grapheme.chars().filter(|c| *c == '\u{115f}' || !is_unseen(*c)).collect())
}

/// Adds [`CIRCLE`] before a combining mark without a base.
fn on_something(shown: String) -> Cow<'static, str> {
    Cow::Owned(if shown.width() == 0 && !shown.is_empty() { format!("{CIRCLE}{shown}") } else { shown })
}

/// Whether the joiner at the end of `text` follows an emoji, which it would join with the next cell. An emoji that is
/// still streaming ends like this; a word does not.
fn joins_emoji(text: &str) -> bool {
    // UAX #29, rule GB11: only between emoji does a joiner keep the next character in the same grapheme.
    let begun: String = text.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
    format!("{begun}\u{1f469}").graphemes(true).count() == 1
}

/// Zero-width characters that change how others are drawn, and are invisible alone.
fn shapes_neighbours(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200c}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_not_drawn() {
        for c in "\u{ad}\u{34f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180e}\u{180f}\u{200b}\u{2060}\u{2064}\u{2065}\u{feff}\u{fff0}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{202e}\u{2066}".chars() {
            assert_eq!(drawn(&format!("a{c}b")), "ab", "{c:?}");
            assert_eq!(drawn(&format!("日{c}本")), "日本", "{c:?}");
            assert_eq!(drawn(&c.to_string()), "", "{c:?}");
        }
        assert_eq!(drawn("a\u{3164}b\u{115f}c\u{ffa0}d"), "a  b  c d");
        assert_eq!(width("a\u{3164}b\u{115f}c\u{ffa0}d\u{ad}\u{200b}"), 9);
    }

    #[test]
    fn only_joiners_at_the_end_of_an_emoji_are_dropped() {
        for text in [
            "\u{1f469}\u{200d}",
            "\u{1f469}\u{1f3fd}\u{200d}",
            "\u{2764}\u{fe0f}\u{200d}",
            "\u{1f469}\u{200d}\u{2764}\u{fe0f}\u{200d}",
        ] {
            assert_eq!(drawn(text), text.trim_end_matches(JOINER));
            assert_eq!(drawn(&format!("{text} go")), format!("{} go", text.trim_end_matches(JOINER)));
        }
        for text in [
            "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3}",
            "\u{db1}\u{dca}\u{200d}",
            "\u{d28}\u{d4d}\u{200d} \u{915}\u{94d}\u{200d}",
            "\u{995}\u{9cd}\u{200d}\u{9b7} \u{ba8}\u{bcd}\u{200d} \u{c28}\u{c4d}\u{200d}",
            "\u{647}\u{200d} \u{6cc}\u{200c}\u{62e}",
            "\u{1f469}\u{200d}\u{1f680} a\u{200d}",
        ] {
            assert_eq!(drawn(text), text);
        }
        assert_eq!(drawn("\u{200d}"), "");
    }

    #[test]
    fn combining_marks_without_a_base_get_a_circle() {
        assert_eq!(drawn("\u{301}"), "\u{25cc}\u{301}");
        assert_eq!(drawn("e\u{301}"), "e\u{301}");
        assert_eq!(drawn("\u{1161}"), "\u{25cc}\u{1161}");
        assert_eq!(drawn("\u{115f}\u{1161}"), "\u{115f}\u{1161}");
        assert_eq!(drawn("\u{1100}\u{1160}\u{1112}\u{1161}\u{11ab}"), "\u{1100}\u{1112}\u{1161}\u{11ab}");
    }

    #[test]
    fn widths_match_terminals() {
        // An Arabic ligature is drawn in two cells, and so is a voiced half-width kana.
        for (text, cells) in [("لا", 2), ("ｶﾞｷﾞ", 4), ("👩\u{200d}🚀", 2), ("日本", 4), ("e\u{301}", 1), ("a\tb", 2)]
        {
            assert_eq!(width(text), cells, "{text}");
        }
        let flag = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
        assert_eq!((drawn(flag), width(flag)), (flag.into(), 2));
    }
}
