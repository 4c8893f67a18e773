//! The interface between the engine and its front ends: requests, events and their parts, as plain data.
//!
//! Independent of terminals and tensors.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

mod gpus;
mod sampling;
mod server;
mod trace;
mod usage;

pub use gpus::{GpuList, MOST_GPUS};
pub use sampling::{Recommended, SamplingChoice, SamplingSource};
pub use server::{Dialect, HeaderSource, KeySource, Server};
pub use trace::{Kernels, Repetition, Served, Span, Trace};
pub use usage::{Timing, Unknown, Usage};

/// Identifies a request; never used twice by one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role's name in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Its author.
    pub role: Role,
    /// Its text, unchanged: it is not sanitised.
    pub content: String,
    /// The model's reasoning before the answer, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

impl ChatMessage {
    /// A message without reasoning.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), reasoning: None }
    }
}

/// How the next token is sampled. `engine::sampler` documents the order of the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens whose probability is at least this share of the highest one; 0 keeps all.
    pub min_p: f32,
    /// Divide positive logits of recent tokens by this, multiply negative ones; 1 changes nothing.
    pub repeat_penalty: f32,
    /// Number of last tokens to which the penalties apply.
    pub repeat_last_n: usize,
    /// Subtracted once per recent occurrence; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Subtracted once if a token occurred recently; 0 changes nothing.
    pub presence_penalty: f32,
    /// `None`: a random seed.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    /// llama.cpp's defaults.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
        }
    }
}

/// A random seed of 53 bits, so that every reader of JSON keeps it.
pub fn random_seed() -> u64 {
    // The standard library seeds each `RandomState` with the system's random numbers.
    RandomState::new().build_hasher().finish() >> 11
}

/// How long an idle engine keeps its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdleWindow {
    /// Release this long after the last answer; zero releases at once.
    After(Duration),
    /// Keep the weights until the program ends.
    Never,
}

/// The device that the user chose for the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePreference {
    /// The first GPU that can hold the model, else the fewest GPUs that can together, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// These GPUs as one, or an error.
    Cuda(GpuList),
}

/// What to do with a conversation that exceeds the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverflowPolicy {
    /// Fail with an error that names the token counts.
    #[default]
    Error,
    /// Leave out the oldest whole turns and report their number.
    Trim,
}

/// A request to answer one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRequest {
    /// Identifies the request in its events.
    pub id: RequestId,
    /// System message first (if any), then the turns. The last message is the user's, or the beginning of the answer to it,
    /// which is continued.
    pub messages: Vec<ChatMessage>,
    /// How tokens are sampled; the model's recommendation decides about what is unset.
    pub sampling: SamplingChoice,
    /// Whether the model reasons before it answers, if its template has a switch for that; `None`: as the template does.
    pub think: Option<bool>,
    /// Maximum number of tokens to write; `None`: until the model stops or the context is full.
    pub max_tokens: Option<usize>,
    /// What to do if the prompt does not fit.
    pub on_overflow: OverflowPolicy,
    /// Computes a stored answer again, with the same steps and nothing from the KV cache.
    pub repeat: Option<Box<Repetition>>,
    /// The id of the stored conversation, for servers that keep its KV cache on one of several machines.
    pub conversation: Option<String>,
}

impl GenerationRequest {
    /// A request with the model's own sampling and without limits.
    pub fn new(id: RequestId, messages: Vec<ChatMessage>) -> Self {
        Self {
            id,
            messages,
            sampling: SamplingChoice::default(),
            think: None,
            max_tokens: None,
            on_overflow: OverflowPolicy::default(),
            repeat: None,
            conversation: None,
        }
    }
}

/// A request to count the tokens of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct CountRequest {
    /// Identifies the request in its event.
    pub id: RequestId,
    /// As in [`GenerationRequest`].
    pub messages: Vec<ChatMessage>,
    /// As in [`GenerationRequest`].
    pub max_tokens: Option<usize>,
    /// As in [`GenerationRequest`].
    pub think: Option<bool>,
}

