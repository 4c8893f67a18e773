//! The boundary between the engine and its front ends: requests, events and their parts, as plain data.
//!
//! Nothing here knows a terminal or a tensor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Names one request of one engine; never used twice within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand before the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word that chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message as the engine reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who wrote it.
    pub role: Role,
    /// What it says, as it was written.
    pub content: String,
    /// What the model thought before it answered, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

impl ChatMessage {
    /// A message without reasoning.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), reasoning: None }
    }
}

/// How the next token is chosen. The order in which the parts apply stands in `engine::sampler`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this share as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divide (multiply, where negative) the logits of recent tokens by this; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at.
    pub repeat_last_n: usize,
    /// Subtracted once per recent occurrence; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Subtracted where a token occurred recently; 0 changes nothing.
    pub presence_penalty: f32,
    /// `None` draws a fresh seed.
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

/// How long an idle engine keeps its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdleWindow {
    /// Release this long after the last answer; zero releases at once.
    After(Duration),
    /// Keep the weights until the program ends.
    Never,
}

/// Where the user wants the model to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePreference {
    /// The first usable card, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// This card, or an error.
    Cuda(usize),
}

/// What to do with a conversation that outgrew the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverflowPolicy {
    /// Refuse, with the counts.
    #[default]
    Error,
    /// Leave out the oldest whole turns and say which.
    Trim,
}

/// One turn that the engine is asked to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRequest {
    /// Names the request in every event about it.
    pub id: RequestId,
    /// System message first (if any), then the turns; the last one is the user's.
    pub messages: Vec<ChatMessage>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens to write; `None` writes until the model stops or the context is full.
    pub max_tokens: Option<usize>,
    /// What to do if the prompt does not fit.
    pub on_overflow: OverflowPolicy,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// Somebody stopped it.
    Cancelled,
}

/// Token counts of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt, cached ones among them.
    pub prompt_tokens: usize,
    /// Prompt tokens whose KV cache was kept from before.
    pub cached_tokens: usize,
    /// Tokens that the model wrote.
    pub completion_tokens: usize,
}

impl Usage {
    /// Prompt and completion together.
    pub fn total_tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }
}

/// Where one turn's time went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// Waiting for the model to be loaded; zero where it was warm.
    pub load: Duration,
    /// From the submit, or from the end of loading where that is later, to the first token.
    pub ttft: Duration,
    /// Evaluating the prompt tokens that were not cached.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// From the submit to the end, loading included.
    pub total: Duration,
    /// Gaps between consecutive tokens, in order.
    pub inter_token: Vec<Duration>,
}

/// What stage of becoming ready the engine is in. They come in this order; some may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadPhase {
    /// Fetching the files; `done` and `total` count bytes.
    Download,
    /// Checking a downloaded file's hash; bytes.
    Verify,
    /// Reading weights into memory; bytes.
    Read,
    /// Copying weights to the device; bytes.
    Upload,
}

/// How far a load has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The stage.
    pub phase: LoadPhase,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all; `None` where nobody knows.
    pub total: Option<u64>,
    /// What is being worked on (a file name, say), where that helps.
    pub detail: Option<String>,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA card.
    Cuda,
}

/// The device that a model runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its kind.
    pub kind: DeviceKind,
    /// The name that its maker gave it.
    pub name: String,
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name that the user knows it by.
    pub name: String,
    /// `general.architecture` or `model_type`.
    pub architecture: String,
    /// For example `Q4_1`, `Q4_K_M`, `BF16`.
    pub quantization: String,
    /// Parameters in all.
    pub parameters: u64,
    /// Positions that the KV cache holds.
    pub context_length: usize,
    /// Positions that the model was made for.
    pub trained_context_length: usize,
    /// Where it runs.
    pub device: DeviceInfo,
    /// Memory that it takes on that device.
    pub memory: MemoryUse,
    /// What the user should know: an unknown pre-tokenizer, a template that was chosen by vocabulary, …
    pub warnings: Vec<String>,
}

/// Bytes that a loaded model takes on its device.
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
    /// Whether a prompt and its answer of so many tokens leave no position for another token.
    pub fn is_filled_by(&self, usage: &Usage) -> bool {
        usage.total_tokens() >= self.context_length
    }
}

impl MemoryUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.workspace
    }
}

/// What kind of failure; the one-shot's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Anything else.
    Failed,
    /// The model was not found or could not be fetched.
    ModelNotFound,
    /// Host or device memory ran out.
    OutOfMemory,
    /// The prompt does not fit the context.
    ContextOverflow,
    /// Cancelled before a terminal event was due (a load that was stopped).
    Cancelled,
    /// The device is lost for this process; the history stays usable.
    Fatal,
}

/// A failure that tells the user what happened, what was kept and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind.
    pub kind: ErrorKind,
    /// One or a few sentences for the user. May quote foreign text: sanitize before showing.
    pub message: String,
}

impl EngineError {
    /// An error of `kind`. What a message quotes of a file is as long as the file likes; it is cut to a length that people
    /// read.
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

/// Which part of an answer a piece of text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// What the model says.
    Answer,
    /// What it thinks before it says it.
    Reasoning,
}

/// What the engine tells its front end, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// The engine began to load.
    Loading {
        /// When.
        at: Timestamp,
    },
    /// It came further.
    LoadProgress(LoadProgress),
    /// The model can answer.
    Loaded {
        /// What was loaded.
        info: ModelInfo,
        /// How long it took, download included.
        took: Duration,
        /// When.
        at: Timestamp,
    },
    /// Loading failed. Every request that waited for it gets its own `Failed` too.
    LoadFailed {
        /// Why.
        error: EngineError,
    },
    /// A request's prompt is being evaluated.
    Prefill {
        /// Which request.
        id: RequestId,
        /// Prompt tokens evaluated or cached so far.
        done: usize,
        /// Prompt tokens in all.
        total: usize,
        /// Of those, how many were cached.
        cached: usize,
        /// Oldest whole turns that were left out to make it fit.
        trimmed_turns: usize,
        /// When.
        at: Timestamp,
    },
    /// A piece of the answer: always whole characters.
    Token {
        /// Which request.
        id: RequestId,
        /// Answer or reasoning.
        channel: Channel,
        /// The text; may be empty where a token completed no character.
        text: String,
        /// When.
        at: Timestamp,
    },
    /// A request was answered. Terminal.
    Finished {
        /// Which request.
        id: RequestId,
        /// Why it ended.
        reason: FinishReason,
        /// Counts.
        usage: Usage,
        /// Times.
        timing: Timing,
        /// When.
        at: Timestamp,
    },
    /// A request failed; what was streamed before stays. Terminal.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        error: EngineError,
        /// When.
        at: Timestamp,
    },
    /// Answer to `Engine::count`: what a prompt would take of the context.
    Counted {
        /// The number that `Engine::count` was given.
        id: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: usize,
        /// Positions in all.
        context_length: usize,
    },
    /// Nothing to do; the weights stay until `release_at`, `None` for ever.
    Idle {
        /// When the engine will release.
        release_at: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// Giving the memory back.
    Releasing,
    /// The memory is back with the system.
    Released {
        /// Bytes given back on the device; measured where the device can be asked.
        freed: u64,
        /// When.
        at: Timestamp,
    },
    /// Something that the user should know; nothing failed.
    Warning(String),
}
