//! What the held GPU time costs, against a GPU that is always on and against the same tokens at a price for tokens.

use super::{Prices, Used};

/// Costs in the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Money {
    /// The GPU time that was held; a lower bound if [`super::Held::open`] is not 0.
    pub held: f64,
    /// One GPU for the whole period.
    pub always_on: f64,
    /// The same prompts and answers, cached tokens included, at the prices for tokens.
    pub tokens: f64,
}

impl Money {
    /// The costs of `used`.
    pub fn of(used: &Used, prices: &Prices) -> Self {
        let tokens = &used.total.tokens;
        Self {
            held: used.gpu.time.as_secs_f64() / 3600.0 * prices.gpu_hour,
            always_on: used.period.length().as_secs_f64() / 3600.0 * prices.gpu_hour,
            tokens: tokens.prompt_tokens as f64 / 1e6 * prices.input_tokens
                + tokens.completion_tokens as f64 / 1e6 * prices.output_tokens,
        }
    }
}
