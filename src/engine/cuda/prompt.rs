//! Prefill: a prompt's tokens through all layers in chunks, and rows of logits.

use std::ops::Range;

use super::driver::LaunchConfig;
use super::exchange::{Peers, halves};
use super::layout::Mat;
use super::load::weights::Layer;
use super::matmul::hopper_skinny::Order;
use super::params::*;
use super::rank::{LOGIT_ROWS, Rank};
use crate::engine::error::ModelError;

/// Bytes of shared memory of prefill attention: a tile of queries, two each of keys and values.
pub(super) fn prefill_shared(head_dim: usize) -> u32 {
    (5 * 64 * (head_dim + 8) * 2) as u32
}

impl Rank {
    /// Runs `tokens` (at most one chunk) through all layers; leaves the residual stream of each token in `buffers.x`.
    pub(super) fn prefill(&mut self, tokens: &[u32], position: usize) -> Result<(), ModelError> {
        let count = tokens.len();
        let signed: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        self.buffers.tokens.write(&self.gpu, 0, &signed)?;
        let args = EmbedArgs {
            m: self.layout.embedding,
            tokens: self.buffers.tokens.pointer(),
            out: self.buffers.x.pointer(),
            state: self.buffers.state.pointer(),
            ..EmbedArgs::default()
        };
        self.launch_epochs()?;
        let grid = ((self.config.hidden / 32).div_ceil(64) as u32, count as u32, 1);
        // SAFETY: `x` has a row for every token of a chunk.
        unsafe {
            self.kernels.embed.launch(
                self.gpu.stream,
                LaunchConfig { grid, threads: 64, ..LaunchConfig::default() },
                &args,
            )?
        };
        for index in 0..self.layout.layers.len() {
            self.prefill_layer(index, count, position)?;
        }
        Ok(())
    }

    fn prefill_layer(&mut self, index: usize, count: usize, position: usize) -> Result<(), ModelError> {
        let layer = self.layout.layers[index];
        let ff = self.config.feed_forward;
        let (q, kv) = (self.config.heads * self.config.head_dim, self.config.kv_heads * self.config.head_dim);
        let (x, normed) = (self.buffers.x.pointer(), self.buffers.normed.pointer());
        let (qkv, attended) = (self.buffers.qkv.pointer(), self.buffers.attended.pointer());
        let (gate_up, activated) = (self.buffers.gate_up.pointer(), self.buffers.activated.pointer());

        let in_order = |mats: &[Mat]| self.gemm.order(mats, count);
        let (first, second) = ([layer.q, layer.k, layer.v], [layer.gate, layer.up]);
        let orders = [in_order(&first), in_order(&[layer.output]), in_order(&second), in_order(&[layer.down])];

        self.norm(x, layer.attention_norm, count, orders[0])?;
        self.gemm.multiply(&self.gpu, &first, (normed, count), (qkv, q + 2 * kv), Epilogue::StoreBf16)?;
        self.launch_rope(index, &layer, count, position, false)?;
        self.prefill_attention(index, count, position, orders[1])?;
        self.add_product(layer.output, (attended, count))?;

        self.norm(x, layer.ffn_norm, count, orders[2])?;
        self.gemm.multiply(&self.gpu, &second, (normed, count), (gate_up, 2 * ff), Epilogue::StoreBf16)?;
        let args = SwigluArgs {
            input: gate_up,
            out: activated,
            width: ff as i32,
            tokens: count as i32,
            order: orders[3] as i32,
        };
        let units = (ff / 8 * count).div_ceil(256) as u64;
        // SAFETY: both buffers have a row for every token of a chunk.
        unsafe {
            self.kernels.swiglu.launch(self.gpu.stream, self.overlapping(LaunchConfig::linear(units, 256)), &args)?
        };
        self.add_product(layer.down, (activated, count))
    }

