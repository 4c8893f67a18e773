//! Matching of a query against names: words in any order, letters that are left out, one wrong letter.
//!
//! Not by a crate: frizbee instantiates a hundred kernels in the crate that calls it, which took a quarter of the whole build.

use std::ops::Range;

/// Longest query that is matched, in characters; the rest is ignored.
const LONGEST_QUERY: usize = 64;

/// Words of at least this many letters may have one letter that is wrong, missing, too many or exchanged with the next.
const TOLERANT: usize = 5;

/// Words with fewer letters must be in a name as they are.
const SHORT: usize = 3;

/// How well a word matches, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Quality {
    /// The name begins with it.
    Begin,
    /// A word of the name begins with it.
    Word,
    /// It is in the name.
    Inside,
    /// Its letters are close together, from the beginning of a word on.
    Near,
    /// A word of the name begins with it but for one letter.
    Wrong,
}

/// Indexes of the names that match, best first, and in order where they match equally well; all of them for a blank query.
/// Words of the query may match in any order, in any case; letters may be left out if what remains is close together and
/// begins a word. If no name matches, one letter of each long word may be wrong.
pub fn matches<S: AsRef<str>>(query: &str, names: &[S]) -> Vec<usize> {
    let words = words(query);
    let names: Vec<_> = names.iter().map(|name| folded(name.as_ref())).collect();
    let found = |wrong| {
        let rank = |(index, name): (usize, &Vec<char>)| {
            let each = words.iter().map(|word| find(word, name, wrong).map(|(quality, _)| quality as usize));
            Some((each.sum::<Option<usize>>()?, index))
        };
        let mut found: Vec<_> = names.iter().enumerate().filter_map(rank).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| index).collect::<Vec<_>>()
    };
    let exact = found(false);
    if exact.is_empty() { found(true) } else { exact }
}

/// Indexes of the names that contain all words of the query, in order; none for a blank query.
pub fn containing<S: AsRef<str>>(query: &str, names: &[S]) -> Vec<usize> {
    let words = words(query);
    let contains = |index: &usize| {
        let name = folded(names[*index].as_ref());
        !words.is_empty() && words.iter().all(|word| places(word, &name).next().is_some())
    };
    (0..names.len()).filter(contains).collect()
}

/// Character positions of `name` that the query matches, in order.
pub fn positions(query: &str, name: &str) -> Vec<usize> {
    let (words, name) = (words(query), folded(name));
    let found = |wrong| words.iter().map(|word| find(word, &name, wrong)).collect::<Option<Vec<_>>>();
    let found = found(false).or_else(|| found(true)).unwrap_or_default();
    let mut all: Vec<_> = found.into_iter().flat_map(|(_, places)| places).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The words of a query, folded.
fn words(query: &str) -> Vec<Vec<char>> {
    let query: String = query.trim().chars().take(LONGEST_QUERY).collect();
    query.split_whitespace().map(folded).collect()
}

/// The characters in lower case, one for each of the text.
fn folded(text: &str) -> Vec<char> {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

/// The best match of a word, and the positions of its letters. `wrong`: one letter of a long word may be wrong.
fn find(word: &[char], name: &[char], wrong: bool) -> Option<(Quality, Vec<usize>)> {
    let whole = |start: usize| (start..start + word.len()).collect();
    let best = places(word, name).find(|start| begins(name, *start)).or_else(|| places(word, name).next());
    if let Some(start) = best {
        let quality = match start {
            0 => Quality::Begin,
            _ if begins(name, start) => Quality::Word,
            _ => Quality::Inside,
        };
        return Some((quality, whole(start)));
    }
    if let Some(near) = near(word, name) {
        return Some((Quality::Near, near));
    }
    if wrong && word.len() >= TOLERANT {
        let found = (0..name.len()).filter(|start| begins(name, *start)).find_map(|start| but_one(word, name, start));
        return found.map(|range| (Quality::Wrong, range.collect()));
    }
    None
}

/// Where `word` is in `name`.
fn places<'a>(word: &'a [char], name: &'a [char]) -> impl Iterator<Item = usize> + 'a {
    name.windows(word.len().max(1)).enumerate().filter(move |(_, part)| *part == word).map(|(start, _)| start)
}

/// Whether a word begins at `at`.
fn begins(name: &[char], at: usize) -> bool {
    at.checked_sub(1).and_then(|before| name.get(before)).is_none_or(|before| !before.is_alphanumeric())
}

/// The positions of the letters of `word`, in order, from the beginning of a word on and close together.
fn near(word: &[char], name: &[char]) -> Option<Vec<usize>> {
    if word.len() < SHORT {
        return None;
    }
    let longest = 2 * word.len() + 2;
    let starts = (0..name.len()).filter(|start| name[*start] == word[0] && begins(name, *start));
    let from = |start: usize| {
        let mut letters = word.iter().peekable();
        let end = name.len().min(start + longest);
        let at: Vec<_> =
            (start..end).filter(|place| letters.next_if(|letter| **letter == name[*place]).is_some()).collect();
        letters.peek().is_none().then_some(at)
    };
    starts.into_iter().find_map(from)
}

/// The letters of `name` from `start` on that are `word` but for one letter.
fn but_one(word: &[char], name: &[char], start: usize) -> Option<Range<usize>> {
    let text: String = word.iter().collect();
    [word.len(), word.len() + 1, word.len() - 1].into_iter().find_map(|length| {
        let part: String = name.get(start..start + length)?.iter().collect();
        (strsim::osa_distance(&text, &part) <= 1).then_some(start..start + length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_in_any_order_and_a_letter_may_be_wrong() {
        let names = ["Why is the sky blue?", "Rain in Spain", "日本語の質問"];
        assert_eq!(matches("", &names), [0, 1, 2]);
        assert_eq!(matches("blue SKY", &names), [0]);
        assert_eq!(matches("spian", &names), [1]);
        assert_eq!(matches("日本", &names), [2]);
        assert_eq!(matches("xyzzy", &names), [0usize; 0]);
    }

    #[test]
    fn letters_that_are_far_apart_do_not_match() {
        let names = ["Oh, cats and parrots like sour milk", "octopus", "gemma-3-4b", "top_p"];
        assert_eq!(matches("octopus", &names), [1]);
        assert_eq!(matches("gemma3", &names), [2]);
        assert_eq!(matches("tp", &names), [0usize; 0]);
        assert_eq!(containing("SOUR cat", &names), [0]);
        assert_eq!(containing(" ", &names), [0usize; 0]);
    }

    #[test]
    fn positions_are_characters_of_the_name() {
        assert_eq!(positions("rai", "Rain"), [0, 1, 2]);
        assert_eq!(positions("b", "äöb"), [2]);
        assert_eq!(positions("本", "日本語"), [1]);
        assert_eq!(positions("", "x"), [0usize; 0]);
    }

    #[test]
    fn hostile_queries_and_names_are_harmless() {
        let long = "x".repeat(100_000);
        for query in ["^", "!", "'", "$", "\\", "!^x$", "\u{0}", "👩‍🚀", &long] {
            let _ = matches(query, &["", "abc", &long, "👩‍🚀\u{202e}"]);
            let _ = positions(query, &long[..2000]);
        }
    }
}
