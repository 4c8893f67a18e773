//! A decode step: five launches per layer, each of which prefetches its weights while the preceding kernel still runs.

use super::driver::{Kernel, LaunchConfig};
use super::kernels::{Gemv, GemvRole, HEADS, Parallel};
use super::layout::{Format, Mat};
use super::load::weights::Layer;
use super::params::*;
use super::rank::{HISTORY, MOST_SPLITS, OUT_RING, Rank};
use super::tuning::Ring;
use crate::engine::error::ModelError;

/// Threads of a matrix-vector block.
pub(super) const THREADS: u32 = 256;
pub(super) const WARPS: u32 = THREADS / 32;
/// Keys that a warp of decode attention processes at a time.
const TILE: usize = 16;

/// Bytes of shared memory of decode attention with `stages` tiles per warp.
pub(super) fn decode_shared(head_dim: usize, stages: u32) -> u32 {
    let row = head_dim * 2;
    WARPS * stages * (2 * TILE * row) as u32 + (2 * HEADS * row) as u32
}

/// Bytes of activations in a matrix-vector kernel's shared memory.
pub(super) fn staged_bytes(what: GemvRole, stage: i32, cols: u32) -> u32 {
    let float = if matches!(what, GemvRole::Residual | GemvRole::Sum) { 2 } else { 4 };
    let plain = if stage & 1 != 0 { cols * float } else { 0 };
    plain + if stage & 2 != 0 { cols * 5 / 4 } else { 0 }
}

impl Rank {
    /// Launches one token's step: embedding, layers, head, and the sampler if `sample`.
    pub(super) fn launch_step(&self, sample: bool) -> Result<(), ModelError> {
        let b = &self.buffers;
        let mut args = EmbedArgs {
            m: self.layout.embedding,
            out: b.step_x.pointer(),
            state: b.state.pointer(),
            ..EmbedArgs::default()
        };
        if let Some(peers) = &self.peers {
            (args.epoch, args.epochs) = (peers.link().epoch, self.epochs());
        }
        let mut shape = LaunchConfig::linear((self.config.hidden / 32).div_ceil(64) as u64, 64);
        shape.overlap = self.tuning.overlap;
        // SAFETY: all buffers belong to this model; sizes follow its configuration.
        unsafe { self.kernels.embed.launch(self.gpu.stream, shape, &args)? };
        for (index, layer) in self.layout.layers.iter().enumerate() {
            self.step_layer(index, layer)?;
        }
        self.launch_head(b.step_x.pointer())?;
        if sample { self.launch_token() } else { Ok(()) }
    }

    /// Exchanges of a step: two in each layer, the token, and one unused, so that the number is even (`exchange.cuh`).
    pub(super) fn epochs(&self) -> i32 {
        2 * self.config.layers as i32 + 2
    }

    /// Launches the sampler. With several GPUs the first one waits for the logits of the others, samples and sends the
    /// token, which the others wait for.
    pub(super) fn launch_token(&self) -> Result<(), ModelError> {
        let Some(peers) = self.peers.as_ref().filter(|_| !self.tuning.alone) else { return self.launch_sample() };
        if peers.share.rank > 0 {
            return self.launch_alone(|kernels| kernels.follow, self.epochs() - 1);
        }
        self.launch_alone(|kernels| kernels.await_logits, self.epochs() - 1)?;
        self.launch_sample()?;
        self.launch_alone(|kernels| kernels.send_token, self.epochs() - 1)
    }

    /// Counts a step's epochs before the chunk of a prompt, which ends in logits and a token like a decode step.
    pub(super) fn launch_epochs(&self) -> Result<(), ModelError> {
        match self.peers {
            Some(_) => self.launch_alone(|kernels| kernels.advance_epoch, self.epochs()),
            None => Ok(()),
        }
    }

    /// Launches one block of a kernel for several GPUs.
    fn launch_alone(&self, of: fn(&Parallel) -> Kernel, index: i32) -> Result<(), ModelError> {
        let (Some(peers), Some(kernels)) = (&self.peers, &self.kernels.parallel) else { return Ok(()) };
        let args = StepArgs { link: peers.link(), state: self.buffers.state.pointer(), index, pad: 0 };
        let shape = LaunchConfig { overlap: self.tuning.overlap, ..LaunchConfig::linear(1, 32) };
        let threads = if peers.share.rank == 0 { 32 } else { 1 };
        // SAFETY: the exchange memory of all ranks lives as long as the model.
        unsafe { of(kernels).launch(self.gpu.stream, LaunchConfig { threads, ..shape }, &args) }
    }

