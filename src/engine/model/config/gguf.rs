//! GGUF metadata → `ModelConfig`. Keys: `docs/gguf.md` of ggml; their meaning per family: `llama-model.cpp`.

use super::{Activation, Family, ModelConfig, context_length};
use crate::engine::error::ModelError;
use crate::engine::weights::gguf::{Header, Value};
use crate::engine::weights::plan::TensorPlan;

mod check;
mod rope;

/// Access to the keys under the architecture's prefix.
struct Keys<'a> {
    header: &'a Header,
    plan: &'a TensorPlan,
    architecture: &'a str,
}

pub(super) fn config(header: &Header, plan: &mut TensorPlan, asked: Option<usize>) -> Result<ModelConfig, ModelError> {
    check::kind_of_file(header, plan)?;
    let architecture = header.metadata.string("general.architecture").ok_or_else(|| {
        plan.invalid(
            "the key general.architecture is missing, so the model's architecture is unknown; fetch the file again",
        )
    })?;
    let family = Family::named(architecture)?;
    let keys = Keys { header, plan, architecture };
    if keys.uint("expert_count")?.unwrap_or(0) > 0 {
        return Err(plan.unsupported(format!(
            "this {architecture} model is a mixture of experts, which chatnap does not support"
        )));
    }
    let warnings = keys.check()?;
    let hidden = keys.need("embedding_length")?;
    let heads = keys.need("attention.head_count")?;
    let head_dim = match keys.uint("attention.key_length")? {
        Some(dim) => dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    if keys.uint("attention.value_length")?.is_some_and(|value| value != head_dim) {
        return Err(plan.unsupported("heads whose keys and values differ in width are not supported"));
    }
    let layers = keys.need("block_count")?;
    let trained_context_length = keys.trained_context()?;
    let context_length = context_length(asked, trained_context_length)?;
    let gemma = family == Family::Gemma3;
    let dims = keys.uint("rope.dimension_count")?.unwrap_or(head_dim);
    if !dims.is_multiple_of(2) {
        return Err(plan.invalid(format!("{} is {dims}, not an even number", keys.key("rope.dimension_count"))));
    }
    if dims != head_dim && !matches!(family, Family::Gemma3 | Family::Phi3) {
        let key = keys.key("rope.dimension_count");
        return Err(plan.invalid(format!(
            "{key} is {dims}, but all {head_dim} elements of a head are rotated in {architecture} models"
        )));
    }
    let (rope, short_rope, local_rope) = keys.ropes(family, dims, context_length)?;
    let config = ModelConfig {
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
        norm_epsilon: keys.norm_epsilon()?,
        norm_offset: 0.0,
        activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
        rope,
        short_rope,
        local_rope,
        windows: keys.windows(family, layers.min(1024))?,
        attention_scale: keys.attention_scale(gemma, layers, hidden, heads, head_dim),
        embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
        logit_softcap: keys.float("final_logit_softcapping")?.filter(|cap| gemma && *cap > 0.0).map(|cap| cap as f32),
        tied: plan.get("output.weight").is_none(),
    };
    plan.warnings.extend(warnings);
    Ok(config)
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A number, or an array with the same number for every layer.
    fn uint(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let key = self.key(key);
        let number = match self.header.metadata.values.get(&key) {
            None => return Ok(None),
            Some(Value::Ints(all)) if !all.is_empty() => {
                if all.iter().any(|v| *v != all[0]) {
                    return Err(self
                        .plan
                        .unsupported(format!("{key} differs from layer to layer, which is not supported")));
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

    /// A number; another type is an error: falling back to the default would hide it.
    fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let key = self.key(key);
        match (self.header.metadata.values.get(&key), self.header.metadata.float(&key)) {
            (None, _) => Ok(None),
            (_, Some(number)) => Ok(Some(number)),
            (Some(_), None) => Err(self.plan.invalid(format!("{key} is not a number"))),
        }
    }

    /// Required, without a default, as in llama.cpp.
    fn norm_epsilon(&self) -> Result<f32, ModelError> {
        const KEY: &str = "attention.layer_norm_rms_epsilon";
        match self.float(KEY)? {
            Some(epsilon) => Ok(epsilon as f32),
            None => Err(self.plan.invalid(format!("the key {} is missing", self.key(KEY)))),
        }
    }

    /// Trained context length in positions: `context_length`, or its extension by YaRN.
    fn trained_context(&self) -> Result<usize, ModelError> {
        let own = self.need("context_length")?;
        let yarn = self.header.metadata.string(&self.key("rope.scaling.type")) == Some("yarn");
        let factor = self.float("rope.scaling.factor")?.filter(|factor| yarn && (1.0..1e4).contains(factor));
        let Some(factor) = factor else { return Ok(own) };
        let original = self.uint("rope.scaling.original_context_length")?.unwrap_or(own);
        Ok(own.max((original as f64 * factor) as usize))
    }

    /// `1/sqrt(head_dim)`, except for Gemma 3 27B, which divides by `sqrt(hidden / heads)`. No key marks that model;
    /// llama.cpp identifies it by its 62 layers.
    fn attention_scale(&self, gemma: bool, layers: usize, hidden: usize, heads: usize, head_dim: usize) -> f32 {
        let width = if gemma && layers == 62 { hidden as f32 / heads as f32 } else { head_dim as f32 };
        width.sqrt().recip()
    }

    /// The sliding window of each layer; `None`: full attention.
    fn windows(&self, family: Family, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
        let window = self.uint("attention.sliding_window")?.filter(|window| *window > 0);
        let Some(window) = window else { return Ok(vec![None; layers]) };
        let key = self.key("attention.sliding_window_pattern");
        let local: Box<dyn Fn(usize) -> bool> = match self.header.metadata.values.get(&key) {
            Some(Value::Ints(pattern)) if pattern.len() >= layers => {
                let pattern = pattern.clone();
                Box::new(move |layer| pattern[layer] != 0)
            }
            Some(Value::Ints(pattern)) => {
                let entries = pattern.len();
                return Err(self.plan.invalid(format!("{key} has {entries} entries for {layers} layers")));
            }
            None if family != Family::Gemma3 => Box::new(|_| true),
            _ => {
                let every = self.uint("attention.sliding_window_pattern")?.filter(|n| *n > 0).unwrap_or(6);
                Box::new(move |layer| !(layer + 1).is_multiple_of(every))
            }
        };
        Ok((0..layers).map(|layer| local(layer).then_some(window)).collect())
    }
}
