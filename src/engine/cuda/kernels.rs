//! The kernels by name, from machine code that is part of this program.

use super::driver::{Gpu, Kernel};
use crate::engine::model::ModelError;

/// Fat binaries begin with words that the driver reads in place.
#[repr(C, align(64))]
struct Aligned<B: ?Sized>(B);

macro_rules! image {
    ($name:literal) => {{
        static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin")));
        other_image($name).unwrap_or(&IMAGE.0)
    }};
}

/// Machine code from `$CHATNAP_CUDA_KERNELS/NAME.fatbin`, so that kernels can be tried without building the program anew;
/// in development builds only.
fn other_image(name: &str) -> Option<&'static [u8]> {
    let folder = std::env::var_os("CHATNAP_CUDA_KERNELS").filter(|_| cfg!(debug_assertions))?;
    let bytes = std::fs::read(std::path::Path::new(&folder).join(format!("{name}.fatbin"))).ok()?;
    Some(Vec::leak(bytes))
}

/// Widths of a head that the attention kernels are made for.
pub const HEAD_DIMS: [usize; 3] = [32, 64, 128];
/// Query heads of one key head that one block handles.
pub const GROUPS: [usize; 4] = [1, 2, 4, 8];

/// What a matrix-vector product is for; indexes `Kernels::gemv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Qkv = 0,
    GateUp = 1,
    Residual = 2,
    Logits = 3,
}

/// Every kernel of the engine.
pub struct Kernels {
    /// By use ([`Use`]), then by what formats they know: plain, quantised, both.
    pub gemv: [[Kernel; 3]; 4],
    /// By head width, then by group.
    pub attention_decode: [[Kernel; 4]; 3],
    pub attention_prefill: [Kernel; 3],
    pub norm_rows: Kernel,
    pub rope_kv: Kernel,
    pub swiglu: Kernel,
    pub rope_table: Kernel,
    pub gemm: Kernel,
    pub sample: Kernel,
    pub repack: Kernel,
    pub dequantise_rows: Kernel,
    pub embed: Kernel,
    pub read_bandwidth: Kernel,
}

impl Kernels {
    /// The matrix-vector kernel for a use and for what has to be staged (1: f32, 2: int8, 3: both).
    pub fn gemv(&self, what: Use, stage: i32) -> Kernel {
        self.gemv[what as usize][(stage.clamp(1, 3) - 1) as usize]
    }

    /// Loads them onto the card.
    pub fn load(gpu: &mut Gpu) -> Result<Self, ModelError> {
        let gemv = gpu.load_module(image!("gemv"))?;
        let attention = gpu.load_module(image!("attention"))?;
        let prefill = gpu.load_module(image!("prefill"))?;
        let sample = gpu.load_module(image!("sample"))?;
        let repack = gpu.load_module(image!("repack"))?;
        let decode = |d: usize, g: usize| gpu.function(attention, &format!("attention_decode_{d}_{g}"), true);
        let of_width = |d: usize| -> Result<[Kernel; 4], ModelError> {
            Ok([decode(d, GROUPS[0])?, decode(d, GROUPS[1])?, decode(d, GROUPS[2])?, decode(d, GROUPS[3])?])
        };
        let one = |name: &str, kinds: &str| gpu.function(gemv, &format!("{name}_{kinds}"), true);
        let of_use = |name: &str| -> Result<[Kernel; 3], ModelError> {
            Ok([one(name, "plain")?, one(name, "quantised")?, one(name, "mixed")?])
        };
        let tiles = |d: usize| gpu.function(attention, &format!("attention_prefill_{d}"), true);
        Ok(Self {
            gemv: [of_use("gemv_qkv")?, of_use("gemv_gate_up")?, of_use("gemv_residual")?, of_use("gemv_logits")?],
            attention_decode: [of_width(HEAD_DIMS[0])?, of_width(HEAD_DIMS[1])?, of_width(HEAD_DIMS[2])?],
            attention_prefill: [tiles(HEAD_DIMS[0])?, tiles(HEAD_DIMS[1])?, tiles(HEAD_DIMS[2])?],
            norm_rows: gpu.function(prefill, "norm_rows", false)?,
            rope_kv: gpu.function(prefill, "rope_kv", false)?,
            swiglu: gpu.function(prefill, "swiglu", false)?,
            rope_table: gpu.function(prefill, "rope_table", false)?,
            gemm: gpu.function(prefill, "gemm_bf16", true)?,
            sample: gpu.function(sample, "sample", false)?,
            repack: gpu.function(repack, "repack", false)?,
            dequantise_rows: gpu.function(repack, "dequantise_rows", false)?,
            embed: gpu.function(repack, "embed", false)?,
            read_bandwidth: gpu.function(repack, "read_bandwidth", false)?,
        })
    }
}
