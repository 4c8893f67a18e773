//! Checks tensors that a file has and the model would not read.
//!
//! llama.cpp rejects such a file ("wrong number of tensors"); transformers skips the tensors with a warning. Here, in
//! both formats, a tensor of the network is an error, and one of an encoder or another head is skipped with a warning.

use super::plan::TensorPlan;
use crate::engine::error::ModelError;

/// The part of a checkpoint that an unread tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A buffer that is computed at load time, such as RoPE frequencies: ignored.
    Derived,
    /// An encoder, or a head for another task: skipped with a warning.
    Beside,
    /// The layer with this index: an error.
    Layer(usize),
    /// The network outside of the layers: an error.
    Network,
    /// A part of a quantised matrix, by the method's name: an error.
    Quantised(&'static str),
}

/// Prefixes of name components: encoders of images and audio, multi-token prediction, and heads for other tasks.
const BESIDE: [&str; 14] = [
    "vision",
    "visual",
    "image",
    "multi_modal",
    "mm_",
    "audio",
    "speech",
    "mtp",
    "v_head",
    "value_head",
    "score",
    "classifier",
    "reward",
    "summary",
];

/// Name suffixes of the parts of a quantised matrix, and the method that uses each.
const QUANTISED: [(&str, &str); 12] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".scales", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale", "FP8"),
    (".weight_scale_inv", "FP8"),
    (".input_scale", "FP8"),
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".biases", "MLX"),
];

/// Checks the tensors in `unread` (names as in the files) of a model with `layers` layers, a count from the key
/// `layers_key`. Returns a warning about those that are skipped.
pub fn check<'a>(
    plan: &TensorPlan,
    unread: impl IntoIterator<Item = &'a str>,
    layers: usize,
    layers_key: &str,
) -> Result<Option<String>, ModelError> {
    let mut unread: Vec<_> = unread.into_iter().map(|name| (role(name), name)).collect();
    unread.sort_by_key(|(_, name)| *name);
    let of = |wanted: &dyn Fn(Role) -> bool| -> Vec<&str> {
        unread.iter().filter(|(role, _)| wanted(*role)).map(|(_, name)| *name).collect()
    };
    if let Some((Role::Quantised(method), name)) = unread.iter().find(|(role, _)| matches!(role, Role::Quantised(_))) {
        return Err(plan.unsupported(format!(
            "tensor {name:?} is a part of a matrix quantised by {method}, which chatnap does not read; use the unquantised \
             folder or a GGUF file of the model"
        )));
    }
    let beyond = of(&|role| matches!(role, Role::Layer(layer) if layer >= layers));
    if !beyond.is_empty() {
        return Err(plan.invalid(format!(
            "it holds {}, but {layers_key} is {layers}, so that a part of the model's layers would not be used; its \
             header or config.json was changed or belongs to another model: fetch it again",
            listed(&beyond)
        )));
    }
    let parts = of(&|role| matches!(role, Role::Layer(_) | Role::Network));
    if !parts.is_empty() {
        return Err(plan.unsupported(format!(
            "it holds {}, which a model of this architecture does not have, so that answers without it would be wrong; the \
             file has another architecture than its header names, or was converted wrongly",
            listed(&parts)
        )));
    }
    let beside = of(&|role| role == Role::Beside);
    Ok((!beside.is_empty())
        .then(|| format!("{} of the model's files is not used: chatnap reads and writes text", listed(&beside))))
}

/// The first name and the number of the others.
fn listed(names: &[&str]) -> String {
    let first = names.first().copied().unwrap_or_default();
    match names.len() {
        0 | 1 => format!("the tensor {first:?}"),
        count => format!("the tensor {first:?} and {} more like it", count - 1),
    }
}

fn role(name: &str) -> Role {
    if let Some((_, method)) = QUANTISED.iter().find(|(end, _)| name.ends_with(end)) {
        return Role::Quantised(method);
    }
    let buffers =
        ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached", ".masked_bias", "position_ids"];
    if buffers.into_iter().any(|end| name.ends_with(end)) {
        return Role::Derived;
    }
    let beside = |part: &str| BESIDE.iter().any(|start| part.starts_with(start));
    // GGUF's encoders of images and audio, and their projectors.
    if ["v.", "a.", "mm."].iter().any(|start| name.starts_with(start)) || name.split('.').any(beside) {
        return Role::Beside;
    }
    let mut parts = name.split('.').skip_while(|part| !matches!(*part, "blk" | "layers"));
    match (parts.next(), parts.next().and_then(|layer| layer.parse().ok())) {
        (Some(_), Some(layer)) => Role::Layer(layer),
        _ => Role::Network,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn roles_follow_from_tensor_names() {
        for (name, expected) in [
            ("blk.7.attn_k.weight", Role::Layer(7)),
            ("model.layers.12.mlp.extra.weight", Role::Layer(12)),
            ("model.language_model.layers.3.x", Role::Layer(3)),
            ("output.bias", Role::Network),
            ("per_layer_token_embd.weight", Role::Network),
            ("model.embed_tokens_extra.weight", Role::Network),
            ("model.layers.0.self_attn.q_proj.qweight", Role::Quantised("GPTQ or AWQ")),
            ("model.layers.0.mlp.up_proj.weight_scale_inv", Role::Quantised("FP8")),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", Role::Derived),
            ("model.vision_tower.encoder.layers.3.x.weight", Role::Beside),
            ("multi_modal_projector.linear.weight", Role::Beside),
            ("v.blk.0.attn_q.weight", Role::Beside),
            ("mm.0.weight", Role::Beside),
            ("score.weight", Role::Beside),
        ] {
            assert_eq!(role(name), expected, "{name}");
        }
    }

    #[test]
    fn unread_layer_tensors_are_errors_and_encoders_are_a_warning() {
        let plan = TensorPlan::default();
        let say = |names: &[&str]| check(&plan, names.iter().copied(), 2, "block_count");
        assert_eq!(say(&["model.layers.1.self_attn.rotary_emb.inv_freq"]), Ok(None));
        let told = say(&["v.a", "v.b", "v.c"]).unwrap().unwrap();
        assert!(told.contains("\"v.a\" and 2 more"), "{told}");
        let beyond = say(&["blk.3.x", "blk.2.x", "v.a"]).unwrap_err().to_string();
        assert!(beyond.contains("\"blk.2.x\" and 1 more") && beyond.contains("block_count is 2"), "{beyond}");
        assert!(say(&["blk.1.x"]).unwrap_err().to_string().contains("another architecture"));
        assert!(say(&["blk.1.x.qweight"]).unwrap_err().to_string().contains("GPTQ"));
    }
}
