//! One turn: render → fit → reuse the cache → prefill → decode → events. Runs synchronously on the loaded model;
//! independent of threads, queues and the lifecycle.

use std::sync::Arc;
use std::time::Duration;

use super::error::ModelError;
use super::lifecycle::ModelHealth;
use super::load::LoadedModel;
use super::model::Model;
use super::prefix::Prefix;
use super::prompt::{self, Rendering};
use super::sampler::Sampler;
use super::source::CancelFlag;
use super::tokenizer::Tokenizer;
use crate::clock::Timestamp;
use crate::protocol::*;

mod output;
mod overflow;
mod reasoning;
mod repeat;

use output::Output;
pub use overflow::{Fitted, fit, turn_starts, without_turns};
pub use reasoning::ReasoningSplitter;

/// A request that is ready to run.
pub struct Job<'a> {
    /// Messages, sampling parameters and limits.
    pub request: &'a GenerationRequest,
    /// Stops the answer within one token or one prefill chunk.
    pub cancel: &'a CancelFlag,
    /// When the request was submitted.
    pub submitted: Timestamp,
    /// When the model was loaded; may be before `submitted`.
    pub loaded_at: Timestamp,
}

/// A loaded model with the tokens of its KV cache.
pub struct LoadedEngine {
    /// Forward pass, tokenizer and template.
    pub loaded: LoadedModel,
    /// The tokens that the KV cache holds.
    pub prefix: Prefix,
    /// Whether the user was told that the template has no switch for reasoning; once for each load.
    pub missing_switch_told: bool,
}

/// Why a turn failed.
struct Failure {
    error: EngineError,
    health: ModelHealth,
}

/// Answers `job`; all events but the terminal one go to `emit`. Returns the terminal event and the model's health.
pub fn answer(warm: &mut LoadedEngine, job: &Job<'_>, emit: &mut dyn FnMut(EngineEvent)) -> (EngineEvent, ModelHealth) {
    let id = job.request.id;
    match run(warm, job, emit) {
        Ok((reason, usage, timing, trace)) => {
            emit(EngineEvent::Traced { id, trace: Arc::new(trace) });
            let at = job.submitted + timing.total;
            tracing::debug!(id = id.0, ?reason, ?usage, prefill = ?timing.prefill, total = ?timing.total, "answered");
            (EngineEvent::Finished { id, reason, usage, timing, at }, ModelHealth::Ok)
        }
        Err(Failure { error, health }) => {
            tracing::warn!(id = id.0, kind = ?error.kind, ?health, "answer failed");
            (EngineEvent::Failed { id, error, at: Timestamp::now() }, health)
        }
    }
}

/// The `Counted` event of the prompt of `request`; the tokens are an estimate if they far exceed the context. `None` if
/// the template fails.
pub fn count(warm: &LoadedEngine, request: CountRequest) -> Option<EngineEvent> {
    let CountRequest { id, messages, max_tokens, think } = request;
    let LoadedEngine { loaded, prefix, .. } = warm;
    let LoadedModel { tokenizer, template, info, .. } = loaded;
    let template = &template.thinking(think);
    let context_length = info.context_length;
    let whole = prompt::render_within(template, tokenizer, &messages, context_length).ok()?;
    let prompt_tokens = whole.tokens();
    let fitted = match whole {
        Rendering::Whole(prompt) if prompt_tokens < context_length => Some(Fitted { prompt, trimmed_turns: 0 }),
        _ => {
            let on_overflow = OverflowPolicy::Trim;
            let request = GenerationRequest { think, max_tokens, on_overflow, ..GenerationRequest::new(id, messages) };
            fit(template, tokenizer, &request, context_length, info.trained_context_length).ok()
        }
    };
    let left_out = fitted.as_ref().map(|fitted| fitted.trimmed_turns);
    let kept = |fitted: Fitted| prefix.reusable(&as_cached(prefix, tokenizer, fitted.prompt.tokens, context_length));
    let cached_tokens = fitted.map_or(0, kept);
    Some(EngineEvent::Counted { id, prompt_tokens, cached_tokens, left_out, context_length })
}

