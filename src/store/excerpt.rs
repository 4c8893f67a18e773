//! The part of a text that is shown for a search hit.

use std::ops::Range;

use super::terms::Query;

/// Characters of an excerpt, without the dots at its ends.
const LENGTH: usize = 160;

/// Characters before the first hit.
const BEFORE: usize = 30;

/// A line of text with the places of the hits in it, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub text: String,
    pub marks: Vec<Range<usize>>,
}

/// The part of `text` with the most different phrases of the query; its beginning if there is none.
pub(super) fn excerpt(text: &str, query: &Query) -> Excerpt {
    let places = query.places(text);
    let start = places.get(best(&places)).map_or(0, |(place, _)| back(text, place.start));
    cut(text, start, &places)
}

/// The number of the place from which on the most different phrases are within [`LENGTH`] bytes.
fn best(places: &[(Range<usize>, usize)]) -> usize {
    let variety = |first: usize| {
        let end = places[first].0.start + LENGTH;
        let mut phrases: Vec<usize> =
            places[first..].iter().take_while(|(place, _)| place.end <= end).map(|(_, phrase)| *phrase).collect();
        phrases.sort_unstable();
        phrases.dedup();
        phrases.len()
    };
    // The first of several equal ones. A text with thousands of hits is not compared to its end.
    (0..places.len().min(500)).rev().max_by_key(|first| variety(*first)).unwrap_or_default()
}

/// The beginning of a word, at most [`BEFORE`] characters before `place`.
fn back(text: &str, place: usize) -> usize {
    let from = text[..place].char_indices().rev().take(BEFORE).last().map_or(place, |(at, _)| at);
    match text[from..place].find(char::is_whitespace) {
        Some(blank) if from > 0 => from + blank,
        _ => from,
    }
}

/// [`LENGTH`] characters from `start` on as one line.
fn cut(text: &str, start: usize, places: &[(Range<usize>, usize)]) -> Excerpt {
    let end = text[start..].char_indices().nth(LENGTH).map_or(text.len(), |(length, _)| start + length);
    let mut out = Excerpt::default();
    if !text[..start].trim().is_empty() {
        out.text.push('…');
    }
    let mut at = start;
    for (place, _) in places.iter().filter(|(place, _)| (start..end).contains(&place.start)) {
        if place.start >= at {
            push_line(&mut out.text, &text[at..place.start]);
            let begin = out.text.len();
            push_line(&mut out.text, &text[place.clone()]);
            out.marks.push(begin..out.text.len());
            at = place.end;
        }
    }
    push_line(&mut out.text, &text[at..end.max(at)]);
    out.text.truncate(out.text.trim_end().len());
    if !text[end.max(at)..].trim().is_empty() {
        out.text.push('…');
    }
    out
}

/// Appends text with each run of blanks and control characters as one space.
fn push_line(out: &mut String, text: &str) {
    for c in text.chars() {
        if !c.is_whitespace() && !c.is_control() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with([' ', '…']) {
            out.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str, query: &str) -> (String, Vec<String>) {
        let found = excerpt(text, &Query::parse(query));
        let marks = found.marks.iter().map(|mark| found.text[mark.clone()].to_owned()).collect();
        (found.text, marks)
    }

    #[test]
    fn excerpt_is_one_line_around_the_place_with_the_most_phrases() {
        let text = format!("The vast sea. {}\n\nIt is\tvast and mysterious.\n{}", "x y ".repeat(100), "z ".repeat(200));
        let (line, marks) = marked(&text, "vast mysterious");
        assert!(line.starts_with("…x y x") && line.contains(" It is vast and mysterious. z z"), "{line}");
        assert!(line.ends_with(" z…") && line.chars().count() <= LENGTH + 2, "{line}");
        assert_eq!(marks, ["vast", "mysterious"]);
        assert_eq!(marked(" short\n text ", "none"), ("short text".into(), vec![]));
        assert_eq!(marked("深度学习的历史", "学习"), ("深度学习的历史".into(), vec!["学习".into()]));
        assert_eq!(marked("a b a b", "\"a b\" b"), ("a b a b".into(), vec!["a b".into(), "a b".into()]));
    }
}
