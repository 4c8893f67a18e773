//! The Llama family on a card: prefill in chunks, one-token steps, and what they share. Decoding with the sampler on
//! the card is in `decode.rs`.

use std::time::Instant;

use super::decode::Decoding;
use super::driver::{DeviceBuffer, Gpu, Graph, PinnedBuffer, Shape};
use super::fit::Needs;
use super::gemm::{self, Gemm, Into};
use super::kernels::{GROUPS, HEAD_DIMS, Kernels, Use};
use super::layout::Format;
use super::pace::Pace;
use super::params::*;
use super::upload;
use super::weights::{Layer, Layout};
use crate::engine::model::config::{Activation, ModelConfig};
use crate::engine::model::rope::RopeLayout;
use crate::engine::model::{DeviceDecoder, Model, ModelError};
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::MemoryUse;

/// Rows of logits that `forward_rows` makes at a time.
const LOGIT_ROWS: usize = 32;
/// Most splits of the keys in one-token attention.
const MOST_SPLITS: usize = 64;
/// Tokens of history that the penalties can see.
pub(super) const HISTORY: usize = 16384;
/// Tokens that the card may be ahead of the host.
pub(super) const OUT_RING: usize = 64;

/// Numbers that can be tuned per card.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Blocks a multiprocessor of QKV, gate/up, residual and head kernels.
    pub blocks: [u32; 4],
    /// Most warps that share a pair of rows.
    pub split: i32,
    /// Bytes of each row to ask the L2 for before the activations are there.
    pub prefetch: u32,
    /// Programmatic dependent launch.
    pub overlap: bool,
    /// Record the step as a graph.
    pub graph: bool,
}

impl Tuning {
    /// What was best where it was measured; `CHATNAP_CUDA_TUNING=q,g,r,l,split,prefetch,overlap,graph` overrides it.
    fn for_card(compute_capability: (i32, i32)) -> Self {
        let hopper = compute_capability.0 >= 9;
        let mut tuning = Self { blocks: [8; 4], split: 4, prefetch: 1024, overlap: hopper, graph: true };
        if let Ok(text) = std::env::var("CHATNAP_CUDA_TUNING") {
            let numbers: Vec<u32> = text.split(',').filter_map(|part| part.parse().ok()).collect();
            if let [q, g, r, l, split, prefetch, overlap, graph] = numbers[..] {
                let overlap = overlap != 0 && hopper;
                let split = split as i32;
                tuning = Self { blocks: [q, g, r, l], split, prefetch, overlap, graph: graph != 0 };
            }
        }
        tuning
    }
}

/// Why the card cannot run this model, where it cannot.
pub fn unsupported(config: &ModelConfig, plan: &TensorPlan) -> Option<String> {
    let lacking = |what: String| Some(format!("the CUDA engine does not run {} models {what}", config.architecture));
    let has = |part: &str| plan.tensors.keys().any(|name| name.ends_with(part));
    if config.activation != Activation::Silu || has("post_attention_norm.weight") || has("post_ffw_norm.weight") {
        return Some(format!("the CUDA engine does not run the architecture {:?} yet", config.architecture));
    }
    if !HEAD_DIMS.contains(&config.head_dim) {
        return lacking(format!("with heads {} wide", config.head_dim));
    }
    if ["attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"].into_iter().any(has) {
        return lacking("with biases outside of Q, K and V".into());
    }
    if config.norm_offset != 0.0 || config.embedding_scale != 1.0 || config.local_rope.is_some() {
        return lacking("with scaled embeddings or norms".into());
    }
    if !config.hidden.is_multiple_of(32) || !config.feed_forward.is_multiple_of(32) {
        return lacking("whose width is no multiple of 32".into());
    }
    None
}

/// Bytes of everything besides weights, for the fit and for the report.
pub struct Plan {
    /// Tokens of a prefill chunk.
    pub chunk: usize,
    /// Bytes.
    pub needs: Needs,
    /// Whether matrices have to be turned into bf16 for a prefill.
    pub scratch: bool,
}

