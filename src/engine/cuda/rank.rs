//! One GPU's part of a model of the Llama family, which is the whole model if there is one GPU: memory plan, buffers, KV
//! cache. Prefill is in `prompt.rs`, one-token steps in `step.rs`, the decode loop with the sampler on the GPU in
//! `decode.rs`.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decode::Decoding;
use super::driver::{BackgroundTask, DeviceBuffer, Event, Gpu, Graph, LaunchConfig, PinnedBuffer};
use super::exchange::{Exchange, Peers, Places};
use super::hopper_attention::{self, AttentionBuffers, HopperAttention};
use super::kernels::{HEAD_DIMS, Kernels};
use super::layout::{Format, Mat};
use super::load::capacity::Needs;
use super::load::timeline;
use super::load::upload::{self, Ring};
use super::load::weights::{Layer, Layout};
use super::matmul::skinny::GROUPS;
use super::matmul::{self, Gemm, cublaslt};
use super::params::{Epilogue, RopeTableArgs, State};
use super::prefill_chunk::ChunkSizer;
use super::split::Split;
use super::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::engine::model::config::{Activation, ModelConfig};
use crate::engine::model::rope::RopeLayout;
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::MemoryUse;

/// Rows of logits that `forward_rows` computes at a time.
pub(super) const LOGIT_ROWS: usize = 32;
/// Maximum splits of the keys in decode attention.
pub(super) const MOST_SPLITS: usize = 64;
/// How long a step may still run after another GPU has failed: kernels that wait for it end at once, the others soon.
const GRACE: Duration = Duration::from_secs(1);
/// Tokens of history that the penalties cover.
pub(super) const HISTORY: usize = 16384;
/// Cells of the token ring in host memory: how far the GPU can run ahead of the host.
pub(super) const OUT_RING: usize = 64;

/// Why the CUDA engine cannot run this model; `None` if it can.
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
    let format = |layer: usize, part: &str| plan.get(&format!("blk.{layer}.{part}.weight")).map(|t| Format::of(t.kind));
    if (0..config.layers).any(|layer| format(layer, "ffn_gate") != format(layer, "ffn_up")) {
        return lacking("whose gate and up matrices are stored in different formats".into());
    }
    if !config.hidden.is_multiple_of(32) || !config.feed_forward.is_multiple_of(32) {
        return lacking("whose width is not a multiple of 32".into());
    }
    None
}

/// Selects the matrices of a layer that one product multiplies.
type MatricesOf = fn(&Layer) -> Vec<Mat>;

/// Buffer sizes of a model and the GPU memory that it needs.
pub struct Plan {
    /// Maximum tokens of a prefill chunk.
    pub chunk: usize,
    pub needs: Needs,
    /// Whether prefill needs scratch memory to dequantise matrices to bf16.
    pub scratch: bool,
}

/// Plans one GPU's part for a GPU with this number of multiprocessors, which sets the chunk size.
pub fn plan(split: &Split, tensors: &TensorPlan, multiprocessors: i32) -> Result<Plan, ModelError> {
    let config = &split.config;
    let layout = Layout::new(split, tensors, 0)?;
    let chunk = match multiprocessors {
        100.. => 2048,
        60..100 => 1024,
        _ => 512,
    };
    let chunk = chunk.min(config.context_length.next_multiple_of(64)).max(64);
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let per_token = config.hidden * 6 + (q + 2 * kv) * 2 + q * 2 + config.feed_forward * 6 + 4;
    let scratch = if layout.formats().any(|format| format != Format::Bf16) { matmul::SCRATCH * 2 } else { 0 };
    let rope = config.context_length * config.rope.frequencies.len() * 8;
    let step = (config.vocab_size + config.heads * config.head_dim * (MOST_SPLITS + 8)) * 4;
    let rows = LOGIT_ROWS * config.vocab_size * 4;
    let workspace = (chunk * per_token + scratch + rope + step + rows + cublaslt::WORKSPACE) as u64 + upload::STAGING;
    let exchange = match split.share.ranks {
        1 => 0,
        ranks => Places::new(ranks, config.hidden, config.vocab_size, chunk).total as u64,
    };
    let workspace = workspace + exchange;
    let kv_cache = (config.layers * 2 * kv * config.context_length * 2) as u64;
    // 96 MiB for allocations rounded up to 2 MiB pages and for the kernels that cuBLASLt loads.
    let scratch = scratch > 0;
    Ok(Plan { chunk, scratch, needs: Needs { weights: layout.bytes, kv_cache, workspace: workspace + (96 << 20) } })
}

