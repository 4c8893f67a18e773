//! Measures the prefill and decode speed of a loaded model at different depths. Calls the model directly, without the
//! engine thread, so that the figures include only the model.

use std::time::{Duration, Instant};

use crate::engine::error::ModelError;
use crate::engine::model::Model;
use crate::protocol::SamplingParams;

/// A test, named as in llama-bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `ppN`: evaluating a prompt of N tokens.
    Prefill {
        /// N.
        tokens: usize,
    },
    /// `tgN@D`: decoding N tokens one by one with D tokens in the KV cache.
    Decode {
        /// N.
        tokens: usize,
        /// D; not printed if it is 0.
        depth: usize,
    },
}

impl Test {
    /// Parses `pp512`, `tg64`, `tg64@2048`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a test: write pp512, tg64 or tg64@2048");
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|n| *n <= 1 << 24);
        if let Some(rest) = text.strip_prefix("pp") {
            return number(rest).filter(|n| *n > 0).map(|tokens| Self::Prefill { tokens }).ok_or_else(wrong);
        }
        let rest = text.strip_prefix("tg").ok_or_else(wrong)?;
        let (tokens, depth) = rest.split_once('@').unwrap_or((rest, "0"));
        match (number(tokens), number(depth)) {
            (Some(tokens), Some(depth)) if tokens > 0 => Ok(Self::Decode { tokens, depth }),
            _ => Err(wrong()),
        }
    }

    /// KV cache positions that the test needs.
    pub fn positions(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens,
            // The device decoder may be one step ahead.
            Self::Decode { tokens, depth } => depth.max(1) + tokens + 2,
        }
    }

    /// The test with its depth reduced to fit `context_length`; `None` if it does not fit at any depth.
    pub fn within(self, context_length: usize) -> Option<Self> {
        match self {
            _ if self.positions() <= context_length => Some(self),
            Self::Prefill { .. } => None,
            Self::Decode { tokens, .. } => {
                let depth = context_length.checked_sub(tokens + 2).filter(|depth| *depth > 0)?;
                Some(Self::Decode { tokens, depth })
            }
        }
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefill { tokens } => write!(f, "pp{tokens}"),
            Self::Decode { tokens, depth: 0 } => write!(f, "tg{tokens}"),
            Self::Decode { tokens, depth } => write!(f, "tg{tokens}@{depth}"),
        }
    }
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub test: Test,
    /// Mean of the repetitions.
    pub tokens_per_second: f64,
    /// Sample standard deviation of the repetitions (n - 1).
    pub stddev: f64,
}

/// Runs `test` `repeat` times, after one warm-up run.
pub fn measure(model: &mut dyn Model, test: Test, repeat: usize) -> Result<Figure, ModelError> {
    let mut bench = Bench { model, logits: Vec::new() };
    let tokens = match test {
        Test::Prefill { tokens } | Test::Decode { tokens, .. } => tokens,
    };
    let mut speeds = Vec::new();
    for run in 0..=repeat.max(1) {
        let took = match test {
            Test::Prefill { tokens } => bench.prefill(tokens)?,
            Test::Decode { tokens, depth } => bench.decode(tokens, depth, run == 0)?,
        };
        if run > 0 {
            speeds.push(tokens as f64 / took.as_secs_f64().max(1e-9));
        }
    }
    let (tokens_per_second, stddev) = mean_and_deviation(&speeds);
    Ok(Figure { test, tokens_per_second, stddev })
}

struct Bench<'a> {
    model: &'a mut dyn Model,
    logits: Vec<f32>,
}

