//! Which cached tokens the next prompt may keep. Knows tokens and nothing of what they mean.

/// What the KV cache holds, and what the model wrote after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Tokens whose keys and values the cache holds, from position 0.
    tokens: Vec<u32>,
}

impl Prefix {
    /// Positions that the cache holds.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the cache holds nothing.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How many positions `prompt` can keep: the longest common prefix, less the last prompt token, whose logits have
    /// to be computed anew.
    pub fn reusable(&self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(cached, wanted)| cached == wanted).count();
        common.min(prompt.len().saturating_sub(1))
    }

    /// The cache was cut to `positions`.
    pub fn cut(&mut self, positions: usize) {
        self.tokens.truncate(positions);
    }

    /// `tokens` were evaluated after what the cache held.
    pub fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(tokens: &[u32]) -> Prefix {
        Prefix { tokens: tokens.to_vec() }
    }

    #[test]
    fn the_last_prompt_token_is_always_evaluated() {
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 2, 3]), 2);
        assert_eq!(prefix(&[1, 2, 3, 4]).reusable(&[1, 2]), 1);
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 2, 3, 4, 5]), 3);
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 9, 3, 4]), 1);
        assert_eq!(prefix(&[]).reusable(&[7]), 0);
        assert_eq!(prefix(&[1]).reusable(&[]), 0);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_common_and_no_longer_prefix_is(
            cached in proptest::collection::vec(0u32..3, 0..12),
            prompt in proptest::collection::vec(0u32..3, 1..12),
        ) {
            let kept = prefix(&cached).reusable(&prompt);
            prop_assert!(kept < prompt.len() && kept <= cached.len());
            prop_assert_eq!(&cached[..kept], &prompt[..kept]);
            prop_assert!(kept + 1 == prompt.len() || kept == cached.len() || cached[kept] != prompt[kept]);
        }
    }
}
