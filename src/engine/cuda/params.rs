//! Kernel argument structures, field for field as in `kernels/*.cu`. Pointers are device addresses; 0 is null.

use super::driver::tensor_map::TensorMap;
use super::layout::Mat;

/// How a matrix product writes its f32 sums to C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    StoreBf16,
    AddF32,
    StoreF32,
}

impl Epilogue {
    /// The `mode` field of the kernels' arguments.
    pub fn mode(self) -> i32 {
        match self {
            Epilogue::StoreBf16 => 0,
            Epilogue::AddF32 => 1,
            Epilogue::StoreF32 => 2,
        }
    }
}

/// The shape of a product: `m` tokens, `n` rows of weights, depth `k`, `ldc` elements between rows of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub ldc: usize,
    pub into: Epilogue,
}

/// The decode loop's state on the GPU; the fields are described in `common.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    pub pos: i32,
    pub token: i32,
    pub history_len: i32,
    pub step: i32,
    pub best: u64,
    pub seed: u64,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub frequency_penalty: f32,
    pub presence_penalty: f32,
    pub top_k: i32,
    pub repeat_last_n: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct GemvArgs {
    pub a: Mat,
    pub b: Mat,
    pub c: Mat,
    pub x: u64,
    pub xh: u64,
    pub norm: u64,
    pub eps: f32,
    pub cols: i32,
    pub stage: i32,
    pub head_dim: i32,
    pub out: u64,
    pub out_half: u64,
    pub bias_a: u64,
    pub bias_b: u64,
    pub bias_c: u64,
    pub k_cache: u64,
    pub v_cache: u64,
    pub k_raw: u64,
    pub rope: u64,
    pub state: u64,
    pub context: i32,
    pub rope_half: i32,
    pub neox: i32,
    pub slot: i32,
    pub depth: i32,
    pub ring: i32,
    pub first_row: i32,
    pub pad: i32,
}

/// The most GPUs of a model.
pub const MOST_RANKS: usize = 8;

/// How a rank reaches the others (`exchange.cuh`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    pub memory: [u64; MOST_RANKS],
    pub epoch: u64,
    pub abort: u64,
    pub rank: i32,
    pub ranks: i32,
    pub limit_us: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SumArgs {
    pub product: GemvArgs,
    pub link: Link,
    pub index: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StepArgs {
    pub link: Link,
    pub state: u64,
    pub index: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CombineArgs {
    pub parts: [u64; MOST_RANKS],
    pub x: u64,
    pub octets: u64,
    pub ranks: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeArgs {
    pub link: Link,
    pub x: u64,
    pub width: i32,
    pub index: i32,
    pub alone: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AttentionArgs {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub out: u64,
    pub part_o: u64,
    pub part_ml: u64,
    pub counters: u64,
    pub state: u64,
    pub scale: f32,
    pub context: i32,
    pub heads_per_kv: i32,
    pub window: i32,
    pub splits: i32,
    pub keys: i32,
    pub stages: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PrefillAttentionArgs {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub out: u64,
    pub scale: f32,
    pub tokens: i32,
    pub position: i32,
    pub heads: i32,
    pub heads_per_kv: i32,
    pub context: i32,
    pub window: i32,
    pub q_stride: i32,
    pub order: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct HopperAttentionArgs {
    pub queries: TensorMap,
    pub cache: TensorMap,
    pub out: u64,
    pub scale: f32,
    pub tokens: i32,
    pub position: i32,
    pub heads: i32,
    pub heads_per_kv: i32,
    pub context: i32,
    pub window: i32,
    pub k_row: i32,
    pub v_row: i32,
    pub order: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct HopperGemmArgs {
    pub a: TensorMap,
    pub w: TensorMap,
    pub c: u64,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub ldc: i32,
    pub mode: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct HopperSkinnyArgs {
    pub x: TensorMap,
    pub w: [Mat; 3],
    pub out: u64,
    pub tokens: i32,
    pub cols: i32,
    pub ldc: i32,
    pub mode: i32,
    pub tiles_a: i32,
    pub tiles_b: i32,
    pub share: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NormArgs {
    pub x: u64,
    pub weight: u64,
    pub out: u64,
    pub eps: f32,
    pub cols: i32,
    pub order: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RopeArgs {
    pub qkv: u64,
    pub q: u64,
    pub k: u64,
    pub bias_q: u64,
    pub bias_k: u64,
    pub bias_v: u64,
    pub norm_q: u64,
    pub norm_k: u64,
    pub k_cache: u64,
    pub v_cache: u64,
    pub rope: u64,
    pub state: u64,
    pub eps: f32,
    pub tokens: i32,
    pub position: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub head_dim: i32,
    pub rope_half: i32,
    pub neox: i32,
    pub context: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SwigluArgs {
    pub input: u64,
    pub out: u64,
    pub width: i32,
    pub tokens: i32,
    pub order: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RopeTableArgs {
    pub frequencies: u64,
    pub out: u64,
    pub scale: f64,
    pub rope_half: i32,
    pub positions: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct GemmArgs {
    pub a: u64,
    pub w: u64,
    pub c: u64,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub lda: i32,
    pub ldc: i32,
    pub mode: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SkinnyArgs {
    pub w: [Mat; 3],
    pub x: u64,
    pub out: u64,
    pub tokens: i32,
    pub cols: i32,
    pub ldc: i32,
    pub mode: i32,
    pub tiles_a: i32,
    pub tiles_b: i32,
    pub groups: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleArgs {
    pub logits: u64,
    pub vocab: i32,
    pub history_capacity: i32,
    pub state: u64,
    pub history: u64,
    pub out: u64,
    pub out_capacity: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RepackArgs {
    pub src: u64,
    pub dst: Mat,
    pub first: u64,
    pub count: u64,
    pub source: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DequantiseArgs {
    pub m: Mat,
    pub out: u64,
    pub first: u64,
    pub count: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbedArgs {
    pub m: Mat,
    pub tokens: u64,
    pub out: u64,
    pub state: u64,
    pub epoch: u64,
    pub epochs: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadArgs {
    pub src: u64,
    pub out: u64,
    pub count: u64,
}
