//! Model families that run on candle-transformers: dense chat models without a native forward pass, on the CPU, from
//! safetensors folders.
//!
//! Differences from the native forward pass: weights are widened to f32 (candle has no bf16 product on the CPU), and
//! the KV cache can only grow or be cleared, so a prompt that does not continue it is evaluated from the start.
//!
//! Excluded after reading candle-transformers 0.11.1, because they would give wrong answers or none: `phi` (its mask
//! has no offset, so a prompt cannot be evaluated in parts), `lfm2` (its convolution drops the state between parts),
//! `qwen3_moe` and its GGUF version (the expert product exists for CUDA only), `gemma4` (norms and attention scale are
//! Gemma 3's), `granite` (ignores Granite's four multipliers: those checkpoints run on `granitemoehybrid`, whose
//! dense layers are the same), `quantized_smollm3` (writes to standard output and opens files itself).

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::config::{CANDLE_FAMILIES, CONFIG_FILE};
use super::parts::text_of_folder;
use super::{Model, check_tokens};
use crate::engine::chat_template::{ChatTemplate, Chosen};
use crate::engine::error::ModelError;
use crate::engine::recommended;
use crate::engine::source::CancelFlag;
use crate::engine::tokenizer::Tokenizer;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::safetensors::read_folder_as_named;
use crate::protocol::{LoadProgress, MemoryUse, ModelInfo};

mod config;
mod networks;
mod weights;

use config::Config;
use networks::Network;
use weights::Weights;

/// Target time of a prefill step, so that a cancel takes effect within 100 ms.
const STEP_TIME: Duration = Duration::from_millis(60);
/// Maximum tokens per step.
const MAX_STEP: usize = 128;

/// The parsed and checked headers of a folder of one of these families.
pub(in crate::engine) struct CandleParts<'a> {
    folder: &'a Path,
    config: Config,
    plan: TensorPlan,
}

impl<'a> CandleParts<'a> {
    /// The family that a `config.json` names, if candle runs it.
    pub(in crate::engine) fn family(json: &Value) -> Option<&'static str> {
        let name = json.get("model_type").and_then(Value::as_str)?;
        CANDLE_FAMILIES.into_iter().find(|known| *known == name)
    }

    pub(in crate::engine) fn open(
        folder: &'a Path,
        json: Value,
        family: &'static str,
        context_length: Option<usize>,
    ) -> Result<Self, ModelError> {
        let config = Config::new(folder.join(CONFIG_FILE), json, family, context_length)?;
        let plan = read_folder_as_named(folder)?;
        Ok(Self { folder, config, plan })
    }

    pub(in crate::engine) fn name(&self) -> &'static str {
        self.config.name
    }

    pub(in crate::engine) fn info(&self) -> ModelInfo {
        ModelInfo {
            architecture: self.config.name.to_owned(),
            quantization: self.plan.main_type().map_or("unknown", |kind| kind.name()).to_owned(),
            parameters: self.plan.parameters(),
            context_length: self.config.context_length,
            trained_context_length: self.config.trained_context_length,
            sampling: recommended::of_folder(self.folder),
            warnings: [&self.plan.warnings[..], &self.config.warnings].concat(),
            ..ModelInfo::default()
        }
    }

    pub(in crate::engine) fn read_text(
        &self,
        chosen: Option<&Chosen>,
    ) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        text_of_folder(&self.plan, self.folder, chosen)
    }

    /// Reads the weights and builds the model.
    pub(in crate::engine) fn load(
        &self,
        threads: Option<usize>,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Model>, ModelError> {
        Ok(Box::new(CandleModel::load(&self.config, &self.plan, threads, cancel, progress)?))
    }
}

/// Implements `Model` for a candle network.
struct CandleModel {
    network: Box<dyn Network>,
    /// Runs candle's parallel loops, so that their threads end with the model.
    pool: rayon::ThreadPool,
    vocab_size: usize,
    context_length: usize,
    memory: MemoryUse,
    /// The tokens whose keys and values are in the cache.
    evaluated: Vec<u32>,
    /// Tokens per prefill step, from the speed measured so far.
    chunk: usize,
    /// A warning that lists tensors which the network does not read.
    unread: Option<String>,
}