/// Buffers of prefill and decode steps.
pub(super) struct Buffers {
    pub x: DeviceBuffer<f32>,
    pub normed: DeviceBuffer<u16>,
    pub qkv: DeviceBuffer<u16>,
    pub attended: DeviceBuffer<u16>,
    pub gate_up: DeviceBuffer<u16>,
    pub activated: DeviceBuffer<u16>,
    pub tokens: DeviceBuffer<i32>,
    pub logits: DeviceBuffer<f32>,
    pub rows: DeviceBuffer<f32>,
    pub step_x: DeviceBuffer<f32>,
    pub step_q: DeviceBuffer<f32>,
    pub step_k: DeviceBuffer<f32>,
    pub step_attended: DeviceBuffer<f32>,
    pub step_hidden: DeviceBuffer<u16>,
    pub part_o: DeviceBuffer<f32>,
    pub part_ml: DeviceBuffer<f32>,
    pub counters: DeviceBuffer<i32>,
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

/// The addresses that the Hopper attention kernel's tensor maps describe.
fn places(config: &ModelConfig, buffers: &Buffers, cache: &DeviceBuffer<u16>, chunk: usize) -> AttentionBuffers {
    let columns = (config.heads + 2 * config.kv_heads) * config.head_dim;
    let rows = config.layers * 2 * config.kv_heads * config.context_length;
    AttentionBuffers {
        queries: (buffers.qkv.pointer(), chunk, columns),
        cache: (cache.pointer(), rows),
        head_dim: config.head_dim,
    }
}

/// What the load of a rank hands over to it.
pub struct Parts {
    pub split: Split,
    pub layout: Layout,
    /// The weights.
    pub arena: DeviceBuffer<u8>,
    /// Maximum tokens of a prefill chunk.
    pub chunk: usize,
    pub pace: ChunkSizer,
    pub gemm: Gemm,
    pub ring: Ring,
    /// Several GPUs.
    pub exchange: Option<Arc<Exchange>>,
}

/// One GPU's part of a model. Fields drop in order: `gpu` must be the last.
pub struct Rank {
    pub(super) decoding: Option<Decoding>,
    pub(super) graph: Option<Graph>,
    pub(super) gemm: Gemm,
    pub(super) buffers: Buffers,
    /// Of this part: see [`Split`].
    pub(super) config: ModelConfig,
    /// The first token whose logits this GPU computes.
    pub(super) first_token: usize,
    /// `None` if there is one GPU.
    pub(super) peers: Option<Peers>,
    pub(super) layout: Layout,
    pub(super) kernels: Kernels,
    pub(super) tuning: Tuning,
    /// Unpins the upload ring.
    _ring: BackgroundTask<()>,
    cache: DeviceBuffer<u16>,
    /// The Hopper prefill attention; `None` if the GPU or the head width does not support it.
    pub(super) hopper: Option<HopperAttention>,
    pub(super) rope: DeviceBuffer<f32>,
    arena: DeviceBuffer<u8>,
    pub(super) chunk: usize,
    pub(super) pace: ChunkSizer,
    pub(super) gpu: Gpu,
}

impl Rank {
    /// Allocates everything besides the weights, which are in `arena` already.
    pub fn new(gpu: Gpu, kernels: Kernels, parts: Parts) -> Result<Self, ModelError> {
        let Parts { split, layout, arena, chunk, pace, gemm, ring, exchange } = parts;
        let (share, first_token, config) = (split.share, split.vocabulary.start, split.config);
        // In the background: unpinning takes as long as decoding ten tokens.
        let ring = BackgroundTask::start(&gpu, move || {
            drop(ring);
            Some(())
        });
        let kv = config.kv_heads * config.head_dim;
        let buffers = Buffers::new(&config, chunk)?;
        let cache = DeviceBuffer::new(config.layers * 2 * kv * config.context_length)?;
        let half = config.rope.frequencies.len();
        let rope = DeviceBuffer::<f32>::new(config.context_length * half * 2)?;
        timeline::mark("buffers");
        let tuning = Tuning::for_capability(gpu.properties.compute_capability);
        let hopper = match kernels.hopper.filter(|_| tuning.hopper) {
            Some(hopper) => HopperAttention::new(&hopper.attention, &places(&config, &buffers, &cache, chunk))?,
            None => None,
        };
        let wave = hopper_attention::wave(gpu.properties.multiprocessors, config.heads);
        let pace = if hopper.is_some() { pace.in_waves(wave) } else { pace };
        let peers = exchange.map(|exchange| Peers::new(&gpu, exchange, share)).transpose()?;
        let model = Self {
            decoding: None,
            graph: None,
            gemm,
            buffers,
            config,
            first_token,
            peers,
            layout,
            kernels,
            tuning,
            _ring: ring,
            cache,
            hopper,
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
        timeline::mark("rope table");
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
                LaunchConfig::linear((half * positions).div_ceil(256) as u64, 256),
                &args,
            )?
        };
        self.gpu.synchronize()
    }