/// What loading `config` takes on a card with so many multiprocessors.
pub fn plan(config: &ModelConfig, tensors: &TensorPlan, multiprocessors: i32) -> Result<Plan, ModelError> {
    let layout = Layout::new(config, tensors, 0)?;
    let chunk = match multiprocessors {
        100.. => 2048,
        60..100 => 1024,
        _ => 512,
    };
    let chunk = chunk.min(config.context_length.next_multiple_of(64)).max(64);
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let per_token = config.hidden * 6 + (q + 2 * kv) * 2 + q * 2 + config.feed_forward * 6 + 4;
    let scratch = if layout.formats().any(|format| format != Format::Bf16) { gemm::SCRATCH * 2 } else { 0 };
    let rope = config.context_length * config.rope.frequencies.len() * 8;
    let step = (config.vocab_size + config.heads * config.head_dim * (MOST_SPLITS + 8)) * 4;
    let rows = LOGIT_ROWS * config.vocab_size * 4;
    let workspace = (chunk * per_token + scratch + rope + step + rows + gemm::WORKSPACE) as u64 + upload::STAGING;
    let kv_cache = (config.layers * 2 * kv * config.context_length * 2) as u64;
    // Allocations come in pages of 2 MiB; cuBLASLt loads its kernels.
    let scratch = scratch > 0;
    Ok(Plan { chunk, scratch, needs: Needs { weights: layout.bytes, kv_cache, workspace: workspace + (96 << 20) } })
}

/// Buffers that prefill and steps work in.
pub(super) struct Buffers {
    pub x: DeviceBuffer<f32>,
    normed: DeviceBuffer<u16>,
    qkv: DeviceBuffer<u16>,
    attended: DeviceBuffer<u16>,
    gate_up: DeviceBuffer<u16>,
    activated: DeviceBuffer<u16>,
    tokens: DeviceBuffer<i32>,
    pub logits: DeviceBuffer<f32>,
    rows: DeviceBuffer<f32>,
    step_x: DeviceBuffer<f32>,
    step_q: DeviceBuffer<f32>,
    step_k: DeviceBuffer<f32>,
    step_attended: DeviceBuffer<f32>,
    step_hidden: DeviceBuffer<u16>,
    part_o: DeviceBuffer<f32>,
    part_ml: DeviceBuffer<f32>,
    counters: DeviceBuffer<i32>,
    pub state: DeviceBuffer<State>,
    pub history: DeviceBuffer<i32>,
    pub out: PinnedBuffer,
}

impl Buffers {
    fn new(config: &ModelConfig, chunk: usize) -> Result<Self, ModelError> {
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        Ok(Self {
            x: DeviceBuffer::new(chunk * config.hidden)?,
            normed: DeviceBuffer::new(chunk * config.hidden)?,
            qkv: DeviceBuffer::new(chunk * (q + 2 * kv))?,
            attended: DeviceBuffer::new(chunk * q)?,
            gate_up: DeviceBuffer::new(chunk * 2 * config.feed_forward)?,
            activated: DeviceBuffer::new(chunk * config.feed_forward)?,
            tokens: DeviceBuffer::new(chunk)?,
            logits: DeviceBuffer::new(config.vocab_size)?,
            rows: DeviceBuffer::new(LOGIT_ROWS * config.vocab_size)?,
            step_x: DeviceBuffer::new(config.hidden)?,
            step_q: DeviceBuffer::new(q)?,
            step_k: DeviceBuffer::new(kv)?,
            step_attended: DeviceBuffer::new(q)?,
            step_hidden: DeviceBuffer::new(config.feed_forward)?,
            part_o: DeviceBuffer::new(q * MOST_SPLITS)?,
            part_ml: DeviceBuffer::new(config.heads * MOST_SPLITS * 2)?,
            counters: DeviceBuffer::new(config.heads)?,
            state: DeviceBuffer::new(1)?,
            history: DeviceBuffer::new(HISTORY)?,
            out: PinnedBuffer::new(OUT_RING * 4)?,
        })
    }

