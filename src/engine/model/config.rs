//! `ModelConfig`: shape and constants of a model, independent of file format and device.
//!
//! Parsed from GGUF metadata (`gguf`) or `config.json` (`huggingface`). Both are validated here, once, so that device
//! code can rely on every value.

use std::path::Path;

use serde_json::Value;

use super::DEFAULT_CONTEXT_LENGTH;
use super::rope::Rope;
use crate::engine::error::ModelError;
use crate::engine::weights::gguf::Header;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::safetensors::read_json;
use crate::engine::weights::unused_tensors;

mod gguf;
mod huggingface;

/// File name of the model description in a safetensors folder.
pub(super) const CONFIG_FILE: &str = "config.json";

/// Reads `config.json` of a safetensors folder as JSON, without validation.
pub fn read_folder_config(folder: &Path) -> Result<Value, ModelError> {
    read_json(&folder.join(CONFIG_FILE))
}

pub(super) use huggingface::{check_task, unknown_rope_keys};

/// The families with a native forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 to 3.3, SmolLM2, TinyLlama, Mistral.
    Llama,
    /// Qwen 2 and 2.5: biases on Q, K and V.
    Qwen2,
    /// Qwen 3: a norm on each head of Q and K.
    Qwen3,
    /// Gemma 3 (text): norms also after attention and feed-forward, GELU, sliding windows on five of six layers.
    Gemma3,
    /// Phi 3 and 4: Q, K, V in one matrix, gate and up in one.
    Phi3,
}

/// Family of each architecture name in files (`general.architecture`, `model_type`).
const FAMILIES: [(&str, Family); 8] = [
    ("llama", Family::Llama),
    ("mistral", Family::Llama),
    ("mistral3", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("gemma3", Family::Gemma3),
    ("gemma3_text", Family::Gemma3),
    ("phi3", Family::Phi3),
];

/// `model_type` of the families that run on candle.
pub(super) const CANDLE_FAMILIES: [&str; 10] =
    ["gemma", "gemma2", "glm4", "granite", "granitemoehybrid", "olmo", "olmo2", "smollm3", "stablelm", "starcoder2"];

impl Family {
    /// The family of an architecture name; the error lists the supported names.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family).ok_or_else(|| {
            let known: Vec<_> = FAMILIES.iter().map(|(known, _)| *known).collect();
            ModelError::Unsupported(format!(
                "the architecture {name:?} is not supported; supported are {}, and as safetensors folders {}",
                known.join(", "),
                CANDLE_FAMILIES.join(", ")
            ))
        })
    }
}

/// Activation function of the feed-forward gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU, tanh approximation.
    GeluTanh,
}

/// RoPE for sequences within the original context length of a LongRoPE model.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortRope {
    /// Has as many dimensions as the RoPE of longer sequences.
    pub rope: Rope,
    /// Maximum length of such a sequence, in positions.
    pub positions: usize,
}

/// Shape and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Selects the variant of the forward pass.
    pub family: Family,
    /// Architecture name in the file.
    pub architecture: String,
    /// Rows of the embedding; logits per position.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Key and value heads per layer; divides `heads`.
    pub kv_heads: usize,
    /// Elements per head; can differ from `hidden / heads`.
    pub head_dim: usize,
    /// Context length of the training, in positions.
    pub trained_context_length: usize,
    /// Capacity of the KV cache, in positions.
    pub context_length: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_epsilon: f32,
    /// Added to every norm's weight (Gemma's safetensors store w - 1).
    pub norm_offset: f32,
    /// Activation function of the feed-forward gate.
    pub activation: Activation,
    /// RoPE of layers without a window.
    pub rope: Rope,
    /// RoPE of short sequences, if it differs (LongRoPE).
    pub short_rope: Option<ShortRope>,
    /// RoPE of layers with a window, if it differs.
    pub local_rope: Option<Rope>,
    /// For each layer: keys that a query attends to, its own included; `None`: all.
    pub windows: Vec<Option<usize>>,
    /// Factor on Q·K.
    pub attention_scale: f32,
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// Soft cap c: logits x become c · tanh(x / c).
    pub logit_softcap: Option<f32>,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
}

/// Tensors of a layer that the forward pass reads, if present, for every family. Some families have more.
const LAYER_TENSORS: [&str; 16] = [
    "attn_norm.weight",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_gate.bias",
    "ffn_up.weight",
    "ffn_up.bias",
    "ffn_down.weight",
    "ffn_down.bias",
];

