//! `config.json` of a transformers checkpoint → `ModelConfig`. Meaning of the keys: `configuration_*.py` and
//! `modeling_rope_utils.py` of transformers, versions 4 and 5.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Activation, CONFIG_FILE, Family, ModelConfig, context_length};
use crate::engine::error::ModelError;
use crate::engine::weights::gguf::invalid;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::safetensors::read_folder;

mod check;
mod rope;

pub(in crate::engine::model) use check::{check_task, unknown_rope_keys};

/// The keys of `config.json` that the engine reads.
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
    /// transformers 5 merges `rope_theta` and `rope_scaling` into this object.
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f64>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    /// Gemma's name of `hidden_act`; takes precedence.
    hidden_activation: Option<String>,
    final_logit_softcapping: Option<f64>,
}

/// Sets the default of each missing key, from the configuration classes of transformers. `null` is kept: it differs.
fn fill_in(config: &mut Map<String, Value>, family: Family, model_type: &str) {
    let mut absent = |key: &str, value: Value| {
        config.entry(key).or_insert(value);
    };
    match family {
        Family::Llama if model_type == "mistral" => {
            absent("sliding_window", json!(4096));
            absent("num_key_value_heads", json!(8));
            absent("max_position_embeddings", json!(131_072));
        }
        Family::Llama => absent("max_position_embeddings", json!(2048)),
        Family::Qwen2 | Family::Qwen3 => {
            absent("sliding_window", json!(4096));
            absent("max_window_layers", json!(28));
            absent("num_key_value_heads", json!(32));
            absent("max_position_embeddings", json!(32_768));
            if family == Family::Qwen3 {
                absent("head_dim", json!(128));
            }
        }
        Family::Gemma3 => {
            let numbers = [
                ("hidden_size", 2304),
                ("intermediate_size", 9216),
                ("num_hidden_layers", 26),
                ("num_attention_heads", 8),
                ("num_key_value_heads", 4),
                ("head_dim", 256),
                ("query_pre_attn_scalar", 256),
                ("sliding_window", 4096),
                ("max_position_embeddings", 131_072),
            ];
            numbers.into_iter().for_each(|(key, value)| absent(key, json!(value)));
            absent("rope_theta", json!(1e6));
            absent("hidden_activation", json!("gelu_pytorch_tanh"));
        }
        Family::Phi3 => {
            absent("max_position_embeddings", json!(4096));
            absent("rms_norm_eps", json!(1e-5));
        }
    }
}

pub(super) fn config(
    folder: &Path,
    json: Value,
    asked: Option<usize>,
) -> Result<(ModelConfig, TensorPlan), ModelError> {
    let path = folder.join(CONFIG_FILE);
    let Value::Object(whole) = json else {
        return Err(no_description(&path, "it is not an object"));
    };
    check_task(&path, &whole)?;
    let (mut json, tied_outside) = language_part(whole);
    let model_type = json.get("model_type").and_then(Value::as_str).filter(|name| !name.is_empty());
    let model_type = model_type.ok_or_else(|| no_description(&path, "it has no \"model_type\""))?.to_owned();
    let family = Family::named(&model_type)?;
    check::check_arithmetic(&path, &json, family)?;
    tidy(&mut json);
    fill_in(&mut json, family, &model_type);
    let raw: Raw = serde_json::from_value(Value::Object(json.clone())).map_err(|error| no_description(&path, error))?;
    let mut plan = read_folder(folder, family == Family::Gemma3)?;
    check::check_biases(&path, &json, family, &mut plan)?;
    let config = raw.config(&path, family, &plan, tied_outside, asked)?;
    check::check_vocabulary(&path, &json, config.vocab_size)?;
    plan.warnings.extend(check::about_output(&json, tied_outside, family, &plan));
    plan.warnings.extend(unknown_rope_keys(&json));
    Ok((config, plan))
}

/// Converts integers that are written as floats (`4096.0`), and renames a key that has two names.
fn tidy(config: &mut Map<String, Value>) {
    if let Some(pattern) = config.remove("_sliding_window_pattern") {
        config.entry("sliding_window_pattern").or_insert(pattern);
    }
    for value in config.values_mut() {
        let whole =
            value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && (0.0..1e15).contains(number));
        if let Some(whole) = whole {
            *value = json!(whole as u64);
        }
    }
}