    fn bytes(&self) -> u64 {
        let floats = [
            &self.x,
            &self.logits,
            &self.rows,
            &self.step_x,
            &self.step_q,
            &self.step_k,
            &self.step_attended,
            &self.part_o,
            &self.part_ml,
        ];
        let halves = [&self.normed, &self.qkv, &self.attended, &self.gate_up, &self.activated, &self.step_hidden];
        floats.iter().map(|b| b.bytes()).sum::<u64>()
            + halves.iter().map(|b| b.bytes()).sum::<u64>()
            + self.history.bytes()
    }
}

/// A model on a card. Fields drop in order: the card itself comes last.
pub struct CudaModel {
    pub(super) decoding: Option<Decoding>,
    pub(super) graph: Option<Graph>,
    pub(super) gemm: Gemm,
    pub(super) buffers: Buffers,
    pub(super) config: ModelConfig,
    pub(super) layout: Layout,
    pub(super) kernels: Kernels,
    pub(super) tuning: Tuning,
    cache: DeviceBuffer<u16>,
    rope: DeviceBuffer<f32>,
    arena: DeviceBuffer<u8>,
    chunk: usize,
    pace: Pace,
    pub(super) gpu: Gpu,
}

impl CudaModel {
    /// Takes everything besides the weights; the weights are on the card already.
    #[allow(clippy::too_many_arguments, reason = "the parts of one model, each made by its own module")]
    pub fn new(
        gpu: Gpu,
        kernels: Kernels,
        config: ModelConfig,
        layout: Layout,
        arena: DeviceBuffer<u8>,
        chunk: usize,
        pace: Pace,
        gemm: Gemm,
    ) -> Result<Self, ModelError> {
        let kv = config.kv_heads * config.head_dim;
        let buffers = Buffers::new(&config, chunk)?;
        let cache = DeviceBuffer::new(config.layers * 2 * kv * config.context_length)?;
        let half = config.rope.frequencies.len();
        let rope = DeviceBuffer::<f32>::new(config.context_length * half * 2)?;
        let tuning = Tuning::for_card(gpu.card.compute_capability);
        let mut model = Self {
            decoding: None,
            graph: None,
            gemm,
            buffers,
            config,
            layout,
            kernels,
            tuning,
            cache,
            rope,
            arena,
            chunk,
            pace,
            gpu,
        };
        model.buffers.counters.fill(&model.gpu, 0)?;
        model.fill_rope()?;
        model.check_shared()?;
        model.gpu.synchronize()?;
        model.gpu.note_use();
        Ok(model)
    }

    fn fill_rope(&self) -> Result<(), ModelError> {
        let rope = &self.config.rope;
        let frequencies = DeviceBuffer::from_slice(&self.gpu, &rope.frequencies)?;
        let (half, positions) = (rope.frequencies.len(), self.config.context_length);
        let args = RopeTableArgs {
            frequencies: frequencies.pointer(),
            out: self.rope.pointer(),
            scale: rope.attention_factor,
            rope_half: half as i32,
            positions: positions as i32,
        };
        // SAFETY: the table has room for every position.
        unsafe {
            self.kernels.rope_table.launch(
                self.gpu.stream,
                Shape::linear((half * positions).div_ceil(256) as u64, 256),
                &args,
            )?
        };
        self.gpu.synchronize()
    }

    /// The widest activations must fit a multiprocessor's shared memory.
    fn check_shared(&self) -> Result<(), ModelError> {
        let widest = self.config.feed_forward.max(self.config.hidden).max(self.config.heads * self.config.head_dim);
        let limit = self.kernels.gemv(Use::Residual, 3).shared_limit;
        let worst =
            self.layout.formats().map(|f| if f.is_plain() { widest * 4 } else { widest * 5 / 4 }).max().unwrap_or(0);
        if worst as u32 > limit {
            return Err(ModelError::Unsupported(format!(
                "{} has {} bytes of shared memory a block and this model needs {worst}; use --device cpu",
                self.gpu.card.name, limit
            )));
        }
        Ok(())
    }