/// The warning if a request says whether to reason and the model's chat template cannot be told.
pub const NO_THINK_SWITCH: &str =
    "this model's chat template has no switch for reasoning, so `think` changes nothing for it";

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// It was cancelled.
    Cancelled,
}

/// The phase of a load. Phases come in this order; some may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadPhase {
    /// Downloading the files; bytes.
    Download,
    /// Checking a downloaded file's hash; bytes.
    Verify,
    /// Reading weights into memory; bytes.
    Read,
    /// Copying weights to the device; bytes.
    Upload,
}

/// The progress of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The current phase.
    pub phase: LoadPhase,
    /// Bytes so far.
    pub done: u64,
    /// Total bytes; `None` if unknown.
    pub total: Option<u64>,
    /// The item in progress, for example a file name.
    pub detail: Option<String>,
}

/// A download that a model needs before it can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its bytes, and whether that is exact; `None` if the size is unknown before the server is asked.
    pub size: Option<(u64, bool)>,
    /// Where the files come from: a host, or several with "or".
    pub from: String,
    /// Why the model would probably not run on this machine.
    pub warning: Option<String>,
}

/// The kind of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// A server, whose name is its address.
    Server,
}

/// The device that a model runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// The vendor's product name.
    pub name: String,
}

/// Properties of a loaded model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// The name for the user, as `ModelSource::name` returns it.
    pub name: String,
    /// `general.architecture` or `model_type`.
    pub architecture: String,
    /// For example `Q4_1`, `Q4_K_M`, `BF16`.
    pub quantization: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Positions that the KV cache holds; 0 if a server does not tell.
    pub context_length: usize,
    /// Positions that the model was trained for.
    pub trained_context_length: usize,
    /// The device that it runs on.
    pub device: DeviceInfo,
    /// Its memory use on that device.
    pub memory: MemoryUse,
    /// Sampling values that its files and the catalogue recommend.
    pub sampling: Recommended,
    /// Whether its chat template can turn the reasoning on and off.
    pub think_switch: bool,
    /// Whether its chat template writes the date into the prompt.
    pub dated: bool,
    /// Warnings for the user: an unknown pre-tokenizer, a template that was chosen by vocabulary, …
    pub warnings: Vec<String>,
}

/// What a release measured; `None` if the device does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes of device memory that are free since the release.
    pub bytes: Option<u64>,
    /// Millijoules that the device used since the load.
    pub energy_mj: Option<u64>,
}

/// Memory use of a loaded model on its device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights.
    pub weights: u64,
    /// KV cache.
    pub kv_cache: u64,
    /// Scratch buffers, graphs, the device context.
    pub workspace: u64,
}

impl ModelInfo {
    /// Whether a prompt and answer with this `usage` leave no position for another token.
    pub fn is_filled_by(&self, usage: &Usage) -> bool {
        self.context_length > 0 && usage.total_tokens() >= self.context_length
    }
}

impl MemoryUse {
    /// Weights, KV cache and workspace.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.workspace
    }
}

/// The kind of a failure, which determines the exit code in one-shot mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Any other failure.
    Failed,
    /// The model was not found or could not be fetched.
    ModelNotFound,
    /// Host or device memory ran out.
    OutOfMemory,
    /// The prompt does not fit the context.
    ContextOverflow,
    /// A load was cancelled.
    Cancelled,
    /// The device is lost for this process; the conversation can continue on another device.
    Fatal,
}

/// A failure with a message for the user: what happened, what was kept and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// Determines the exit code and whether a retry can help.
    pub kind: ErrorKind,
    /// One or a few sentences for the user. May quote foreign text: sanitize before showing.
    pub message: String,
}

impl EngineError {
    /// An error of `kind`. A message may quote a file, which can be arbitrarily long: it is cut to 1000 characters.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        const MAX_CHARS: usize = 1000;
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self { kind, message }
    }
}

