//! The native forward pass on the CPU, for every family of `config`: RMS norms, RoPE, grouped-query attention, gated
//! feed-forward. Composes the kernels of `engine::cpu`; independent of file formats.

use std::time::{Duration, Instant};

use super::config::{Activation, ModelConfig};
use super::{Model, check_tokens};
use crate::engine::cpu::{self, Activations, AttentionShape, KvCache, Threads};
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::{LoadProgress, MemoryUse};

mod weights;

use weights::{Layer, Linear, Weights};

/// Target time of a prefill step, so that progress is visible. The cancel flag is checked between its layers.
const STEP_TIME: Duration = Duration::from_millis(500);
/// Bounds of a prefill step, in tokens. Weights are unpacked once per step; beyond 64 rows that cost is negligible.
const CHUNKS: std::ops::RangeInclusive<usize> = 16..=256;

/// A loaded model on the CPU.
pub(in crate::engine) struct Transformer {
    config: ModelConfig,
    weights: Weights,
    cache: KvCache,
    pool: Threads,
    scratch: Scratch,
    /// Tokens per prefill step, from the speed measured so far.
    chunk: usize,
    /// Whether the keys in the cache were rotated with `config.short_rope`.
    short: bool,
    /// Checked between the layers of a step.
    cancel: CancelFlag,
    /// The residual stream after each layer, recorded if a test sets it.
    #[cfg(test)]
    layers_seen: Option<Vec<Vec<f32>>>,
}

/// Buffers that are reused between steps and grow to the largest one.
#[derive(Default)]
struct Scratch {
    /// The residual stream: rows × hidden.
    x: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    input: Activations,
    cos: [Vec<f32>; 2],
    sin: [Vec<f32>; 2],
}

impl Transformer {
    /// Reads the weights and allocates the KV cache.
    pub(in crate::engine) fn load(
        config: &ModelConfig,
        plan: &TensorPlan,
        threads: Option<usize>,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let pool = Threads::new(threads);
        let cache = KvCache::new(config.layers, config.kv_heads, config.context_length, config.head_dim)?;
        let weights = Weights::read(config, plan, pool.n(), cancel, progress)?;
        let config = config.clone();
        Ok(Self {
            config,
            weights,
            cache,
            pool,
            scratch: Scratch::default(),
            chunk: 64,
            short: false,
            cancel: CancelFlag::default(),
            #[cfg(test)]
            layers_seen: None,
        })
    }

    /// Evaluates one step and stores the normed hidden states of its last `last` tokens in `scratch.normed`.
    fn step(&mut self, tokens: &[u32], position: usize, last: usize) -> Result<(), ModelError> {
        let Self {
            config,
            weights,
            cache,
            pool,
            scratch,
            short,
            cancel,
            #[cfg(test)]
            layers_seen,
            ..
        } = self;
        let rows = tokens.len();
        embed(config, weights, tokens, &mut scratch.x);
        let [global, local] = [0, 1];
        let rope = config.short_rope.as_ref().filter(|_| *short).map_or(&config.rope, |short| &short.rope);
        rope.tables(position, rows, &mut scratch.cos[global], &mut scratch.sin[global]);
        if let Some(rope) = &config.local_rope {
            rope.tables(position, rows, &mut scratch.cos[local], &mut scratch.sin[local]);
        }
        for (index, layer) in weights.layers.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            // After the keys and values of the last layer, only the requested rows are needed.
            let wanted = if index + 1 == config.layers { last } else { rows };
            scratch.attend(config, layer, cache, pool, index, position, rows, wanted);
            if wanted > 0 {
                scratch.feed_forward(config, layer, pool, wanted);
            }
            #[cfg(test)]
            if let Some(seen) = layers_seen {
                seen.push(scratch.x.clone());
            }
        }
        resize(&mut scratch.normed, last * config.hidden);
        cpu::rms_norm(pool, &scratch.x, &weights.output_norm, config.norm_epsilon, &mut scratch.normed);
        Ok(())
    }
}

/// Writes the scaled embeddings of `tokens` to `x`, row by row.
fn embed(config: &ModelConfig, weights: &Weights, tokens: &[u32], x: &mut Vec<f32>) {
    resize(x, tokens.len() * config.hidden);
    for (row, token) in x.chunks_exact_mut(config.hidden).zip(tokens) {
        weights.embedding.dequantize_row(*token as usize, row);
        if config.embedding_scale != 1.0 {
            row.iter_mut().for_each(|v| *v *= config.embedding_scale);
        }
    }
}