fn run(
    warm: &mut LoadedEngine,
    job: &Job<'_>,
    emit: &mut dyn FnMut(EngineEvent),
) -> Result<(FinishReason, Usage, Timing, Trace), Failure> {
    let LoadedEngine { loaded, prefix, missing_switch_told } = warm;
    let LoadedModel { model, tokenizer, template, info, fingerprint } = loaded;
    if job.request.think.is_some() && !info.think_switch && !std::mem::replace(missing_switch_told, true) {
        emit(EngineEvent::Warning(NO_THINK_SWITCH.into()));
    }
    let template = &template.thinking(job.request.think);
    let context_length = model.context_length();
    let fitted = fit(template, tokenizer, job.request, context_length, info.trained_context_length)
        .map_err(|error| Failure { error, health: ModelHealth::Ok })?;
    let repeat = job.request.repeat.as_deref();
    let tokens = match repeat {
        Some(repeat) => repeat::checked(repeat, context_length).map_err(turn_failure)?,
        None => as_cached(prefix, tokenizer, fitted.prompt.tokens, context_length),
    };
    if tokens.is_empty() {
        let error =
            EngineError::new(ErrorKind::Failed, "The chat template wrote nothing, so there is nothing to answer.");
        return Err(Failure { error, health: ModelHealth::Ok });
    }
    let mut output = Output::new(job.request, tokenizer, template, &fitted.prompt.text, emit);
    let mut decoder = Decoder::new(job.request.sampling.resolve(&info.sampling));
    let mut written = Vec::new();
    model.set_cancel_flag(job.cancel);
    let mut usage = Usage { prompt_tokens: tokens.len(), ..Usage::default() };
    let started = Timestamp::now();
    let prefilled = match repeat {
        Some(repeat) => repeat::prefill(&mut **model, prefix, repeat, &mut decoder, job.cancel),
        None => {
            prefill(&mut **model, prefix, &tokens, &mut decoder, job, fitted.trimmed_turns, &mut output, &mut usage)
        }
    };
    let spans = prefix.spans().to_vec();
    let mut prefill_time = Timestamp::now().since(started);
    let ended = match prefilled {
        Ok(false) => Ok(FinishReason::Cancelled),
        Ok(true) => {
            let limit = job.request.max_tokens.unwrap_or(usize::MAX).min(context_length - tokens.len());
            let is_end = |token| tokenizer.is_end_of_generation(token);
            let ended =
                decoder.run(&mut **model, prefix, &tokens, &mut written, limit, job.cancel, &is_end, &mut output);
            if let (true, Some(first)) = (decoder.on_device, output.first) {
                // The device decoder runs the end of the prefill and the first token in one call.
                prefill_time = first.since(started);
            }
            ended
        }
        Err(error) => Err(error),
    };
    let end = Timestamp::now();
    model.set_prompt_kernels(None);
    output.finish(end);
    let reason = match ended {
        Err(ModelError::Cancelled) => FinishReason::Cancelled,
        ended => ended.map_err(turn_failure)?,
    };
    usage.completion_tokens = output.count;
    let waited_until = job.loaded_at.max(job.submitted);
    let (decode, inter_token) = output.decode_times();
    let timing = Timing {
        load: job.loaded_at.since(job.submitted),
        ttft: output.first.unwrap_or(end).since(waited_until),
        prefill: prefill_time,
        decode,
        total: end.since(job.submitted),
        inter_token,
    };
    let trace = Trace {
        model_hash: fingerprint.get().to_owned(),
        template_hash: template.hash(),
        build: BUILD.to_owned(),
        device: info.device.clone(),
        variant: model.variant(),
        sampling: SamplingParams { seed: Some(decoder.seed), ..decoder.sampling },
        prompt: tokens,
        answer: written,
        spans,
    };
    Ok((reason, usage, timing, trace))
}

/// The program's version, and a hash of the sources that decide about an answer's tokens.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CHATNAP_ENGINE_HASH"), ")");

/// The prompt with the cache's tokens where they encode the same text, unless that exceeds the context.
fn as_cached(prefix: &Prefix, tokenizer: &Tokenizer, prompt: Vec<u32>, context_length: usize) -> Vec<u32> {
    let text = |token| (!tokenizer.is_control(token)).then(|| tokenizer.token_bytes(token)).filter(|b| !b.is_empty());
    let spelled = prefix.spelling(prompt.clone(), &text);
    if spelled.len() < context_length { spelled } else { prompt }
}

/// Interval at which `Model::is_ready` is polled.
const LOOK_AROUND: Duration = Duration::from_millis(2);

