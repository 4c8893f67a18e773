//! Token counts and times as a server reports them. What it does not report is `None`, never 0.

use std::time::Duration;

use serde_json::Value;

/// The counts of an answer; each may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tokens of the prompt, cached ones included.
    pub prompt: Option<usize>,
    /// Prompt tokens that the server had in its cache.
    pub cached: Option<usize>,
    /// Tokens that were generated, those of the reasoning included.
    pub completion: Option<usize>,
    /// Tokens of the reasoning.
    pub reasoning: Option<usize>,
    /// Evaluating the prompt.
    pub prefill: Option<Duration>,
}

impl Counts {
    /// The counts of the values `usage` and `timings` of a frame.
    pub fn read(frame: &Value) -> Self {
        let mut counts = Self::of_timings(&frame["timings"]);
        counts.update(Self::of_usage(&frame["usage"]));
        counts
    }

    /// Takes every count that `later` has: running totals replace each other.
    pub fn update(&mut self, later: Self) {
        *self = Self {
            prompt: later.prompt.or(self.prompt),
            cached: later.cached.or(self.cached),
            completion: later.completion.or(self.completion),
            reasoning: later.reasoning.or(self.reasoning),
            prefill: later.prefill.or(self.prefill),
        };
    }

    fn of_usage(usage: &Value) -> Self {
        let count = |keys: &[&str]| keys.iter().find_map(|key| whole(&usage[*key]));
        let detail = |group: &str, key: &str| whole(&usage[group][key]);
        let cached = detail("prompt_tokens_details", "cached_tokens")
            .or_else(|| detail("input_tokens_details", "cached_tokens"))
            .or_else(|| count(&["prompt_cache_hit_tokens"]));
        Self {
            prompt: count(&["prompt_tokens", "input_tokens"]),
            cached,
            completion: count(&["completion_tokens", "output_tokens"]),
            reasoning: detail("completion_tokens_details", "reasoning_tokens"),
            prefill: None,
        }
    }

    /// llama-server's `timings`; its `prompt_n` leaves out cached tokens.
    fn of_timings(timings: &Value) -> Self {
        let (evaluated, cached) = (whole(&timings["prompt_n"]), whole(&timings["cache_n"]));
        let ms = timings["prompt_ms"].as_f64().filter(|ms| *ms >= 0.0 && *ms < 1e12);
        Self {
            prompt: evaluated.zip(cached).map(|(evaluated, cached)| evaluated + cached),
            cached,
            completion: whole(&timings["predicted_n"]),
            reasoning: None,
            prefill: ms.map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        }
    }
}

/// A count, also if it is written as a float.
fn whole(value: &Value) -> Option<usize> {
    let count = value.as_u64().or_else(|| value.as_f64().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64));
    count.and_then(|count| usize::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn counts(prompt: Option<usize>, cached: Option<usize>, completion: Option<usize>) -> Counts {
        Counts { prompt, cached, completion, ..Counts::default() }
    }

    /// A4.12.
    #[test]
    fn count_that_is_missing_is_unknown_and_zero_is_zero() {
        let cases = [
            (json!({}), Counts::default()),
            (json!({"usage": null}), Counts::default()),
            (json!({"usage": {}}), Counts::default()),
            (json!({"usage": {"prompt_tokens": 5, "completion_tokens": 7}}), counts(Some(5), None, Some(7))),
            (json!({"usage": {"prompt_tokens": 5, "prompt_tokens_details": null}}), counts(Some(5), None, None)),
            (json!({"usage": {"prompt_tokens_details": {"cached_tokens": null}}}), Counts::default()),
            (json!({"usage": {"prompt_tokens_details": {"cached_tokens": 0}}}), counts(None, Some(0), None)),
            (json!({"usage": {"input_tokens": 5.0, "output_tokens": 7}}), counts(Some(5), None, Some(7))),
            (json!({"usage": {"prompt_cache_hit_tokens": 3}}), counts(None, Some(3), None)),
            (json!({"usage": {"prompt_tokens": -1, "completion_tokens": "7"}}), Counts::default()),
            (json!({"usage": "none", "timings": []}), Counts::default()),
        ];
        for (frame, expected) in cases {
            assert_eq!(Counts::read(&frame), expected, "{frame}");
        }
    }

    /// A4.12.
    #[test]
    fn later_totals_replace_earlier_ones_and_reasoning_is_inside_the_completion() {
        let mut all = Counts::default();
        for completion in [1, 2, 9] {
            all.update(Counts::read(&json!({"usage": {"prompt_tokens": 4, "completion_tokens": completion}})));
        }
        all.update(Counts::read(&json!({"usage": null})));
        let details = json!({"usage": {"completion_tokens_details": {"reasoning_tokens": 6}}});
        all.update(Counts::read(&details));
        assert_eq!(all, Counts { reasoning: Some(6), ..counts(Some(4), None, Some(9)) });
    }

    #[test]
    fn timings_of_llama_server_count_what_the_usage_leaves_out() {
        let timings = json!({"cache_n": 10, "prompt_n": 5, "prompt_ms": 12.5, "predicted_n": 3, "predicted_ms": 1});
        let expected = Counts { prefill: Some(Duration::from_micros(12_500)), ..counts(Some(15), Some(10), Some(3)) };
        assert_eq!(Counts::read(&json!({"timings": timings})), expected);
        let both = json!({"timings": timings, "usage": {"completion_tokens": 4}});
        assert_eq!(Counts::read(&both).completion, Some(4));
    }
}