    /// Address of a layer's keys; its values follow.
    fn keys(&self, layer: usize) -> u64 {
        let size = self.config.kv_heads * self.config.head_dim * self.config.context_length;
        self.cache.at(layer * 2 * size)
    }

    fn values(&self, layer: usize) -> u64 {
        let size = self.config.kv_heads * self.config.head_dim * self.config.context_length;
        self.cache.at((layer * 2 + 1) * size)
    }

    fn window(&self, layer: usize) -> i32 {
        self.config.windows.get(layer).copied().flatten().map_or(0, |w| w as i32)
    }

    fn neox(&self) -> i32 {
        i32::from(self.config.rope.layout == RopeLayout::Neox)
    }

    fn width(&self) -> usize {
        HEAD_DIMS.iter().position(|d| *d == self.config.head_dim).unwrap_or(0)
    }

    // ---- one token ----

    /// Launches one token's step: embedding, layers, head; and the sampler where `sample`.
    pub(super) fn launch_step(&self, sample: bool) -> Result<(), ModelError> {
        let b = &self.buffers;
        let args = EmbedArgs { m: self.layout.embedding, tokens: 0, out: b.step_x.pointer(), state: b.state.pointer() };
        let mut shape = Shape::linear((self.config.hidden / 32).div_ceil(64) as u64, 64);
        shape.overlap = self.tuning.overlap;
        // SAFETY: all buffers belong to this model; sizes follow its configuration.
        unsafe { self.kernels.embed.launch(self.gpu.stream, shape, &args)? };
        for (index, layer) in self.layout.layers.iter().enumerate() {
            self.step_layer(index, layer)?;
        }
        self.launch_head(b.step_x.pointer())?;
        if sample { self.launch_sample() } else { Ok(()) }
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
        self.launch_gemv(Use::Qkv, &qkv, (layer.q.rows + layer.k.rows + layer.v.rows) / 2)?;
        if head_norms {
            self.launch_rope(index, layer, 1, 0, true)?;
        }
        self.step_attention(index)?;

        let mut out = self.gemv(&[layer.output], c.heads * c.head_dim);
        (out.x, out.out) = (b.step_attended.pointer(), b.step_x.pointer());
        self.launch_gemv(Use::Residual, &out, (layer.output.rows + 1) / 2)?;

        let mut up = self.gemv(&[layer.gate, layer.up], c.hidden);
        (up.x, up.norm) = (b.step_x.pointer(), layer.ffn_norm);
        // What the next product reads as int8 is written as int8, once.
        let quantised = !layer.down.format().is_plain();
        *(if quantised { &mut up.out_q } else { &mut up.out_half }) = b.step_hidden.pointer();
        self.launch_gemv(Use::GateUp, &up, layer.gate.rows)?;

        let mut down = self.gemv(&[layer.down], c.feed_forward);
        *(if quantised { &mut down.xq } else { &mut down.xh }) = b.step_hidden.pointer();
        down.out = b.step_x.pointer();
        self.launch_gemv(Use::Residual, &down, (layer.down.rows + 1) / 2)
    }

    /// Arguments that all uses share.
    fn gemv(&self, mats: &[Mat], cols: usize) -> GemvArgs {
        let at = |i: usize| mats.get(i).copied().unwrap_or_default();
        let plain = mats.iter().any(|m| m.format().is_plain());
        let quantised = mats.iter().any(|m| !m.format().is_plain());
        GemvArgs {
            a: at(0),
            b: at(1),
            c: at(2),
            eps: self.config.norm_epsilon,
            cols: cols as i32,
            stage: i32::from(plain) | i32::from(quantised) << 1,
            rope: self.rope.pointer(),
            state: self.buffers.state.pointer(),
            context: self.config.context_length as i32,
            rope_half: self.config.rope.frequencies.len() as i32,
            neox: self.neox(),
            prefetch: self.tuning.prefetch as i32,
            ..GemvArgs::default()
        }
    }

