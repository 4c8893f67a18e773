//! Prefix reuse: which cached tokens the next prompt can keep, and how their keys and values were computed. Works on
//! token ids, independent of the vocabulary.

use crate::protocol::{Kernels, Span};

/// The tokens of the KV cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Tokens whose keys and values the cache holds, from position 0.
    tokens: Vec<u32>,
    /// The steps that computed them; together they keep as many tokens as there are.
    spans: Vec<Span>,
}

impl Prefix {
    /// Positions that the cache holds.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Number of positions that `prompt` can keep: the longest common prefix, without the last prompt token, whose
    /// logits have to be computed.
    pub fn reusable(&self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(cached, wanted)| cached == wanted).count();
        common.min(prompt.len().saturating_sub(1))
    }

    /// `prompt` with the cache's tokens where they encode the same text: a sampled answer may be split into other
    /// tokens than the encoder produces for it, and the cached ones can be reused. `text` returns a token's bytes,
    /// `None` for a control token, which both sides must share. The text is unchanged, byte for byte.
    pub fn spelling(&self, prompt: Vec<u32>, text: &dyn Fn(u32) -> Option<Vec<u8>>) -> Vec<u32> {
        let mut spelled = Vec::with_capacity(prompt.len());
        let (mut cached, mut wanted) = (0, 0);
        while cached < self.tokens.len() && wanted < prompt.len() {
            let span = match self.tokens[cached] == prompt[wanted] {
                true => Some((1, 1)),
                false => same_text(&self.tokens[cached..], &prompt[wanted..], text),
            };
            let Some((ours, theirs)) = span else { break };
            spelled.extend_from_slice(&self.tokens[cached..cached + ours]);
            (cached, wanted) = (cached + ours, wanted + theirs);
        }
        spelled.extend_from_slice(&prompt[wanted..]);
        spelled
    }

    /// Takes the tokens, to evaluate them again; no cached position counts as valid afterwards.
    pub fn take(&mut self) -> Vec<u32> {
        self.spans.clear();
        std::mem::take(&mut self.tokens)
    }

    /// Records that the cache was truncated to `positions`.
    pub fn cut(&mut self, positions: usize) {
        self.tokens.truncate(positions);
        let mut left = positions;
        self.spans.retain_mut(|span| {
            span.kept = span.kept.min(left);
            if span.kernels == Kernels::Step {
                span.rows = span.kept;
            }
            left -= span.kept;
            span.kept > 0
        });
    }

    /// Records that `tokens` were evaluated at the end of the cache, in one step unless `kernels` is [`Kernels::Step`].
    pub fn extend(&mut self, tokens: &[u32], kernels: Kernels) {
        self.tokens.extend_from_slice(tokens);
        let count = tokens.len();
        match self.spans.last_mut() {
            _ if count == 0 => {}
            Some(last) if kernels == Kernels::Step && last.kernels == kernels => {
                (last.kept, last.rows) = (last.kept + count, last.rows + count);
            }
            _ => self.spans.push(Span { kept: count, rows: count, kernels }),
        }
    }

    /// The steps that computed the cache's keys and values.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }
}

