//! GGUF metadata → `ModelConfig`. Keys: `docs/gguf.md` of ggml; what they mean for each family: `llama-model.cpp`.

use super::{Activation, Family, ModelConfig, ShortRope, context_length};
use crate::engine::model::ModelError;
use crate::engine::model::rope::{Rope, RopeLayout, RopeScaling};
use crate::engine::weights::gguf::{Header, Value};
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::reader::read_floats;

/// The keys of one architecture.
struct Keys<'a> {
    header: &'a Header,
    plan: &'a TensorPlan,
    architecture: &'a str,
}

pub(super) fn config(header: &Header, plan: &TensorPlan, asked: Option<usize>) -> Result<ModelConfig, ModelError> {
    let architecture = header
        .metadata
        .string("general.architecture")
        .ok_or_else(|| plan.invalid("the key general.architecture is missing"))?;
    let family = Family::named(architecture)?;
    let keys = Keys { header, plan, architecture };
    if keys.uint("expert_count")?.unwrap_or(0) > 0 {
        return Err(ModelError::Unsupported(format!(
            "this {architecture} model is a mixture of experts, which chatnap does not support"
        )));
    }
    let hidden = keys.need("embedding_length")?;
    let heads = keys.need("attention.head_count")?;
    let head_dim = match keys.uint("attention.key_length")? {
        Some(dim) => dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    if keys.uint("attention.value_length")?.is_some_and(|value| value != head_dim) {
        return Err(ModelError::Unsupported("heads whose keys and values differ in width are not supported".into()));
    }
    let layers = keys.need("block_count")?;
    for key in ["attention.temperature_scale", "rope.scaling.yarn_log_multiplier"] {
        if keys.float(key).is_some_and(|value| value != 0.0) {
            let key = keys.key(key);
            return Err(ModelError::Unsupported(format!(
                "{key} is not supported, and answers would be wrong without it"
            )));
        }
    }
    let trained_context_length = keys.trained_context()?;
    let context_length = context_length(asked, trained_context_length)?;
    let gemma = family == Family::Gemma3;
    let dims = keys.uint("rope.dimension_count")?.unwrap_or(head_dim);
    if !dims.is_multiple_of(2) {
        return Err(plan.invalid(format!("{} is {dims}, but elements turn in pairs", keys.key("rope.dimension_count"))));
    }
    let (rope, short_rope, local_rope) = keys.ropes(family, dims, context_length)?;
    Ok(ModelConfig {
        family,
        architecture: architecture.to_owned(),
        vocab_size: plan.get("token_embd.weight").map_or(0, |t| t.rows),
        hidden,
        feed_forward: keys.need("feed_forward_length")?,
        layers,
        heads,
        kv_heads: keys.uint("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        trained_context_length,
        context_length,
        norm_epsilon: keys.float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
        norm_offset: 0.0,
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        rope,
        short_rope,
        local_rope,
        windows: keys.windows(family, layers.min(1024))?,
        attention_scale: keys.attention_scale(gemma, layers, hidden, heads, head_dim),
        embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
        logit_softcap: keys.float("final_logit_softcapping").filter(|cap| gemma && *cap > 0.0).map(|cap| cap as f32),
        tied: plan.get("output.weight").is_none(),
    })
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A number, or an array that holds the same number for every layer.
    fn uint(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let key = self.key(key);
        let number = match self.header.metadata.values.get(&key) {
            None => return Ok(None),
            Some(Value::Ints(all)) if !all.is_empty() => {
                if all.iter().any(|v| *v != all[0]) {
                    return Err(ModelError::Unsupported(format!(
                        "{key} differs from layer to layer, which is not supported"
                    )));
                }
                u64::try_from(all[0]).ok()
            }
            Some(_) => self.header.metadata.uint(&key),
        };
        match number.and_then(|n| usize::try_from(n).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.plan.invalid(format!("{key} is not a positive number"))),
        }
    }

    fn need(&self, key: &str) -> Result<usize, ModelError> {
        self.uint(key)?.ok_or_else(|| self.plan.invalid(format!("the key {} is missing", self.key(key))))
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.header.metadata.float(&self.key(key))
    }

    /// Positions that the model was made for: what the file says, or what YaRN stretches it to.
    fn trained_context(&self) -> Result<usize, ModelError> {
        let own = self.need("context_length")?;
        let yarn = self.header.metadata.string(&self.key("rope.scaling.type")) == Some("yarn");
        let factor = self.float("rope.scaling.factor").filter(|factor| yarn && (1.0..1e4).contains(factor));
        let Some(factor) = factor else { return Ok(own) };
        let original = self.uint("rope.scaling.original_context_length")?.unwrap_or(own);
        Ok(own.max((original as f64 * factor) as usize))
    }

    /// `1/sqrt(head_dim)`, save for Gemma 3 27B, which divides by `sqrt(hidden / heads)`; llama.cpp tells it by its
    /// 62 layers, since no key does.
    fn attention_scale(&self, gemma: bool, layers: usize, hidden: usize, heads: usize, head_dim: usize) -> f32 {
        let width = if gemma && layers == 62 { hidden as f32 / heads as f32 } else { head_dim as f32 };
        width.sqrt().recip()
    }

    /// The rope of layers without a window, that of short sequences, and that of layers with a window.
    fn ropes(
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
        // Layers with a window are neither stretched nor on the global base.
        let local = gemma
            .then(|| self.base("rope.freq_base_swa", 1e4))
            .transpose()?
            .map(|base| Rope::new(layout, dims.min(1 << 16), base, &RopeScaling::None));
        Ok((rope, short, local))
    }

    fn base(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        let base = self.float(key).unwrap_or(default);
        if base.is_finite() && base > 1.0 {
            return Ok(base);
        }
        Err(self.plan.invalid(format!("{} is {base}, not a number above 1", self.key(key))))
    }

    /// One divisor for each frequency, from the tensor `name`.
    fn divisors(&self, name: &str, dims: usize) -> Result<RopeScaling, ModelError> {
        let tensor = self.plan.require(name, 1, dims / 2)?;
        let divisors = read_floats(self.plan, tensor)?.into_iter().map(f64::from).collect();
        Ok(RopeScaling::Divisors { divisors, attention_factor: self.float("rope.scaling.attn_factor").unwrap_or(1.0) })
    }

    /// LongRoPE: the scaling of a context of that many positions and, where the context goes beyond the original one,
    /// that of sequences which do not, with the positions that they may take.
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
        let original = self.uint("rope.scaling.original_context_length")?;
        let attention_factor = self.float("rope.scaling.attn_factor");
        let factor = self.float("rope.scaling.factor").or_else(|| self.float("rope.scale_linear"));
        let kind_key = self.key("rope.scaling.type");
        let kind = self.header.metadata.string(&kind_key);
        match (kind, factor.filter(|f| *f > 0.0)) {
            (None | Some("none" | "longrope"), None) | (Some("none"), _) => Ok(RopeScaling::None),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("yarn"), Some(factor)) => Ok(RopeScaling::Yarn {
                factor,
                original_context: original.unwrap_or(self.need("context_length")?) as f64,
                beta_fast: self.float("rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                beta_slow: self.float("rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                rounded: true,
                // llama.cpp multiplies YaRN's own factor by this key.
                attention_factor: attention_factor.map(|given| given * (0.1 * factor.ln() + 1.0)),
            }),
            (Some(kind @ ("linear" | "yarn")), None) => {
                Err(self.plan.invalid(format!("{kind_key} is {kind:?}, and there is no positive rope.scaling.factor")))
            }
            (Some(kind), _) => Err(ModelError::Unsupported(format!("{kind_key} = {kind:?} is not supported"))),
        }
    }

    /// Which layers see only a window of keys.
    fn windows(&self, family: Family, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
        let window = self.uint("attention.sliding_window")?.filter(|window| *window > 0);
        let Some(window) = window else { return Ok(vec![None; layers]) };
        let key = self.key("attention.sliding_window_pattern");
        let local: Box<dyn Fn(usize) -> bool> = match self.header.metadata.values.get(&key) {
            Some(Value::Ints(pattern)) if pattern.len() >= layers => {
                let pattern = pattern.clone();
                Box::new(move |layer| pattern[layer] != 0)
            }
            _ if family == Family::Gemma3 => {
                let every = self.uint("attention.sliding_window_pattern")?.filter(|n| *n > 0).unwrap_or(6);
                Box::new(move |layer| !(layer + 1).is_multiple_of(every))
            }
            _ => Box::new(|_| true),
        };
        Ok((0..layers).map(|layer| local(layer).then_some(window)).collect())
    }
}
