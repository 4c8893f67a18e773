//! The content of a report as plain data: what `report.json` holds. Its schema is `assets/report.schema.json`.
//!
//! An unknown figure is `None` (`null` in JSON), never 0. Times are in milliseconds, memory in bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wilson::PassRate;
use crate::protocol::{DeviceKind, FinishReason, LoadPhase, Timing, Usage};
use crate::stats::AnswerStats;

/// The version of the format of `report.json`.
pub const FORMAT: u32 = 1;

/// One run of `chatnap report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// Whether everything that was asked for was done; `false` after Ctrl-C.
    pub complete: bool,
    /// What was measured, where and how.
    pub header: Header,
    /// In the order of the scenario file; those that were not begun are missing.
    pub scenarios: Vec<ScenarioResult>,
    /// `None`: not asked for.
    pub latency: Option<Latency>,
    /// Memory of the process over the whole run.
    pub memory_over_time: Vec<MemorySample>,
    /// Remarks for the reader: warnings of the model, what limits a figure.
    pub notes: Vec<String>,
}

/// What was measured, where and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Begin of the run, RFC 3339 in UTC.
    pub date: String,
    /// chatnap's version.
    pub version: String,
    /// Profile, target and features of the build: `release, linux x86_64, CUDA`.
    pub build: String,
    /// Version and hash of the sources of the engine that answered; `None` without an answer.
    #[serde(default)]
    pub engine: Option<String>,
    /// The model.
    pub model: ModelFacts,
    /// The device.
    pub device: DeviceFacts,
    /// How tokens were sampled.
    pub sampling: SamplingFacts,
    /// Name of the scenario file; `built-in` for chatnap's own.
    pub scenarios: String,
    /// How often each scenario was played.
    pub repeat: usize,
    /// Whether Python code of answers was run.
    pub run_code: bool,
}

/// The model of a report. All are empty, 0 or `None` if it was never loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented on ModelInfo")]
pub struct ModelFacts {
    pub name: String,
    pub architecture: String,
    pub quantization: String,
    pub parameters: u64,
    pub context_length: usize,
    pub weights_bytes: u64,
    pub kv_cache_bytes: u64,
    /// Fingerprint of its files; `None` without an answer.
    #[serde(default)]
    pub hash: Option<String>,
    /// SHA-256 of the chat template; `None` without an answer.
    #[serde(default)]
    pub template_hash: Option<String>,
}

/// The device of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// CPU or GPU.
    pub kind: DeviceKind,
    /// The vendor's product name.
    pub name: String,
    /// Threads of the CPU kernels.
    pub threads: usize,
    /// The instructions that the CPU kernels use.
    pub instructions: String,
}

/// The sampling values of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented on SamplingParams")]
pub struct SamplingFacts {
    pub temperature: f64,
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    pub repeat_penalty: f64,
    /// Seed of the first repetition; the n-th one adds n − 1. `None` at temperature 0, which draws nothing.
    pub seed: Option<u64>,
}

/// A scenario's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// Over all repetitions.
    pub verdict: Verdict,
    /// Why it failed or was not judged; empty if it passed.
    pub reason: String,
    /// Passes among the repetitions that were judged; `None` if none was.
    pub pass_rate: Option<PassRate>,
    /// The repetitions, at least one.
    pub runs: Vec<ScenarioRun>,
}

/// One repetition of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioRun {
    /// The seed; `None` at temperature 0.
    pub seed: Option<u64>,
    /// Fails if one check fails; not judged if one was not run.
    pub verdict: Verdict,
    /// Why it failed or was not judged; empty if it passed.
    pub reason: String,
    /// The turns that were answered, in order.
    pub turns: Vec<TurnResult>,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnResult {
    /// The question.
    pub prompt: String,
    /// The answer as the model wrote it: not sanitised.
    pub answer: String,
    /// The reasoning before it, if there is any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Why it ended; `None` if it failed.
    pub finish_reason: Option<FinishReason>,
    /// Why there is no whole answer.
    pub error: Option<String>,
    /// In the order of the scenario file.
    pub checks: Vec<CheckResult>,
    /// `None` if it failed.
    pub figures: Option<Figures>,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// What is checked: `at most 30 words`.
    pub check: String,
    /// The result.
    pub verdict: Verdict,
    /// What was found: the reason of a failure, the figure that was compared.
    pub detail: String,
}

/// The result of a check, of a repetition or of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// Not judged.
    NotRun,
    /// Only shown: decides nothing.
    Shown,
}

impl Verdict {
    /// `pass`, `FAIL`, `not run`, `shown`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "not run",
            Self::Shown => "shown",
        }
    }
}

/// The figures of one answer, as [`AnswerStats`] defines them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Tokens of the prompt, including cached ones.
    pub prompt_tokens: Option<usize>,
    /// Prompt tokens that were in the KV cache.
    pub cached_tokens: Option<usize>,
    /// Tokens of the answer.
    pub completion_tokens: Option<usize>,
    /// Prompt and answer.
    pub total_tokens: Option<usize>,
    /// Waiting for the model; 0 if it was warm.
    pub load_ms: f64,
    /// Time to first token, from the submit or the end of loading.
    pub ttft_ms: Option<f64>,
    /// Evaluation of the prompt.
    pub prefill_ms: f64,
    /// From the submit to the end, loading included.
    pub total_ms: f64,
    /// Speed of the prefill.
    pub prompt_tokens_per_second: Option<f64>,
    /// Speed of the decode.
    pub tokens_per_second: Option<f64>,
    /// Median gap between tokens.
    pub inter_token_p50_ms: Option<f64>,
    /// 95th percentile of the gaps.
    pub inter_token_p95_ms: Option<f64>,
}

