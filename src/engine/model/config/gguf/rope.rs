//! RoPE parameters from GGUF metadata, read as in `llama-model.cpp` and `llama-context.cpp`.

use super::Keys;
use crate::engine::error::ModelError;
use crate::engine::model::config::{Family, ShortRope};
use crate::engine::model::rope::{Rope, RopeLayout, RopeScaling};
use crate::engine::weights::reader::read_floats;

/// Scaling of all frequencies, apart from divisors in tensors.
enum Stretch {
    /// One divisor for every frequency; 1: no scaling.
    Linear(f64),
    /// YaRN, with a factor above 1.
    Yarn(f64),
}

impl Keys<'_> {
    /// The RoPE of layers without a window, of short sequences (LongRoPE), and of layers with a window.
    pub(super) fn ropes(
        &self,
        family: Family,
        dims: usize,
        context: usize,
    ) -> Result<(Rope, Option<ShortRope>, Option<Rope>), ModelError> {
        let layout = if family == Family::Llama { RopeLayout::Norm } else { RopeLayout::Neox };
        let gemma = family == Family::Gemma3;
        let base = self.base("rope.freq_base", if gemma { 1e6 } else { 1e4 })?;
        let turning = |scaling: &RopeScaling| Rope::new(layout, dims.min(1 << 16), base, scaling);
        let (scaling, short) = match self.plan.get("rope_factors_long.weight") {
            Some(_) => self.long_rope(dims, context)?,
            None => (self.scaling(dims)?, None),
        };
        let rope = turning(&scaling);
        let short = short.map(|(scaling, positions)| ShortRope { rope: turning(&scaling), positions });
        // Layers with a window are not scaled and have a base of their own.
        let local = gemma
            .then(|| self.base("rope.freq_base_swa", 1e4))
            .transpose()?
            .map(|base| Rope::new(layout, dims.min(1 << 16), base, &RopeScaling::None));
        Ok((rope, short, local))
    }

    fn base(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        let base = self.float(key)?.unwrap_or(default);
        if base.is_finite() && base > 1.0 {
            return Ok(base);
        }
        Err(self.plan.invalid(format!("{} is {base}, not a number above 1", self.key(key))))
    }

    /// `rope.scaling.type` and `rope.scaling.factor`. The default type is linear; a missing factor, or 0, means no
    /// scaling.
    fn stretch(&self) -> Result<Stretch, ModelError> {
        let key = self.key("rope.scaling.type");
        let kind = match self.header.metadata.values.get(&key) {
            None => "linear",
            Some(_) => {
                self.header.metadata.string(&key).ok_or_else(|| self.plan.invalid(format!("{key} is not text")))?
            }
        };
        let factor = match self.float("rope.scaling.factor")? {
            Some(factor) => factor,
            None => self.float("rope.scale_linear")?.unwrap_or(0.0),
        };
        if !(factor.is_finite() && factor >= 0.0) {
            let key = self.key("rope.scaling.factor");
            return Err(self.plan.invalid(format!("{key} is {factor}, not a positive number")));
        }
        let factor = if factor == 0.0 { 1.0 } else { factor };
        match kind {
            "none" => Ok(Stretch::Linear(1.0)),
            "linear" | "longrope" => Ok(Stretch::Linear(factor)),
            "yarn" if factor == 1.0 => Ok(Stretch::Linear(1.0)),
            "yarn" => Ok(Stretch::Yarn(factor)),
            other => Err(self.plan.unsupported(format!("{key} = {other:?} is not supported"))),
        }
    }

    /// Factor on sine and cosine.
    fn attention_factor(&self) -> Result<f64, ModelError> {
        let factor = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
        if factor.is_finite() && factor > 0.0 {
            return Ok(factor);
        }
        let key = self.key("rope.scaling.attn_factor");
        Err(self.plan.invalid(format!("{key} is {factor}, not a positive number")))
    }

    /// One divisor per frequency, from the tensor `name`, times the common scaling factor.
    fn divisors(&self, name: &str, dims: usize) -> Result<RopeScaling, ModelError> {
        let Stretch::Linear(factor) = self.stretch()? else {
            let key = self.key("rope.scaling.type");
            return Err(self.plan.unsupported(format!("{key} = \"yarn\" together with {name} is not supported")));
        };
        let tensor = self.plan.require(name, 1, dims / 2)?;
        let divisors = read_floats(self.plan, tensor)?.into_iter().map(|divisor| f64::from(divisor) * factor).collect();
        Ok(RopeScaling::Divisors { divisors, attention_factor: self.attention_factor()? })
    }

    /// LongRoPE: the scaling for a context of `context` positions. If that exceeds the original context, also the
    /// scaling for sequences within the original one, with their maximum length.
    fn long_rope(
        &self,
        dims: usize,
        context: usize,
    ) -> Result<(RopeScaling, Option<(RopeScaling, usize)>), ModelError> {
        let short = self.divisors("rope_factors_short.weight", dims)?;
        match self.uint("rope.scaling.original_context_length")? {
            Some(original) if context > original => {
                Ok((self.divisors("rope_factors_long.weight", dims)?, Some((short, original))))
            }
            _ => Ok((short, None)),
        }
    }

    fn scaling(&self, dims: usize) -> Result<RopeScaling, ModelError> {
        if self.plan.get("rope_freqs.weight").is_some() {
            return self.divisors("rope_freqs.weight", dims);
        }
        let attention_factor = self.attention_factor()?;
        let factor = match self.stretch()? {
            Stretch::Linear(factor) => factor,
            Stretch::Yarn(factor) => return self.yarn(factor, attention_factor),
        };
        Ok(if attention_factor != 1.0 {
            RopeScaling::Divisors { divisors: vec![factor; dims.min(1 << 16) / 2], attention_factor }
        } else if factor != 1.0 {
            RopeScaling::Linear { factor }
        } else {
            RopeScaling::None
        })
    }

    fn yarn(&self, factor: f64, attention_factor: f64) -> Result<RopeScaling, ModelError> {
        let original = self.uint("rope.scaling.original_context_length")?.filter(|positions| *positions > 0);
        Ok(RopeScaling::Yarn {
            factor,
            original_context: original.unwrap_or(self.need("context_length")?) as f64,
            beta_fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            rounded: true,
            // llama.cpp multiplies YaRN's own factor by this key.
            attention_factor: (attention_factor != 1.0).then(|| attention_factor * (0.1 * factor.ln() + 1.0)),
        })
    }
}
