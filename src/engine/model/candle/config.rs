//! `config.json` of the candle families → validated shape, and the keys for candle's own `Config` types. Defaults are
//! those of transformers' `configuration_*.py`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::error::ModelError;
use crate::engine::model::config::{check_task, context_length, unknown_rope_keys};
use crate::engine::weights::gguf::invalid;

/// Numeric keys with a default.
const NUMBERS: [&str; 14] = [
    "rope_theta",
    "partial_rotary_factor",
    "rms_norm_eps",
    "layer_norm_eps",
    "norm_epsilon",
    "query_pre_attn_scalar",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "num_local_experts",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "clip_qkv",
];

/// Shape of a model, and candle's settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// One of `CANDLE_FAMILIES`.
    pub name: &'static str,
    /// Logits per position.
    pub vocab_size: usize,
    pub layers: usize,
    /// KV heads per layer.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Positions with correct results: the trained context length, or the sliding window if that is shorter.
    pub trained_context_length: usize,
    /// Capacity of the KV cache, in positions.
    pub context_length: usize,
    /// The union of the keys of candle's `Config` types.
    pub keys: Value,
    /// Warnings for the user about the file.
    pub warnings: Vec<String>,
}

impl Config {
    /// Validates `json`, the content of `config.json` at `path`, for the family `name`.
    pub(super) fn new(
        path: PathBuf,
        json: Value,
        name: &'static str,
        asked: Option<usize>,
    ) -> Result<Self, ModelError> {
        Raw { path, json, name }.config(asked)
    }

    /// Bytes of the KV cache with a full context.
    pub(super) fn cache_bytes(&self) -> u64 {
        [self.layers, self.kv_heads, self.head_dim, self.context_length, 2 * size_of::<f32>()]
            .into_iter()
            .fold(1_u64, |all, n| all.saturating_mul(n as u64))
    }

    /// Bytes of the RoPE tables and, for Granite, of the masks that candle caches: one byte per pair of positions.
    pub(super) fn workspace_bytes(&self) -> u64 {
        let context = self.context_length as u64;
        let masks = if self.name.starts_with("granite") { context.saturating_mul(context) / 2 } else { 0 };
        context.saturating_mul(2 * size_of::<f32>() as u64 * self.head_dim as u64).saturating_add(masks)
    }
}

/// The unvalidated file.
struct Raw {
    path: PathBuf,
    json: Value,
    name: &'static str,
}

