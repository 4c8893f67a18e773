//! Rejects a `config.json` that changes the arithmetic in unsupported ways, and detects contradictions between it and
//! the tensors.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Family, TensorPlan};
use crate::engine::error::ModelError;
use crate::engine::weights::gguf::invalid;
use crate::engine::weights::reader::same_bytes;

/// Keys that describe quantised weights.
pub(super) const QUANTISED: [&str; 2] = ["quantization_config", "compression_config"];

/// Suffixes of class names of models that do not generate text.
const OTHER_TASKS: [&str; 5] = [
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForRewardModel",
];

/// Keys of RoPE objects that are supported, or that do not affect a text model.
const ROPE_KEYS: [&str; 20] = [
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "low_freq_factor",
    "high_freq_factor",
    "short_factor",
    "long_factor",
    "short_mscale",
    "long_mscale",
    "partial_rotary_factor",
    "mrope_section",
    "finetuned",
];

fn unsupported(path: &Path, what: impl std::fmt::Display) -> ModelError {
    ModelError::Unsupported(invalid(path, what).to_string())
}

/// Rejects models that do not generate text: classifiers, and models with bidirectional attention.
pub(in crate::engine::model) fn check_task(path: &Path, config: &Map<String, Value>) -> Result<(), ModelError> {
    let classes = config.get("architectures").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for class in classes {
        if OTHER_TASKS.iter().any(|end| class.ends_with(end)) {
            return Err(unsupported(path, format!("a {class} does not generate text; chatnap does not run it")));
        }
    }
    let text = config.get("text_config").and_then(Value::as_object);
    for part in [Some(config), text].into_iter().flatten() {
        let is = |key: &str, wanted: bool| part.get(key).and_then(Value::as_bool) == Some(wanted);
        if is("use_bidirectional_attention", true) || is("is_causal", false) {
            return Err(unsupported(
                path,
                "a model with bidirectional attention does not generate text; chatnap does not run it",
            ));
        }
    }
    Ok(())
}