    fn step_layer(&self, index: usize, layer: &Layer) -> Result<(), ModelError> {
        let b = &self.buffers;
        let c = &self.config;
        let head_norms = layer.q_norm != 0;
        let mut qkv = self.gemv(&[layer.q, layer.k, layer.v], c.hidden);
        qkv.x = b.step_x.pointer();
        qkv.norm = layer.attention_norm;
        qkv.head_dim = c.head_dim as i32;
        qkv.out = b.step_q.pointer();
        (qkv.bias_a, qkv.bias_b, qkv.bias_c) = (layer.q_bias, layer.k_bias, layer.v_bias);
        (qkv.k_cache, qkv.v_cache) = (self.keys(index), self.values(index));
        qkv.k_raw = if head_norms { b.step_k.pointer() } else { 0 };
        self.launch_gemv(GemvRole::Qkv, qkv, (layer.q.rows + layer.k.rows + layer.v.rows) / 2)?;
        if head_norms {
            self.launch_rope(index, layer, 1, 0, true)?;
        }
        self.step_attention(index)?;

        let mut out = self.gemv(&[layer.output], c.heads * c.head_dim);
        (out.x, out.out) = (b.step_attended.pointer(), b.step_x.pointer());
        self.launch_sum(out, 2 * index + 1)?;

        let mut up = self.gemv(&[layer.gate, layer.up], c.hidden);
        (up.x, up.norm, up.out_half) = (b.step_x.pointer(), layer.ffn_norm, b.step_hidden.pointer());
        self.launch_gemv(GemvRole::GateUp, up, layer.gate.rows)?;

        let mut down = self.gemv(&[layer.down], c.feed_forward);
        (down.xh, down.out) = (b.step_hidden.pointer(), b.step_x.pointer());
        self.launch_sum(down, 2 * index + 2)
    }

    /// Launches a product that is added to the residual; `index` of the exchange in the step.
    fn launch_sum(&self, args: GemvArgs, index: usize) -> Result<(), ModelError> {
        let tasks = (args.a.rows + 1) / 2;
        let Some(peers) = self.peers.as_ref().filter(|_| !self.tuning.alone) else {
            return self.launch_gemv(GemvRole::Residual, args, tasks);
        };
        let (kernel, shape, product) = self.prepare_gemv(GemvRole::Sum, args, tasks);
        let args = SumArgs { product, link: peers.link(), index: index as i32, pad: 0 };
        // SAFETY: as in `launch_gemv`; the exchange memory of all ranks has room for the rows of `a`.
        unsafe { kernel.launch(self.gpu.stream, shape, &args) }
    }

    /// The arguments common to all roles.
    fn gemv(&self, mats: &[Mat], cols: usize) -> GemvArgs {
        let at = |i: usize| mats.get(i).copied().unwrap_or_default();
        GemvArgs {
            a: at(0),
            b: at(1),
            c: at(2),
            eps: self.config.norm_epsilon,
            cols: cols as i32,
            rope: self.rope.pointer(),
            state: self.buffers.state.pointer(),
            context: self.config.context_length as i32,
            rope_half: self.config.rope.frequencies.len() as i32,
            neox: self.neox(),
            ..GemvArgs::default()
        }
    }

    fn launch_gemv(&self, what: GemvRole, args: GemvArgs, tasks: i32) -> Result<(), ModelError> {
        let (kernel, shape, args) = self.prepare_gemv(what, args, tasks);
        // SAFETY: matrices, vectors and buffers have the sizes of the validated configuration.
        unsafe { kernel.launch(self.gpu.stream, shape, &args) }
    }

    /// The kernel for a product, its launch, and the arguments with the fields that depend on it.
    fn prepare_gemv(&self, what: GemvRole, mut args: GemvArgs, tasks: i32) -> (Kernel, LaunchConfig, GemvArgs) {
        let mats = [args.a, args.b, args.c];
        let formats: Vec<Format> = mats.iter().filter(|m| m.rows > 0).map(Mat::format).collect();
        let Gemv { kernel, unit, stage } = self.kernels.gemv(what, &formats);
        let staged = staged_bytes(what, stage, args.cols as u32);
        let Ring { blocks, depth } = self.tuning.ring(unit, staged, kernel.shared_limit);
        (args.stage, args.slot, args.depth, args.ring) = (stage, unit as i32, depth as i32, (depth * unit) as i32);
        let shared = WARPS * depth * unit + staged;
        let resident = self.gpu.occupancy(kernel, THREADS, shared).min(blocks);
        let blocks = (tasks as u32).min(self.gpu.properties.multiprocessors as u32 * resident);
        let shape = LaunchConfig {
            grid: (blocks, 1, 1),
            threads: THREADS,
            shared,
            overlap: self.tuning.overlap,
            ..LaunchConfig::default()
        };
        (kernel, shape, args)
    }