impl ModelConfig {
    /// From a GGUF header, with the plan of its tensors. `context_length`: set by the user, in positions.
    pub fn from_gguf(header: &Header, context_length: Option<usize>) -> Result<(Self, TensorPlan), ModelError> {
        let mut plan = TensorPlan::from_gguf(header)?;
        let config = gguf::config(header, &mut plan, context_length)?;
        let layers_key = format!("{}.block_count", config.architecture);
        config.checked(plan, &layers_key)
    }

    /// From a folder's `config.json`, with the plan of its tensors.
    pub fn from_folder(
        folder: &Path,
        json: Value,
        context_length: Option<usize>,
    ) -> Result<(Self, TensorPlan), ModelError> {
        let (config, plan) = huggingface::config(folder, json, context_length)?;
        config.checked(plan, "num_hidden_layers")
    }

    /// The RoPE of a layer.
    pub fn layer_rope(&self, layer: usize) -> &Rope {
        match (&self.local_rope, self.windows[layer]) {
            (Some(local), Some(_)) => local,
            _ => &self.rope,
        }
    }

    /// Query heads per KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Name of the matrix that maps the last hidden state to logits.
    pub fn output_name(&self) -> &'static str {
        if self.tied { "token_embd.weight" } else { "output.weight" }
    }

    /// Checks that the values are consistent and that every tensor exists with the implied shape. Fused matrices are
    /// split into Q, K, V and gate, up: their rows are contiguous, so no data is moved. `layers_key` is the file's key
    /// for the number of layers, for messages.
    fn checked(self, mut plan: TensorPlan, layers_key: &str) -> Result<(Self, TensorPlan), ModelError> {
        self.check_embeddings(&plan)?;
        self.check_numbers(&plan)?;
        let (q, kv, ff) = (self.heads * self.head_dim, self.kv_heads * self.head_dim, self.feed_forward);
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            plan.split(&name("attn_qkv"), &[(name("attn_q"), q), (name("attn_k"), kv), (name("attn_v"), kv)])?;
            if plan.get(&name("ffn_gate.weight")).is_none() {
                plan.split(&name("ffn_up"), &[(name("ffn_gate"), ff), (name("ffn_up"), ff)])?;
            }
        }
        self.check_unread(&mut plan, layers_key)?;
        self.check_tensors(&plan)?;
        Ok((self, plan))
    }

    /// Whether the forward pass reads the tensor `name`.
    pub fn reads(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix("blk.") else {
            return matches!(name, "token_embd.weight" | "output_norm.weight")
                || (name == "output.weight" && !self.tied);
        };
        let Some((layer, part)) = rest.split_once('.') else { return false };
        let of_family = match part {
            "attn_q_norm.weight" | "attn_k_norm.weight" => matches!(self.family, Family::Qwen3 | Family::Gemma3),
            "post_attention_norm.weight" | "post_ffw_norm.weight" => self.family == Family::Gemma3,
            part => LAYER_TENSORS.contains(&part),
        };
        of_family && layer.parse::<usize>().is_ok_and(|layer| layer < self.layers)
    }

    /// Rejects a file with tensors that the forward pass would ignore, which would make answers wrong.
    fn check_unread(&self, plan: &mut TensorPlan, layers_key: &str) -> Result<(), ModelError> {
        // Read when the RoPE is built, and the unused output matrix of a tied model.
        let elsewhere = |name: &str| {
            matches!(name, "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight")
                || (name == "output.weight" && self.tied)
        };
        let unread =
            plan.tensors.keys().chain(plan.unreadable.keys()).filter(|name| !self.reads(name) && !elsewhere(name));
        let unread: Vec<_> = unread.chain(&plan.strange).map(String::as_str).collect();
        let warning = unused_tensors::check(plan, unread, self.layers, layers_key)?;
        plan.warnings.extend(warning);
        Ok(())
    }

    fn check_embeddings(&self, plan: &TensorPlan) -> Result<(), ModelError> {
        if self.vocab_size > 0 {
            return Ok(());
        }
        if plan.unreadable.contains_key("token_embd.weight") {
            return Err(plan.missing("token_embd.weight"));
        }
        Err(plan.invalid("it has no embeddings: it may be a vocabulary without a model, or part of a split model"))
    }

    fn check_numbers(&self, plan: &TensorPlan) -> Result<(), ModelError> {
        let bound = |name: &str, value: usize, most: usize| {
            if value == 0 || value > most {
                return Err(plan.invalid(format!("{name} is {value}; 1 to {most} was expected")));
            }
            Ok(())
        };
        bound("the number of layers", self.layers, 1024)?;
        bound("the width of the model", self.hidden, 1 << 20)?;
        bound("the width of the feed-forward part", self.feed_forward, 1 << 22)?;
        bound("the number of heads", self.heads, 1 << 12)?;
        bound("the number of key heads", self.kv_heads, self.heads)?;
        bound("the width of a head", self.head_dim, 1 << 12)?;
        bound("the vocabulary", self.vocab_size, 1 << 24)?;
        bound("the context length", self.trained_context_length, 1 << 26)?;
        let says = |what: &str| Err(plan.invalid(what));
        if !self.heads.is_multiple_of(self.kv_heads) {
            return says("the number of heads is not a multiple of the number of key heads");
        }
        if self.rope.dims() == 0 || self.rope.dims() > self.head_dim {
            return says("the rope dimensions do not fit the width of a head");
        }
        if !(self.norm_epsilon >= 0.0 && self.norm_epsilon < 1.0) {
            return says("the epsilon of the norms is not between 0 and 1");
        }
        let others = self.local_rope.iter().chain(self.short_rope.iter().map(|short| &short.rope));
        let sound = |f: &f64| f.is_finite() && *f > 0.0 && *f <= 1e6;
        let mut ropes = std::iter::once(&self.rope).chain(others);
        if !ropes.all(|rope| rope.frequencies.iter().all(sound) && rope.attention_factor.is_finite()) {
            return says("the rope frequencies are not finite positive numbers");
        }
        Ok(())
    }

    fn check_tensors(&self, plan: &TensorPlan) -> Result<(), ModelError> {
        let (hidden, ff, dim) = (self.hidden, self.feed_forward, self.head_dim);
        let (q, kv) = (self.heads * dim, self.kv_heads * dim);
        plan.require("token_embd.weight", self.vocab_size, hidden)?;
        plan.require("output_norm.weight", 1, hidden)?;
        plan.require(self.output_name(), self.vocab_size, hidden)?;
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let need = |part: &str, rows, cols| plan.require(&name(part), rows, cols).map(drop);
            let may = |part: &str, cols| plan.optional(&name(part), 1, cols).map(drop);
            need("attn_norm.weight", 1, hidden)?;
            need("ffn_norm.weight", 1, hidden)?;
            need("attn_q.weight", q, hidden)?;
            need("attn_k.weight", kv, hidden)?;
            need("attn_v.weight", kv, hidden)?;
            need("attn_output.weight", hidden, q)?;
            need("ffn_gate.weight", ff, hidden)?;
            need("ffn_up.weight", ff, hidden)?;
            need("ffn_down.weight", hidden, ff)?;
            may("attn_q.bias", q)?;
            may("attn_k.bias", kv)?;
            may("attn_v.bias", kv)?;
            may("attn_output.bias", hidden)?;
            may("ffn_gate.bias", ff)?;
            may("ffn_up.bias", ff)?;
            may("ffn_down.bias", hidden)?;
            if matches!(self.family, Family::Qwen3 | Family::Gemma3) {
                need("attn_q_norm.weight", 1, dim)?;
                need("attn_k_norm.weight", 1, dim)?;
            }
            if self.family == Family::Gemma3 {
                need("post_attention_norm.weight", 1, hidden)?;
                need("post_ffw_norm.weight", 1, hidden)?;
            }
        }
        Ok(())
    }
}

/// The context length to use: the one asked for, at most `trained`; by default `DEFAULT_CONTEXT_LENGTH` or `trained`.
pub(super) fn context_length(asked: Option<usize>, trained: usize) -> Result<usize, ModelError> {
    match asked {
        Some(0) => Err(ModelError::Unsupported("a context of 0 positions holds nothing; ask for at least 1".into())),
        Some(asked) if asked > trained => Err(ModelError::Unsupported(format!(
            "a context of {asked} positions was asked for, but this model was made for {trained}; \
             use --context-length {trained} or less"
        ))),
        Some(asked) => Ok(asked),
        None => Ok(trained.min(DEFAULT_CONTEXT_LENGTH)),
    }
}