    fn launch_gemv(&self, what: Use, args: &GemvArgs, tasks: i32) -> Result<(), ModelError> {
        let kernel = self.kernels.gemv(what, args.stage);
        let mut args = *args;
        args.split = self.split(what, &args, tasks);
        let cols = args.cols as u32;
        let float = if what == Use::Residual { 2 } else { 4 };
        let plain = if args.stage & 1 != 0 { cols * float } else { 0 };
        let shared = plain + if args.stage & 2 != 0 { cols * 5 / 4 } else { 0 };
        let resident = self.gpu.occupancy(kernel, 256, shared).min(self.tuning.blocks[what as usize].max(1));
        let width = if what == Use::GateUp { 32 } else { 8 / args.split as u32 };
        let blocks = (tasks as u32).div_ceil(width).min(self.gpu.card.multiprocessors as u32 * resident);
        let shape = Shape { grid: (blocks, 1, 1), threads: 256, shared, overlap: self.tuning.overlap };
        // SAFETY: matrices, vectors and buffers have the sizes that the configuration was checked for.
        unsafe { kernel.launch(self.gpu.stream, shape, &args) }
    }

    /// Warps that share a pair of rows: more where there are few rows, so that all of a small matrix is asked for at once.
    fn split(&self, what: Use, args: &GemvArgs, tasks: i32) -> i32 {
        if what == Use::GateUp {
            return 1;
        }
        let slots = self.gpu.card.multiprocessors * 32;
        let deep = |split: i32| args.cols / 32 >= 32 * split && tasks * split <= slots;
        [8, 4, 2].into_iter().find(|split| *split <= self.tuning.split && deep(*split)).unwrap_or(1)
    }

