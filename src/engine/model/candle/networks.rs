//! A common interface for candle's models: forward pass with the logits of the last token, and clearing the cache.

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    gemma, gemma2, glm4_new as glm4, granitemoehybrid as granite, olmo, olmo2, smol::smollm3, stable_lm, starcoder2,
};
use serde::de::DeserializeOwned;

use super::config::Config;
use super::weights::Weights;

/// A network with its KV cache, batch 1.
pub(super) trait Network: Send {
    /// Evaluates `tokens` (1 × n) at `position`, the end of the cache. Returns the logits of the last token.
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor>;

    /// Empties the cache.
    fn clear(&mut self) -> Result<()>;
}

/// Builds the network of a family from its weights.
pub(super) fn build(config: &Config, weights: Weights) -> Result<Box<dyn Network>> {
    let weights = weights.builder();
    Ok(match config.name {
        "gemma" => Box::new(gemma::Model::new(false, &settings(config)?, weights)?),
        "gemma2" => Box::new(gemma2::Model::new(false, &settings(config)?, weights)?),
        "glm4" => Box::new(glm4::ModelForCausalLM::new(&settings(config)?, weights)?),
        "granite" | "granitemoehybrid" => Box::new(Granite::new(config, weights)?),
        "olmo" => Box::new(olmo::Model::new(&settings(config)?, weights)?),
        "olmo2" => Box::new(olmo2::Model::new(&settings(config)?, weights)?),
        "smollm3" => Box::new(smollm3::ModelForCausalLM::new(&settings(config)?, weights)?),
        "stablelm" => Box::new(StableLm::new(settings(config)?, weights)?),
        "starcoder2" => Box::new(starcoder2::Model::new(&settings(config)?, weights)?),
        other => return Err(Error::Msg(format!("candle has no family {other}"))),
    })
}

fn settings<T: DeserializeOwned>(config: &Config) -> Result<T> {
    serde_json::from_value(config.keys.clone()).map_err(|error| Error::Msg(format!("config.json: {error}")))
}

macro_rules! clearable {
    ($($model:ty),* $(,)?) => {$(
        impl Network for $model {
            fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
                <$model>::forward(self, tokens, position)
            }

            fn clear(&mut self) -> Result<()> {
                self.clear_kv_cache();
                Ok(())
            }
        }
    )*};
}

clearable!(
    gemma::Model,
    gemma2::Model,
    glm4::ModelForCausalLM,
    olmo::Model,
    olmo2::Model,
    smollm3::ModelForCausalLM,
    starcoder2::Model,
);

/// Adapter: candle's Granite takes its cache as an argument.
struct Granite {
    model: granite::GraniteMoeHybrid,
    settings: granite::GraniteMoeHybridInternalConfig,
    cache: granite::GraniteMoeHybridCache,
}

impl Granite {
    fn new(config: &Config, weights: VarBuilder<'static>) -> Result<Self> {
        let settings: granite::GraniteMoeHybridConfig = settings(config)?;
        let settings = settings.into_config(false);
        let model = granite::GraniteMoeHybrid::load(weights, &settings)?;
        let cache = Self::cache(&settings)?;
        Ok(Self { model, settings, cache })
    }

    fn cache(settings: &granite::GraniteMoeHybridInternalConfig) -> Result<granite::GraniteMoeHybridCache> {
        granite::GraniteMoeHybridCache::new(true, DType::F32, settings, &Device::Cpu)
    }
}

impl Network for Granite {
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        self.model.forward(tokens, position, &mut self.cache)
    }

    fn clear(&mut self) -> Result<()> {
        self.cache = Self::cache(&self.settings)?;
        Ok(())
    }
}

/// Adapter: candle's StableLM cannot clear its cache, so it is rebuilt from the same tensors.
struct StableLm {
    settings: stable_lm::Config,
    weights: VarBuilder<'static>,
    model: stable_lm::Model,
}

impl StableLm {
    fn new(settings: stable_lm::Config, weights: VarBuilder<'static>) -> Result<Self> {
        let model = stable_lm::Model::new(&settings, weights.clone())?;
        Ok(Self { settings, weights, model })
    }
}

impl Network for StableLm {
    fn forward(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
        self.model.forward(tokens, position)
    }

    fn clear(&mut self) -> Result<()> {
        self.model = stable_lm::Model::new(&self.settings, self.weights.clone())?;
        Ok(())
    }
}
