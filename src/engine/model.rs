//! What a model must do for the engine, whatever its family and device.

use super::chat_template::Chosen;
use super::error::ModelError;
use super::source::{Alternative, CancelFlag, ModelFiles};
use crate::protocol::{DevicePreference, MemoryUse, SamplingParams};

pub(super) mod candle;
pub mod config;
pub mod parts;
pub mod perplexity;
pub mod rope;
pub(super) mod transformer;

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
    fn truncate_cache(&mut self, positions: usize) -> usize;

    /// How many of the first `positions` of the KV cache serve a sequence of `total` positions; what comes then belongs
    /// to it. Fewer than `positions` only for models that see short and long sequences differently (LongRoPE): these
    /// must be told before each sequence, and again where one grows.
    fn reusable_prefix(&mut self, positions: usize, total: usize) -> usize {
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
    fn set_cancel_flag(&mut self, _cancel: &CancelFlag) {}

    /// Memory that the model takes on its device.
    fn memory(&self) -> MemoryUse;

    /// Bytes that one step of decoding reads with `positions` in the KV cache, where the model counts them itself.
    fn step_bytes(&self, _positions: usize) -> Option<u64> {
        None
    }

    /// Whether a prompt of so many tokens shall begin now; else what makes it faster is on its way, and whoever asks asks again
    /// in a moment.
    fn is_ready(&mut self, _tokens: usize) -> bool {
        true
    }

    /// Called once, when everything else of the load is done too: background work may begin that would have slowed it.
    fn load_finished(&mut self) {}

    /// Waits for background work that makes the model faster, so that its speed no longer changes. For measurements.
    fn finish_warmup(&mut self) {}

    /// What the user should know about the weights that were read.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The device's own decode loop, where it has one; else the engine samples on the host.
    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        None
    }

    /// Frees everything that the model holds on its device, the device's context included. Returns the bytes that came
    /// back since the load, where the device can be asked.
    fn release(self: Box<Self>) -> Option<u64> {
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
