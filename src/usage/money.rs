//! What the held GPU time costs, against a GPU that is always on and against the same tokens at a price for tokens; and what
//! servers took.

use super::{ModelUse, Prices, TokenPrices, Used};

/// Costs in the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Money {
    /// The GPU time that was held; a lower bound if [`super::Held::open`] is not 0.
    pub held: f64,
    /// One GPU for the whole period.
    pub always_on: f64,
    /// The prompts and answers of the own engine, cached tokens included, at the prices for tokens.
    pub tokens: f64,
    /// The prompts and answers of servers at their own prices; `None`: no server with a price answered.
    pub servers: Option<f64>,
    /// Number of answers of servers that are not in that sum, because the server has no price or did not count its tokens.
    pub unpriced: usize,
}

impl Money {
    /// The costs of `used`.
    pub fn of(used: &Used, prices: &Prices) -> Self {
        let own = TokenPrices { input: prices.input_tokens, output: prices.output_tokens };
        let mut money = Self {
            held: used.gpu.time.as_secs_f64() / 3600.0 * prices.gpu_hour,
            always_on: used.period.length().as_secs_f64() / 3600.0 * prices.gpu_hour,
            ..Self::default()
        };
        for entry in &used.models {
            let of = |price: &TokenPrices| price.of(entry.tokens.prompt_tokens, entry.tokens.completion_tokens);
            match (entry.is_of_server(), entry.server().and_then(|name| prices.servers.get(name))) {
                (false, _) => money.tokens += of(&own),
                (true, Some(price)) => {
                    *money.servers.get_or_insert(0.0) += of(price);
                    money.unpriced += uncounted(entry);
                }
                (true, None) => money.unpriced += entry.answers,
            }
        }
        money
    }
}

/// Number of answers whose tokens are not, or not all, in the sums.
fn uncounted(entry: &ModelUse) -> usize {
    entry.answers.saturating_sub(entry.priced)
}
