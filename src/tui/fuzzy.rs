//! Fuzzy matching of a query against names, by the crate frizbee.

use std::collections::BTreeSet;

use frizbee::{Config, Matcher, Pattern, PatternConfig};

/// Longest query that is matched, in characters; the rest is ignored.
const LONGEST_QUERY: usize = 64;

/// Words of at least this many letters may have one letter that is not in the name.
const TOLERANT: usize = 5;

/// Words with fewer letters must be in a name as they are.
const SHORT: usize = 3;

/// Indexes of the names that match, best first; all of them, in order, for a blank query. Words of the query may match in
/// any order, in any case; letters may be left out if what remains is close together and begins a word. If no name matches,
/// one letter of each long word may be wrong.
pub fn matches<S: AsRef<str>>(query: &str, names: &[S]) -> Vec<usize> {
    let with = |typos| {
        let mut matcher = matcher(query, typos)?;
        Some(matcher.match_list(names).into_iter().map(|found| found.index as usize).collect::<Vec<_>>())
    };
    let Some(mut found) = with(false) else { return (0..names.len()).collect() };
    let query = query.to_lowercase();
    let words: Vec<_> = query.split_whitespace().collect();
    let near = |index: &usize, tolerant: bool| {
        let name = names[*index].as_ref().to_lowercase();
        words.iter().all(|word| (tolerant && word.len() >= TOLERANT) || is_near(word, &name))
    };
    found.retain(|index| near(index, false));
    if found.is_empty() {
        found = with(true).unwrap_or_default();
        found.retain(|index| near(index, true));
    }
    found
}

/// Indexes of the names that contain all words of the query, in order; none for a blank query.
pub fn containing<S: AsRef<str>>(query: &str, names: &[S]) -> Vec<usize> {
    let query = query.to_lowercase();
    let words: Vec<_> = query.split_whitespace().collect();
    let contains = |index: &usize| {
        let name = names[*index].as_ref().to_lowercase();
        !words.is_empty() && words.iter().all(|word| name.contains(word))
    };
    (0..names.len()).filter(contains).collect()
}

/// Whether the word is in the name, or its letters are close together from the beginning of a word on.
fn is_near(word: &str, name: &str) -> bool {
    if name.contains(word) {
        return true;
    }
    let letters = word.chars().count();
    let places = positions(word, name);
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return false };
    let begins =
        first.checked_sub(1).is_none_or(|before| name.chars().nth(before).is_some_and(|c| !c.is_alphanumeric()));
    letters >= SHORT && begins && last - first < 2 * letters + 2
}

/// Character positions of `name` that the query matches, in order.
pub fn positions(query: &str, name: &str) -> Vec<usize> {
    let found = |typos| matcher(query, typos).and_then(|mut matcher| matcher.match_one_indices(name, 0));
    let found = found(false).or_else(|| found(true));
    // The crate counts bytes.
    let bytes: BTreeSet<usize> =
        found.into_iter().flat_map(|found| found.indices).map(|index| index as usize).collect();
    let characters = name.char_indices().enumerate();
    characters
        .filter(|(_, (start, c))| bytes.range(start..&(start + c.len_utf8())).next().is_some())
        .map(|(place, _)| place)
        .collect()
}

/// `typos`: whether long words may have one wrong letter. `None` for a blank query.
fn matcher(query: &str, typos: bool) -> Option<Matcher> {
    let query: String = query.trim().chars().take(LONGEST_QUERY).collect::<String>().to_lowercase();
    if query.is_empty() {
        return None;
    }
    let patterns: Vec<_> = query
        .split_whitespace()
        .map(|word| {
            Pattern::new(word, PatternConfig::default()).max_typos(Some(u16::from(typos && word.len() >= TOLERANT)))
        })
        .collect();
    Some(Matcher::from_patterns(&patterns, &Config::default()))
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
