//! Perplexity of a text by llama.cpp's protocol (`tools/perplexity`), so that results are comparable.

use super::Model;
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::tokenizer::Tokenizer;

/// Default tokens per chunk.
pub const DEFAULT_CHUNK: usize = 512;

/// Logit rows in memory at a time; with a vocabulary of 262,144 tokens each takes 1 MB.
const ROWS: usize = 32;

/// The result over a whole text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// e to the mean negative log likelihood of the scored tokens.
    pub perplexity: f64,
    /// Standard error of the perplexity.
    pub error: f64,
    /// Chunks evaluated.
    pub chunks: usize,
    /// Tokens per chunk.
    pub context_length: usize,
}

/// Running sums of the negative log likelihood and its square.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Score {
    fn add(&mut self, negative_log_likelihood: f64) {
        self.count += 1;
        self.sum += negative_log_likelihood;
        self.squares += negative_log_likelihood * negative_log_likelihood;
    }

    fn result(&self, chunks: usize, context_length: usize) -> Perplexity {
        let count = self.count as f64;
        let mean = self.sum / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        let error = if self.count > 1 { (variance / (count - 1.0)).sqrt() } else { 0.0 };
        Perplexity { perplexity: mean.exp(), error: error * mean.exp(), chunks, context_length }
    }
}

/// Splits `text` into whole chunks of `context_length` tokens, evaluates each separately and scores its second half:
/// the logits at positions `context_length / 2` to `context_length - 2` against the next tokens. The first token of a
/// chunk is BOS if the tokenizer adds one. `progress` receives the result so far and the total number of chunks.
pub fn perplexity(
    model: &mut dyn Model,
    tokenizer: &Tokenizer,
    text: &str,
    context_length: usize,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(Perplexity, usize),
) -> Result<Perplexity, ModelError> {
    if context_length < 4 {
        return Err(ModelError::Unsupported(format!(
            "chunks of {context_length} tokens were asked for; a chunk takes at least 4"
        )));
    }
    if context_length > model.context_length() {
        return Err(ModelError::Unsupported(format!(
            "chunks of {context_length} tokens were asked for; {} are the most that this context holds",
            model.context_length()
        )));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut tokens: Vec<u32> = bos.into_iter().collect();
    tokens.extend(tokenizer.encode(text));
    let chunks = tokens.len() / context_length;
    if chunks == 0 {
        return Err(ModelError::Unsupported(format!(
            "the text has {} tokens, but one chunk takes {context_length}; use a longer text or a smaller --context-length",
            tokens.len()
        )));
    }
    let mut score = Score::default();
    for (index, chunk) in tokens.chunks_exact_mut(context_length).enumerate() {
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        score_chunk(model, chunk, cancel, &mut score)?;
        progress(score.result(index + 1, context_length), chunks);
    }
    Ok(score.result(chunks, context_length))
}

fn score_chunk(model: &mut dyn Model, chunk: &[u32], cancel: &CancelFlag, score: &mut Score) -> Result<(), ModelError> {
    let half = chunk.len() / 2;
    let mut logits = Vec::new();
    model.reusable_prefix(0, chunk.len());
    model.truncate_cache(0);
    let mut at = 0;
    // No token follows the last one, so its prediction is not scored and it is not evaluated.
    while at < chunk.len() - 1 {
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        let (step, end) = if at < half { (model.prefill_chunk().max(1), half) } else { (ROWS, chunk.len() - 1) };
        let end = end.min(at + step);
        if at < half {
            model.forward(&chunk[at..end], at, &mut logits)?;
        } else {
            model.forward_rows(&chunk[at..end], at, end - at, &mut logits)?;
            let rows = logits.chunks_exact(model.vocab_size());
            for (row, next) in rows.zip(&chunk[at + 1..=end]) {
                let scored = negative_log_likelihood(row, *next);
                if !scored.is_finite() {
                    return Err(ModelError::NotFinite);
                }
                score.add(scored);
            }
        }
        at = end;
    }
    Ok(())
}

/// `-ln softmax(logits)[token]`, in double precision.
fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|l| (f64::from(*l) - max).exp()).sum();
    max + sum.ln() - f64::from(logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_of_equal_logits_is_the_vocabulary_size() {
        let mut score = Score::default();
        for token in 0..8 {
            score.add(negative_log_likelihood(&[3.0; 8], token));
        }
        let result = score.result(1, 16);
        assert!((result.perplexity - 8.0).abs() < 1e-9, "{result:?}");
        assert!(result.error.abs() < 1e-6, "{result:?}");
    }

    #[test]
    fn error_is_the_standard_error_of_the_mean() {
        let mut score = Score::default();
        [1.0, 3.0].into_iter().for_each(|nll| score.add(nll));
        let result = score.result(1, 16);
        assert!((result.perplexity - 2_f64.exp()).abs() < 1e-9);
        assert!((result.error - 2_f64.exp()).abs() < 1e-9, "{result:?}");
    }
}