/// Rejects options that the forward pass does not implement.
pub(super) fn check_arithmetic(path: &Path, config: &Map<String, Value>, family: Family) -> Result<(), ModelError> {
    let given = |key: &str| config.get(key).filter(|value| !value.is_null());
    if QUANTISED.into_iter().any(|key| given(key).is_some()) {
        let folder = path.parent().unwrap_or(path);
        return Err(unsupported(
            folder,
            "quantised safetensors are not supported; use the unquantised folder or a GGUF file",
        ));
    }
    for (place, rope) in rope_objects(config) {
        if rope.get("llama_4_scaling_beta").and_then(Value::as_f64).is_some_and(|beta| beta != 0.0) {
            return Err(unsupported(path, format!("llama_4_scaling_beta in {place} is not supported")));
        }
        let numbers =
            ["rope_theta", "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"];
        let odd =
            numbers.into_iter().chain(["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]);
        if let Some(key) = odd.into_iter().find(|key| rope.get(*key).is_some_and(|v| !v.is_null() && !v.is_number())) {
            return Err(invalid(path, format!("{key} in {place} is {}, not a number", rope[key])));
        }
    }
    let partial = rope_objects(config).into_iter().map(|(_, rope)| rope).chain([config]);
    let partial = partial.filter_map(|part| part.get("partial_rotary_factor")?.as_f64());
    if let Some(factor) = partial.filter(|_| family != Family::Phi3).find(|factor| *factor != 1.0) {
        return Err(unsupported(
            path,
            format!("partial_rotary_factor is {factor}, but this family rotates whole heads"),
        ));
    }
    Ok(())
}

/// The RoPE objects, each with its key: one, or one per layer type.
fn rope_objects(config: &Map<String, Value>) -> Vec<(&'static str, &Map<String, Value>)> {
    let mut all = Vec::new();
    for place in ["rope_scaling", "rope_parameters"] {
        let Some(object) = config.get(place).and_then(Value::as_object) else { continue };
        let nested: Vec<_> =
            ["full_attention", "sliding_attention"].iter().filter_map(|kind| object.get(*kind)?.as_object()).collect();
        match nested.is_empty() {
            true => all.push((place, object)),
            false => all.extend(nested.into_iter().map(|object| (place, object))),
        }
    }
    all
}

/// A warning about unknown keys of RoPE objects; transformers warns too.
pub(in crate::engine::model) fn unknown_rope_keys(config: &Map<String, Value>) -> Option<String> {
    let objects = rope_objects(config);
    let keys = objects.iter().flat_map(|(place, object)| object.keys().map(move |key| (place, key)));
    let mut unknown: Vec<_> = keys
        .filter(|(_, key)| !ROPE_KEYS.contains(&key.as_str()))
        .map(|(place, key)| format!("{place}.{key}"))
        .collect();
    unknown.sort();
    unknown.dedup();
    let names = unknown.join(", ");
    (!unknown.is_empty())
        .then(|| format!("config.json has unknown keys about rotary positions, which are ignored: {names}"))
}

/// transformers reads a bias only if the configuration announces it. An unannounced bias is rejected, because it is
/// unknown whether the weights were trained with it.
pub(super) fn check_biases(
    path: &Path,
    config: &Map<String, Value>,
    family: Family,
    plan: &mut TensorPlan,
) -> Result<(), ModelError> {
    let says = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
    let mistral = config.get("model_type").and_then(Value::as_str) == Some("mistral");
    let attention = match family {
        Family::Phi3 => false,
        Family::Llama => says("attention_bias") && !mistral,
        _ => says("attention_bias"),
    };
    let mlp = family == Family::Llama && !mistral && says("mlp_bias");
    let announced = |part: &str| match part {
        "attn_q" | "attn_k" | "attn_v" => attention || family == Family::Qwen2,
        "attn_output" => attention && family != Family::Qwen2,
        "ffn_gate" | "ffn_up" | "ffn_down" => mlp,
        // Phi-3's fused matrix has no bias; biases of other tensors are checked with the unread tensors.
        other => other != "attn_qkv",
    };
    let part_of = |name: &str| -> Option<String> {
        name.strip_prefix("blk.")?.strip_suffix(".bias")?.split_once('.').map(|(_, part)| part.to_owned())
    };
    let parts: Vec<_> = plan.tensors.keys().filter_map(|name| Some((name, part_of(name)?))).collect();
    if let Some((name, _)) = parts.iter().find(|(_, part)| !announced(part)) {
        return Err(unsupported(
            path,
            format!(
                "the tensors have a bias ({name} by the name that GGUF gives it) that this file does not announce \
                 (attention_bias, mlp_bias), so it is unknown whether it belongs to the model; use the original folder"
            ),
        ));
    }
    let expected = ["attn_q", "attn_output", "ffn_gate"].into_iter().filter(|part| announced(part));
    for part in expected.filter(|part| !parts.iter().any(|(_, present)| present == part)).collect::<Vec<_>>() {
        plan.warnings
            .push(format!("config.json announces a bias ({part}) that the tensors do not have; it counts as 0"));
    }
    Ok(())
}

/// Checks that the embedding has `vocab_size` rows.
pub(super) fn check_vocabulary(path: &Path, config: &Map<String, Value>, rows: usize) -> Result<(), ModelError> {
    match config.get("vocab_size").and_then(Value::as_u64) {
        Some(said) if rows > 0 && said != rows as u64 => Err(invalid(
            path,
            format!("vocab_size is {said}, but the embedding has {rows} rows: this file belongs to other weights"),
        )),
        _ => Ok(()),
    }
}

/// A warning if the configuration and the tensors disagree about a separate output matrix.
pub(super) fn about_output(
    config: &Map<String, Value>,
    outside: Option<bool>,
    family: Family,
    plan: &TensorPlan,
) -> Option<String> {
    let tied =
        config.get("tie_word_embeddings").and_then(Value::as_bool).or(outside).unwrap_or(family == Family::Gemma3);
    match (plan.get("token_embd.weight"), plan.get("output.weight")) {
        (Some(_), None) if !tied => Some(
            "config.json says that the model has an output matrix of its own (tie_word_embeddings), and the files hold none: \
             the embedding is used"
                .into(),
        ),
        (Some(embedding), Some(output)) if tied && !same_bytes(plan, embedding, output) => Some(
            "config.json says that the output matrix is the embedding (tie_word_embeddings), and the files hold another one \
             (lm_head.weight): it is not used"
                .into(),
        ),
        _ => None,
    }
}

/// Checks that `layer_types` has a known type for each layer.
pub(super) fn check_layer_types(path: &Path, listed: &[String], layers: usize) -> Result<(), ModelError> {
    if listed.len() != layers {
        return Err(invalid(path, format!("layer_types has {} entries for {layers} layers", listed.len())));
    }
    match listed.iter().find(|kind| !matches!(kind.as_str(), "full_attention" | "sliding_attention")) {
        Some(kind) => Err(unsupported(path, format!("layers of the type {kind:?} are not supported"))),
        None => Ok(()),
    }
}