/// The part of an answer that a piece of text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// The answer itself.
    Answer,
    /// The model's reasoning before the answer.
    Reasoning,
}

/// An event of the engine. A front end receives them in the order in which they occurred.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A load has started.
    Loading {
        /// Time of the event.
        at: Timestamp,
    },
    /// Progress of the running load.
    LoadProgress(LoadProgress),
    /// A server is not ready yet, during a load or before an answer begins.
    Waiting {
        /// How long by now.
        waited: Duration,
        /// What the server says, or why there is no connection; a part of a sentence.
        why: String,
        /// Time of the event.
        at: Timestamp,
    },
    /// The model is loaded.
    Loaded {
        /// Properties of the model.
        info: ModelInfo,
        /// Duration of the load, including the download.
        took: Duration,
        /// Time of the event.
        at: Timestamp,
    },
    /// Loading failed. Every request that waited for it also gets its own `Failed`.
    LoadFailed {
        /// The reason.
        error: EngineError,
    },
    /// A request's prompt is being evaluated.
    Prefill {
        /// Which request.
        id: RequestId,
        /// Prompt tokens evaluated or cached so far.
        done: usize,
        /// Prompt tokens in total.
        total: usize,
        /// Prompt tokens that were cached.
        cached: usize,
        /// Number of oldest whole turns that were left out to fit the context.
        trimmed_turns: usize,
        /// Time of the event.
        at: Timestamp,
    },
    /// A piece of the answer, in whole characters.
    Token {
        /// Which request.
        id: RequestId,
        /// Answer or reasoning.
        channel: Channel,
        /// The text; empty if the token completed no character.
        text: String,
        /// Time of the event.
        at: Timestamp,
    },
    /// What the answer was computed from; precedes `Finished` of a request that was evaluated.
    Traced {
        /// Which request.
        id: RequestId,
        /// Inputs and tokens.
        trace: Arc<Trace>,
    },
    /// A server begins to answer.
    Served {
        /// Which request.
        id: RequestId,
        /// Which server.
        served: Served,
    },
    /// A request was answered. Terminal.
    Finished {
        /// Which request.
        id: RequestId,
        /// Why it ended.
        reason: FinishReason,
        /// Token counts.
        usage: Usage,
        /// Times.
        timing: Timing,
        /// Time of the event.
        at: Timestamp,
    },
    /// A request failed; text that was streamed before remains valid. Terminal.
    Failed {
        /// Which request.
        id: RequestId,
        /// The reason.
        error: EngineError,
        /// Time of the event.
        at: Timestamp,
    },
    /// Reply to `Engine::count`.
    Counted {
        /// The id that was passed to `Engine::count`.
        id: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: usize,
        /// Prompt tokens whose keys and values are in the KV cache now.
        cached_tokens: usize,
        /// Number of oldest turns that `OverflowPolicy::Trim` would leave out; `None`: it does not fit without them either.
        left_out: Option<usize>,
        /// Positions that the KV cache holds.
        context_length: usize,
    },
    /// An idle server has unloaded the model, or has it in memory again.
    Asleep(bool),
    /// The model is loaded and no request is in flight or queued.
    Idle {
        /// When the engine will release the model; `None`: never.
        release_at: Option<Timestamp>,
        /// Time of the event.
        at: Timestamp,
    },
    /// Host memory that the process holds more than before the load, measured; precedes `Idle` on a CPU.
    Resident {
        /// In bytes.
        bytes: u64,
    },
    /// A release has started.
    Releasing,
    /// The memory is released to the system.
    Released {
        /// Bytes freed on the device; measured if the device reports them, else the model's memory use.
        freed: u64,
        /// Energy that the GPU used since the load, by its own counter, in millijoules.
        energy_mj: Option<u64>,
        /// Time of the event.
        at: Timestamp,
    },
    /// A warning for the user; nothing failed.
    Warning(String),
}