impl Figures {
    /// The figures of a finished answer; a count that a server does not tell is `None`.
    pub fn new(usage: &Usage, timing: &Timing) -> Self {
        let stats = AnswerStats::new(usage, timing);
        let [prompt_tokens, cached_tokens, completion_tokens] = usage.known();
        Self {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.zip(completion_tokens).map(|(prompt, completion)| prompt + completion),
            load_ms: ms(stats.load),
            ttft_ms: stats.ttft.map(ms),
            prefill_ms: ms(timing.prefill),
            total_ms: ms(timing.total),
            prompt_tokens_per_second: stats.prompt_tokens_per_second.map(hundredths),
            tokens_per_second: stats.tokens_per_second.map(hundredths),
            inter_token_p50_ms: stats.inter_token_p50.map(ms),
            inter_token_p95_ms: stats.inter_token_p95.map(ms),
        }
    }
}

/// The latency table. What Ctrl-C prevented is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Whether the first load read the files from the disk.
    pub page_cache: PageCache,
    /// The first answer of this process.
    pub cold: Option<FirstAnswer>,
    /// Answers with the model in memory.
    pub warm: Option<Warm>,
    /// From the request to release until the memory was given back.
    pub release_ms: Option<f64>,
    /// Bytes freed on the device: measured if it reports them, else the model's memory use.
    pub released_bytes: Option<u64>,
    /// The first answer after the release.
    pub after_release: Option<FirstAnswer>,
    /// Before the first load.
    pub before: Memory,
    /// With the model loaded, after the warm answers.
    pub loaded: Memory,
    /// After the release.
    pub after: Memory,
}

/// Where the first load found the model's files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageCache {
    /// Whether they were in the page cache before the load, after what `--drop-caches` did.
    pub state: CacheState,
    /// Share of their pages in the page cache before the first load, 0 to 1; `None` if unknown.
    pub cached_share: Option<f64>,
    /// What `--drop-caches` did; `None` without it.
    pub dropped_by: Option<String>,
}

/// State of the page cache before the first load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// At least 95 % of the files were in it.
    Warm,
    /// At most 5 % were.
    Cold,
    /// Between these.
    Partly,
    /// The files were not on disk, or the system does not say.
    #[default]
    Unknown,
}

/// An answer for which the model had to be loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstAnswer {
    /// The question.
    pub prompt: String,
    /// From the submit to the first token; `None` without a token. The sum of the phases.
    pub first_token_ms: Option<f64>,
    /// The parts of that time, in order.
    pub phases: Vec<Phase>,
    /// The answer's figures.
    pub figures: Figures,
    /// What the load said about where the weights came from: `from the page cache`.
    pub weights: Option<String>,
}

/// A part of the time to the first token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Which part.
    pub name: PhaseName,
    /// Its duration.
    pub ms: f64,
}

/// The parts of the time to the first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Locating the files, their headers, the device's context.
    Open,
    /// Downloading the files.
    Download,
    /// Checking a downloaded file.
    Verify,
    /// Reading the weights.
    Read,
    /// Copying the weights to the device.
    Upload,
    /// What follows the last byte of the weights: tokenizer, buffers, warm-up.
    Prepare,
    /// Evaluating the prompt.
    Prefill,
    /// The rest until the first token: rendering, sampling, waiting.
    FirstToken,
}

impl PhaseName {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Open => "open files and device",
            Self::Download => "download",
            Self::Verify => "verify",
            Self::Read => "read weights",
            Self::Upload => "copy weights to the device",
            Self::Prepare => "tokenizer and buffers",
            Self::Prefill => "prefill",
            Self::FirstToken => "first token",
        }
    }
}

impl From<LoadPhase> for PhaseName {
    fn from(phase: LoadPhase) -> Self {
        match phase {
            LoadPhase::Download => Self::Download,
            LoadPhase::Verify => Self::Verify,
            LoadPhase::Read => Self::Read,
            LoadPhase::Upload => Self::Upload,
        }
    }
}

/// Answers with the model in memory. The prompts begin differently, so that each is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warm {
    /// The questions.
    pub prompts: Vec<String>,
    /// Most tokens of each answer.
    pub max_tokens: usize,
    /// The figures of each.
    pub answers: Vec<Figures>,
    /// Median time to first token.
    pub ttft_p50_ms: Option<f64>,
    /// 95th percentile (nearest rank) of the time to first token.
    pub ttft_p95_ms: Option<f64>,
    /// Median total time.
    pub total_p50_ms: Option<f64>,
    /// 95th percentile of the total time.
    pub total_p95_ms: Option<f64>,
}

/// Memory at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident bytes of the process, by the operating system's count.
    pub resident_bytes: Option<u64>,
    /// GPU memory of this process, by NVML's count; `None` on a CPU, or where NVML does not show the process.
    pub gpu_own_bytes: Option<u64>,
    /// GPU memory of all processes, by NVML's count.
    pub gpu_used_bytes: Option<u64>,
}

/// Memory at a time of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemorySample {
    /// Since the begin of the run.
    pub at_ms: f64,
    /// The memory.
    #[serde(flatten)]
    pub memory: Memory,
}

/// Milliseconds, to the microsecond.
pub fn ms(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

/// Rounded to two decimals.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