    /// Adds the product of the `count` rows at `a` to the residual stream: with several GPUs, that of all of them.
    fn add_product(&mut self, mat: Mat, (a, count): (u64, usize)) -> Result<(), ModelError> {
        let (x, hidden) = (self.buffers.x.pointer(), self.config.hidden);
        let Some(mut peers) = self.peers.take() else {
            return self.gemm.multiply(&self.gpu, &[mat], (a, count), (x, hidden), Epilogue::AddF32);
        };
        let added = self.add_parts(&mut peers, mat, (a, count));
        self.peers = Some(peers);
        added
    }

    /// As `add_product`, with the parts of all ranks: each is bf16, and all ranks add them in the same order. The first
    /// half of a long prompt is added while the second is multiplied.
    fn add_parts(&mut self, peers: &mut Peers, mat: Mat, (a, count): (u64, usize)) -> Result<(), ModelError> {
        let hidden = self.config.hidden;
        let buffer = peers.turn & 1;
        peers.turn += 1;
        let halves = || halves(count).into_iter().filter(|tokens| !tokens.is_empty()).enumerate();
        for (half, tokens) in halves() {
            let (from, to) = (a + (tokens.start * mat.cols as usize * 2) as u64, tokens.start * hidden * 2);
            self.gemm.set_room(self.chunk - tokens.start);
            let out = (peers.own_part(buffer) + to as u64, hidden);
            let done = self.gemm.multiply(&self.gpu, &[mat], (from, tokens.len()), out, Epilogue::StoreBf16);
            self.gemm.set_room(self.chunk);
            done?;
            peers.publish(&self.gpu, buffer, half, to..tokens.end * hidden * 2)?;
        }
        peers.meet()?;
        for (half, tokens) in halves() {
            peers.await_parts(&peers.side, buffer, half)?;
            self.launch_combine(peers, buffer, &tokens)?;
        }
        peers.added.record(peers.side.0)?;
        peers.added.hold(self.gpu.stream)
    }

    fn launch_combine(&self, peers: &Peers, buffer: usize, tokens: &Range<usize>) -> Result<(), ModelError> {
        let Some(kernels) = &self.kernels.parallel else { return Ok(()) };
        let first = (tokens.start * self.config.hidden) as u64;
        let mut parts = [0; MOST_RANKS];
        (0..peers.share.ranks).for_each(|rank| parts[rank] = peers.part_of(rank, buffer) + first * 2);
        let octets = (tokens.len() * self.config.hidden / 8) as u64;
        let args = CombineArgs {
            parts,
            x: self.buffers.x.pointer() + first * 4,
            octets,
            ranks: peers.share.ranks as i32,
            pad: 0,
        };
        let blocks = octets.div_ceil(256).min(self.gpu.properties.multiprocessors as u64 * 4);
        // SAFETY: all parts and `x` have a row for every token of a chunk.
        unsafe { kernels.combine_rows.launch(peers.side.0, LaunchConfig::linear(blocks, 256), &args) }
    }

    /// Enables programmatic dependent launch, for kernels that call `pdl_wait`.
    fn overlapping(&self, shape: LaunchConfig) -> LaunchConfig {
        LaunchConfig { overlap: self.tuning.overlap, ..shape }
    }

    fn norm(&self, x: u64, weight: u64, rows: usize, order: Order) -> Result<(), ModelError> {
        let args = NormArgs {
            x,
            weight,
            out: self.buffers.normed.pointer(),
            eps: self.config.norm_epsilon,
            cols: self.config.hidden as i32,
            order: order as i32,
        };
        // SAFETY: `normed` has a row for every token of a chunk.
        unsafe {
            self.kernels.norm_rows.launch(
                self.gpu.stream,
                self.overlapping(LaunchConfig::linear(rows as u64, 256)),
                &args,
            )
        }
    }

