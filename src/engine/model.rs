//! The `Model` trait: the interface between the engine and a loaded model, for every family and device.

use super::chat_template::Chosen;
use super::error::ModelError;
use super::source::{Alternative, CancelFlag, ModelFiles};
use crate::protocol::{DevicePreference, Freed, Kernels, MemoryUse, SamplingParams};

pub(super) mod candle;
pub mod config;
pub mod parts;
pub mod perplexity;
pub mod rope;
pub(super) mod transformer;

/// Default context length, in positions, if neither the user nor the model sets a smaller one.
pub const DEFAULT_CONTEXT_LENGTH: usize = 8192;

/// One loaded transformer and its KV cache.
///
/// Logits are `f32`, `vocab_size` per position. Positions count from 0; the KV cache has `context_length` of them.
pub trait Model: Send {
    /// Logits per position.
    fn vocab_size(&self) -> usize;

    /// Capacity of the KV cache, in positions.
    fn context_length(&self) -> usize;

    /// Tokens per `forward` call of a prefill, chosen so that a cancel between two calls takes effect within 100 ms.
    fn prefill_chunk(&self) -> usize;

    /// Truncates the KV cache to the first `positions`. Returns how many remain: a model that cannot truncate its
    /// cache keeps all or nothing.
    fn truncate_cache(&mut self, positions: usize) -> usize;

    /// How many of the first `positions` of the KV cache a sequence of `total` positions can reuse; later calls of
    /// `forward` belong to that sequence. Fewer than `positions` only for models with different RoPE tables for short
    /// and long sequences (LongRoPE): call it before each sequence, and again when one grows.
    fn reusable_prefix(&mut self, positions: usize, total: usize) -> usize {
        let _ = total;
        positions
    }

    /// Evaluates `tokens` at `position..position + tokens.len()`, writes their keys and values, and stores the logits
    /// of the last one in `logits` (resized to `vocab_size`). `position` is at most the length of the valid cache.
    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        self.forward_rows(tokens, position, 1, logits)
    }

    /// Like `forward`, with the logits of the last `last` tokens, row by row (`last * vocab_size`).
    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError>;

    /// Sets the flag that later steps check between layers. A cancelled step returns `Cancelled` and counts as not
    /// evaluated. Models with short steps ignore it.
    fn set_cancel_flag(&mut self, _cancel: &CancelFlag) {}

    /// Memory in use on the model's device.
    fn memory(&self) -> MemoryUse;

    /// Bytes that one decode step reads with `positions` in the KV cache; `None` if the model does not count them.
    fn step_bytes(&self, _positions: usize) -> Option<u64> {
        None
    }

    /// Whether a prompt of this many tokens should start now. `false`: background work that makes it faster is in
    /// progress; poll again.
    fn is_ready(&mut self, _tokens: usize) -> bool {
        true
    }

    /// The kernels that a step of many tokens used last, or would use now.
    fn prompt_kernels(&mut self) -> Kernels {
        Kernels::Own
    }

    /// Uses these kernels for steps of many tokens, to repeat an earlier answer exactly; `None`: the usual ones.
    fn set_prompt_kernels(&mut self, _kernels: Option<Kernels>) {}

    /// What selects the kernels beside the device's name: the instruction set and the threads, or the architecture.
    fn variant(&self) -> String {
        String::new()
    }

    /// Called once, after the whole load: starts background work that would have slowed the load down.
    fn load_finished(&mut self) {}

    /// Blocks until the background warm-up is done, so that the speed no longer changes. For benchmarks.
    fn finish_warmup(&mut self) {}

    /// Warnings for the user about the weights.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The decode loop on the device; `None`: the engine samples on the host.
    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        None
    }

    /// Frees the model's device memory and the device context.
    fn release(self: Box<Self>) -> Freed {
        Freed::default()
    }
}

/// Checks the arguments of a forward pass: at least one token, at most `context_length` positions, known tokens.
pub fn check_tokens(model: &dyn Model, tokens: &[u32], position: usize, last: usize) -> Result<(), ModelError> {
    let end = position.checked_add(tokens.len());
    if tokens.is_empty() || last > tokens.len() || end.is_none_or(|end| end > model.context_length()) {
        return Err(ModelError::Unsupported(format!(
            "{} tokens at position {position} do not fit the context of {}",
            tokens.len(),
            model.context_length()
        )));
    }
    match tokens.iter().find(|token| **token as usize >= model.vocab_size()) {
        Some(token) => Err(ModelError::Unsupported(format!(
            "token {token} is not in this model's vocabulary of {}",
            model.vocab_size()
        ))),
        None => Ok(()),
    }
}

/// Decoding with the sampler on the device: 4 bytes per token cross the bus.
pub trait DeviceDecoder {
    /// Evaluates the prompt's last chunk at `position` and starts sampling after it. `recent` are the preceding tokens,
    /// for the penalties; `seed` makes the run reproducible.
    fn begin(
        &mut self,
        tokens: &[u32],
        position: usize,
        recent: &[u32],
        sampling: &SamplingParams,
        seed: u64,
    ) -> Result<(), ModelError>;

    /// The next token; the step after it may already be running. The KV cache contains everything before it.
    fn next_token(&mut self) -> Result<u32, ModelError>;

    /// Ends the loop and waits for the device. Returns the number of valid positions in the KV cache.
    fn end(&mut self) -> Result<usize, ModelError>;
}

/// Arguments of `load`.
pub struct LoadOptions<'a> {
    /// Display name of the model.
    pub name: &'a str,
    /// Paths of the model's files.
    pub files: &'a ModelFiles,
    /// KV cache positions; `None`: the model's trained length, at most `DEFAULT_CONTEXT_LENGTH`.
    pub context_length: Option<usize>,
    /// Device to run on.
    pub device: DevicePreference,
    /// Fraction of the GPU memory that may be used, 0 to 1.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one per physical core.
    pub threads: Option<usize>,
    /// Smaller variants of the same model, suggested if this one does not fit.
    pub smaller: &'a [Alternative],
    /// Chat template that overrides the model's.
    pub chat_template: Option<&'a Chosen>,
    /// Cancels the load within 200 ms.
    pub cancel: &'a CancelFlag,
}