    fn step_attention(&self, index: usize) -> Result<(), ModelError> {
        let (b, c) = (&self.buffers, &self.config);
        let group = c.group();
        let which = GROUPS.iter().position(|g| *g >= group).unwrap_or(GROUPS.len() - 1);
        let lanes = GROUPS[which];
        let groups = group.div_ceil(lanes) as u32;
        let kernel = self.kernels.attention_decode[self.width()][which];
        let warps = (8 * lanes * (c.head_dim * 4 + 8)) as u32;
        let combine = (lanes * MOST_SPLITS * 8) as u32;
        let shared = warps.max(combine);
        let resident = self.gpu.occupancy(kernel, 256, shared);
        let columns = c.kv_heads as u32 * groups;
        let splits = (self.gpu.card.multiprocessors as u32 * resident / columns).clamp(1, MOST_SPLITS as u32);
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
            heads_per_kv: group as i32,
            window: self.window(index),
            splits: splits as i32,
        };
        let shape =
            Shape { grid: (c.kv_heads as u32, splits, groups), threads: 256, shared, overlap: self.tuning.overlap };
        // SAFETY: cache and partial results have room for every position and split.
        unsafe { kernel.launch(self.gpu.stream, shape, &args) }
    }

    /// Logits and the best of them from one row of the residual stream.
    pub(super) fn launch_head(&self, x: u64) -> Result<(), ModelError> {
        let mut head = self.gemv(&[self.layout.output], self.config.hidden);
        (head.x, head.norm, head.out) = (x, self.layout.output_norm, self.buffers.logits.pointer());
        self.launch_gemv(Use::Logits, &head, (self.layout.output.rows + 1) / 2)
    }

    pub(super) fn launch_sample(&self) -> Result<(), ModelError> {
        let b = &self.buffers;
        let args = SampleArgs {
            logits: b.logits.pointer(),
            vocab: self.config.vocab_size as i32,
            history_capacity: HISTORY as i32,
            state: b.state.pointer(),
            history: b.history.pointer(),
            out: b.out.pointer() as u64,
            out_capacity: OUT_RING as i32,
            pad: 0,
        };
        let shape = Shape { grid: (1, 1, 1), threads: 1024, shared: 0, overlap: self.tuning.overlap };
        // SAFETY: the rings have the capacities named.
        unsafe { self.kernels.sample.launch(self.gpu.stream, shape, &args) }
    }

    // ---- a prompt ----

    /// Runs `tokens` (at most a chunk) through all layers; the residual stream of each is then in `buffers.x`.
    pub(super) fn prefill(&mut self, tokens: &[u32], position: usize) -> Result<(), ModelError> {
        let count = tokens.len();
        let signed: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        self.buffers.tokens.write(&self.gpu, 0, &signed)?;
        let args = EmbedArgs {
            m: self.layout.embedding,
            tokens: self.buffers.tokens.pointer(),
            out: self.buffers.x.pointer(),
            state: self.buffers.state.pointer(),
        };
        let grid = ((self.config.hidden / 32).div_ceil(64) as u32, count as u32, 1);
        // SAFETY: `x` has a row for every token of a chunk.
        unsafe { self.kernels.embed.launch(self.gpu.stream, Shape { grid, threads: 64, ..Shape::default() }, &args)? };
        for index in 0..self.layout.layers.len() {
            self.prefill_layer(index, count, position)?;
        }
        Ok(())
    }

    fn prefill_layer(&mut self, index: usize, count: usize, position: usize) -> Result<(), ModelError> {
        let layer = self.layout.layers[index];
        let (hidden, ff) = (self.config.hidden, self.config.feed_forward);
        let (q, kv) = (self.config.heads * self.config.head_dim, self.config.kv_heads * self.config.head_dim);
        let (x, normed) = (self.buffers.x.pointer(), self.buffers.normed.pointer());
        let (qkv, attended) = (self.buffers.qkv.pointer(), self.buffers.attended.pointer());
        let (gate_up, activated) = (self.buffers.gate_up.pointer(), self.buffers.activated.pointer());

        self.norm(x, layer.attention_norm, count)?;
        self.gemm.multiply(&self.gpu, &[layer.q, layer.k, layer.v], (normed, count), (qkv, q + 2 * kv), Into::Half)?;
        self.launch_rope(index, &layer, count, position, false)?;
        self.prefill_attention(index, count, position)?;
        self.gemm.multiply(&self.gpu, &[layer.output], (attended, count), (x, hidden), Into::Add)?;

        self.norm(x, layer.ffn_norm, count)?;
        self.gemm.multiply(&self.gpu, &[layer.gate, layer.up], (normed, count), (gate_up, 2 * ff), Into::Half)?;
        let args = SwigluArgs { input: gate_up, out: activated, width: ff as i32, tokens: count as i32 };
        let units = (ff / 8 * count).div_ceil(256) as u64;
        // SAFETY: both buffers have a row for every token of a chunk.
        unsafe { self.kernels.swiglu.launch(self.gpu.stream, Shape::linear(units, 256), &args)? };
        self.gemm.multiply(&self.gpu, &[layer.down], (activated, count), (x, hidden), Into::Add)
    }

    fn norm(&self, x: u64, weight: u64, rows: usize) -> Result<(), ModelError> {
        let args = NormArgs {
            x,
            weight,
            out: self.buffers.normed.pointer(),
            eps: self.config.norm_epsilon,
            cols: self.config.hidden as i32,
        };
        // SAFETY: `normed` has a row for every token of a chunk.
        unsafe { self.kernels.norm_rows.launch(self.gpu.stream, Shape::linear(rows as u64, 256), &args) }
    }

    /// Bias, head norms, rope and KV write: for a prompt's rows, or (`step`) for the one token's f32 Q and K.
    fn launch_rope(
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
        let mut shape = Shape::linear(items.div_ceil(8) as u64, 256);
        shape.overlap = step && self.tuning.overlap;
        // SAFETY: the cache has room for every position.
        unsafe { self.kernels.rope_kv.launch(self.gpu.stream, shape, &args) }
    }

    fn prefill_attention(&self, index: usize, count: usize, position: usize) -> Result<(), ModelError> {
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
        };
        let shared = (5 * 64 * (c.head_dim + 8) * 2) as u32;
        let shape =
            Shape { grid: (count.div_ceil(64) as u32, c.heads as u32, 1), threads: 128, shared, overlap: false };
        // SAFETY: the cache holds every position before and of this chunk.
        unsafe { self.kernels.attention_prefill[self.width()].launch(self.gpu.stream, shape, &args) }
    }

    /// Logits of rows `first..first + count` of the last prefill, appended to `logits`.
    fn append_logits(&mut self, first: usize, count: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden);
        for start in (first..first + count).step_by(LOGIT_ROWS) {
            let rows = LOGIT_ROWS.min(first + count - start);
            self.norm(self.buffers.x.at(start * hidden), self.layout.output_norm, rows)?;
            let (normed, out) = (self.buffers.normed.pointer(), self.buffers.rows.pointer());
            self.gemm.multiply(&self.gpu, &[self.layout.output], (normed, rows), (out, vocab), Into::Float)?;
            let at = logits.len();
            logits.resize(at + rows * vocab, 0.0);
            self.buffers.rows.read(&self.gpu, 0, &mut logits[at..])?;
        }
        Ok(())
    }

    pub(super) fn check(&self, tokens: &[u32], position: usize) -> Result<(), ModelError> {
        let end = position.checked_add(tokens.len());
        if tokens.is_empty() || end.is_none_or(|end| end > self.config.context_length) {
            return Err(ModelError::Unsupported(format!(
                "{} tokens at position {position} do not fit the context of {}",
                tokens.len(),
                self.config.context_length
            )));
        }
        match tokens.iter().find(|token| **token as usize >= self.config.vocab_size) {
            Some(token) => Err(ModelError::Unsupported(format!(
                "token {token} is not in this model's vocabulary of {}",
                self.config.vocab_size
            ))),
            None => Ok(()),
        }
    }

    /// All but the last chunk of a prompt; returns what is left and where it stands.
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

    /// The card and the sizes that reports need.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes that a step of decoding reads with `positions` in the KV cache.
    pub fn bytes_a_token(&self, positions: usize) -> u64 {
        let kv = self.config.kv_heads * self.config.head_dim;
        self.layout.bytes_a_token() + (self.config.layers * 2 * kv * positions * 2) as u64
    }

    /// Who multiplies matrices in a prefill.
    pub fn gemm_backend(&self) -> &'static str {
        self.gemm.backend()
    }

    /// Uses the own matrix product from now on; for comparisons.
    pub fn use_own_gemm(&mut self) {
        self.gemm.forget_library();
    }
}