/// Sets the length without preserving the contents.
fn resize(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() != length {
        buffer.clear();
        buffer.resize(length, 0.0);
    }
}

fn add_bias(linear: &Linear, out: &mut [f32]) {
    if let Some(bias) = &linear.bias {
        for row in out.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
    }
}

impl Scratch {
    /// Attention of one layer, added to the residual stream, which is reduced to the last `wanted` rows.
    #[expect(clippy::too_many_arguments, reason = "separately borrowed fields of the model, and the position")]
    fn attend(
        &mut self,
        config: &ModelConfig,
        layer: &Layer,
        cache: &mut KvCache,
        pool: &Threads,
        index: usize,
        position: usize,
        rows: usize,
        wanted: usize,
    ) {
        let (dim, hidden, eps) = (config.head_dim, config.hidden, config.norm_epsilon);
        resize(&mut self.normed, rows * hidden);
        cpu::rms_norm(pool, &self.x, &layer.attention_norm, eps, &mut self.normed);
        self.input.set(pool, &self.normed, rows, hidden);
        resize(&mut self.q, rows * config.heads * dim);
        resize(&mut self.k, rows * config.kv_heads * dim);
        resize(&mut self.v, rows * config.kv_heads * dim);
        let jobs = &mut [
            (&layer.q.weight, &mut self.q[..]),
            (&layer.k.weight, &mut self.k[..]),
            (&layer.v.weight, &mut self.v[..]),
        ];
        cpu::matmul_many(pool, jobs, &mut self.input);
        add_bias(&layer.q, &mut self.q);
        add_bias(&layer.k, &mut self.k);
        add_bias(&layer.v, &mut self.v);
        if let Some((q_norm, k_norm)) = &layer.head_norms {
            cpu::rms_norm_heads(pool, &mut self.q, q_norm, eps);
            cpu::rms_norm_heads(pool, &mut self.k, k_norm, eps);
        }
        let rope = config.layer_rope(index);
        let table = usize::from(!std::ptr::eq(rope, &config.rope));
        let (cos, sin) = (&self.cos[table], &self.sin[table]);
        cpu::rope(pool, rope.layout, &mut self.q, dim, cos, sin, rows);
        cpu::rope(pool, rope.layout, &mut self.k, dim, cos, sin, rows);
        cache.write(pool, index, position, &self.k, &self.v);
        if wanted == 0 {
            return self.x.clear();
        }
        let skipped = rows - wanted;
        let queries = &self.q[skipped * config.heads * dim..];
        resize(&mut self.attended, queries.len());
        let shape =
            AttentionShape { heads: config.heads, window: config.windows[index], scale: config.attention_scale };
        cpu::attention(pool, &shape, cache, index, queries, position + skipped, &mut self.attended);
        self.x.drain(..skipped * hidden);
        self.input.set(pool, &self.attended, wanted, config.heads * dim);
        self.add_projection(pool, &layer.attention_output, layer.post_attention_norm.as_deref(), eps, wanted * hidden);
    }

    /// The feed-forward part of one layer, added to the residual stream.
    fn feed_forward(&mut self, config: &ModelConfig, layer: &Layer, pool: &Threads, rows: usize) {
        let (hidden, ff, eps) = (config.hidden, config.feed_forward, config.norm_epsilon);
        resize(&mut self.normed, rows * hidden);
        cpu::rms_norm(pool, &self.x, &layer.ffn_norm, eps, &mut self.normed);
        self.input.set(pool, &self.normed, rows, hidden);
        resize(&mut self.gate, rows * ff);
        resize(&mut self.up, rows * ff);
        let jobs = &mut [(&layer.gate.weight, &mut self.gate[..]), (&layer.up.weight, &mut self.up[..])];
        cpu::matmul_many(pool, jobs, &mut self.input);
        add_bias(&layer.gate, &mut self.gate);
        add_bias(&layer.up, &mut self.up);
        match config.activation {
            Activation::Silu => cpu::silu_mul(pool, &mut self.gate, &self.up),
            Activation::GeluTanh => cpu::gelu_mul(pool, &mut self.gate, &self.up),
        }
        self.input.set(pool, &self.gate, rows, ff);
        self.add_projection(pool, &layer.down, layer.post_ffn_norm.as_deref(), eps, rows * hidden);
    }

