//! A per-text cache, so that each distinct word is encoded once.

use std::collections::HashMap;

use ahash::RandomState;

/// Maximum length in bytes of a cached word.
const LONGEST: usize = 64;

/// Appends the tokens of all words; calls `encode` for words that are not cached.
pub fn each_once<'t>(
    words: impl Iterator<Item = &'t str>,
    tokens: &mut Vec<u32>,
    mut encode: impl FnMut(&'t str, &mut Vec<u32>),
) {
    let mut seen: HashMap<&str, (u32, u32), RandomState> = HashMap::default();
    for word in words {
        if let Some(&(from, to)) = seen.get(word) {
            tokens.extend_from_within(from as usize..to as usize);
            continue;
        }
        let from = tokens.len() as u32;
        encode(word, tokens);
        if word.len() <= LONGEST {
            seen.insert(word, (from, tokens.len() as u32));
        }
    }
}
