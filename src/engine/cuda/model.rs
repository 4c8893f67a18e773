//! The Llama family on a GPU: memory plan, buffers, and the `Model` implementation. Prefill is in `prompt.rs`,
//! one-token steps in `step.rs`, the decode loop with the sampler on the GPU in `decode.rs`.

use std::time::Instant;

use super::decode::Decoding;
use super::driver::{BackgroundTask, DeviceBuffer, Event, Gpu, Graph, LaunchConfig, PinnedBuffer};
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
use super::tuning::{ShortPromptLimits, Tuning};
use crate::engine::error::ModelError;
use crate::engine::model::config::{Activation, ModelConfig};
use crate::engine::model::rope::RopeLayout;
use crate::engine::model::{DeviceDecoder, Model, check_tokens};
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::{Freed, Kernels as Evaluated, MemoryUse};

/// Rows of logits that `forward_rows` computes at a time.
pub(super) const LOGIT_ROWS: usize = 32;
/// Maximum splits of the keys in decode attention.
pub(super) const MOST_SPLITS: usize = 64;
/// Tokens of history that the penalties cover.
pub(super) const HISTORY: usize = 16384;
/// Cells of the token ring in host memory: how far the GPU can run ahead of the host.
pub(super) const OUT_RING: usize = 64;

/// The longest prompt that a freshly loaded model prefills with the portable matrix product instead of waiting for
/// cuBLASLt. (H100 without the Hopper kernels: 2048 tokens took 0.05 s longer that way, and waiting took 0.2 s.)
const FRESH_PROMPT: usize = 2048;

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

/// Plans `config` for a GPU with this number of multiprocessors, which sets the chunk size.
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
    let scratch = if layout.formats().any(|format| format != Format::Bf16) { matmul::SCRATCH * 2 } else { 0 };
    let rope = config.context_length * config.rope.frequencies.len() * 8;
    let step = (config.vocab_size + config.heads * config.head_dim * (MOST_SPLITS + 8)) * 4;
    let rows = LOGIT_ROWS * config.vocab_size * 4;
    let workspace = (chunk * per_token + scratch + rope + step + rows + cublaslt::WORKSPACE) as u64 + upload::STAGING;
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

/// A model on a GPU. Fields drop in order: `gpu` must be the last.
pub struct CudaModel {
    pub(super) decoding: Option<Decoding>,
    pub(super) graph: Option<Graph>,
    pub(super) gemm: Gemm,
    pub(super) buffers: Buffers,
    pub(super) config: ModelConfig,
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
    pace: ChunkSizer,
    pub(super) gpu: Gpu,
}

impl CudaModel {
    /// Allocates everything besides the weights, which are in `arena` already.
    #[allow(clippy::too_many_arguments, reason = "the parts of one model, each made by its own module")]
    pub fn new(
        gpu: Gpu,
        kernels: Kernels,
        config: ModelConfig,
        layout: Layout,
        arena: DeviceBuffer<u8>,
        chunk: usize,
        pace: ChunkSizer,
        gemm: Gemm,
        ring: Ring,
    ) -> Result<Self, ModelError> {
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
        let model = Self {
            decoding: None,
            graph: None,
            gemm,
            buffers,
            config,
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

    /// The implementation of long prompts' matrix products, for reports. Waits until cuBLASLt is loaded or unavailable.
    pub fn gemm_backend(&mut self) -> &'static str {
        self.gemm.backend()
    }

    /// Replaces cuBLASLt by a kernel of this program, or (`portable`) by the one for all GPUs; for comparisons.
    pub fn use_own_gemm(&mut self, portable: bool) {
        self.gemm.use_own(portable);
    }

    /// Sends prompts of up to `tokens` tokens through the skinny kernels; for comparisons.
    pub fn take_as_short(&mut self, tokens: usize) {
        self.gemm.set_few(ShortPromptLimits { plain: tokens, quantised: tokens, hopper: tokens });
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

impl Model for CudaModel {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.pace.chunk(self.gemm.is_fast())
    }

    fn truncate_cache(&mut self, positions: usize) -> usize {
        positions
    }

    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, 0)?;
        self.gpu.activate()?;
        self.gemm.cublaslt().busy();
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
        if self.gemm.is_fast() {
            self.pace.learn(tokens.len(), started.elapsed());
        }
        Ok(())
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, 0)?;
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

    fn is_ready(&mut self, tokens: usize) -> bool {
        tokens <= FRESH_PROMPT || self.gemm.is_fast() || self.gemm.cublaslt().hurry()
    }

    fn prompt_kernels(&mut self) -> Evaluated {
        self.gemm.evaluated()
    }

    fn set_prompt_kernels(&mut self, kernels: Option<Evaluated>) {
        self.gemm.assume(kernels);
    }

    fn variant(&self) -> String {
        let (major, minor) = self.gpu.properties.compute_capability;
        let hopper = if self.hopper.is_some() { ", Hopper kernels" } else { "" };
        format!("sm_{major}{minor}{hopper}")
    }

    fn load_finished(&mut self) {
        self.gemm.cublaslt().idle();
    }

    fn finish_warmup(&mut self) {
        self.gemm.cublaslt().settle();
    }

    fn release(self: Box<Self>) -> Freed {
        let freed = self.gpu.freed();
        drop(self);
        freed.get().copied().unwrap_or_default()
    }

    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        Some(self)
    }
}