    /// `x += norm(linear(input))`; without the norm if the family has none there.
    fn add_projection(&mut self, pool: &Threads, linear: &Linear, norm: Option<&[f32]>, eps: f32, length: usize) {
        resize(&mut self.normed, length);
        cpu::matmul(pool, &linear.weight, &mut self.input, &mut self.normed);
        add_bias(linear, &mut self.normed);
        if let Some(norm) = norm {
            cpu::rms_norm_heads(pool, &mut self.normed, norm, eps);
        }
        cpu::add(pool, &self.normed, &mut self.x);
    }

    fn bytes(&self) -> usize {
        let tables = self.cos.iter().chain(&self.sin).map(Vec::capacity).sum::<usize>();
        let rows = [&self.x, &self.normed, &self.q, &self.k, &self.v, &self.attended, &self.gate, &self.up];
        (rows.iter().map(|v| v.capacity()).sum::<usize>() + tables) * size_of::<f32>()
    }
}

impl Model for Transformer {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.chunk
    }

    fn variant(&self) -> String {
        format!("{}, {} threads", self.pool.isa().name(), self.pool.n())
    }

    fn truncate_cache(&mut self, positions: usize) -> usize {
        // Keys and values are addressed by position: those past the end are overwritten before they are read.
        positions.min(self.config.context_length)
    }

    fn reusable_prefix(&mut self, positions: usize, total: usize) -> usize {
        let short = self.config.short_rope.as_ref().is_some_and(|short| total <= short.positions);
        if short == self.short {
            return positions;
        }
        // Cached keys were rotated with the other RoPE table; none of the cache can be reused.
        self.short = short;
        0
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.check(tokens, position, last)?;
        logits.clear();
        // Steps are bounded to bound the buffers; the requested rows can span several steps.
        let most = *CHUNKS.end();
        let from = tokens.len() - last;
        let mut at = 0;
        while at < tokens.len() {
            let step = &tokens[at..tokens.len().min(at + most)];
            let wanted = (at + step.len()).saturating_sub(from.max(at));
            let started = Instant::now();
            self.step(step, position + at, wanted)?;
            self.output(wanted, logits);
            self.learn(step.len(), started.elapsed());
            at += step.len();
        }
        Ok(())
    }

    fn set_cancel_flag(&mut self, cancel: &CancelFlag) {
        self.cancel = cancel.clone();
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse {
            weights: self.weights.bytes(),
            kv_cache: self.cache.bytes() as u64,
            workspace: self.scratch.bytes() as u64,
        }
    }

    fn step_bytes(&self, positions: usize) -> Option<u64> {
        let position = self.cache.bytes() / self.config.context_length.max(1);
        Some(self.weights.bytes_per_step() + (position * positions) as u64)
    }
}

impl Transformer {
    fn check(&self, tokens: &[u32], position: usize, last: usize) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, last)?;
        let most = self.config.short_rope.as_ref().filter(|_| self.short).map_or(usize::MAX, |short| short.positions);
        if position + tokens.len() > most {
            return Err(ModelError::Unsupported(format!(
                "a sequence of up to {most} positions has grown beyond them without being evaluated again"
            )));
        }
        Ok(())
    }

    /// Appends the logits of the rows in `scratch.normed`.
    fn output(&mut self, rows: usize, logits: &mut Vec<f32>) {
        if rows == 0 {
            return;
        }
        let start = logits.len();
        logits.resize(start + rows * self.config.vocab_size, 0.0);
        self.scratch.input.set(&self.pool, &self.scratch.normed, rows, self.config.hidden);
        cpu::matmul(&self.pool, self.weights.output(), &mut self.scratch.input, &mut logits[start..]);
        if let Some(cap) = self.config.logit_softcap {
            logits[start..].iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }

    /// Adapts the prefill step to the measured speed. Steps below the minimum size are ignored: their timing is noise.
    fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens < *CHUNKS.start() {
            return;
        }
        let fitting = tokens as f64 * STEP_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let rounded = (fitting as usize / 16 * 16).clamp(*CHUNKS.start(), *CHUNKS.end());
        // Shrinks at once, grows by 16 tokens per step: a step takes longer deeper in the context.
        self.chunk = if rounded < self.chunk { rounded } else { (self.chunk + 16).min(rounded) };
    }
}

#[cfg(test)]
mod tests;
