//! `config.json` of a transformers checkpoint → `ModelConfig`. What the keys mean: `configuration_*.py` and
//! `modeling_rope_utils.py` of transformers.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Activation, Family, ModelConfig, context_length};
use crate::engine::model::ModelError;
use crate::engine::model::rope::{Rope, RopeLayout, RopeScaling};
use crate::engine::weights::gguf::invalid;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::safetensors::{read_folder, read_json};

/// The keys that matter, with the names of `config.json`.
#[derive(Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    original_max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<Value>,
    /// transformers 5 writes `rope_theta` and `rope_scaling` as one object.
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f64>,
    tie_word_embeddings: Option<bool>,
    quantization_config: Option<Value>,
    hidden_act: Option<String>,
}

pub(super) fn config(folder: &Path, asked: Option<usize>) -> Result<(ModelConfig, TensorPlan), ModelError> {
    let path = folder.join("config.json");
    let mut json: Value = read_json(&path)?;
    let tied_outside = json.get("tie_word_embeddings").and_then(Value::as_bool);
    // Models that also see keep the language model's keys in an object of their own.
    if let Some(text) = json.get_mut("text_config").map(Value::take).filter(Value::is_object) {
        json = text;
    }
    let raw: Raw = serde_json::from_value(json).map_err(|error| invalid(&path, error))?;
    let family = Family::named(&raw.model_type)?;
    if raw.quantization_config.is_some() {
        return Err(ModelError::Unsupported(format!(
            "{}: quantised safetensors are not supported; use the unquantised folder or a GGUF file",
            folder.display()
        )));
    }
    let plan = read_folder(folder, family == Family::Gemma3)?;
    Ok((raw.config(&path, family, &plan, tied_outside, asked)?, plan))
}