/// Blocks until the model is ready for a prompt of `tokens` tokens, or until `cancel` is raised.
fn wait_until_ready(model: &mut dyn Model, tokens: usize, cancel: &CancelFlag) {
    while !cancel.is_cancelled() && !model.is_ready(tokens) {
        std::thread::sleep(LOOK_AROUND);
    }
}

/// Evaluates the part of the prompt that the KV cache does not hold; false if it was cancelled.
#[allow(clippy::too_many_arguments, reason = "each is a different part of one job, and is used once")]
fn prefill(
    model: &mut dyn Model,
    prefix: &mut Prefix,
    tokens: &[u32],
    decoder: &mut Decoder,
    job: &Job<'_>,
    trimmed_turns: usize,
    output: &mut Output<'_>,
    usage: &mut Usage,
) -> Result<bool, ModelError> {
    let wanted = model.reusable_prefix(prefix.reusable(tokens), tokens.len());
    let cached = model.truncate_cache(wanted).min(wanted);
    prefix.cut(cached);
    usage.cached_tokens = cached;
    let (id, total) = (job.request.id, tokens.len());
    let mut done = cached;
    wait_until_ready(model, total - done, job.cancel);
    loop {
        output.tell(EngineEvent::Prefill { id, done, total, cached, trimmed_turns, at: Timestamp::now() });
        if job.cancel.is_cancelled() {
            return Ok(false);
        }
        if done == total {
            return Ok(true);
        }
        // The chunk size may change between chunks: the same tokens take longer deeper in the context.
        let next = (done + model.prefill_chunk().max(1)).min(total);
        if next == total {
            decoder.begin(model, tokens, done)?;
        } else {
            model.forward(&tokens[done..next], done, &mut decoder.logits)?;
        }
        prefix.extend(&tokens[done..next], kernels(model, next - done));
        done = next;
    }
}

/// The kernels that evaluated a step of `rows` tokens just now.
fn kernels(model: &mut dyn Model, rows: usize) -> Kernels {
    if rows == 1 { Kernels::Step } else { model.prompt_kernels() }
}

/// The decode loop of one answer; samples on the host, or on the device if the model has a device decoder.
struct Decoder {
    sampling: SamplingParams,
    seed: u64,
    sampler: Option<Sampler>,
    on_device: bool,
    logits: Vec<f32>,
}

impl Decoder {
    fn new(sampling: SamplingParams) -> Self {
        let seed = sampling.seed.unwrap_or_else(random_seed);
        Self { sampling, seed, sampler: None, on_device: false, logits: Vec::new() }
    }

    /// Evaluates the last part of the prompt, from `position` on; the next call of `next` samples the first token.
    fn begin(&mut self, model: &mut dyn Model, prompt: &[u32], position: usize) -> Result<(), ModelError> {
        let recent = &prompt[prompt.len() - self.sampling.repeat_last_n.min(prompt.len())..];
        if let Some(device) = model.device_decoder() {
            self.on_device = true;
            return device.begin(&prompt[position..], position, recent, &self.sampling, self.seed);
        }
        let mut sampler = Sampler::new(&self.sampling, self.seed);
        recent.iter().for_each(|&token| sampler.accept(token));
        self.sampler = Some(sampler);
        model.forward(&prompt[position..], position, &mut self.logits)
    }

    /// Decodes up to `limit` tokens after `prompt` into `written`.
    #[allow(clippy::too_many_arguments, reason = "each is a different part of one job, and is used once")]
    fn run(
        &mut self,
        model: &mut dyn Model,
        prefix: &mut Prefix,
        prompt: &[u32],
        written: &mut Vec<u32>,
        limit: usize,
        cancel: &CancelFlag,
        is_end: &dyn Fn(u32) -> bool,
        output: &mut Output<'_>,
    ) -> Result<FinishReason, ModelError> {
        let ended = loop {
            if written.len() >= limit {
                break Ok(FinishReason::Length);
            }
            if cancel.is_cancelled() {
                break Ok(FinishReason::Cancelled);
            }
            match self.grow(model, prefix, cancel, written) {
                Ok(true) => {}
                Ok(false) => break Ok(FinishReason::Cancelled),
                Err(error) => break Err(error),
            }
            let token = match self.next(model, prefix, prompt.len(), written) {
                Ok(token) => token,
                Err(error) => break Err(error),
            };
            written.push(token);
            if is_end(token) {
                break Ok(FinishReason::Stop);
            }
            output.token(token, Timestamp::now());
        };
        self.end(model, prefix, prompt.len(), written)?;
        ended
    }

