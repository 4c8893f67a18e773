//! RoPE parameters from `config.json`: one object, or one per layer type; keys of transformers 4 or 5.

use std::path::Path;

use serde_json::Value;

use super::Raw;
use crate::engine::error::ModelError;
use crate::engine::model::config::ShortRope;
use crate::engine::model::rope::{Rope, RopeLayout, RopeScaling};
use crate::engine::weights::gguf::invalid;

/// The RoPE of each layer type, and of short sequences.
pub(super) struct Ropes {
    pub global: Rope,
    pub short: Option<ShortRope>,
    pub local: Option<Rope>,
}

/// One RoPE object of the configuration, with the other values that its meaning depends on.
struct Described<'a> {
    path: &'a Path,
    object: Option<&'a Value>,
    /// Context length before scaling, if the configuration has it outside of the object.
    original: Option<usize>,
    /// `max_position_embeddings`.
    own: usize,
    dims: usize,
}

impl Raw {
    /// Trained context length in positions: `max_position_embeddings`, or its extension by YaRN.
    pub(super) fn trained_context(&self, path: &Path) -> Result<usize, ModelError> {
        let own = self.max_position_embeddings.ok_or_else(|| invalid(path, "max_position_embeddings is missing"))?;
        let described = self.described(path, "full_attention", 0);
        match (described.kind(), described.number("factor")) {
            (Some("yarn"), Some(factor)) if (1.0..1e4).contains(&factor) => {
                Ok(own.max((described.original() * factor) as usize))
            }
            _ => Ok(own),
        }
    }

    pub(super) fn ropes(&self, path: &Path, gemma: bool, head_dim: usize, context: usize) -> Result<Ropes, ModelError> {
        if [&self.rope_scaling, &self.rope_parameters].into_iter().flatten().any(|given| !given.is_object()) {
            return Err(invalid(path, "rope_scaling or rope_parameters is not an object"));
        }
        let of_kind = |kind: &str, base: f64| {
            let given = self.described(path, kind, 0);
            let base = given.number("rope_theta").unwrap_or(base);
            if !base.is_finite() || base <= 1.0 {
                return Err(invalid(path, format!("the rope base {base} is not a number above 1")));
            }
            let partial = self.partial_rotary_factor.or(given.number("partial_rotary_factor"));
            let dims = (head_dim.min(1 << 16) as f64 * partial.unwrap_or(1.0).clamp(0.0, 1.0)) as usize;
            Ok((base, self.described(path, kind, dims)))
        };
        let own_base = self.rope_theta.unwrap_or(1e4);
        let (base, global) = of_kind("full_attention", own_base)?;
        let rope = |described: &Described<'_>, base: f64, scaling: &RopeScaling| {
            Rope::new(RopeLayout::Neox, described.dims, base, scaling)
        };
        let (scaling, short) = match global.kind() {
            Some("longrope" | "su") => global.long_rope(context)?,
            _ => (global.scaling()?, None),
        };
        let short = short.map(|(scaling, positions)| ShortRope { rope: rope(&global, base, &scaling), positions });
        let nested = self.nested();
        let local = if gemma || nested {
            let default = if gemma { self.rope_local_base_freq.unwrap_or(1e4) } else { own_base };
            let (base, local) = of_kind("sliding_attention", default)?;
            // Without an object of their own these layers are not scaled.
            let scaling = if nested { local.scaling()? } else { RopeScaling::None };
            Some(rope(&local, base, &scaling))
        } else {
            None
        };
        Ok(Ropes { global: rope(&global, base, &scaling), short, local })
    }

    /// The object with the RoPE parameters: `rope_parameters` in transformers 5, `rope_scaling` in 4.
    fn rope_object(&self) -> Option<&Value> {
        [&self.rope_scaling, &self.rope_parameters].into_iter().flatten().find(|object| object.is_object())
    }

    /// Whether the configuration has an object per layer type.
    fn nested(&self) -> bool {
        self.rope_object().is_some_and(|all| {
            ["full_attention", "sliding_attention"].iter().any(|kind| all.get(kind).is_some_and(Value::is_object))
        })
    }

    fn described<'a>(&'a self, path: &'a Path, kind: &str, dims: usize) -> Described<'a> {
        let all = self.rope_object();
        let object = if self.nested() { all.and_then(|all| all.get(kind)) } else { all };
        // A single object does not apply to layers with a window (Gemma).
        let object = object.filter(|_| kind == "full_attention" || self.nested());
        let own = self.max_position_embeddings.unwrap_or(0);
        Described { path, object, original: self.original_max_position_embeddings, own, dims }
    }
}

