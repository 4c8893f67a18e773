//! The pass rate of repeated scenarios with its Wilson score interval.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the normal distribution, for an interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// How many of several repetitions passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassRate {
    /// Repetitions that passed.
    pub passed: usize,
    /// Repetitions that were judged.
    pub judged: usize,
    /// Their quotient.
    pub rate: f64,
    /// Lower end of the 95 % Wilson score interval.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

impl PassRate {
    /// `None` if nothing was judged.
    pub fn new(passed: usize, judged: usize) -> Option<Self> {
        let (low, high) = wilson(passed, judged)?;
        Some(Self { passed, judged, rate: rounded(passed as f64 / judged as f64), low, high })
    }
}

/// The 95 % Wilson score interval of `passed` of `judged`; `None` if `judged` is 0.
fn wilson(passed: usize, judged: usize) -> Option<(f64, f64)> {
    if judged == 0 {
        return None;
    }
    let n = judged as f64;
    let p = passed as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let ends = ((centre - spread) / scale, (centre + spread) / scale);
    Some((rounded(ends.0.max(0.0)), rounded(ends.1.min(1.0))))
}

/// To four decimals.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_equal_those_computed_by_hand() {
        // z² = 3.8415. 0 of 1: high = z² / (1 + z²). 1 of 1: low = 1 / (1 + z²).
        assert_eq!(wilson(0, 1), Some((0.0, 0.7935)));
        assert_eq!(wilson(1, 1), Some((0.2065, 1.0)));
        // 5 of 10: (0.5 + 0.19207 ± 1.95996 · √(0.025 + 0.0096037)) / 1.38415.
        assert_eq!(wilson(5, 10), Some((0.2366, 0.7634)));
        // 10 of 10: low = 10 / (10 + z²).
        assert_eq!(wilson(10, 10), Some((0.7225, 1.0)));
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn rate_lies_within_its_interval() {
        for judged in 1..=20 {
            for passed in 0..=judged {
                let rate = PassRate::new(passed, judged).map(|rate| rate.low <= rate.rate && rate.rate <= rate.high);
                assert_eq!(rate, Some(true), "{passed} of {judged}");
            }
        }
        assert_eq!(PassRate::new(0, 0), None);
    }
}
