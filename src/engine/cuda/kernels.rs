//! Loads the CUDA kernels that the build embeds (`images.rs`) into a context.

use cudarc::driver::sys::CUmodule;

use super::driver::{Gpu, Kernel};
use super::hopper_attention;
use super::images::{self, Images};
use super::layout::Format;
use super::matmul::skinny::ROOMS;
use super::matmul::{hopper_gemm, hopper_skinny};
use crate::engine::error::ModelError;

/// Head widths that the attention kernels are compiled for.
pub const HEAD_DIMS: [usize; 3] = [32, 64, 128];
/// Query heads per key head that one block of decode attention handles.
pub const HEADS: usize = 8;

/// The role of a matrix-vector product in a decode step; indexes `Kernels::gemv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemvRole {
    Qkv = 0,
    GateUp = 1,
    Residual = 2,
    Logits = 3,
    /// As `Residual`, with the sums of all GPUs.
    Sum = 4,
}

/// A set of formats that a matrix-vector kernel is compiled for.
struct FormatSet {
    suffix: &'static str,
    formats: &'static [Format],
}

/// The sets that `gemv.cu` has kernels for, smaller ones first.
const SETS: [FormatSet; 8] = [
    FormatSet { suffix: "bf16", formats: &[Format::Bf16] },
    FormatSet { suffix: "q8_0", formats: &[Format::Q8_0] },
    FormatSet { suffix: "q4_k", formats: &[Format::Q4K] },
    FormatSet { suffix: "q6_k", formats: &[Format::Q6K] },
    FormatSet { suffix: "k", formats: &[Format::Q4K, Format::Q6K] },
    FormatSet { suffix: "plain", formats: &[Format::F32, Format::F16, Format::Bf16] },
    FormatSet {
        suffix: "quantised",
        formats: &[
            Format::Q4_0,
            Format::Q4_1,
            Format::Q5_0,
            Format::Q5_1,
            Format::Q8_0,
            Format::Q4K,
            Format::Q5K,
            Format::Q6K,
        ],
    },
    FormatSet { suffix: "mixed", formats: &Format::ALL },
];

impl FormatSet {
    /// 16-byte words of each row per lane and ring unit (`steps_of` in `weight_ring.cuh`).
    fn steps(&self) -> u64 {
        if self.formats.contains(&Format::Q8_0) { 1 } else { 2 }
    }
}

/// A matrix-vector kernel and its launch parameters.
#[derive(Clone, Copy)]
pub struct Gemv {
    pub kernel: Kernel,
    /// Bytes of a ring unit.
    pub unit: u32,
    /// Activations to stage in shared memory: 1: f32, 2: int8, 3: both.
    pub stage: i32,
}

/// What loads modules and finds kernels in them: a GPU, and in tests a reader of the images.
pub trait Loader {
    type Module: Copy;

    fn compute_capability(&self) -> (i32, i32);

    fn module(&mut self, image: &[u8]) -> Result<Self::Module, ModelError>;

    /// A kernel by name. `dynamic` raises its dynamic shared memory limit to the maximum that its static part leaves.
    fn function(&self, module: Self::Module, name: &str, dynamic: bool) -> Result<Kernel, ModelError>;
}

impl Loader for Gpu {
    type Module = CUmodule;

    fn compute_capability(&self) -> (i32, i32) {
        self.properties.compute_capability
    }

    fn module(&mut self, image: &[u8]) -> Result<CUmodule, ModelError> {
        self.load_module(image)
    }

    fn function(&self, module: CUmodule, name: &str, dynamic: bool) -> Result<Kernel, ModelError> {
        self.find_function(module, name, dynamic)
    }
}

pub struct Kernels {
    /// The compute capability that they were compiled for: the GPU's or an earlier one.
    pub architecture: (i32, i32),
    /// By role ([`GemvRole`]), then by format set ([`SETS`]).
    gemv: [[Kernel; SETS.len()]; 4],
    /// By head width ([`HEAD_DIMS`]), like `attention_prefill`.
    pub attention_decode: [Kernel; 3],
    pub attention_prefill: [Kernel; 3],
    /// `None` unless the GPU has compute capability 9.0.
    pub hopper: Option<Hopper>,
    pub norm_rows: Kernel,
    pub rope_kv: Kernel,
    pub swiglu: Kernel,
    pub rope_table: Kernel,
    pub gemm: Kernel,
    /// By the maximum tokens of a block: `skinny::ROOMS`.
    pub skinny: [Kernel; ROOMS.len()],
    pub sample: Kernel,
    pub repack: Kernel,
    pub dequantise_rows: Kernel,
    pub embed: Kernel,
    pub read_bandwidth: Kernel,
    /// `None` until [`Kernels::load_parallel`].
    pub parallel: Option<Parallel>,
}