    /// Prepares the cache for one more position. A model whose RoPE depends on the sequence length (LongRoPE) has to
    /// evaluate the whole sequence again when it crosses the limit. False if that was cancelled.
    fn grow(
        &mut self,
        model: &mut dyn Model,
        prefix: &mut Prefix,
        cancel: &CancelFlag,
        written: &[u32],
    ) -> Result<bool, ModelError> {
        let held = prefix.len();
        if self.on_device || written.is_empty() || model.reusable_prefix(held, held + 1) == held {
            return Ok(true);
        }
        for part in prefix.take().chunks(model.prefill_chunk().max(1)) {
            if cancel.is_cancelled() {
                return Ok(false);
            }
            model.forward(part, prefix.len(), &mut self.logits)?;
            prefix.extend(part, kernels(model, part.len()));
        }
        Ok(true)
    }

    /// Samples the token after `prompt` tokens and `written`, whose last token is not evaluated yet.
    fn next(
        &mut self,
        model: &mut dyn Model,
        prefix: &mut Prefix,
        prompt: usize,
        written: &[u32],
    ) -> Result<u32, ModelError> {
        let Some(sampler) = &mut self.sampler else {
            let lost = || ModelError::Device { message: "the decode loop is gone".into(), sticky: false };
            return model.device_decoder().ok_or_else(lost)?.next_token();
        };
        if let Some(&last) = written.last() {
            model.forward(&[last], prompt + written.len() - 1, &mut self.logits)?;
            prefix.extend(&[last], Kernels::Step);
        }
        // Stops at the first finite logit, usually the first of all. Without any, the sampled token would be arbitrary.
        if !self.logits.iter().any(|logit| logit.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        let token = sampler.sample(&mut self.logits);
        sampler.accept(token);
        Ok(token)
    }

    /// Ends the device's decode loop and records in `prefix` which tokens it evaluated.
    fn end(
        &mut self,
        model: &mut dyn Model,
        prefix: &mut Prefix,
        prompt: usize,
        written: &[u32],
    ) -> Result<(), ModelError> {
        if !self.on_device {
            return Ok(());
        }
        let Some(device) = model.device_decoder() else { return Ok(()) };
        let evaluated = device.end()?.saturating_sub(prompt).min(written.len());
        prefix.cut(prompt);
        prefix.extend(&written[..evaluated], Kernels::Step);
        Ok(())
    }
}

/// The message for the user, and whether the model has to be loaded again.
fn turn_failure(error: ModelError) -> Failure {
    const KEPT: &str = "The text so far is kept; the next message loads the model again.";
    let kind = error.kind();
    let (message, health) = match error {
        ModelError::OutOfMemory(message) => (
            format!("Memory ran out during the answer: {message}. {KEPT} A shorter --context-length needs less."),
            ModelHealth::Reload,
        ),
        ModelError::Device { message, sticky: true } => (
            format!(
                "The device was lost: {message}. The text so far is kept; the next message starts the device again. \
                 If that fails too, restart chatnap or choose another device."
            ),
            ModelHealth::DeviceLost,
        ),
        ModelError::Device { message, sticky: false } => {
            (format!("The device failed: {message}. {KEPT}"), ModelHealth::Reload)
        }
        error => (format!("The answer failed: {error}. {KEPT}"), ModelHealth::Reload),
    };
    Failure { error: EngineError::new(kind, message), health }
}

/// The `Failed` event after a panic with `message` in the model's code.
pub fn panic_failure(id: RequestId, message: &str) -> EngineEvent {
    let message = format!(
        "The engine failed with an internal error ({message}). The text so far is kept; the next message loads the \
         model again."
    );
    EngineEvent::Failed { id, error: EngineError::new(ErrorKind::Failed, message), at: Timestamp::now() }
}

/// The `Finished` event of a request that was cancelled before it ran.
pub fn cancelled(id: RequestId, submitted: Timestamp, at: Timestamp) -> EngineEvent {
    let total: Duration = at.since(submitted);
    EngineEvent::Finished {
        id,
        reason: FinishReason::Cancelled,
        usage: Usage::default(),
        timing: Timing { total, ..Timing::default() },
        at,
    }
}

#[cfg(test)]
mod tests;
