//! Matrix products of a prompt: `C[m][n] = A[m][k] · W[n][k]ᵀ` with bf16 operands and f32 sums. Uses cuBLASLt once it is
//! loaded, else the Hopper kernel (`hopper_gemm.rs`) or the one for all GPUs (`prompt_ops.cu`). Quantised weights are
//! dequantised to bf16 in slices first. Short prompts use `skinny.rs` and `hopper_skinny.rs` instead.

pub(super) mod cublaslt;
pub(super) mod hopper_gemm;
pub(super) mod hopper_skinny;
pub(super) mod skinny;

use super::driver::{DeviceBuffer, Gpu, Kernel, LaunchConfig};
use super::kernels::Kernels;
use super::layout::{Format, Mat};
use super::params::{DequantiseArgs, Epilogue, GemmArgs, Problem};
use super::tuning::{ShortPromptLimits, Tuning};
use crate::engine::error::ModelError;
use crate::protocol::Kernels as Evaluated;
use cublaslt::{CublasLtLoader, WarmupShape};
use hopper_gemm::HopperGemm;
use hopper_skinny::{HopperSkinny, Order};
use skinny::{Limits, Skinny};

/// Elements of the bf16 scratch memory for quantised weights.
pub const SCRATCH: usize = 128 << 20;

/// Bytes of shared memory of the kernel for all GPUs: three stages of two tiles.
pub(super) const GEMM_SHARED: u32 = 3 * 32768;

/// Selects and launches the implementation of each product.
pub struct Gemm {
    hopper: Option<(HopperGemm, HopperSkinny)>,
    cublaslt: CublasLtLoader,
    skinny: Skinny,
    few: ShortPromptLimits,
    room: usize,
    scratch: Option<DeviceBuffer<u16>>,
    kernel: Kernel,
    dequantise: Kernel,
    /// The state of cuBLASLt to assume instead of the real one, to repeat an earlier step.
    assumed: Option<Evaluated>,
}

/// Minimum limits for short prompts until cuBLASLt is loaded or unavailable.
const UNSETTLED: ShortPromptLimits = ShortPromptLimits { plain: 64, quantised: 128, hopper: 0 };

impl Gemm {
    /// `scratch`: [`SCRATCH`] elements, required for quantised weights; `room`: rows of every buffer used as A or C.
    /// Starts loading cuBLASLt in the background, with a warm-up of the `usual` products.
    pub fn new(
        gpu: &Gpu,
        kernels: &Kernels,
        tuning: Tuning,
        scratch: Option<DeviceBuffer<u16>>,
        room: usize,
        usual: Vec<WarmupShape>,
    ) -> Result<Self, ModelError> {
        let limits = Limits {
            multiprocessors: gpu.properties.multiprocessors.max(1) as usize,
            shared: kernels.skinny[0].shared_limit,
        };
        let (multiprocessors, overlap) = (limits.multiprocessors, tuning.overlap);
        let hopper = kernels.hopper.filter(|_| tuning.hopper).map(|hopper| {
            let skinny = HopperSkinny::new(gpu, hopper.skinny, overlap);
            (HopperGemm { kernels: hopper.gemm, multiprocessors, overlap }, skinny)
        });
        Ok(Self {
            hopper,
            cublaslt: CublasLtLoader::new(gpu, usual),
            skinny: Skinny { kernels: kernels.skinny, limits, overlap: tuning.overlap },
            few: tuning.few,
            room,
            scratch,
            kernel: kernels.gemm,
            dequantise: kernels.dequantise_rows,
            assumed: None,
        })
    }

    pub fn cublaslt(&mut self) -> &mut CublasLtLoader {
        &mut self.cublaslt
    }

    /// Whether long prompts run at (nearly) full speed: there is a Hopper kernel, or loading cuBLASLt has ended.
    pub fn is_fast(&self) -> bool {
        self.hopper.is_some() || self.is_settled()
    }

    fn is_settled(&self) -> bool {
        self.assumed.map_or_else(|| self.cublaslt.is_settled(), |assumed| assumed != Evaluated::Fresh)
    }