/// Kernels of a model on several GPUs (`parallel.cu`).
#[derive(Clone, Copy)]
pub struct Parallel {
    /// By format set ([`SETS`]).
    gemv_sum: [Kernel; SETS.len()],
    pub await_logits: Kernel,
    pub send_token: Kernel,
    pub follow: Kernel,
    pub combine_rows: Kernel,
    pub probe_exchange: Kernel,
    pub advance_epoch: Kernel,
}

/// Kernels that use instructions of compute capability 9.0 only.
#[derive(Clone, Copy)]
pub struct Hopper {
    /// By head width: `hopper_attention::HEAD_DIMS`.
    pub attention: [Kernel; hopper_attention::HEAD_DIMS.len()],
    /// By rows of weights: `hopper_gemm::COLUMNS`.
    pub gemm: [Kernel; hopper_gemm::COLUMNS.len()],
    /// By tokens: `hopper_skinny::ROOMS`.
    pub skinny: [Kernel; hopper_skinny::ROOMS.len()],
}

impl Hopper {
    /// `None` on other GPUs, and if the build leaves these kernels out.
    fn load<L: Loader>(gpu: &mut L, images: &Images) -> Result<Option<Self>, ModelError> {
        let image = |name| images.get(name).filter(|_| gpu.compute_capability() == (9, 0));
        let (Some(attention), Some(gemm), Some(skinny)) =
            (image("hopper_attention"), image("hopper_gemm"), image("hopper_skinny"))
        else {
            return Ok(None);
        };
        let (attention, gemm, skinny) = (gpu.module(attention)?, gpu.module(gemm)?, gpu.module(skinny)?);
        let attend = |d: usize| gpu.function(attention, &format!("attention_hopper_{d}"), true);
        let product = |n: usize| gpu.function(gemm, &format!("gemm_hopper_{n}"), true);
        let few = |n: usize| gpu.function(skinny, &format!("skinny_hopper_{n}"), true);
        let [fewest, few, many] = hopper_skinny::ROOMS.map(few);
        let [a, b, c, d] = hopper_gemm::COLUMNS.map(product);
        let [narrow, wide] = hopper_attention::HEAD_DIMS.map(attend);
        let skinny = [fewest?, few?, many?];
        Ok(Some(Self { attention: [narrow?, wide?], gemm: [a?, b?, c?, d?], skinny }))
    }
}

impl Kernels {
    /// The matrix-vector kernel for a role and matrices of `formats`: the smallest set that contains all of them.
    pub fn gemv(&self, what: GemvRole, formats: &[Format]) -> Gemv {
        self.gemv_within(what, formats, 0)
    }

    /// As `gemv`, but ignores the `skipped` smallest matching sets; to check the larger sets.
    pub fn gemv_within(&self, what: GemvRole, formats: &[Format], skipped: usize) -> Gemv {
        let fits = |set: &FormatSet| formats.iter().all(|format| set.formats.contains(format));
        let fitting: Vec<usize> = (0..SETS.len()).filter(|i| fits(&SETS[*i])).collect();
        let index = fitting.get(skipped).or(fitting.last()).copied().unwrap_or(SETS.len() - 1);
        let unit = formats.iter().map(|format| format.unit_bytes(SETS[index].steps())).max().unwrap_or(0) as u32;
        let plain = formats.iter().any(|format| format.is_plain());
        let quantised = formats.iter().any(|format| !format.is_plain());
        let stage = i32::from(plain) | i32::from(quantised) << 1;
        let kernels = match (what, &self.parallel) {
            (GemvRole::Sum, Some(parallel)) => &parallel.gemv_sum,
            (GemvRole::Sum, None) => &self.gemv[GemvRole::Residual as usize],
            _ => &self.gemv[what as usize],
        };
        Gemv { kernel: kernels[index], unit, stage }
    }