/// Error for a `config.json` with a required key missing or of the wrong type.
fn no_description(path: &Path, what: impl std::fmt::Display) -> ModelError {
    invalid(
        path,
        format!(
            "this file describes the model to every program that loads it, but {what}; replace it by the config.json of the \
             repository that the model comes from"
        ),
    )
}

/// The keys of the language model, and `tie_word_embeddings` of the top level. Vision models nest the language model's
/// keys in `text_config`.
fn language_part(config: Map<String, Value>) -> (Map<String, Value>, Option<bool>) {
    let tied = config.get("tie_word_embeddings").and_then(Value::as_bool);
    let Some(Value::Object(text)) = config.get("text_config") else { return (config, tied) };
    let mut text = text.clone();
    let outside = match config.get("model_type").and_then(Value::as_str) {
        Some("mistral3") => "mistral",
        other => other.unwrap_or_default(),
    };
    text.entry("model_type").or_insert_with(|| outside.into());
    for key in check::QUANTISED {
        if let Some(quantised) = config.get(key) {
            text.entry(key).or_insert_with(|| quantised.clone());
        }
    }
    (text, tied)
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
        let heads = self.num_attention_heads.unwrap_or(32);
        let head_dim = self.head_dim.unwrap_or(self.hidden_size.checked_div(heads).unwrap_or(0));
        let trained = self.trained_context(path)?;
        let context_length = context_length(asked, trained)?;
        let silent_tie = plan.get("output.weight").is_none();
        let ropes = self.ropes(path, gemma, head_dim, context_length)?;
        let scale_width = self.query_pre_attn_scalar.filter(|_| gemma).unwrap_or(head_dim as f64);
        Ok(ModelConfig {
            family,
            vocab_size: plan.get("token_embd.weight").map_or(0, |t| t.rows),
            hidden: self.hidden_size,
            feed_forward: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            trained_context_length: trained,
            context_length,
            norm_epsilon: self.rms_norm_eps.unwrap_or(1e-6) as f32,
            norm_offset: if gemma { 1.0 } else { 0.0 },
            activation: self.activation(path)?,
            rope: ropes.global,
            short_rope: ropes.short,
            local_rope: ropes.local,
            windows: self.windows(path, family)?,
            attention_scale: scale_width.sqrt().recip() as f32,
            embedding_scale: if gemma { (self.hidden_size as f32).sqrt() } else { 1.0 },
            logit_softcap: self.final_logit_softcapping.filter(|cap| gemma && *cap > 0.0).map(|cap| cap as f32),
            tied: silent_tie || self.tie_word_embeddings.or(tied_outside).unwrap_or(gemma),
            architecture: self.model_type,
        })
    }

    fn activation(&self, path: &Path) -> Result<Activation, ModelError> {
        match self.hidden_activation.as_deref().or(self.hidden_act.as_deref()) {
            // Three names of the same approximation.
            Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Ok(Activation::GeluTanh),
            None | Some("silu" | "swish") => Ok(Activation::Silu),
            Some(other) => {
                Err(ModelError::Unsupported(format!("{}: the activation {other:?} is not supported", path.display())))
            }
        }
    }

    /// The sliding window of each layer by the rule of its family; `None`: full attention.
    fn windows(&self, path: &Path, family: Family) -> Result<Vec<Option<usize>>, ModelError> {
        let layers = self.num_hidden_layers.min(1024);
        if let Some(listed) = self.layer_types.as_ref().filter(|_| !matches!(family, Family::Llama | Family::Phi3)) {
            check::check_layer_types(path, listed, layers)?;
        }
        let window = self.sliding_window.filter(|w| *w > 0);
        let pattern = self.sliding_window_pattern.filter(|p| *p > 0).unwrap_or(6);
        let listed = |layer: usize| Some(self.layer_types.as_ref()?.get(layer)? == "sliding_attention");
        let local = |layer: usize| match family {
            Family::Gemma3 => listed(layer).unwrap_or(!(layer + 1).is_multiple_of(pattern)),
            Family::Qwen2 | Family::Qwen3 => {
                let deep = layer >= self.max_window_layers.unwrap_or(layers);
                self.use_sliding_window == Some(true) && listed(layer).unwrap_or(deep)
            }
            Family::Llama => self.model_type == "mistral",
            Family::Phi3 => true,
        };
        Ok((0..layers).map(|layer| window.filter(|_| local(layer))).collect())
    }
}