impl Model for CudaModel {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.pace.chunk()
    }

    fn keep(&mut self, positions: usize) -> usize {
        positions
    }

    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        self.check(tokens, position)?;
        self.gpu.activate()?;
        let started = Instant::now();
        let (rest, position) = self.prefill_most(tokens, position)?;
        if let &[token] = rest {
            let state = State { pos: position as i32, token: token as i32, ..State::default() };
            self.buffers.state.write(&self.gpu, 0, &[state])?;
            self.launch_step(false)?;
        } else {
            self.prefill(rest, position)?;
            self.launch_head(self.buffers.x.at((rest.len() - 1) * self.config.hidden))?;
        }
        logits.resize(self.config.vocab_size, 0.0);
        self.buffers.logits.read(&self.gpu, 0, logits)?;
        self.pace.learn(tokens.len(), started.elapsed());
        Ok(())
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        self.check(tokens, position)?;
        self.gpu.activate()?;
        logits.clear();
        let from = tokens.len().saturating_sub(last);
        for start in (0..tokens.len()).step_by(self.chunk) {
            let now = &tokens[start..tokens.len().min(start + self.chunk)];
            self.prefill(now, position + start)?;
            let first = from.saturating_sub(start).min(now.len());
            self.append_logits(first, now.len() - first, logits)?;
        }
        self.gpu.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse {
            weights: self.arena.bytes(),
            kv_cache: self.cache.bytes(),
            workspace: self.buffers.bytes() + self.rope.bytes() + self.gemm.bytes(),
        }
    }

    fn step_bytes(&self, positions: usize) -> Option<u64> {
        Some(self.bytes_a_token(positions))
    }

    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        Some(self)
    }
}
