//! The figures of one turn: token counts, each of which a server may leave unknown, and times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Token counts of one turn. An unknown count is `null` in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Counts", into = "Counts")]
pub struct Usage {
    /// Tokens of the rendered prompt, including cached ones.
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were already in the KV cache.
    pub cached_tokens: usize,
    /// Tokens that were generated.
    pub completion_tokens: usize,
    /// Which of these a server did not tell; such a count is 0.
    pub unknown: Unknown,
}

/// [`Usage`] in JSON.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Counts {
    prompt_tokens: Option<usize>,
    cached_tokens: Option<usize>,
    completion_tokens: Option<usize>,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self::of([counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens])
    }
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        let [prompt_tokens, cached_tokens, completion_tokens] = usage.known();
        Self { prompt_tokens, cached_tokens, completion_tokens }
    }
}

/// Which counts are unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// `prompt_tokens`.
    pub prompt: bool,
    /// `cached_tokens`.
    pub cached: bool,
    /// `completion_tokens`.
    pub completion: bool,
}

impl Unknown {
    /// What is unknown in a sum of both.
    pub fn or(self, other: Self) -> Self {
        Self {
            prompt: self.prompt || other.prompt,
            cached: self.cached || other.cached,
            completion: self.completion || other.completion,
        }
    }
}

impl Usage {
    /// Prompt and completion tokens, as far as they are known.
    pub fn total_tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }

    /// Prompt, cached and completion tokens; `None`: a server did not tell.
    pub fn known(&self) -> [Option<usize>; 3] {
        let of = |count, unknown: bool| (!unknown).then_some(count);
        let Unknown { prompt, cached, completion } = self.unknown;
        [of(self.prompt_tokens, prompt), of(self.cached_tokens, cached), of(self.completion_tokens, completion)]
    }

    /// The counts, each of which may be unknown: prompt, cached and completion tokens.
    pub fn of(counts: [Option<usize>; 3]) -> Self {
        let [prompt, cached, completion] = counts;
        Self {
            prompt_tokens: prompt.unwrap_or(0),
            cached_tokens: cached.unwrap_or(0),
            completion_tokens: completion.unwrap_or(0),
            unknown: Unknown { prompt: prompt.is_none(), cached: cached.is_none(), completion: completion.is_none() },
        }
    }
}

/// The times of one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// Waiting for the model to be loaded; zero if it was warm.
    pub load: Duration,
    /// From the submit, or from the end of loading if that is later, to the first token.
    pub ttft: Duration,
    /// Evaluating the prompt tokens that were not cached.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// From the submit to the end, loading included.
    pub total: Duration,
    /// Gaps between consecutive tokens, in order.
    pub inter_token: Vec<Duration>,
}