    /// Bias, QK-norm, rope and KV write: for a prompt's rows, or (`step`) for one token's f32 Q and K.
    pub(super) fn launch_rope(
        &self,
        index: usize,
        layer: &Layer,
        count: usize,
        position: usize,
        step: bool,
    ) -> Result<(), ModelError> {
        let (b, c) = (&self.buffers, &self.config);
        let args = RopeArgs {
            qkv: b.qkv.pointer(),
            q: b.step_q.pointer(),
            k: b.step_k.pointer(),
            bias_q: layer.q_bias,
            bias_k: layer.k_bias,
            bias_v: layer.v_bias,
            norm_q: layer.q_norm,
            norm_k: layer.k_norm,
            k_cache: self.keys(index),
            v_cache: self.values(index),
            rope: self.rope.pointer(),
            state: if step { b.state.pointer() } else { 0 },
            eps: c.norm_epsilon,
            tokens: count as i32,
            position: position as i32,
            heads: c.heads as i32,
            kv_heads: c.kv_heads as i32,
            head_dim: c.head_dim as i32,
            rope_half: c.rope.frequencies.len() as i32,
            neox: self.neox(),
            context: c.context_length as i32,
        };
        let items = count * (c.heads + if step { 1 } else { 2 } * c.kv_heads);
        let shape = self.overlapping(LaunchConfig::linear(items.div_ceil(8) as u64, 256));
        // SAFETY: the cache has room for every position.
        unsafe { self.kernels.rope_kv.launch(self.gpu.stream, shape, &args) }
    }

    fn prefill_attention(&self, index: usize, count: usize, position: usize, order: Order) -> Result<(), ModelError> {
        let (b, c) = (&self.buffers, &self.config);
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let args = PrefillAttentionArgs {
            q: b.qkv.pointer(),
            k: self.keys(index),
            v: self.values(index),
            out: b.attended.pointer(),
            scale: c.attention_scale,
            tokens: count as i32,
            position: position as i32,
            heads: c.heads as i32,
            heads_per_kv: c.group() as i32,
            context: c.context_length as i32,
            window: self.window(index),
            q_stride: (q + 2 * kv) as i32,
            order: order as i32,
        };
        if let Some(hopper) = &self.hopper {
            // SAFETY: the buffers are those of the tensor maps; the cache holds all positions up to the chunk's end.
            return unsafe { hopper.launch(&self.gpu, &args, self.tuning.overlap) };
        }
        let shared = prefill_shared(c.head_dim);
        let grid = (count.div_ceil(64) as u32, c.heads as u32, 1);
        let shape =
            self.overlapping(LaunchConfig { grid, threads: 128, shared, overlap: false, ..LaunchConfig::default() });
        // SAFETY: the cache holds every position up to this chunk's end.
        unsafe { self.kernels.attention_prefill[self.width()].launch(self.gpu.stream, shape, &args) }
    }

    /// Appends the logits of rows `first..first + count` of the last prefill to `logits`.
    pub(super) fn append_logits(
        &mut self,
        first: usize,
        count: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        // This rank's part of the vocabulary.
        let (vocab, hidden) = (self.layout.output.rows as usize, self.config.hidden);
        for start in (first..first + count).step_by(LOGIT_ROWS) {
            let rows = LOGIT_ROWS.min(first + count - start);
            let order = self.gemm.order(&[self.layout.output], rows);
            self.norm(self.buffers.x.at(start * hidden), self.layout.output_norm, rows, order)?;
            let (normed, out) = (self.buffers.normed.pointer(), self.buffers.rows.pointer());
            self.gemm.multiply(&self.gpu, &[self.layout.output], (normed, rows), (out, vocab), Epilogue::StoreF32)?;
            let at = logits.len();
            logits.resize(at + rows * vocab, 0.0);
            self.buffers.rows.read(&self.gpu, 0, &mut logits[at..])?;
        }
        Ok(())
    }

    /// Prefills all chunks of a prompt except the last; returns the remaining tokens and their position.
    pub(super) fn prefill_most<'t>(
        &mut self,
        tokens: &'t [u32],
        position: usize,
    ) -> Result<(&'t [u32], usize), ModelError> {
        let (mut rest, mut position) = (tokens, position);
        while rest.len() > self.chunk {
            let (now, later) = rest.split_at(self.chunk);
            self.prefill(now, position)?;
            (rest, position) = (later, position + now.len());
        }
        Ok((rest, position))
    }
}