impl CandleModel {
    fn load(
        config: &Config,
        plan: &TensorPlan,
        threads: Option<usize>,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let threads = threads.unwrap_or_else(crate::engine::cpu::default_threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("chatnap-candle-{i}"))
            .build()
            .map_err(|error| ModelError::OutOfMemory(format!("cannot start the thread pool: {error}")))?;
        let weights = Weights::read(config, plan, threads, cancel, progress)?;
        let (bytes, asked) = (weights.bytes(), weights.asked());
        let network = pool.install(|| networks::build(config, weights)).map_err(|error| unbuilt(plan, &error))?;
        let unread = asked.unread(plan, config)?;
        let memory = MemoryUse { weights: bytes, kv_cache: config.cache_bytes(), workspace: config.workspace_bytes() };
        Ok(Self {
            network,
            pool,
            vocab_size: config.vocab_size,
            context_length: config.context_length,
            memory,
            evaluated: Vec::new(),
            chunk: 16,
            unread,
        })
    }

    fn check(&self, tokens: &[u32], position: usize, last: usize) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, last)?;
        if position > self.evaluated.len() {
            let evaluated = self.evaluated.len();
            return Err(ModelError::Unsupported(format!("position {position} follows {evaluated} evaluated tokens")));
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), ModelError> {
        self.evaluated.clear();
        let Self { network, pool, .. } = self;
        pool.install(|| network.clear()).map_err(|error| failed(&error))
    }

    /// Evaluates `tokens` after the cached ones; returns the logits of the last.
    fn step(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let started = Instant::now();
        let Self { network, pool, evaluated, .. } = self;
        let position = evaluated.len();
        let logits = pool
            .install(|| {
                let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
                network.forward(&input, position)?.flatten_all()?.to_vec1::<f32>()
            })
            .map_err(|error| failed(&error))?;
        self.evaluated.extend_from_slice(tokens);
        self.learn(tokens.len(), started.elapsed());
        if logits.len() != self.vocab_size {
            let message = format!("the network returned {} logits instead of {}", logits.len(), self.vocab_size);
            return Err(ModelError::Device { message, sticky: false });
        }
        Ok(logits)
    }

    /// Evaluates `tokens` in steps of at most `MAX_STEP`; returns the logits of the last.
    fn evaluate(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let mut logits = Vec::new();
        for step in tokens.chunks(MAX_STEP) {
            logits = self.step(step)?;
        }
        Ok(logits)
    }

    /// Adapts the prefill step to the measured speed: shrinks at once, at most doubles per step.
    fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens < 2 && self.chunk > 1 {
            return;
        }
        let fitting = tokens as f64 * STEP_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
        self.chunk = (fitting as usize).clamp(1, (2 * self.chunk).min(MAX_STEP));
    }
}

impl Model for CandleModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.chunk
    }

    /// Keeps all or nothing: candle's caches cannot be truncated.
    fn truncate_cache(&mut self, positions: usize) -> usize {
        if positions < self.evaluated.len() && self.clear().is_err() {
            // The next step fails too and returns the error.
            return 0;
        }
        self.evaluated.len().min(positions)
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.check(tokens, position, last)?;
        if position < self.evaluated.len() {
            let kept = self.evaluated[..position].to_vec();
            self.clear()?;
            self.evaluate(&kept)?;
        }
        logits.clear();
        // A step returns only the logits of its last token.
        let (before, rows) = tokens.split_at(tokens.len() - last.saturating_sub(1));
        let row = self.evaluate(before)?;
        if last > 0 {
            logits.extend(row);
        }
        for token in rows {
            logits.extend(self.step(&[*token])?);
        }
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        self.memory
    }

    fn warnings(&self) -> Vec<String> {
        self.unread.iter().cloned().collect()
    }
}

/// Maps an error of candle while building the network.
fn unbuilt(plan: &TensorPlan, error: &candle_core::Error) -> ModelError {
    let said = first_line(error);
    match plan.unreadable.keys().find(|name| said.contains(&format!("{name:?}"))) {
        Some(name) => plan.missing(name),
        None => plan.invalid(said),
    }
}

/// Maps an error of candle during the forward pass.
fn failed(error: &candle_core::Error) -> ModelError {
    ModelError::Device { message: first_line(error), sticky: false }
}

/// The error message without the backtrace that candle can append.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
