//! Logits → token, in llama.cpp's default order: penalties → top-k → top-p → min-p → temperature → draw.
//!
//! (llama.cpp's chain has DRY, top-n-sigma, typical and XTC between these; all four are off by default there and are
//! not implemented here.) A temperature of 0 takes the most likely token after the penalties, and on a tie the lowest
//! id; the other filters cannot change that and are skipped.
//!
//! Independent of text. The same seed, parameters and logits give the same tokens.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use crate::protocol::SamplingParams;

/// A token that may still be drawn.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

/// Most likely first, then the lowest id.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Samples the tokens of one answer.
pub struct Sampler {
    params: SamplingParams,
    random: Random,
    /// The last `repeat_last_n` tokens, oldest first.
    recent: VecDeque<u32>,
    /// Number of occurrences in `recent`, by token.
    counts: HashMap<u32, u32, ahash::RandomState>,
    candidates: Vec<Candidate>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A deterministic sampler: the same `seed`, `params` and logits give the same tokens.
    pub fn new(params: &SamplingParams, seed: u64) -> Self {
        Self {
            params: params.clone(),
            random: Random::new(seed),
            recent: VecDeque::new(),
            counts: HashMap::default(),
            candidates: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Adds a token of the prompt or the answer to the window of the penalties.
    pub fn accept(&mut self, token: u32) {
        if self.params.repeat_last_n == 0 || !self.penalizes() {
            return;
        }
        if self.recent.len() == self.params.repeat_last_n
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.recent.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
    }

    /// The next token. Modifies `logits`. A NaN logit has probability 0.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        self.penalize(logits);
        if self.params.temperature <= 0.0 || !self.params.temperature.is_finite() {
            return arg_max(logits);
        }
        self.select(logits);
        self.top_p();
        self.min_p();
        self.draw()
    }

    fn penalizes(&self) -> bool {
        self.params.repeat_penalty != 1.0 || self.params.frequency_penalty != 0.0 || self.params.presence_penalty != 0.0
    }

    /// Keskar et al. 2019 (repeat), OpenAI's definition (frequency, presence), as llama.cpp applies them.
    fn penalize(&self, logits: &mut [f32]) {
        let params = &self.params;
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if *logit <= 0.0 {
                *logit *= params.repeat_penalty;
            } else {
                *logit /= params.repeat_penalty;
            }
            *logit -= count as f32 * params.frequency_penalty + params.presence_penalty;
        }
    }

    /// Fills `candidates` with the `top_k` most likely tokens, most likely first.
    fn select(&mut self, logits: &[f32]) {
        let k = if self.params.top_k == 0 { logits.len() } else { self.params.top_k.min(logits.len()) };
        self.candidates.clear();
        if k < logits.len() / 8 {
            self.select_few(logits, k);
        } else {
            self.candidates.extend(logits.iter().enumerate().map(|(id, &logit)| candidate(id, logit)));
            if k < self.candidates.len() && k > 0 {
                self.candidates.select_nth_unstable_by(k - 1, by_rank);
                self.candidates.truncate(k);
            }
        }
        self.candidates.sort_unstable_by(by_rank);
    }

    /// One pass with a buffer of at least `2 * k`, cut back to the best `k` when full; then their worst is the new bar.
    fn select_few(&mut self, logits: &[f32], k: usize) {
        let capacity = (2 * k).max(64);
        let mut bar = f32::NEG_INFINITY;
        for (id, &logit) in logits.iter().enumerate() {
            // On a tie with the bar, the candidates already kept have lower ids and win.
            if self.candidates.len() >= k && (logit <= bar || logit.is_nan()) {
                continue;
            }
            self.candidates.push(candidate(id, logit));
            if self.candidates.len() >= capacity {
                self.candidates.select_nth_unstable_by(k - 1, by_rank);
                self.candidates.truncate(k);
                bar = self.candidates[k - 1].logit;
            }
        }
        if self.candidates.len() > k {
            self.candidates.select_nth_unstable_by(k - 1, by_rank);
            self.candidates.truncate(k);
        }
    }

    /// Fills `weights` with `exp((logit - max) / temperature)` of the candidates and returns their sum.
    fn weigh(&mut self, temperature: f32) -> f64 {
        let max = self.candidates.first().map_or(0.0, |best| best.logit);
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|candidate| {
            // If the best is infinite, `inf - inf` would be NaN: its ties get weight 1, all others 0.
            if candidate.logit == max { 1.0 } else { ((candidate.logit - max) / temperature).exp() }
        }));
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// Keeps the smallest set whose probabilities reach `top_p` (Holtzman et al. 2019), at temperature 1.
    fn top_p(&mut self) {
        if self.params.top_p >= 1.0 || self.params.top_p.is_nan() {
            return;
        }
        let total = self.weigh(1.0);
        let mut sum = 0.0;
        let wanted = f64::from(self.params.top_p) * total;
        let reached = self.weights.iter().position(|&weight| {
            sum += f64::from(weight);
            sum >= wanted
        });
        if let Some(last) = reached {
            self.candidates.truncate(last + 1);
        }
    }

    /// Keeps tokens at least `min_p` times as likely as the most likely one (Nguyen et al. 2024), at temperature 1.
    fn min_p(&mut self) {
        let Some(best) = self.candidates.first().filter(|_| self.params.min_p > 0.0).map(|best| best.logit) else {
            return;
        };
        let floor = best + self.params.min_p.min(1.0).ln();
        let kept = self.candidates.partition_point(|candidate| candidate.logit >= floor || candidate.logit == best);
        self.candidates.truncate(kept.max(1));
    }

    /// Draws one of the candidates at `params.temperature`.
    fn draw(&mut self) -> u32 {
        let total = self.weigh(self.params.temperature);
        let mut left = self.random.unit() * total;
        for (candidate, &weight) in self.candidates.iter().zip(&self.weights) {
            left -= f64::from(weight);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // The cumulative sum can fall short of the draw by rounding: take the most likely token.
        self.candidates.first().map_or(0, |best| best.id)
    }
}

fn candidate(id: usize, logit: f32) -> Candidate {
    Candidate { id: id as u32, logit: if logit.is_nan() { f32::NEG_INFINITY } else { logit } }
}

/// The most likely token, on a tie the lowest id; 0 if `logits` is empty.
fn arg_max(logits: &[f32]) -> u32 {
    let mut best = 0;
    let mut best_logit = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best_logit {
            best = id;
            best_logit = logit;
        }
    }
    best as u32
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and no seed gives a weak sequence.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
