//! Rotary position embedding: frequencies under every scaling that checkpoints use, and the sine and cosine tables.
//!
//! Sources: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071), `modeling_rope_utils.py` of transformers and
//! `ggml_rope_ext` of ggml.

use std::f64::consts::PI;

pub use crate::engine::cpu::RopeLayout;

/// RoPE of a head, with every scaling applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which elements are paired.
    pub layout: RopeLayout,
    /// Radians per position, one for each pair. Only the first `dims()` elements of a head are rotated.
    pub frequencies: Vec<f64>,
    /// Multiplies sine and cosine (YaRN's and LongRoPE's attention temperature); 1 without them.
    pub attention_factor: f64,
}

/// Frequency scaling by which a checkpoint extends its context.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    #[default]
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, interpolated between (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low` are divided.
        low: f64,
        /// Wavelengths below `original_context / high` are kept.
        high: f64,
        /// Context length before scaling.
        original_context: f64,
    },
    /// YaRN: interpolation by frequency band, and an attention temperature.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// Context length before scaling.
        original_context: f64,
        /// Rotations within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which it is divided.
        beta_slow: f64,
        /// Whether the bounds of the transition are rounded outwards to whole pair indices.
        rounded: bool,
        /// Multiplies sine and cosine; `None`: 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
    },
    /// One divisor for each frequency (`rope_freqs.weight`, LongRoPE's factors).
    Divisors {
        /// One divisor per pair.
        divisors: Vec<f64>,
        /// Multiplies sine and cosine.
        attention_factor: f64,
    },
}

impl Rope {
    /// The frequencies `base^(-2i/dims)`, scaled.
    pub fn new(layout: RopeLayout, dims: usize, base: f64, scaling: &RopeScaling) -> Self {
        let plain = (0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64));
        let (frequencies, attention_factor) = match scaling {
            RopeScaling::None => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|f| f / factor).collect(), 1.0),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                (plain.map(|f| llama3(f, *factor, *low, *high, *original_context)).collect(), 1.0)
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, rounded, attention_factor } => {
                let edge =
                    |rotations: f64| dims as f64 * (original_context / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
                let (first, last) = (edge(*beta_fast), edge(*beta_slow));
                let (first, last) = if *rounded { (first.floor(), last.ceil()) } else { (first, last) };
                let (start, end) = (first.max(0.0), last.min(dims as f64 - 1.0));
                let kept = |i: usize| 1.0 - ((i as f64 - start) / (end - start).max(0.001)).clamp(0.0, 1.0);
                let scaled = plain.enumerate().map(|(i, f)| f / factor * (1.0 - kept(i)) + f * kept(i)).collect();
                (scaled, attention_factor.unwrap_or(if *factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 }))
            }
            RopeScaling::Divisors { divisors, attention_factor } => {
                (plain.zip(divisors).map(|(f, d)| f / d).collect(), *attention_factor)
            }
        };
        Self { layout, frequencies, attention_factor }
    }

    /// Elements of a head that are rotated.
    pub fn dims(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Cosines and sines of `count` positions from `first`: row p has `dims()/2` of each, for position `first + p`.
    /// Angles are computed in double precision: at position 100,000 single precision is off by a hundredth.
    pub fn tables(&self, first: usize, count: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.clear();
        sin.clear();
        for position in first..first + count {
            for frequency in &self.frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push((c * self.attention_factor) as f32);
                sin.push((s * self.attention_factor) as f32);
            }
        }
    }
}

/// `_compute_llama3_parameters` of transformers.
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original_context: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength < original_context / high {
        frequency
    } else if wavelength > original_context / low {
        frequency / factor
    } else {
        let smooth = (original_context / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
