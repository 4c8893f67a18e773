//! Statistics of one answer and of a conversation: TTFT, inter-token latency, tokens per second, percentiles.
//!
//! Pure functions of usage and timing, so that every front end shows the same figures.

mod residency;
mod slices;

pub use residency::Residency;
pub use slices::{Share, rates, shares};

use std::time::Duration;

use crate::protocol::{Timing, Usage};

/// Statistics of one answer. An undefined figure (one token has no gaps, a fully cached prompt no prefill) is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerStats {
    /// Waiting for the model; zero if it was warm.
    pub load: Duration,
    /// Time to first token, from the submit or from the end of loading, whichever is later; `None` without a token.
    pub ttft: Option<Duration>,
    /// Evaluated prompt tokens per second of prefill.
    pub prompt_tokens_per_second: Option<f64>,
    /// Decode speed: the number of gaps between tokens, divided by the time from the first to the last token.
    pub tokens_per_second: Option<f64>,
    /// Median gap between tokens.
    pub inter_token_p50: Option<Duration>,
    /// 95th percentile of the gaps between tokens.
    pub inter_token_p95: Option<Duration>,
}

impl AnswerStats {
    /// Statistics of a finished turn.
    pub fn new(usage: &Usage, timing: &Timing) -> Self {
        let [prompt, cached, completion] = usage.known();
        let evaluated = prompt.zip(cached).map_or(0, |(prompt, cached)| prompt.saturating_sub(cached));
        Self {
            load: timing.load,
            ttft: completion.is_none_or(|tokens| tokens > 0).then_some(timing.ttft),
            prompt_tokens_per_second: rate(evaluated, timing.prefill),
            tokens_per_second: rate(usage.completion_tokens.saturating_sub(1), timing.decode),
            inter_token_p50: percentile(&timing.inter_token, 50.0),
            inter_token_p95: percentile(&timing.inter_token, 95.0),
        }
    }
}

/// Statistics of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConversationStats {
    /// Number of answers.
    pub answers: usize,
    /// Sums over all answers.
    pub usage: Usage,
    /// Median TTFT.
    pub ttft_p50: Option<Duration>,
    /// 95th percentile of the TTFT.
    pub ttft_p95: Option<Duration>,
    /// Median gap between tokens, over all answers.
    pub inter_token_p50: Option<Duration>,
    /// 95th percentile of the gaps between tokens, over all answers.
    pub inter_token_p95: Option<Duration>,
    /// All gaps between tokens divided by all decode time.
    pub tokens_per_second: Option<f64>,
}

impl ConversationStats {
    /// Statistics of finished answers.
    pub fn of<'a>(answers: impl IntoIterator<Item = (&'a Usage, &'a Timing)>) -> Self {
        let mut stats = Self::default();
        let (mut ttfts, mut gaps) = (Vec::new(), Vec::new());
        let (mut decoded, mut decode_time) = (0, Duration::ZERO);
        for (usage, timing) in answers {
            stats.answers += 1;
            stats.usage.prompt_tokens += usage.prompt_tokens;
            stats.usage.cached_tokens += usage.cached_tokens;
            stats.usage.completion_tokens += usage.completion_tokens;
            ttfts.extend(AnswerStats::new(usage, timing).ttft);
            gaps.extend_from_slice(&timing.inter_token);
            decoded += usage.completion_tokens.saturating_sub(1);
            if !usage.unknown.completion {
                decode_time += timing.decode;
            }
            stats.usage.unknown = stats.usage.unknown.or(usage.unknown);
        }
        stats.ttft_p50 = percentile(&ttfts, 50.0);
        stats.ttft_p95 = percentile(&ttfts, 95.0);
        stats.inter_token_p50 = percentile(&gaps, 50.0);
        stats.inter_token_p95 = percentile(&gaps, 95.0);
        stats.tokens_per_second = rate(decoded, decode_time);
        stats
    }
}

/// `count` per second; `None` if `count` or `time` is zero.
pub fn rate(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && time > Duration::ZERO).then(|| count as f64 / time.as_secs_f64())
}

/// The nearest-rank percentile: the smallest sample that at least `percent` % do not exceed; `None` without samples.
pub fn percentile(samples: &[Duration], percent: f64) -> Option<Duration> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn unknown_counts_make_no_rates_and_sums_say_so() {
        let unknown = Usage::of([Some(10), None, None]);
        let timing = Timing { ttft: ms(5), prefill: ms(10), decode: ms(20), ..Timing::default() };
        let stats = AnswerStats::new(&unknown, &timing);
        assert_eq!((stats.ttft, stats.prompt_tokens_per_second, stats.tokens_per_second), (Some(ms(5)), None, None));
        let known = Usage::of([Some(5), Some(0), Some(11)]);
        let both = ConversationStats::of([(&unknown, &timing), (&known, &timing)]);
        assert_eq!((both.usage.prompt_tokens, both.usage.unknown), (15, unknown.unknown));
        assert_eq!(both.tokens_per_second, Some(500.0));
    }

    #[test]
    fn answer_statistics_of_five_tokens_use_four_gaps() {
        let usage = Usage { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 5, ..Usage::default() };
        let timing = Timing {
            load: ms(500),
            ttft: ms(80),
            prefill: ms(40),
            decode: ms(100),
            total: ms(680),
            inter_token: vec![ms(10), ms(20), ms(30), ms(40)],
        };
        let stats = AnswerStats::new(&usage, &timing);
        assert_eq!(stats.tokens_per_second, Some(40.0));
        assert_eq!(stats.prompt_tokens_per_second, Some(500.0));
        assert_eq!(stats.ttft, Some(ms(80)));
        assert_eq!(stats.inter_token_p50, Some(ms(20)));
        assert_eq!(stats.inter_token_p95, Some(ms(40)));
    }

    #[test]
    fn undefined_statistics_are_none() {
        let one = Usage { prompt_tokens: 8, cached_tokens: 8, completion_tokens: 1, ..Usage::default() };
        let timing = Timing { ttft: ms(5), ..Timing::default() };
        let stats = AnswerStats::new(&one, &timing);
        assert_eq!(stats.tokens_per_second, None);
        assert_eq!(stats.prompt_tokens_per_second, None);
        assert_eq!(stats.inter_token_p50, None);
        assert_eq!(AnswerStats::new(&Usage::default(), &timing).ttft, None);
    }

    #[test]
    fn percentiles_are_nearest_rank_of_unsorted_samples() {
        let samples: Vec<_> = (1..=100).rev().map(ms).collect();
        assert_eq!(percentile(&samples, 50.0), Some(ms(50)));
        assert_eq!(percentile(&samples, 95.0), Some(ms(95)));
        assert_eq!(percentile(&samples, 100.0), Some(ms(100)));
        assert_eq!(percentile(&samples, 0.0), Some(ms(1)));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn conversation_statistics_sum_the_answers() {
        let usage = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 3, ..Usage::default() };
        let timing =
            |first| Timing { ttft: ms(first), decode: ms(20), inter_token: vec![ms(10), ms(10)], ..Timing::default() };
        let (fast, slow) = (timing(10), timing(90));
        let stats = ConversationStats::of([(&usage, &fast), (&usage, &slow)]);
        assert_eq!(
            stats.usage,
            Usage { prompt_tokens: 20, cached_tokens: 8, completion_tokens: 6, ..Usage::default() }
        );
        assert_eq!((stats.ttft_p50, stats.ttft_p95), (Some(ms(10)), Some(ms(90))));
        assert_eq!(stats.tokens_per_second, Some(100.0));
    }
}