impl Raw {
    fn config(
        self,
        path: &Path,
        family: Family,
        plan: &TensorPlan,
        tied_outside: Option<bool>,
        asked: Option<usize>,
    ) -> Result<ModelConfig, ModelError> {
        let gemma = family == Family::Gemma3;
        let heads = self.num_attention_heads.unwrap_or(if gemma { 8 } else { 32 });
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None if gemma => 256,
            None => self.hidden_size.checked_div(heads).unwrap_or(0),
        };
        let trained = self.trained_context(path, gemma)?;
        let context_length = context_length(asked, trained)?;
        let silent_tie = plan.get("output.weight").is_none();
        let (rope, local_rope) = self.ropes(path, gemma, head_dim, trained, context_length)?;
        let scale_width = self.query_pre_attn_scalar.filter(|_| gemma).unwrap_or(head_dim as f64);
        Ok(ModelConfig {
            family,
            vocab_size: plan.get("token_embd.weight").map_or(0, |t| t.rows),
            hidden: self.hidden_size,
            feed_forward: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(if gemma { 4 } else { heads }),
            head_dim,
            trained_context_length: trained,
            context_length,
            norm_epsilon: self.rms_norm_eps.unwrap_or(1e-6) as f32,
            norm_offset: if gemma { 1.0 } else { 0.0 },
            activation: self.activation(path, gemma)?,
            rope,
            local_rope,
            windows: self.windows(family),
            attention_scale: scale_width.sqrt().recip() as f32,
            embedding_scale: if gemma { (self.hidden_size as f32).sqrt() } else { 1.0 },
            tied: silent_tie || self.tie_word_embeddings.or(tied_outside).unwrap_or(false),
            architecture: self.model_type,
        })
    }

    fn activation(&self, path: &Path, gemma: bool) -> Result<Activation, ModelError> {
        match self.hidden_act.as_deref() {
            None if gemma => Ok(Activation::GeluTanh),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            None | Some("silu" | "swish") => Ok(Activation::Silu),
            Some(other) => {
                Err(ModelError::Unsupported(format!("{}: the activation {other:?} is not supported", path.display())))
            }
        }
    }

    /// Positions that the model was made for: what `max_position_embeddings` says, or what YaRN stretches it to.
    fn trained_context(&self, path: &Path, gemma: bool) -> Result<usize, ModelError> {
        let own = match self.max_position_embeddings {
            Some(own) => own,
            None if gemma => 131_072,
            None => return Err(invalid(path, "max_position_embeddings is missing")),
        };
        let scaling = self.rope_object();
        let kind = scaling.and_then(rope_type);
        let number = |key: &str| scaling.and_then(|s| s.get(key)).and_then(Value::as_f64);
        match (kind, number("factor")) {
            (Some("yarn"), Some(factor)) if (1.0..1e4).contains(&factor) => {
                let original = number("original_max_position_embeddings").unwrap_or(own as f64);
                Ok(own.max((original * factor) as usize))
            }
            _ => Ok(own),
        }
    }

    /// The object that describes the scaling, wherever this version of transformers put it.
    fn rope_object(&self) -> Option<&Value> {
        let parameters = self.rope_parameters.as_ref().map(|p| p.get("full_attention").unwrap_or(p));
        self.rope_scaling.as_ref().filter(|s| s.is_object()).or(parameters)
    }

    fn ropes(
        &self,
        path: &Path,
        gemma: bool,
        head_dim: usize,
        trained: usize,
        context: usize,
    ) -> Result<(Rope, Option<Rope>), ModelError> {
        let parameter = |group: &str, key: &str| {
            let parameters = self.rope_parameters.as_ref()?;
            parameters.get(group).unwrap_or(parameters).get(key)?.as_f64()
        };
        let base = parameter("full_attention", "rope_theta").or(self.rope_theta);
        let base = base.unwrap_or(if gemma { 1e6 } else { 1e4 });
        let local = self.rope_local_base_freq.or(parameter("sliding_attention", "rope_theta").filter(|_| gemma));
        let local = local.unwrap_or(1e4);
        if ![base, local].iter().all(|base| base.is_finite() && *base > 1.0) {
            return Err(invalid(path, format!("the rope base {base} (or {local}) is not a number above 1")));
        }
        let partial = self.partial_rotary_factor.or(parameter("full_attention", "partial_rotary_factor"));
        let dims = (head_dim.min(1 << 16) as f64 * partial.unwrap_or(1.0).clamp(0.0, 1.0)) as usize;
        let scaling = self.scaling(path, dims, trained, context)?;
        let rope = Rope::new(RopeLayout::Neox, dims, base, &scaling);
        Ok((rope, gemma.then(|| Rope::new(RopeLayout::Neox, dims, local, &RopeScaling::None))))
    }

    fn scaling(&self, path: &Path, dims: usize, trained: usize, context: usize) -> Result<RopeScaling, ModelError> {
        let Some(object) = self.rope_object() else { return Ok(RopeScaling::None) };
        let number = |key: &str| object.get(key).and_then(Value::as_f64);
        let need = |key: &str| {
            number(key)
                .filter(|v| *v > 0.0)
                .ok_or_else(|| invalid(path, format!("rope scaling has no positive {key:?}")))
        };
        let own = self.max_position_embeddings.unwrap_or(trained) as f64;
        match rope_type(object) {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: need("factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original_context: need("original_max_position_embeddings")?,
            }),
            Some("yarn") => Ok(RopeScaling::Yarn {
                factor: need("factor")?,
                original_context: number("original_max_position_embeddings").unwrap_or(own),
                beta_fast: number("beta_fast").unwrap_or(32.0),
                beta_slow: number("beta_slow").unwrap_or(1.0),
                attention_factor: number("attention_factor").or(yarn_mscale(object)),
            }),
            Some("longrope" | "su") => self.long_rope(path, object, dims, own, context),
            Some(other) => {
                Err(ModelError::Unsupported(format!("{}: rope scaling {other:?} is not supported", path.display())))
            }
        }
    }

    /// `_compute_longrope_parameters`; which of the two lists applies is fixed by the context that is asked for.
    fn long_rope(
        &self,
        path: &Path,
        object: &Value,
        dims: usize,
        own: f64,
        context: usize,
    ) -> Result<RopeScaling, ModelError> {
        let inner = object.get("original_max_position_embeddings").and_then(Value::as_u64);
        let original = inner.or(self.original_max_position_embeddings.map(|v| v as u64)).map_or(own, |v| v as f64);
        let key = if context as f64 > original { "long_factor" } else { "short_factor" };
        let divisors: Option<Vec<f64>> =
            object.get(key).and_then(Value::as_array).and_then(|all| all.iter().map(Value::as_f64).collect());
        let Some(divisors) = divisors.filter(|all| all.len() == dims / 2) else {
            return Err(invalid(path, format!("rope scaling needs {} numbers in {key:?}", dims / 2)));
        };
        let factor = own / original;
        let computed = if factor > 1.0 { (1.0 + factor.ln() / original.ln()).sqrt() } else { 1.0 };
        let attention_factor = object.get("attention_factor").and_then(Value::as_f64).unwrap_or(computed);
        Ok(RopeScaling::Divisors { divisors, attention_factor })
    }

    /// Which layers see only a window of keys, by each family's rule.
    fn windows(&self, family: Family) -> Vec<Option<usize>> {
        let layers = self.num_hidden_layers.min(1024);
        let window = self.sliding_window.filter(|w| *w > 0);
        let pattern = self.sliding_window_pattern.filter(|p| *p > 0).unwrap_or(6);
        let local = |layer: usize| match (&self.layer_types, family) {
            (Some(types), _) if types.len() >= layers => types[layer] == "sliding_attention",
            (_, Family::Gemma3) => !(layer + 1).is_multiple_of(pattern),
            (_, Family::Qwen2 | Family::Qwen3) => {
                self.use_sliding_window == Some(true) && layer >= self.max_window_layers.unwrap_or(layers)
            }
            (_, Family::Llama) => self.model_type == "mistral",
            (_, Family::Phi3) => true,
        };
        (0..layers).map(|layer| window.filter(|_| local(layer))).collect()
    }
}

fn rope_type(object: &Value) -> Option<&str> {
    object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str)
}

/// YaRN's temperature where a checkpoint gives `mscale` and `mscale_all_dim` instead.
fn yarn_mscale(object: &Value) -> Option<f64> {
    let number = |key: &str| object.get(key).and_then(Value::as_f64);
    let factor = number("factor")?;
    let temperature = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    Some(temperature(number("mscale")?) / temperature(number("mscale_all_dim")?))
}
