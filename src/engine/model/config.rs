//! What a model is, independent of file format and device: everything that a forward pass must know besides weights.
//!
//! Made from GGUF metadata (`gguf`) or `config.json` (`huggingface`); both are checked here, once, so that a device's
//! code can trust every number.

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

/// The file of a safetensors folder that describes the model.
pub(super) const CONFIG_FILE: &str = "config.json";

/// `config.json` of a safetensors folder, unchecked.
pub fn read_folder_config(folder: &Path) -> Result<Value, ModelError> {
    read_json(&folder.join(CONFIG_FILE))
}

pub(super) use huggingface::{check_task, unknown_rope_keys};

/// The families that our own forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 to 3.3, SmolLM2, TinyLlama, Mistral.
    Llama,
    /// Qwen 2 and 2.5: biases on Q, K and V.
    Qwen2,
    /// Qwen 3: a norm on each head of Q and K.
    Qwen3,
    /// Gemma 3 (text): norms after attention and feed-forward too, GELU, windows on five layers of six.
    Gemma3,
    /// Phi 3 and 4: Q, K, V in one matrix, gate and up in one.
    Phi3,
}

/// Names by which files call the families: `general.architecture` and `model_type`.
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

/// The families that candle runs, as `model_type` names them.
pub(super) const CANDLE_FAMILIES: [&str; 10] =
    ["gemma", "gemma2", "glm4", "granite", "granitemoehybrid", "olmo", "olmo2", "smollm3", "stablelm", "starcoder2"];

impl Family {
    /// The family of an architecture's name, or an error that lists the known names.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family).ok_or_else(|| {
            let known: Vec<_> = FAMILIES.iter().map(|(known, _)| *known).collect();
            ModelError::Unsupported(format!(
                "the architecture {name:?} is not supported; chatnap knows {}, and as safetensors folders {}",
                known.join(", "),
                CANDLE_FAMILIES.join(", ")
            ))
        })
    }
}

/// The gate's function in the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// How heads turn in sequences that stay within what the model was first made for (LongRoPE).
#[derive(Clone, Debug, PartialEq)]
pub struct ShortRope {
    /// As many dimensions as the rope of longer sequences.
    pub rope: Rope,
    /// Positions of the longest such sequence.
    pub positions: usize,
}

/// One model's shape and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Which forward pass.
    pub family: Family,
    /// The name that the file uses.
    pub architecture: String,
    /// Rows of the embedding, logits a position.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width within the feed-forward part.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads a layer.
    pub heads: usize,
    /// Key and value heads a layer; divides `heads`.
    pub kv_heads: usize,
    /// Elements a head; need not be `hidden / heads`.
    pub head_dim: usize,
    /// Positions that the model was made for.
    pub trained_context_length: usize,
    /// Positions that the KV cache shall hold.
    pub context_length: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_epsilon: f32,
    /// Added to every norm's weight (Gemma's safetensors store w - 1).
    pub norm_offset: f32,
    /// The gate's function.
    pub activation: Activation,
    /// Positions, on layers without a window.
    pub rope: Rope,
    /// The same for sequences that end early, where the model has other positions for them.
    pub short_rope: Option<ShortRope>,
    /// Positions on layers with a window, where they differ.
    pub local_rope: Option<Rope>,
    /// For each layer: how many keys back a query sees, itself included; `None`: all.
    pub windows: Vec<Option<usize>>,
    /// Multiplies Q·K.
    pub attention_scale: f32,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// Logits x are bent to c · tanh(x / c).
    pub logit_softcap: Option<f32>,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
}

/// Parts of a layer that the forward pass of every family reads where they are; of some families it reads more.
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
    /// From a GGUF header, with the plan of its tensors. `context_length`: what the user asked for.
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

    /// How a layer's heads are turned.
    pub fn layer_rope(&self, layer: usize) -> &Rope {
        match (&self.local_rope, self.windows[layer]) {
            (Some(local), Some(_)) => local,
            _ => &self.rope,
        }
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The matrix that turns the last hidden state into logits.
    pub fn output_name(&self) -> &'static str {
        if self.tied { "token_embd.weight" } else { "output.weight" }
    }

    /// Numbers that agree with each other, and every tensor there with the shape that they imply. Matrices that a
    /// file stores as one are split into Q, K, V and gate, up: their rows lie one after the other, so this moves nothing.
    /// `layers_key` tells the number of layers, for messages.
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

    /// Whether the forward pass reads the tensor `name`. Others of a file would be left out of the answers.
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

    /// Refuses a file with tensors that would be left out of the answers.
    fn check_unread(&self, plan: &mut TensorPlan, layers_key: &str) -> Result<(), ModelError> {
        // Read where the rope is made, and the second output matrix of a model that ties it.
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
        Err(plan.invalid("it holds no embeddings: it may be a vocabulary without a model, or one part of one"))
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

/// The context to use: what was asked for, if the model was made for that many positions.
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
