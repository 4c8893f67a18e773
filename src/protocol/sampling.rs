//! Sampling values that are set apart from each other, and what a model's files and the catalogue recommend.

use std::fmt;

use serde::Deserialize;

use super::SamplingParams;

/// Sampling values, each of which may be unset: then a later source decides about it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "documented on SamplingParams")]
pub struct SamplingChoice {
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<usize>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    #[serde(skip)]
    pub seed: Option<u64>,
}

impl SamplingChoice {
    /// The values of `self`, and those of `other` that `self` leaves unset.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repeat_penalty: self.repeat_penalty.or(other.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(other.repeat_last_n),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
            seed: self.seed.or(other.seed),
        }
    }

    /// The values to sample with: `self`, then what is recommended, then the built-in defaults.
    pub fn resolve(&self, recommended: &Recommended) -> SamplingParams {
        let all = recommended.0.iter().fold(self.clone(), |all, (_, choice)| all.or(choice));
        let default = SamplingParams::default();
        SamplingParams {
            temperature: all.temperature.unwrap_or(default.temperature),
            top_k: all.top_k.unwrap_or(default.top_k),
            top_p: all.top_p.unwrap_or(default.top_p),
            min_p: all.min_p.unwrap_or(default.min_p),
            repeat_penalty: all.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: all.repeat_last_n.unwrap_or(default.repeat_last_n),
            frequency_penalty: all.frequency_penalty.unwrap_or(default.frequency_penalty),
            presence_penalty: all.presence_penalty.unwrap_or(default.presence_penalty),
            seed: all.seed,
        }
    }
}

impl From<SamplingParams> for SamplingChoice {
    fn from(params: SamplingParams) -> Self {
        Self {
            temperature: Some(params.temperature),
            top_k: Some(params.top_k),
            top_p: Some(params.top_p),
            min_p: Some(params.min_p),
            repeat_penalty: Some(params.repeat_penalty),
            repeat_last_n: Some(params.repeat_last_n),
            frequency_penalty: Some(params.frequency_penalty),
            presence_penalty: Some(params.presence_penalty),
            seed: params.seed,
        }
    }
}

/// Where recommended sampling values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingSource {
    /// `generation_config.json` of a safetensors folder.
    GenerationConfig,
    /// The keys `general.sampling.*` of a GGUF.
    Gguf,
    /// chatnap's catalogue of models.
    Catalogue,
}

impl fmt::Display for SamplingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GenerationConfig => "the model (generation_config.json)",
            Self::Gguf => "the model (GGUF)",
            Self::Catalogue => "catalogue",
        })
    }
}

/// Recommended sampling values by source; an earlier source beats a later one, value by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recommended(pub Vec<(SamplingSource, SamplingChoice)>);

impl Recommended {
    /// The values of one source.
    pub fn from(source: SamplingSource, choice: SamplingChoice) -> Self {
        let mut recommended = Self::default();
        recommended.add(source, choice);
        recommended
    }

    /// Adds a source below the others, unless it recommends nothing.
    pub fn add(&mut self, source: SamplingSource, choice: SamplingChoice) {
        if choice != SamplingChoice::default() {
            self.0.push((source, choice));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_from_the_first_source_that_has_it() {
        let mut recommended = Recommended::default();
        let own = SamplingChoice { temperature: Some(0.6), top_p: Some(0.9), ..SamplingChoice::default() };
        let listed = SamplingChoice { temperature: Some(0.2), top_k: Some(20), ..SamplingChoice::default() };
        recommended.add(SamplingSource::Gguf, own);
        recommended.add(SamplingSource::Catalogue, listed);
        let user = SamplingChoice { temperature: Some(1.5), seed: Some(7), ..SamplingChoice::default() };
        let used = user.resolve(&recommended);
        assert_eq!((used.temperature, used.top_p, used.top_k, used.min_p, used.seed), (1.5, 0.9, 20, 0.05, Some(7)));
        assert_eq!(SamplingChoice::default().resolve(&recommended).temperature, 0.6);
    }

    #[test]
    fn without_any_source_the_defaults_apply() {
        let mut none = Recommended::default();
        none.add(SamplingSource::Catalogue, SamplingChoice::default());
        assert_eq!(none, Recommended::default());
        assert_eq!(SamplingChoice::default().resolve(&none), SamplingParams::default());
        let all = SamplingParams { temperature: 0.0, seed: Some(1), ..SamplingParams::default() };
        assert_eq!(SamplingChoice::from(all.clone()).resolve(&none), all);
    }
}
