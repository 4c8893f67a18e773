//! Tensors that a file has and the model would not read: what they mean for its answers.
//!
//! llama.cpp refuses such a file ("wrong number of tensors"); transformers leaves them out with a warning. Here a part of the
//! layers is refused, in both formats, and what stands beside them is left out with a warning.

use super::plan::TensorPlan;
use crate::engine::error::ModelError;

/// What an unread tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Computed anew by every program: nothing is lost.
    Derived,
    /// Of a part of the checkpoint that plain text does not go through.
    Beside,
    /// Of this layer.
    Layer(usize),
    /// Of the network itself, outside of the layers.
    Network,
    /// What a quantised layer is made of, by the method's name.
    Quantised(&'static str),
}

/// Parts of checkpoints that see, hear or guess ahead, and heads for other tasks than text.
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

/// Ends of names that methods of quantisation give to the parts of a matrix.
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

/// Looks at the tensors of `unread`, by the names of the files, of a model with so many `layers`, which `layers_key` tells.
/// Returns what the user should know of those that may be left out.
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
            "it holds {}, but {layers_key} is {layers}, so that the model would answer without a part of its layers; its \
             header or config.json was changed or belongs to another model: fetch it again",
            listed(&beyond)
        )));
    }
    let parts = of(&|role| matches!(role, Role::Layer(_) | Role::Network));
    if !parts.is_empty() {
        return Err(plan.unsupported(format!(
            "it holds {}, which a model of this architecture does not have, so that answers without it would be wrong; the \
             file is of another architecture than it says, or was converted wrongly",
            listed(&parts)
        )));
    }
    let beside = of(&|role| role == Role::Beside);
    Ok((!beside.is_empty())
        .then(|| format!("{} of the model's files is not used: chatnap reads and writes text", listed(&beside))))
}

/// The first name, and how many there are besides.
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
    // GGUF's encoders of images and sounds, and what carries their output over.
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
    fn names_tell_what_tensors_are() {
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
    fn parts_of_the_layers_are_refused_and_the_rest_is_told() {
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