/// The numbers of tokens, as few as possible but at least one, at the beginning of `a` and `b` that have the same text.
fn same_text(a: &[u32], b: &[u32], text: &dyn Fn(u32) -> Option<Vec<u8>>) -> Option<(usize, usize)> {
    let (mut spelled, mut wanted) = (text(*a.first()?)?, text(*b.first()?)?);
    let (mut ours, mut theirs) = (1, 1);
    while spelled.len() != wanted.len() {
        let common = spelled.len().min(wanted.len());
        if spelled[..common] != wanted[..common] {
            return None;
        }
        // Keep only the text by which one side is ahead.
        spelled.drain(..common);
        wanted.drain(..common);
        if spelled.is_empty() {
            spelled = text(*a.get(ours)?)?;
            ours += 1;
        } else {
            wanted = text(*b.get(theirs)?)?;
            theirs += 1;
        }
    }
    (spelled == wanted).then_some((ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(tokens: &[u32]) -> Prefix {
        let mut prefix = Prefix::default();
        prefix.extend(tokens, Kernels::Own);
        prefix
    }

    #[test]
    fn last_prompt_token_is_never_reused() {
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 2, 3]), 2);
        assert_eq!(prefix(&[1, 2, 3, 4]).reusable(&[1, 2]), 1);
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 2, 3, 4, 5]), 3);
        assert_eq!(prefix(&[1, 2, 3]).reusable(&[1, 9, 3, 4]), 1);
        assert_eq!(prefix(&[]).reusable(&[7]), 0);
        assert_eq!(prefix(&[1]).reusable(&[]), 0);
    }

    /// A token's text: none for 0 (control), `a`, `b`, `c` for 1 to 3, `ab`, `bc`, `abc` for 12, 23, 123.
    fn text(token: u32) -> Option<Vec<u8>> {
        let digits = token.to_string();
        (token != 0).then(|| digits.bytes().map(|digit| digit - b'1' + b'a').collect())
    }

    fn spell(tokens: &[u32]) -> Vec<u8> {
        tokens.iter().flat_map(|&token| text(token).unwrap_or_else(|| b"<0>".to_vec())).collect()
    }

    #[test]
    fn prompt_takes_over_the_token_split_of_the_cache() {
        // The model sampled a, bc; the encoder returns abc or ab, c.
        assert_eq!(prefix(&[0, 1, 23]).spelling(vec![0, 123, 0, 2], &text), [0, 1, 23, 0, 2]);
        assert_eq!(prefix(&[0, 1, 23, 0]).spelling(vec![0, 12, 3, 0, 2], &text), [0, 1, 23, 0, 2]);
        // Not taken over: the cache ends inside a token of the prompt, or has another text.
        assert_eq!(prefix(&[0, 1]).spelling(vec![0, 123, 0], &text), [0, 123, 0]);
        assert_eq!(prefix(&[0, 1, 3]).spelling(vec![0, 12, 3], &text), [0, 12, 3]);
        // A control token is never replaced by text.
        assert_eq!(prefix(&[1, 0]).spelling(vec![12, 0], &text), [12, 0]);
    }

    #[test]
    fn spans_follow_the_steps_and_the_cuts() {
        let span = |kept, rows, kernels| Span { kept, rows, kernels };
        let mut cache = Prefix::default();
        cache.extend(&[1, 2, 3, 4], Kernels::Fresh);
        cache.extend(&[5], Kernels::Step);
        cache.extend(&[6, 7], Kernels::Step);
        assert_eq!(cache.spans(), [span(4, 4, Kernels::Fresh), span(3, 3, Kernels::Step)]);
        cache.cut(6);
        cache.extend(&[8, 9], Kernels::Library);
        let kept = [span(4, 4, Kernels::Fresh), span(2, 2, Kernels::Step), span(2, 2, Kernels::Library)];
        assert_eq!(cache.spans(), kept);
        cache.cut(3);
        assert_eq!(cache.spans(), [span(3, 4, Kernels::Fresh)], "the step had four rows");
        cache.cut(0);
        assert!(cache.spans().is_empty());
    }

    proptest! {
        #[test]
        fn spans_keep_every_token(steps in proptest::collection::vec((0usize..6, any::<bool>(), 0usize..20), 0..12)) {
            let mut cache = Prefix::default();
            for (count, one_by_one, cut) in steps {
                cache.extend(&vec![7; count], if one_by_one { Kernels::Step } else { Kernels::Own });
                cache.cut(cut);
                prop_assert_eq!(cache.spans().iter().map(|span| span.kept).sum::<usize>(), cache.len());
                prop_assert!(cache.spans().iter().all(|span| 0 < span.kept && span.kept <= span.rows));
            }
        }

        #[test]
        fn spelling_keeps_the_text_and_is_at_least_as_reusable(
            cached in proptest::collection::vec(proptest::sample::select(vec![0u32, 1, 2, 3, 12, 23, 123]), 0..8),
            prompt in proptest::collection::vec(proptest::sample::select(vec![0u32, 1, 2, 3, 12, 23, 123]), 1..8),
        ) {
            let cache = prefix(&cached);
            let spelled = cache.spelling(prompt.clone(), &text);
            prop_assert_eq!(spell(&spelled), spell(&prompt));
            prop_assert!(cache.reusable(&spelled) + 1 >= cache.reusable(&prompt));
            prop_assert!(spelled.len() - cache.reusable(&spelled) <= prompt.len() - cache.reusable(&prompt));
        }

        #[test]
        fn reusable_is_the_longest_common_prefix(
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