    /// Device address of a layer's keys; its values follow.
    pub(super) fn keys(&self, layer: usize) -> u64 {
        let size = self.config.kv_heads * self.config.head_dim * self.config.context_length;
        self.cache.at(layer * 2 * size)
    }

    pub(super) fn values(&self, layer: usize) -> u64 {
        let size = self.config.kv_heads * self.config.head_dim * self.config.context_length;
        self.cache.at((layer * 2 + 1) * size)
    }

    pub(super) fn window(&self, layer: usize) -> i32 {
        self.config.windows.get(layer).copied().flatten().map_or(0, |w| w as i32)
    }

    pub(super) fn neox(&self) -> i32 {
        i32::from(self.config.rope.layout == RopeLayout::Neox)
    }

    pub(super) fn width(&self) -> usize {
        HEAD_DIMS.iter().position(|d| *d == self.config.head_dim).unwrap_or(0)
    }

    /// The GPU that the model is loaded on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes that a decode step reads with `positions` in the KV cache.
    pub fn bytes_a_token(&self, positions: usize) -> u64 {
        let kv = self.config.kv_heads * self.config.head_dim;
        self.layout.bytes_a_token() + (self.config.layers * 2 * kv * positions * 2) as u64
    }

    /// The address of the logits of all GPUs.
    pub(super) fn logits(&self) -> u64 {
        self.peers.as_ref().map_or(self.buffers.logits.pointer(), Peers::logits)
    }

    pub fn memory(&self) -> MemoryUse {
        let exchange = self.peers.as_ref().map_or(0, |peers| peers.exchange.bytes());
        MemoryUse {
            weights: self.arena.bytes(),
            kv_cache: self.cache.bytes(),
            workspace: self.buffers.bytes() + self.rope.bytes() + self.gemm.bytes() + exchange,
        }
    }

    /// Makes the decode graph, before any kernel waits for another GPU.
    pub fn prepare(&mut self) -> Result<(), ModelError> {
        self.gpu.activate()?;
        if self.tuning.graph && self.graph.is_none() {
            self.graph = Some(self.gpu.capture(|| self.launch_step(true))?);
        }
        Ok(())
    }

    /// Evaluates `tokens` at `position`; the last one's logits are complete once all ranks have done so.
    pub fn evaluate(&mut self, tokens: &[u32], position: usize) -> Result<(), ModelError> {
        self.gpu.activate()?;
        self.gemm.cublaslt().busy();
        let (rest, position) = self.prefill_most(tokens, position)?;
        if let &[token] = rest {
            let state = State { pos: position as i32, token: token as i32, ..State::default() };
            self.buffers.state.write(&self.gpu, 0, &[state])?;
            self.launch_step(false)?;
        } else {
            self.prefill(rest, position)?;
            self.launch_head(self.buffers.x.at((rest.len() - 1) * self.config.hidden))?;
        }
        self.wait()
    }

    /// Waits for the GPU's work; with several GPUs no longer than the exchange permits after another one has failed.
    pub(super) fn wait(&self) -> Result<(), ModelError> {
        let Some(peers) = &self.peers else { return self.gpu.synchronize() };
        let stopped = Cell::new(None);
        let give_up = || {
            let since: Instant = match stopped.get() {
                None if !peers.exchange.is_stopped() => return false,
                None => Instant::now(),
                Some(since) => since,
            };
            stopped.set(Some(since));
            since.elapsed() > GRACE
        };
        match self.gpu.synchronize_unless(give_up)? {
            true => Ok(()),
            false => peers.exchange.check(),
        }
    }

