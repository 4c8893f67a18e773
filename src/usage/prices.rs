//! Prices to compare with, dated and with their source, and the prices of servers.

use std::collections::BTreeMap;

/// A price that is older than this many days is called stale.
pub const STALE_DAYS: i64 = 180;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Prices in one currency.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// Of one GPU for an hour.
    pub gpu_hour: f64,
    /// Of a million tokens of prompts, at a provider that counts tokens.
    pub input_tokens: f64,
    /// Of a million tokens of answers there.
    pub output_tokens: f64,
    /// What an hour of waiting for a load is worth to the user.
    pub waiting_hour: f64,
    /// The currency.
    pub currency: String,
    /// Where the prices come from.
    pub source: String,
    /// The day on which they were valid, `YYYY-MM-DD`; `None`: not said.
    pub date: Option<String>,
    /// What servers take, by their names in the config.
    pub servers: BTreeMap<String, TokenPrices>,
}

/// What a server takes for a million tokens, in the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenPrices {
    /// Of prompts.
    pub input: f64,
    /// Of answers.
    pub output: f64,
}

impl Default for Prices {
    /// A hosted GPU that is always on for 792 a month of 720 hours, and round figures for the others.
    fn default() -> Self {
        Self {
            gpu_hour: 1.10,
            input_tokens: 0.10,
            output_tokens: 0.40,
            waiting_hour: 20.0,
            currency: "USD".into(),
            source: "example prices; set [prices] in the config".into(),
            date: Some("2026-11-01".into()),
            servers: BTreeMap::new(),
        }
    }
}

impl TokenPrices {
    /// The price of as many tokens of prompts and of answers.
    pub fn of(&self, prompt: usize, completion: usize) -> f64 {
        (prompt as f64 * self.input + completion as f64 * self.output) / 1e6
    }
}

impl Prices {
    /// Days since the date of the prices; `None` without a date.
    pub fn age_days(&self, now_ms: u64) -> Option<i64> {
        let date: jiff::civil::Date = self.date.as_deref()?.parse().ok()?;
        let midnight =
            date.at(0, 0, 0, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
        Some((i64::try_from(now_ms).ok()? - midnight).div_euclid(DAY_MS))
    }

    /// Whether they are older than [`STALE_DAYS`].
    pub fn is_stale(&self, now_ms: u64) -> bool {
        self.age_days(now_ms).is_some_and(|days| days > STALE_DAYS)
    }
}
