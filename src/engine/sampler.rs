//! Logits → token, in llama.cpp's default order.

use crate::protocol::SamplingParams;

/// Draws tokens for one answer.
pub struct Sampler {}

impl Sampler {
    /// A sampler that repeats itself for the same `seed`.
    pub fn new(params: &SamplingParams, seed: u64) -> Self {
        let _ = (params, seed);
        todo!("owner: text")
    }

    /// Tells the penalties about a token of the prompt or the answer.
    pub fn accept(&mut self, token: u32) {
        let _ = token;
        todo!("owner: text")
    }

    /// The next token. `logits` is scratch afterwards.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        let _ = logits;
        todo!("owner: text")
    }
}