    /// Returns `Unsupported` unless the widest activations and the shortest ring fit a block's shared memory.
    pub(super) fn check_shared(&self) -> Result<(), ModelError> {
        let c = &self.config;
        let limit = self.kernels.gemv_limit();
        let needs = |what: GemvRole, cols: usize| {
            let of = |format: Format| {
                let Gemv { unit, stage, .. } = self.kernels.gemv(what, &[format]);
                staged_bytes(what, stage, cols as u32) + WARPS * 2 * unit
            };
            self.layout.formats().map(of).max().unwrap_or(0)
        };
        let inner = c.feed_forward.max(c.heads * c.head_dim);
        let worst = needs(GemvRole::Residual, inner).max(needs(GemvRole::Qkv, c.hidden));
        let attention = decode_shared(c.head_dim, 1);
        if worst.max(attention) <= limit {
            return Ok(());
        }
        Err(ModelError::Unsupported(format!(
            "{} has {limit} bytes of shared memory a block and this model needs {}; use --device cpu",
            self.gpu.properties.name,
            worst.max(attention)
        )))
    }

    fn step_attention(&self, index: usize) -> Result<(), ModelError> {
        let (b, c) = (&self.buffers, &self.config);
        let groups = c.group().div_ceil(HEADS) as u32;
        let kernel = self.kernels.attention_decode[self.width()];
        let stages = if decode_shared(c.head_dim, 2) <= kernel.shared_limit { self.tuning.stages } else { 1 };
        let shared = decode_shared(c.head_dim, stages);
        let resident = self.gpu.occupancy(kernel, THREADS, shared);
        let columns = c.kv_heads as u32 * groups;
        let splits = (self.gpu.properties.multiprocessors as u32 * resident / columns).clamp(1, MOST_SPLITS as u32);
        let args = AttentionArgs {
            q: b.step_q.pointer(),
            k: self.keys(index),
            v: self.values(index),
            out: b.step_attended.pointer(),
            part_o: b.part_o.pointer(),
            part_ml: b.part_ml.pointer(),
            counters: b.counters.pointer(),
            state: b.state.pointer(),
            scale: c.attention_scale,
            context: c.context_length as i32,
            heads_per_kv: c.group() as i32,
            window: self.window(index),
            splits: splits as i32,
            keys: self.tuning.keys as i32,
            stages: stages as i32,
        };
        let shape = LaunchConfig {
            grid: (c.kv_heads as u32, splits, groups),
            threads: THREADS,
            shared,
            overlap: self.tuning.overlap,
            ..LaunchConfig::default()
        };
        // SAFETY: cache and partial results have room for every position and split.
        unsafe { kernel.launch(self.gpu.stream, shape, &args) }
    }

    /// Computes the logits and their argmax from one row of the residual stream, at device address `x`.
    pub(super) fn launch_head(&self, x: u64) -> Result<(), ModelError> {
        let mut head = self.gemv(&[self.layout.output], self.config.hidden);
        (head.x, head.norm, head.out) = (x, self.layout.output_norm, self.logits() + self.first_token as u64 * 4);
        head.first_row = self.first_token as i32;
        self.launch_gemv(GemvRole::Logits, head, (self.layout.output.rows + 1) / 2)
    }

    pub(super) fn launch_sample(&self) -> Result<(), ModelError> {
        let b = &self.buffers;
        let args = SampleArgs {
            logits: self.logits(),
            vocab: self.config.vocab_size as i32,
            history_capacity: HISTORY as i32,
            state: b.state.pointer(),
            history: b.history.pointer(),
            out: b.out.pointer() as u64,
            out_capacity: OUT_RING as i32,
            pad: 0,
        };
        let shape = LaunchConfig {
            grid: (1, 1, 1),
            threads: 1024,
            shared: 0,
            overlap: self.tuning.overlap,
            ..LaunchConfig::default()
        };
        // SAFETY: the rings have the capacities in `args`.
        unsafe { self.kernels.sample.launch(self.gpu.stream, shape, &args) }
    }
}