impl Bench<'_> {
    fn prefill(&mut self, tokens: usize) -> Result<Duration, ModelError> {
        self.model.truncate_cache(0);
        let prompt = prompt(tokens, self.model.vocab_size());
        let start = Instant::now();
        self.evaluate(&prompt, 0)?;
        Ok(start.elapsed())
    }

    fn evaluate(&mut self, tokens: &[u32], mut position: usize) -> Result<(), ModelError> {
        for chunk in tokens.chunks(self.model.prefill_chunk().max(1)) {
            self.model.forward(chunk, position, &mut self.logits)?;
            position += chunk.len();
        }
        Ok(())
    }

    /// Fills the cache to `depth` (all of it in the first run, later only what is missing), then times `tokens` steps.
    fn decode(&mut self, tokens: usize, depth: usize, first: bool) -> Result<Duration, ModelError> {
        // Decoding needs at least one token before it.
        let depth = depth.max(1);
        let prompt = prompt(depth, self.model.vocab_size());
        let kept = self.model.truncate_cache(if first { 0 } else { depth - 1 }).min(depth - 1);
        self.evaluate(&prompt[kept..depth - 1], kept)?;
        let last = prompt[depth - 1];
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        if let Some(decoder) = self.model.device_decoder() {
            decoder.begin(&[last], depth - 1, &[], &greedy, 0)?;
            decoder.next_token()?;
            let start = Instant::now();
            for _ in 0..tokens {
                decoder.next_token()?;
            }
            let took = start.elapsed();
            decoder.end()?;
            return Ok(took);
        }
        let mut token = last;
        let start = Instant::now();
        for step in 0..tokens {
            self.model.forward(&[token], depth - 1 + step, &mut self.logits)?;
            token = likeliest(&self.logits);
        }
        Ok(start.elapsed())
    }
}

/// Pseudorandom tokens, the same at each call (a linear congruential generator with Knuth's MMIX constants).
fn prompt(tokens: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab_size.max(1) as u64) as u32
    })
    .take(tokens)
    .collect()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(token, _)| token as u32)
}

fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let count = samples.len().max(1) as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>();
    (mean, if samples.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::MemoryUse;

    /// Takes 1 ms for each call and checks that positions are consecutive.
    struct Metronome {
        filled: usize,
    }

    impl Model for Metronome {
        fn vocab_size(&self) -> usize {
            10
        }
        fn context_length(&self) -> usize {
            1000
        }
        fn prefill_chunk(&self) -> usize {
            16
        }
        fn truncate_cache(&mut self, positions: usize) -> usize {
            self.filled = self.filled.min(positions);
            self.filled
        }
        fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
            assert!(position <= self.filled && tokens.len() <= 16 && tokens.iter().all(|token| *token < 10));
            self.filled = position + tokens.len();
            std::thread::sleep(Duration::from_millis(1));
            *logits = vec![0.0; 10];
            Ok(())
        }
        fn forward_rows(&mut self, _: &[u32], _: usize, _: usize, _: &mut Vec<f32>) -> Result<(), ModelError> {
            Ok(())
        }
        fn memory(&self) -> MemoryUse {
            MemoryUse::default()
        }
    }

    #[test]
    fn prefill_and_decode_speed_are_in_tokens_per_second() {
        let mut model = Metronome { filled: 0 };
        let prefill = measure(&mut model, Test::Prefill { tokens: 160 }, 2).unwrap();
        // Ten calls of at least 1 ms.
        assert!(prefill.tokens_per_second <= 16_000.0 && prefill.tokens_per_second > 500.0, "{prefill:?}");
        let decode = measure(&mut model, Test::Decode { tokens: 20, depth: 100 }, 2).unwrap();
        assert!(decode.tokens_per_second <= 1_000.0 && decode.tokens_per_second > 30.0, "{decode:?}");
        assert_eq!(model.filled, 119);
    }

    #[test]
    fn test_names_round_trip_and_depth_is_reduced_to_the_context() {
        for text in ["pp512", "tg64", "tg64@2048"] {
            assert_eq!(Test::parse(text).unwrap().to_string(), text);
        }
        for text in ["pp0", "pp", "tg", "tg64@", "xx1", "tg-1", "pp99999999999999999999"] {
            assert!(Test::parse(text).is_err(), "{text}");
        }
        let deep = Test::Decode { tokens: 64, depth: 8192 };
        assert_eq!(deep.within(8192), Some(Test::Decode { tokens: 64, depth: 8126 }));
        assert_eq!(deep.within(60), None);
        assert_eq!(Test::Prefill { tokens: 2048 }.within(1024), None);
    }

    #[test]
    fn standard_deviation_is_the_sample_deviation() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2.0_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