    /// Reads the logits that all ranks have computed; for rank 0.
    pub fn read_logits(&self, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        logits.resize(self.config.vocab_size, 0.0);
        // SAFETY: there are logits of the whole vocabulary at this address.
        unsafe { self.gpu.read_at(self.logits(), logits) }
    }

    /// Evaluates `tokens` at `position`; returns this rank's columns of the logits of the `last` ones.
    pub fn evaluate_rows(&mut self, tokens: &[u32], position: usize, last: usize) -> Result<Vec<f32>, ModelError> {
        self.gpu.activate()?;
        let mut logits = Vec::new();
        let from = tokens.len().saturating_sub(last);
        for start in (0..tokens.len()).step_by(self.chunk) {
            let now = &tokens[start..tokens.len().min(start + self.chunk)];
            self.prefill(now, position + start)?;
            let first = from.saturating_sub(start).min(now.len());
            self.append_logits(first, now.len() - first, &mut logits)?;
        }
        self.wait()?;
        Ok(logits)
    }

    /// Waits for the GPU; with several, clears the exchange after a failed step.
    pub fn recover(&mut self) -> Result<(), ModelError> {
        self.gpu.activate()?;
        self.wait()?;
        self.decoding = None;
        self.peers.as_mut().map_or(Ok(()), |peers| peers.reset(&self.gpu))
    }

    /// The token of the decode state and its position.
    #[cfg(any(debug_assertions, feature = "gpu-checks"))]
    pub fn token(&mut self) -> Result<(i32, i32), ModelError> {
        let mut state = [State::default()];
        self.buffers.state.read(&self.gpu, 0, &mut state)?;
        Ok((state[0].token, state[0].pos))
    }

    /// Gives up the exchange, before the contexts are destroyed; also after an error, as a failed GPU does no work.
    pub fn leave(&mut self) -> Result<(), ModelError> {
        let waited = self.gpu.activate().and_then(|()| self.gpu.synchronize());
        self.graph = None;
        if let Some(peers) = self.peers.take() {
            peers.exchange.leave(peers.share.rank);
        }
        waited
    }

    /// Prints the time of each product of a layer for `tokens` tokens, by tiling. Runs over all layers, so that no
    /// weights are found in the L2.
    pub fn time_tilings(&mut self, tokens: usize) -> Result<(), ModelError> {
        let skinny = self.gemm.skinny();
        let (hidden, ff) = (self.config.hidden, self.config.feed_forward);
        let b = &self.buffers;
        let uses: [(&str, MatricesOf, u64, u64, usize); 4] = [
            ("QKV", |l| vec![l.q, l.k, l.v], b.normed.pointer(), b.qkv.pointer(), 3 * hidden),
            ("O", |l| vec![l.output], b.attended.pointer(), b.qkv.pointer(), hidden),
            ("gate/up", |l| vec![l.gate, l.up], b.normed.pointer(), b.gate_up.pointer(), 2 * ff),
            ("down", |l| vec![l.down], b.activated.pointer(), b.qkv.pointer(), hidden),
        ];
        for (name, mats, a, c, ldc) in uses {
            let chosen = skinny.choose(&mats(&self.layout.layers[0]), tokens).map_or(0, |tiling| tiling.groups);
            print!("     {tokens} tokens, {name}, {chosen} chosen:");
            for tiling in GROUPS.into_iter().filter_map(|groups| skinny.limits.tiling(groups, tokens)) {
                let (start, end) = (Event::new(true)?, Event::new(true)?);
                for round in 0..2 {
                    if round == 1 {
                        start.record(self.gpu.stream)?;
                    }
                    for layer in &self.layout.layers {
                        let mats = mats(layer);
                        skinny.launch(&self.gpu, &mats, (a, tokens), (c, ldc), Epilogue::StoreBf16, tiling)?;
                    }
                }
                end.record(self.gpu.stream)?;
                end.wait()?;
                let each = end.since(&start)? * 1e3 / self.layout.layers.len() as f32;
                print!(" {} groups {each:.1} µs", tiling.groups);
            }
            println!();
        }
        Ok(())
    }
}
