//! What a model must do for the engine, whatever its family and device.

use super::chat_template::{ChatTemplate, Chosen};
use super::source::{CancelFlag, ModelFiles};
use super::tokenizer::Tokenizer;
use crate::protocol::{DevicePreference, LoadProgress, MemoryUse, ModelInfo, SamplingParams};

mod candle;
pub mod config;
pub mod load;
pub mod perplexity;
pub mod rope;
mod transformer;

/// Context used where neither the user nor the model asks for less.
pub const DEFAULT_CONTEXT_LENGTH: usize = 8192;

/// One loaded transformer and its KV cache.
///
/// Logits are `f32`, `vocab_size` a position. Positions count from 0; the KV cache holds `context_length` of them.
pub trait Model: Send {
    /// Logits a position.
    fn vocab_size(&self) -> usize;

    /// Positions that the KV cache holds.
    fn context_length(&self) -> usize;

    /// Tokens that one `forward` of a prefill should take, so that a cancel between two calls is heard within 100 ms.
    fn prefill_chunk(&self) -> usize;

    /// Keeps the first `positions` of the KV cache and forgets the rest. Returns how many it really kept: a model
    /// that cannot cut its cache keeps all or nothing.
    fn keep(&mut self, positions: usize) -> usize;

    /// How many of the first `positions` of the KV cache serve a sequence of `total` positions; what comes then belongs
    /// to it. Fewer than `positions` only for models that see short and long sequences differently (LongRoPE): these
    /// must be told before each sequence, and again where one grows.
    fn serve(&mut self, positions: usize, total: usize) -> usize {
        let _ = total;
        positions
    }

    /// Evaluates `tokens` at `position..position + tokens.len()`, writes their keys and values, and leaves the logits
    /// of the last one in `logits` (resized to `vocab_size`). `position` is at most what was evaluated or kept before.
    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError>;

    /// Like `forward`, with the logits of the last `last` tokens, one row after the other (`last * vocab_size`).
    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError>;

    /// Lets the steps from now on be cut short: they look at this flag between the layers and end with `Cancelled`, as
    /// if they had not begun. Models whose steps are short anyway ignore it.
    fn watch(&mut self, _cancel: &CancelFlag) {}

    /// Memory that the model takes on its device.
    fn memory(&self) -> MemoryUse;

    /// Bytes that one step of decoding reads with `positions` in the KV cache, where the model counts them itself.
    fn step_bytes(&self, _positions: usize) -> Option<u64> {
        None
    }

    /// Whether a prompt of so many tokens shall begin now; else what makes it faster is on its way, and whoever asks asks again
    /// in a moment.
    fn ready_for(&mut self, _tokens: usize) -> bool {
        true
    }

    /// Waits for what comes up beside a model that answers already, so that from now on it is as fast as it will be. For
    /// measurements.
    fn settle(&mut self) {}

    /// The device's own decode loop, where it has one; else the engine samples on the host.
    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        None
    }
}

/// Decoding with the sampler on the device: 4 bytes a token cross the bus.
pub trait DeviceDecoder {
    /// Evaluates the prompt's last chunk at `position` and starts to sample after it. `recent` are the tokens before,
    /// for the penalties; `seed` makes the run repeatable.
    fn begin(
        &mut self,
        tokens: &[u32],
        position: usize,
        recent: &[u32],
        sampling: &SamplingParams,
        seed: u64,
    ) -> Result<(), ModelError>;

    /// The next token; the step after it may already be running. The KV cache holds everything before it.
    fn next_token(&mut self) -> Result<u32, ModelError>;

    /// Ends the loop and waits for the device. Returns how many positions of the KV cache are valid.
    fn end(&mut self) -> Result<usize, ModelError>;
}

/// What `load` needs to know.
pub struct LoadOptions<'a> {
    /// The name that the user knows the model by.
    pub name: &'a str,
    /// Its files.
    pub files: &'a ModelFiles,
    /// KV cache positions; `None`: `DEFAULT_CONTEXT_LENGTH`, or the model's own where that is smaller.
    pub context_length: Option<usize>,
    /// Where to run.
    pub device: DevicePreference,
    /// Share of the VRAM that may be used.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one for each physical core.
    pub threads: Option<usize>,
    /// Smaller forms of the same model, for the advice where it does not fit.
    pub smaller: &'a [Alternative],
    /// The chat template to use instead of the model's.
    pub chat_template: Option<&'a Chosen>,
    /// Stops the load within 200 ms.
    pub cancel: &'a CancelFlag,
}

/// A model with what turns text into its tokens and back.
pub struct LoadedModel {
    /// The transformer.
    pub model: Box<dyn Model>,
    /// Text ↔ tokens.
    pub tokenizer: Tokenizer,
    /// Messages → text.
    pub template: ChatTemplate,
    /// What it is.
    pub info: ModelInfo,
}

/// Positions that a model was made for, by its headers; `None` where they cannot be read, which a load will tell.
pub fn trained_context_length(files: &ModelFiles) -> Option<usize> {
    match candle::CandleParts::open(files, None) {
        Ok(Some(parts)) => Some(parts.trained_context_length()),
        _ => load::ModelParts::open(files, None).ok().map(|parts| parts.config.trained_context_length),
    }
}

/// Loads a model: header, checks, weights, KV cache. Calls `progress` at most every few megabytes.
pub fn load(options: &LoadOptions<'_>, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadedModel, ModelError> {
    if let ModelFiles::Scripted(path) = options.files {
        return super::scripted::load(options, path, progress);
    }
    if let Some(parts) = candle::CandleParts::open(options.files, options.context_length)? {
        return parts.load(options, progress);
    }
    #[cfg(feature = "cuda")]
    if options.device != DevicePreference::Cpu {
        return match super::cuda::load(options, progress)? {
            super::cuda::Loaded::Model(model) => Ok(*model),
            super::cuda::Loaded::UseCpu(why) => {
                let mut loaded = load::load_on_cpu(options, progress)?;
                loaded.info.warnings.push(format!("running on the CPU: {why}"));
                Ok(loaded)
            }
        };
    }
    load::load_on_cpu(options, progress)
}