    /// Bytes of dynamic shared memory that every matrix-vector kernel may request.
    pub fn gemv_limit(&self) -> u32 {
        self.gemv.iter().flatten().map(|kernel| kernel.shared_limit).min().unwrap_or(0)
    }

    /// Loads all modules into the context, from the embedded images for this GPU.
    pub fn load(gpu: &mut Gpu) -> Result<Self, ModelError> {
        let images = images::for_gpu(gpu.properties.compute_capability)?.unpack()?;
        Self::load_images(gpu, &images)
    }

    /// As [`Self::load`], from images that are unpacked already.
    pub fn load_images<L: Loader>(gpu: &mut L, images: &Images) -> Result<Self, ModelError> {
        let mut module = |name: &str| {
            let image =
                images.get(name).ok_or_else(|| ModelError::Invalid(format!("the kernels {name} are missing")))?;
            gpu.module(image)
        };
        let (gemv, attention, prompt_ops) = (module("gemv")?, module("attention")?, module("prompt_ops")?);
        let (skinny, sample, repack) = (module("skinny")?, module("sample")?, module("repack")?);
        let hopper = Hopper::load(gpu, images)?;
        let decode = |d: usize| gpu.function(attention, &format!("attention_decode_{d}"), true);
        let of_use = |name: &str| -> Result<[Kernel; SETS.len()], ModelError> {
            let kernels = SETS.iter().map(|set| gpu.function(gemv, &format!("{name}_{}", set.suffix), true));
            let kernels: Vec<Kernel> = kernels.collect::<Result<_, _>>()?;
            kernels.try_into().map_err(|_| ModelError::Invalid("a matrix-vector kernel is missing".into()))
        };
        let few = |tokens: usize| gpu.function(skinny, &format!("skinny_{tokens}"), true);
        let tiles = |d: usize| gpu.function(attention, &format!("attention_prefill_{d}"), true);
        Ok(Self {
            architecture: images.architecture,
            gemv: [of_use("gemv_qkv")?, of_use("gemv_gate_up")?, of_use("gemv_residual")?, of_use("gemv_logits")?],
            attention_decode: [decode(HEAD_DIMS[0])?, decode(HEAD_DIMS[1])?, decode(HEAD_DIMS[2])?],
            attention_prefill: [tiles(HEAD_DIMS[0])?, tiles(HEAD_DIMS[1])?, tiles(HEAD_DIMS[2])?],
            hopper,
            norm_rows: gpu.function(prompt_ops, "norm_rows", false)?,
            rope_kv: gpu.function(prompt_ops, "rope_kv", true)?,
            swiglu: gpu.function(prompt_ops, "swiglu", false)?,
            rope_table: gpu.function(prompt_ops, "rope_table", false)?,
            gemm: gpu.function(prompt_ops, "gemm_bf16", true)?,
            skinny: [few(ROOMS[0])?, few(ROOMS[1])?, few(ROOMS[2])?],
            sample: gpu.function(sample, "sample", true)?,
            repack: gpu.function(repack, "repack", false)?,
            dequantise_rows: gpu.function(repack, "dequantise_rows", false)?,
            embed: gpu.function(repack, "embed", true)?,
            read_bandwidth: gpu.function(repack, "read_bandwidth", false)?,
            parallel: None,
        })
    }

    /// Loads the kernels for several GPUs too.
    pub fn load_parallel<L: Loader>(&mut self, gpu: &mut L, images: &Images) -> Result<(), ModelError> {
        let missing = || ModelError::Invalid("the kernels parallel are missing".into());
        let module = gpu.module(images.get("parallel").ok_or_else(missing)?)?;
        let sums = SETS.iter().map(|set| gpu.function(module, &format!("gemv_sum_{}", set.suffix), true));
        let sums: Vec<Kernel> = sums.collect::<Result<_, _>>()?;
        let kernel = |name: &str| gpu.function(module, name, false);
        self.parallel = Some(Parallel {
            gemv_sum: sums.try_into().map_err(|_| missing())?,
            await_logits: kernel("await_logits")?,
            send_token: kernel("send_token")?,
            follow: kernel("follow")?,
            combine_rows: kernel("combine_rows")?,
            probe_exchange: kernel("probe_exchange")?,
            advance_epoch: kernel("advance_epoch")?,
        });
        Ok(())
    }
}
