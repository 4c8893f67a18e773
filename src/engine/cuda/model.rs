//! The Llama family on a card: what it takes, what it holds, and its forward pass as others see it. Prompts are in
//! `prompt.rs`, one-token steps in `step.rs`, decoding with the sampler on the card in `decode.rs`.

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
use crate::engine::model::{DeviceDecoder, Model};
use crate::engine::weights::plan::TensorPlan;
use crate::protocol::MemoryUse;

/// Rows of logits that `forward_rows` makes at a time.
pub(super) const LOGIT_ROWS: usize = 32;
/// Most splits of the keys in one-token attention.
pub(super) const MOST_SPLITS: usize = 64;
/// Tokens of history that the penalties can see.
pub(super) const HISTORY: usize = 16384;
/// Tokens that the card may be ahead of the host.
pub(super) const OUT_RING: usize = 64;

/// Where a freshly loaded model has only the matrix product for all cards, it reads prompts of up to so many tokens with that;
/// for longer ones it is quicker to wait for cuBLASLt. (On an H100 without its own kernels 2048 tokens took 0.05 s longer so,
/// and waiting took 0.2 s.)
const FRESH_PROMPT: usize = 2048;

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
    let format = |layer: usize, part: &str| plan.get(&format!("blk.{layer}.{part}.weight")).map(|t| Format::of(t.kind));
    if (0..config.layers).any(|layer| format(layer, "ffn_gate") != format(layer, "ffn_up")) {
        return lacking("whose gate and up matrices are stored in different formats".into());
    }
    if !config.hidden.is_multiple_of(32) || !config.feed_forward.is_multiple_of(32) {
        return lacking("whose width is no multiple of 32".into());
    }
    None
}

/// Matrices of a layer that are multiplied together.
type MatricesOf = fn(&Layer) -> Vec<Mat>;

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
    let scratch = if layout.formats().any(|format| format != Format::Bf16) { matmul::SCRATCH * 2 } else { 0 };
    let rope = config.context_length * config.rope.frequencies.len() * 8;
    let step = (config.vocab_size + config.heads * config.head_dim * (MOST_SPLITS + 8)) * 4;
    let rows = LOGIT_ROWS * config.vocab_size * 4;
    let workspace = (chunk * per_token + scratch + rope + step + rows + cublaslt::WORKSPACE) as u64 + upload::STAGING;
    let kv_cache = (config.layers * 2 * kv * config.context_length * 2) as u64;
    // Allocations come in pages of 2 MiB; cuBLASLt loads its kernels.
    let scratch = scratch > 0;
    Ok(Plan { chunk, scratch, needs: Needs { weights: layout.bytes, kv_cache, workspace: workspace + (96 << 20) } })
}

/// Buffers that prefill and steps work in.
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

/// Where the copy engine finds a prompt's queries and the cache.
fn places(config: &ModelConfig, buffers: &Buffers, cache: &DeviceBuffer<u16>, chunk: usize) -> AttentionBuffers {
    let columns = (config.heads + 2 * config.kv_heads) * config.head_dim;
    let rows = config.layers * 2 * config.kv_heads * config.context_length;
    AttentionBuffers {
        queries: (buffers.qkv.pointer(), chunk, columns),
        cache: (cache.pointer(), rows),
        head_dim: config.head_dim,
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
    /// The load's ring of pinned memory, on its way back.
    _ring: BackgroundTask<()>,
    cache: DeviceBuffer<u16>,
    /// Attention for prompts, where the card has a quicker one.
    pub(super) hopper: Option<HopperAttention>,
    pub(super) rope: DeviceBuffer<f32>,
    arena: DeviceBuffer<u8>,
    pub(super) chunk: usize,
    pace: ChunkSizer,
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
        pace: ChunkSizer,
        gemm: Gemm,
        ring: Ring,
    ) -> Result<Self, ModelError> {
        // Unpinning takes as long as ten tokens.
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
        let tuning = Tuning::for_card(gpu.card.compute_capability);
        let hopper = match kernels.hopper.filter(|_| tuning.hopper) {
            Some(hopper) => HopperAttention::new(&hopper.attention, &places(&config, &buffers, &cache, chunk))?,
            None => None,
        };
        let wave = hopper_attention::wave(gpu.card.multiprocessors, config.heads);
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

    /// Address of a layer's keys; its values follow.
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
    pub fn gemm_backend(&mut self) -> &'static str {
        self.gemm.backend()
    }

    /// Uses a matrix product of our own for long prompts: the card's, or (`portable`) that for all cards; for comparisons.
    pub fn use_own_gemm(&mut self, portable: bool) {
        self.gemm.use_own(portable);
    }

    /// Takes prompts of up to so many tokens as short ones; for comparisons.
    pub fn take_as_short(&mut self, tokens: usize) {
        self.gemm.set_few(ShortPromptLimits { plain: tokens, quantised: tokens, hopper: tokens });
    }

    /// Prints how long each product of a layer takes for so many tokens, by tiling: over all layers, so that nothing is
    /// found in the L2.
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
        self.check(tokens, position)?;
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

    fn is_ready(&mut self, tokens: usize) -> bool {
        tokens <= FRESH_PROMPT || self.gemm.is_fast() || self.gemm.cublaslt().hurry()
    }

    fn load_finished(&mut self) {
        self.gemm.cublaslt().idle();
    }

    fn finish_warmup(&mut self) {
        self.gemm.cublaslt().settle();
    }

    fn release(self: Box<Self>) -> Option<u64> {
        let freed = self.gpu.freed();
        drop(self);
        freed.get().copied().filter(|bytes| *bytes > 0)
    }

    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        Some(self)
    }
}