impl Described<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        self.object?.get(key)?.as_f64()
    }

    /// A positive number. transformers treats absent, null and 0 alike.
    fn factor(&self, key: &str) -> Option<f64> {
        self.number(key).filter(|value| *value > 0.0)
    }

    fn need(&self, key: &str) -> Result<f64, ModelError> {
        self.factor(key).ok_or_else(|| invalid(self.path, format!("rope scaling has no positive {key:?}")))
    }

    fn kind(&self) -> Option<&str> {
        ["rope_type", "type"].iter().find_map(|key| self.object?.get(key)?.as_str())
    }

    /// Context length before scaling.
    fn original(&self) -> f64 {
        let outside = self.original.map(|given| given as f64);
        outside.or(self.factor("original_max_position_embeddings")).unwrap_or(self.own as f64)
    }

    fn scaling(&self) -> Result<RopeScaling, ModelError> {
        match self.kind() {
            // Dynamic NTK scaling starts beyond the trained context, which is our maximum.
            None | Some("default" | "dynamic") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: self.need("factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: self.need("factor")?,
                low: self.need("low_freq_factor")?,
                high: self.need("high_freq_factor")?,
                original_context: self.original(),
            }),
            Some("yarn") => {
                let factor = self.factor("factor").unwrap_or(self.own as f64 / self.original());
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context: self.original(),
                    beta_fast: self.factor("beta_fast").unwrap_or(32.0),
                    beta_slow: self.factor("beta_slow").unwrap_or(1.0),
                    rounded: self.object.and_then(|o| o.get("truncate")).and_then(Value::as_bool).unwrap_or(true),
                    attention_factor: self.number("attention_factor").or(self.yarn_mscale(factor)),
                })
            }
            Some(other) => Err(ModelError::Unsupported(format!(
                "{}: rope scaling {other:?} is not supported",
                self.path.display()
            ))),
        }
    }

    /// YaRN's attention factor for checkpoints that have `mscale` and `mscale_all_dim` instead.
    fn yarn_mscale(&self, factor: f64) -> Option<f64> {
        let temperature = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        Some(temperature(self.factor("mscale")?) / temperature(self.factor("mscale_all_dim")?))
    }

    /// `_compute_longrope_parameters`: the scaling for a context of `context` positions. If that exceeds the original
    /// context, also the scaling for sequences within the original one, with their maximum length.
    fn long_rope(&self, context: usize) -> Result<(RopeScaling, Option<(RopeScaling, usize)>), ModelError> {
        let original = self.original();
        let factor = self.factor("factor").unwrap_or(self.own as f64 / original);
        let computed = if factor > 1.0 { (1.0 + factor.ln() / original.ln()).sqrt() } else { 1.0 };
        let attention_factor = self.number("attention_factor").unwrap_or(computed);
        let of = |key: &str| {
            let numbers = self.object.and_then(|object| object.get(key)).and_then(Value::as_array);
            let divisors: Option<Vec<f64>> = numbers.and_then(|all| all.iter().map(Value::as_f64).collect());
            match divisors.filter(|all| all.len() == self.dims / 2) {
                Some(divisors) => Ok(RopeScaling::Divisors { divisors, attention_factor }),
                None => Err(invalid(self.path, format!("rope scaling needs {} numbers in {key:?}", self.dims / 2))),
            }
        };
        let short = of("short_factor")?;
        if context as f64 <= original {
            return Ok((short, None));
        }
        Ok((of("long_factor")?, Some((short, original as usize))))
    }
}
