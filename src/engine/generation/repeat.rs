//! Evaluates a stored prompt again with the steps that evaluated it the first time, so that every key, value and logit is
//! the same, bit for bit, on the same build and device.

use super::Decoder;
use crate::engine::error::ModelError;
use crate::engine::model::Model;
use crate::engine::prefix::Prefix;
use crate::engine::source::CancelFlag;
use crate::protocol::{Kernels, Repetition, Span};

/// The prompt of `repeat`, if its steps fit the prompt and the context.
pub(super) fn checked(repeat: &Repetition, context_length: usize) -> Result<Vec<u32>, ModelError> {
    let kept: usize = repeat.spans.iter().map(|span| span.kept).sum();
    let mut at = 0;
    let fits = repeat.spans.iter().all(|span| {
        let within = 0 < span.kept && span.kept <= span.rows && at + span.rows <= context_length;
        at += span.kept;
        within
    });
    let whole = repeat.spans.last().is_some_and(|last| last.kept == last.rows);
    if kept == repeat.prompt.len() && fits && whole && kept < context_length {
        return Ok(repeat.prompt.clone());
    }
    Err(ModelError::Unsupported(format!(
        "the record of {} prompt tokens does not fit a context of {context_length}",
        repeat.prompt.len()
    )))
}

/// Evaluates the prompt, its last step with `decoder`; false if it was cancelled.
pub(super) fn prefill(
    model: &mut dyn Model,
    prefix: &mut Prefix,
    repeat: &Repetition,
    decoder: &mut Decoder,
    cancel: &CancelFlag,
) -> Result<bool, ModelError> {
    let prompt = &repeat.prompt;
    model.reusable_prefix(0, prompt.len());
    model.truncate_cache(0);
    prefix.cut(0);
    if repeat.spans.iter().any(|span| matches!(span.kernels, Kernels::Library | Kernels::Own)) {
        model.finish_warmup();
    }
    for (index, span) in repeat.spans.iter().enumerate() {
        let at = prefix.len();
        let last = index + 1 == repeat.spans.len();
        let steps = if span.kernels == Kernels::Step { span.kept } else { 1 };
        model.set_prompt_kernels((span.kernels != Kernels::Step).then_some(span.kernels));
        for step in 0..steps {
            if cancel.is_cancelled() {
                return Ok(false);
            }
            let from = at + step;
            if last && step + 1 == steps {
                decoder.begin(model, prompt, from)?;
            } else {
                model.forward(&rows(prompt, from, span), from, &mut decoder.logits)?;
            }
        }
        if span.kept < span.rows && model.truncate_cache(at + span.kept) != at + span.kept {
            return Err(ModelError::Unsupported("the KV cache cannot be cut where it was cut the first time".into()));
        }
        // The step as it was, and the cut: a later answer that keeps these tokens records both.
        let evaluated =
            if span.kernels == Kernels::Step { prompt[at..at + span.kept].to_vec() } else { rows(prompt, at, span) };
        prefix.extend(&evaluated, span.kernels);
        prefix.cut(at + span.kept);
    }
    Ok(true)
}

/// The tokens of one step from `from` on. Rows that the cache did not keep have other tokens now: rows do not depend on
/// later ones.
fn rows(prompt: &[u32], from: usize, span: &Span) -> Vec<u32> {
    let count = if span.kernels == Kernels::Step { 1 } else { span.rows };
    let filler = prompt.last().copied().unwrap_or_default();
    (from..from + count).map(|at| prompt.get(at).copied().unwrap_or(filler)).collect()
}
