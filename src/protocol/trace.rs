//! What an answer was computed from: enough to compute it again, token by token, and to find which input differs.

use serde::{Deserialize, Serialize};

use super::{DeviceInfo, SamplingParams};

/// The inputs and the tokens of one answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// [`fingerprint`](crate::engine::fingerprint) of the model's files.
    pub model_hash: String,
    /// SHA-256 of the chat template's text.
    pub template_hash: String,
    /// The program's version and a hash of its engine's sources.
    pub build: String,
    /// The device.
    pub device: DeviceInfo,
    /// What else selects its kernels: the instruction set and threads, or the GPU's architecture.
    pub variant: String,
    /// All sampling values, with the seed that was drawn.
    pub sampling: SamplingParams,
    /// Token ids of the rendered prompt.
    pub prompt: Vec<u32>,
    /// Token ids that were sampled, with the end token if there is one.
    pub answer: Vec<u32>,
    /// How the prompt's keys and values were computed, from position 0.
    pub spans: Vec<Span>,
}

/// Consecutive tokens whose keys and values were computed in the same way. The shape of a step selects kernels, and with
/// them the order of additions, so an exact repetition needs the same steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Tokens that the KV cache kept.
    pub kept: usize,
    /// Tokens of the step; more than `kept` if the cache was cut inside it. Equal to `kept` for [`Kernels::Step`].
    pub rows: usize,
    /// Kernels of the step.
    pub kernels: Kernels,
}

/// The kernels that evaluated a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernels {
    /// One token at a time.
    Step,
    /// Many tokens in one step, before it was known whether a library for matrix products can be used.
    Fresh,
    /// Many tokens in one step, with this program's kernels alone.
    Own,
    /// Many tokens in one step, with the library.
    Library,
}

/// Where the answer of a server comes from, which has no [`Trace`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The model's name, `MODEL@SERVER`.
    pub model: String,
    /// The server.
    pub device: DeviceInfo,
}

/// A stored answer that a request computes again.
#[derive(Clone, Debug, PartialEq)]
pub struct Repetition {
    /// Token ids of the prompt; they replace the rendered ones.
    pub prompt: Vec<u32>,
    /// How to evaluate them; together they keep as many tokens as the prompt has.
    pub spans: Vec<Span>,
}
