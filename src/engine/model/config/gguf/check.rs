//! Rejects GGUF metadata that change a model's arithmetic in unsupported ways, and warns about unknown keys.

use super::Keys;
use crate::engine::error::ModelError;
use crate::engine::weights::gguf::{Header, Value};
use crate::engine::weights::plan::TensorPlan;

/// Keys (after the architecture prefix) that must have one of these values or be absent.
const NEUTRAL: [(&str, &[f64]); 13] = [
    ("attention.causal", &[1.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.output_scale", &[0.0, 1.0]),
    ("attention.value_scale", &[0.0, 1.0]),
    ("attention.temperature_scale", &[0.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("use_parallel_residual", &[0.0]),
    ("rope.scaling.alpha", &[0.0, 1.0]),
    ("rope.scaling.yarn_log_multiplier", &[0.0]),
    ("rope.scaling.yarn_attn_factor", &[1.0]),
];

/// Keys for layers with a window that must equal those of the other layers.
const SAME: [(&str, &str); 3] = [
    ("attention.key_length_swa", "attention.key_length"),
    ("attention.value_length_swa", "attention.value_length"),
    ("rope.dimension_count_swa", "rope.dimension_count"),
];

/// Keys about attention and positions that are supported, or that do not affect a text model.
const KNOWN: [&str; 21] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.dimension_sections",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];

/// Rejects GGUF files that are not models: the output of llama.cpp's other tools.
pub(super) fn kind_of_file(header: &Header, plan: &TensorPlan) -> Result<(), ModelError> {
    let what = match header.metadata.string("general.type") {
        Some("adapter") => "a LoRA adapter, which is not a model by itself; merge it with its base model first",
        Some("mmproj") => "an image or audio projector (mmproj); name the file of the language model itself",
        Some("imatrix") => "an importance matrix, made for quantising; name the file of the model itself",
        _ => return Ok(()),
    };
    Err(plan.invalid(format!("this GGUF file is {what}")))
}

impl Keys<'_> {
    /// Rejects metadata that would make answers wrong. Returns warnings for the user.
    pub(super) fn check(&self) -> Result<Vec<String>, ModelError> {
        for (key, neutral) in NEUTRAL {
            if self.number(key).is_some_and(|value| !neutral.contains(&value)) {
                return Err(self.unfollowed(key));
            }
        }
        for (key, other) in SAME {
            if self.number(key).is_some_and(|value| self.number(other).is_some_and(|other| other != value)) {
                return Err(self.unfollowed(key));
            }
        }
        self.check_vocabulary()?;
        let mut warnings = Vec::new();
        let prefix = self.key("");
        let mut unknown: Vec<_> = self.header.metadata.values.keys().filter(|key| is_unknown(key, &prefix)).collect();
        unknown.sort_unstable();
        if !unknown.is_empty() {
            let names = unknown.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
            warnings
                .push(format!("the file has unknown keys about attention or positions, which are ignored: {names}"));
        }
        Ok(warnings)
    }

    /// A number, or a flag as 0 or 1; `None` if missing or of another type, which the key's own reader reports.
    fn number(&self, key: &str) -> Option<f64> {
        match self.header.metadata.values.get(&self.key(key))? {
            Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
            _ => self.header.metadata.float(&self.key(key)),
        }
    }

    fn unfollowed(&self, key: &str) -> ModelError {
        let value = self.number(key).unwrap_or_default();
        let key = self.key(key);
        self.plan
            .unsupported(format!("{key} is {value}, which is not supported, and answers would be wrong without it"))
    }

    /// Checks that the vocabulary has as many tokens as the embedding has rows.
    fn check_vocabulary(&self) -> Result<(), ModelError> {
        let tokens = self.header.metadata.strings("tokenizer.ggml.tokens").map(<[String]>::len);
        match (tokens, self.plan.get("token_embd.weight").map(|embedding| embedding.rows)) {
            (Some(tokens), Some(rows)) if tokens != rows => Err(self.plan.invalid(format!(
                "its vocabulary has {tokens} tokens and its embedding {rows} rows, so that they do not belong together; fetch \
                 it again or convert it anew"
            ))),
            _ => Ok(()),
        }
    }
}

fn is_unknown(key: &str, prefix: &str) -> bool {
    let Some(rest) = key.strip_prefix(prefix) else { return false };
    let known = KNOWN.contains(&rest)
        || NEUTRAL.iter().any(|(known, _)| *known == rest)
        || SAME.iter().any(|(known, _)| *known == rest);
    (rest.starts_with("rope.") || rest.starts_with("attention.")) && !known
}