impl Raw {
    fn config(self, asked: Option<usize>) -> Result<Config, ModelError> {
        self.refuse_what_candle_ignores()?;
        self.refuse_odd_numbers()?;
        let hidden = self.bounded("hidden_size", None, 1 << 20)?;
        let heads = self.bounded("num_attention_heads", None, 1 << 12)?;
        let kv_heads = self.bounded("num_key_value_heads", Some(heads), heads)?;
        let head_dim = self.head_dim(hidden, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.invalid("the number of heads is not a multiple of the number of key heads"));
        }
        let trained_context_length = self.trained_context()?;
        let context_length = context_length(asked, trained_context_length)?;
        let tied = self.flag("tie_word_embeddings", self.is(&["gemma", "gemma2", "smollm3", "starcoder2"]));
        if !tied && self.is(&["gemma", "gemma2", "granite", "granitemoehybrid", "starcoder2"]) {
            return Err(self.unsupported("an output matrix of its own (tie_word_embeddings false)"));
        }
        let (vocab_size, layers) =
            (self.bounded("vocab_size", None, 1 << 24)?, self.bounded("num_hidden_layers", None, 1024)?);
        let feed_forward = self.bounded("intermediate_size", None, 1 << 22)?;
        let mut keys = self.options()?;
        let numbers = json!({
            "vocab_size": vocab_size, "hidden_size": hidden, "intermediate_size": feed_forward,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "head_dim": head_dim, "max_position_embeddings": context_length, "tie_word_embeddings": tied,
            "shared_intermediate_size": self.bounded("shared_intermediate_size", Some(feed_forward), 1 << 22)?,
        });
        if let (Value::Object(keys), Value::Object(numbers)) = (&mut keys, numbers) {
            keys.extend(numbers);
        }
        let (name, warnings) = (self.name, self.json.as_object().and_then(unknown_rope_keys).into_iter().collect());
        Ok(Config {
            name,
            vocab_size,
            layers,
            kv_heads,
            head_dim,
            tied,
            trained_context_length,
            context_length,
            keys,
            warnings,
        })
    }

    /// The keys that are not part of the model's shape.
    fn options(&self) -> Result<Value, ModelError> {
        let gemma = self.is(&["gemma", "gemma2"]);
        let activation = self.activation(gemma)?;
        let rms_epsilon = match self.name {
            "glm4" => 1.5625e-7,
            "olmo2" => 1e-5,
            _ => 1e-6,
        };
        let rope_theta = self.rope_number("rope_theta", if self.name == "smollm3" { 2e6 } else { 1e4 });
        if !(rope_theta.is_finite() && rope_theta > 1.0) {
            return Err(self.invalid(format!("the rope base {rope_theta} is not a number above 1")));
        }
        let partial = self.rope_number("partial_rotary_factor", if self.name == "glm4" { 0.5 } else { 0.25 });
        if !(partial > 0.0 && partial <= 1.0) {
            return Err(self.invalid(format!("partial_rotary_factor is {partial}; 0 to 1 was expected")));
        }
        Ok(json!({
            "hidden_act": if gemma { Value::Null } else { json!(activation) },
            "hidden_activation": activation,
            "rope_theta": rope_theta,
            "partial_rotary_factor": partial,
            "rms_norm_eps": self.number("rms_norm_eps", rms_epsilon),
            "layer_norm_eps": self.number("layer_norm_eps", 1e-5),
            "norm_epsilon": self.number("norm_epsilon", 1e-5),
            "attention_bias": self.flag("attention_bias", false),
            "mlp_bias": self.flag("mlp_bias", false),
            "use_bias": self.flag("use_bias", true),
            "use_qkv_bias": self.flag("use_qkv_bias", false),
            "use_cache": true,
            "clip_qkv": self.json.get("clip_qkv"),
            "attn_logit_softcapping": self.json.get("attn_logit_softcapping").unwrap_or(&json!(50.0)),
            "final_logit_softcapping": self.json.get("final_logit_softcapping").unwrap_or(&json!(30.0)),
            "query_pre_attn_scalar": self.number("query_pre_attn_scalar", 256.0) as u64,
            "use_sliding_window": self.flag("use_sliding_window", false),
            "no_rope_layers": self.json.get("no_rope_layers"),
            "no_rope_layer_interval": self.bounded("no_rope_layer_interval", Some(4), 1024)?,
            "attention_multiplier": self.number("attention_multiplier", 1.0),
            "embedding_multiplier": self.number("embedding_multiplier", 1.0),
            "residual_multiplier": self.number("residual_multiplier", 1.0),
            "logits_scaling": self.number("logits_scaling", 1.0),
        }))
    }

    /// Rejects non-numeric values such as `NaN`: they would silently become the default.
    fn refuse_odd_numbers(&self) -> Result<(), ModelError> {
        let rope = self.json.get("rope_parameters");
        for key in NUMBERS {
            let given = [self.json.get(key), rope.and_then(|rope| rope.get(key))];
            if let Some(value) = given.into_iter().flatten().find(|value| !value.is_null() && !value.is_number()) {
                return Err(self.invalid(format!("{key} is {value}, not a number")));
            }
        }
        Ok(())
    }

    /// Rejects options that candle's code does not implement: it would ignore them and give wrong answers.
    fn refuse_what_candle_ignores(&self) -> Result<(), ModelError> {
        if let Some(json) = self.json.as_object() {
            check_task(&self.path, json)?;
        }
        let given = |key: &str| self.json.get(key).is_some_and(|value| !value.is_null());
        if given("quantization_config") || given("compression_config") {
            return Err(self.unsupported("quantised safetensors"));
        }
        for key in ["rope_scaling", "rope_parameters"] {
            let kind = ["rope_type", "type"].into_iter().find_map(|kind| self.json.get(key)?.get(kind)?.as_str());
            if kind.is_some_and(|kind| kind != "default") {
                return Err(self.unsupported(format!("rope scaling {:?}", kind.unwrap_or_default())));
            }
        }
        match self.name {
            "gemma2" if self.number("query_pre_attn_scalar", 256.0) != self.number("head_dim", 256.0) => {
                Err(self.unsupported("query_pre_attn_scalar other than head_dim"))
            }
            "stablelm" if self.flag("qk_layernorm", false) => Err(self.unsupported("qk_layernorm")),
            "stablelm" if self.flag("use_parallel_residual", false) => Err(self.unsupported("use_parallel_residual")),
            "granite" | "granitemoehybrid" => self.refuse_other_granites(),
            _ => Ok(()),
        }
    }

    fn refuse_other_granites(&self) -> Result<(), ModelError> {
        for key in ["attention_bias", "mlp_bias"] {
            if self.flag(key, false) {
                return Err(self.unsupported(key));
            }
        }
        if self.name == "granite" {
            return Ok(());
        }
        let attention = |kind: &Value| matches!(kind.as_str(), Some("attention" | "full_attention"));
        let layers = self.json.get("layer_types").and_then(Value::as_array);
        if !layers.is_some_and(|layers| layers.iter().all(attention)) {
            return Err(self.unsupported("a layer other than attention (Mamba)"));
        }
        if self.number("num_local_experts", 8.0) != 0.0 {
            return Err(self.unsupported("a mixture of experts"));
        }
        match self.json.get("position_embedding_type").and_then(Value::as_str) {
            Some("rope") => Ok(()),
            _ => Err(self.unsupported("attention without rotary positions")),
        }
    }

    /// Positions with correct results. Candle's masks ignore the sliding window, so the context must fit in it.
    fn trained_context(&self) -> Result<usize, ModelError> {
        let default = match self.name {
            "gemma" | "gemma2" => 8192,
            "glm4" => 131_072,
            "smollm3" => 32_768,
            "stablelm" | "starcoder2" => 4096,
            _ => 2048,
        };
        let own = self.bounded("max_position_embeddings", Some(default), 1 << 26)?;
        let window = match (self.name, self.json.get("sliding_window")) {
            ("gemma2", None) => Some(4096),
            ("gemma2" | "starcoder2", Some(window)) => window.as_u64(),
            _ => None,
        };
        Ok(window.filter(|window| *window > 0).map_or(own, |window| own.min(window as usize)))
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, ModelError> {
        let (default, free) = match self.name {
            "gemma" | "gemma2" => (256, true),
            "glm4" => (128, true),
            _ => (hidden / heads, false),
        };
        let dim = self.bounded("head_dim", Some(default), 1 << 12)?;
        if !dim.is_multiple_of(2) || !free && dim * heads != hidden {
            return Err(self.unsupported(format!("heads of {dim} numbers in a model of width {hidden}")));
        }
        Ok(dim)
    }

    fn activation(&self, gemma: bool) -> Result<&'static str, ModelError> {
        let tanh = self.is(&["gemma", "gemma2", "starcoder2"]);
        let stated = ["hidden_activation", "hidden_act"].into_iter().find_map(|key| self.json.get(key)?.as_str());
        match stated {
            None if tanh => Ok("gelu_pytorch_tanh"),
            Some("gelu_pytorch_tanh") if tanh => Ok("gelu_pytorch_tanh"),
            // The first Gemma files have `gelu` but were trained with its tanh approximation.
            Some("gelu") if gemma => Ok("gelu_pytorch_tanh"),
            Some("gelu") if tanh => Ok("gelu"),
            None | Some("silu" | "swish") if !tanh => Ok("silu"),
            Some(other) => Err(self.unsupported(format!("the activation {other:?}"))),
            None => Ok("silu"),
        }
    }

    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name)
    }

    fn bounded(&self, key: &str, default: Option<usize>, most: usize) -> Result<usize, ModelError> {
        let value = match self.json.get(key).filter(|value| !value.is_null()) {
            Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
            None => default,
        };
        match value {
            Some(value) if (1..=most).contains(&value) => Ok(value),
            Some(value) => Err(self.invalid(format!("{key} is {value}; 1 to {most} was expected"))),
            None => Err(self.invalid(format!("{key} is missing or not a number"))),
        }
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        self.json.get(key).and_then(Value::as_f64).unwrap_or(default)
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.json.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Reads a RoPE key, which transformers 5 stores in `rope_parameters`.
    fn rope_number(&self, key: &str, default: f64) -> f64 {
        let inner = self.json.get("rope_parameters").and_then(|rope| rope.get(key)).and_then(Value::as_f64);
        inner.unwrap_or_else(|| self.number(key, default))
    }

    fn invalid(&self, what: impl std::fmt::Display) -> ModelError {
        invalid(&self.path, what)
    }

    fn unsupported(&self, what: impl std::fmt::Display) -> ModelError {
        ModelError::Unsupported(format!("{}: {what} is not supported for {} models", self.path.display(), self.name))
    }
}