    /// Kernels of a long prompt's products in the present state of cuBLASLt.
    pub fn evaluated(&mut self) -> Evaluated {
        let loaded = self.cublaslt.get().is_some();
        let found = match loaded {
            true => Evaluated::Library,
            false if self.cublaslt.is_settled() => Evaluated::Own,
            false => Evaluated::Fresh,
        };
        self.assumed.unwrap_or(found)
    }

    /// Assumes this state of cuBLASLt from now on; `None`: the real one.
    pub fn assume(&mut self, assumed: Option<Evaluated>) {
        self.assumed = assumed;
    }

    /// The implementation of long prompts' products, for reports. Waits for cuBLASLt.
    pub fn backend(&mut self) -> &'static str {
        self.cublaslt.settle();
        match (self.cublaslt.get(), self.hopper) {
            (Some(_), _) => "cuBLASLt",
            (None, Some(_)) => "the kernel for Hopper",
            (None, None) => "the kernel for all GPUs",
        }
    }

    /// Bytes of scratch and workspace.
    pub fn bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, DeviceBuffer::bytes) + self.cublaslt.bytes()
    }

    /// Uses this program's kernels from now on: the Hopper kernel if there is one and not `portable`.
    pub fn use_own(&mut self, portable: bool) {
        self.cublaslt.forget();
        self.hopper = self.hopper.filter(|_| !portable);
    }

    /// Changes the limits for short prompts. Waits for cuBLASLt, so that they apply at once.
    pub fn set_few(&mut self, few: ShortPromptLimits) {
        self.cublaslt.settle();
        self.few = few;
    }

    /// The rows of every buffer used as A or C from now on.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    pub fn skinny(&self) -> Skinny {
        self.skinny
    }

    fn is_short(&self, mats: &[Mat], tokens: usize) -> bool {
        let plain = mats.iter().all(|mat| mat.format() == Format::Bf16);
        let few = if self.is_fast() { self.few } else { self.few.or(UNSETTLED) };
        tokens <= if plain { few.plain } else { few.quantised }
    }

    /// The element order that [`Self::multiply`] expects in the `m` rows of A for these matrices.
    pub fn order(&self, mats: &[Mat], m: usize) -> Order {
        let short = self.hopper.is_some() && m <= self.few.hopper;
        if short && HopperSkinny::takes(mats) { Order::Slots } else { Order::Natural }
    }

    /// Multiplies the `m` rows at `a`, in the element [order](Self::order), by `mats` (stacked, all `k` wide). C has
    /// rows of `ldc` elements, a multiple of 4 except for [`Epilogue::StoreF32`].
    pub fn multiply(
        &mut self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m): (u64, usize),
        (c, ldc): (u64, usize),
        into: Epilogue,
    ) -> Result<(), ModelError> {
        if let Some((_, skinny)) = self.hopper
            && self.order(mats, m) != Order::Natural
        {
            let share = skinny.choose(mats, m);
            // SAFETY: A holds `room` rows, as every buffer does, C m rows of ldc.
            return unsafe { skinny.launch(gpu, mats, (a, m, self.room), (c, ldc), into, share) };
        }
        if self.is_short(mats, m)
            && let Some(tiling) = self.skinny.choose(mats, m)
        {
            return self.skinny.launch(gpu, mats, (a, m), (c, ldc), into, tiling);
        }
        let element = if into == Epilogue::StoreBf16 { 2 } else { 4 };
        let (mut column, mut i) = (0, 0);
        while let Some(&first) = mats.get(i) {
            let k = first.cols as usize;
            let at = c + (column * element) as u64;
            if first.format() == Format::Bf16 {
                let mut rows = first.rows as usize;
                i += 1;
                // Matrices that are contiguous in memory are multiplied as one.
                while let Some(next) =
                    mats.get(i).filter(|n| n.format() == Format::Bf16 && n.main == first.main + (rows * k * 2) as u64)
                {
                    rows += next.rows as usize;
                    i += 1;
                }
                self.product(gpu, a, first.main, at, Problem { m, n: rows, k, ldc, into })?;
                column += rows;
            } else {
                let (used, rows) = self.through_scratch(gpu, &mats[i..], (a, m), (at, ldc), into)?;
                i += used;
                column += rows;
            }
        }
        Ok(())
    }

    /// Dequantises as many matrices as fit into the scratch memory (or slices of the first one) and multiplies. Returns
    /// the numbers of matrices and rows done.
    fn through_scratch(
        &mut self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m): (u64, usize),
        (c, ldc): (u64, usize),
        into: Epilogue,
    ) -> Result<(usize, usize), ModelError> {
        let Some(scratch) = self.scratch.as_ref().map(DeviceBuffer::pointer) else {
            return Err(ModelError::Invalid("no scratch for quantised weights".into()));
        };
        let k = mats[0].cols as usize;
        let fits = SCRATCH / k / 32 * 32;
        let (mut used, mut rows) = (0, 0);
        while let Some(mat) = mats.get(used).filter(|mat| rows + mat.rows as usize <= fits) {
            self.dequantise(gpu, mat, 0, mat.rows as usize, scratch + (rows * k * 2) as u64)?;
            rows += mat.rows as usize;
            used += 1;
        }
        if used > 0 {
            self.product(gpu, a, scratch, c, Problem { m, n: rows, k, ldc, into })?;
            return Ok((used, rows));
        }
        let element = if into == Epilogue::StoreBf16 { 2 } else { 4 };
        let all = mats[0].rows as usize;
        // Slices of equal size, so that no small remainder leaves multiprocessors idle.
        let slices = all.div_ceil(fits.max(32));
        let step = all.div_ceil(slices).next_multiple_of(32);
        for first in (0..all).step_by(step) {
            let rows = step.min(all - first);
            self.dequantise(gpu, &mats[0], first, rows, scratch)?;
            self.product(gpu, a, scratch, c + (first * element) as u64, Problem { m, n: rows, k, ldc, into })?;
        }
        Ok((1, all))
    }

    fn dequantise(&self, gpu: &Gpu, mat: &Mat, first: usize, rows: usize, out: u64) -> Result<(), ModelError> {
        let per_row = mat.cols as u64 / 32;
        let args = DequantiseArgs { m: *mat, out, first: first as u64 * per_row, count: rows as u64 * per_row };
        // SAFETY: the rows are within the matrix and `out` has room for them.
        unsafe { self.dequantise.launch(gpu.stream, LaunchConfig::linear(args.count.div_ceil(64), 256), &args) }
    }

    fn product(&mut self, gpu: &Gpu, a: u64, w: u64, c: u64, problem: Problem) -> Result<(), ModelError> {
        // Padding to whole tiles keeps the number of shapes small: cuBLASLt takes some milliseconds for each new one.
        // The padding rows are never read.
        let padded = match problem.into {
            Epilogue::StoreBf16 | Epilogue::AddF32 => {
                problem.m.next_multiple_of(cublaslt::TILE).min(self.room.max(problem.m))
            }
            Epilogue::StoreF32 => problem.m,
        };
        if self.assumed.is_none_or(|assumed| assumed == Evaluated::Library)
            && let Some(library) = self.cublaslt.get()
            && library.multiply(gpu.stream, a, w, c, Problem { m: padded, ..problem })?
        {
            return Ok(());
        }
        if let Some((hopper, _)) = self.hopper
            // SAFETY: A holds `room` rows, as every buffer does, W n rows, C m rows of ldc.
            && unsafe { hopper.multiply(gpu, hopper.choose(problem), (a, w, c), problem, self.room)? }
        {
            return Ok(());
        }
        let Problem { m, n, k, ldc, into } = problem;
        let (m32, n32, k32) = (m as i32, n as i32, k as i32);
        let args = GemmArgs { a, w, c, m: m32, n: n32, k: k32, lda: k32, ldc: ldc as i32, mode: into.mode() };
        let grid = (m.div_ceil(128) as u32, n.div_ceil(128) as u32, 1);
        // SAFETY: A holds m rows, W n rows, C m rows of ldc; the kernel checks its bounds.
        unsafe {
            self.kernel.launch(
                gpu.stream,
                LaunchConfig { grid, threads: 128, shared: GEMM_SHARED, overlap: false, ..LaunchConfig::default() },
                &args,
            )
        }
    }
}
