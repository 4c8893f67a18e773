//! Figures over the course of an answer or of a conversation, for charts.

use std::time::Duration;

use crate::protocol::Usage;

/// Tokens per second in each of at most `slices` parts of an answer with these gaps between its tokens. Each part has the
/// same number of tokens, except the last.
pub fn rates(gaps: &[Duration], slices: usize) -> Vec<f64> {
    let size = gaps.len().div_ceil(slices.max(1)).max(1);
    gaps.chunks(size).map(|gaps| gaps.len() as f64 / gaps.iter().sum::<Duration>().as_secs_f64().max(1e-6)).collect()
}

/// The context positions of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Tokens of the question, with what the chat template puts around it; for the first turn also the system message.
    pub question: usize,
    /// Tokens of the answer.
    pub answer: usize,
}

/// The shares of consecutive turns in the context, from the usage of each. A turn whose usage is unknown has none; its
/// tokens are counted with the next one's question.
pub fn shares<'a>(turns: impl IntoIterator<Item = Option<&'a Usage>>) -> Vec<Share> {
    let mut before = 0;
    let share = |usage: Option<&Usage>| {
        let Some(usage) = usage else { return Share::default() };
        let question = usage.prompt_tokens.saturating_sub(before);
        before = usage.total_tokens();
        Share { question, answer: usage.completion_tokens }
    };
    turns.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_gaps() {
        let ms = Duration::from_millis;
        assert_eq!(rates(&[ms(10), ms(10), ms(20), ms(20)], 2), [100.0, 50.0]);
        assert_eq!(rates(&[ms(10)], 9), [100.0]);
        assert!(rates(&[], 4).is_empty());
    }

    #[test]
    fn shares_add_up_to_the_context() {
        let usage = |prompt, completion| Usage {
            prompt_tokens: prompt,
            cached_tokens: 0,
            completion_tokens: completion,
            ..Usage::default()
        };
        let turns = [usage(20, 5), usage(40, 10)];
        let shares = shares(turns.iter().map(Some).chain([None]));
        assert_eq!(shares, [Share { question: 20, answer: 5 }, Share { question: 15, answer: 10 }, Share::default()]);
        assert_eq!(shares.iter().map(|share| share.question + share.answer).sum::<usize>(), turns[1].total_tokens());
    }
}
