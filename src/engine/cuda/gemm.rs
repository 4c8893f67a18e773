//! Matrix products of a prompt: C[m][n] = A[m][k] · W[n][k]ᵀ with bf16 operands and f32 sums. cuBLASLt where it can be
//! loaded, else the kernel in `prefill.cu`; quantised weights are turned into bf16 in slices first. Short prompts go through
//! neither: `skinny.rs`.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use cudarc::cublaslt::sys as lt;
use cudarc::driver::sys::CUstream;

use super::driver::{Beside, DeviceBuffer, Gpu, Kernel, Shape, Stream};
use super::kernels::Kernels;
use super::layout::Format;
use super::params::{DequantiseArgs, GemmArgs, Mat};
use super::skinny::{Limits, Skinny};
use super::timeline;
use super::tuning::Tuning;
use crate::engine::model::ModelError;

/// Elements of the bf16 scratch for quantised weights.
pub const SCRATCH: usize = 128 << 20;
/// Bytes of cuBLASLt's workspace.
pub const WORKSPACE: usize = 32 << 20;

/// Where a product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Into {
    /// bf16, overwritten.
    Half,
    /// f32, added to.
    Add,
    /// f32, overwritten.
    Float,
}

impl Into {
    /// The kernels' number for it.
    pub fn mode(self) -> i32 {
        match self {
            Into::Half => 0,
            Into::Add => 1,
            Into::Float => 2,
        }
    }
}

/// One product's shape: `m` tokens, `n` rows of weights, `k` deep, `ldc` elements between rows of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Problem {
    m: usize,
    n: usize,
    k: usize,
    ldc: usize,
    into: Into,
}

/// Multiplies.
pub struct Gemm {
    /// What tells `coming` when to begin; gone before it is waited for.
    word: Option<Sender<Word>>,
    coming: Option<Beside<Library>>,
    library: Option<Library>,
    skinny: Skinny,
    few: Few,
    room: usize,
    scratch: Option<DeviceBuffer<u16>>,
    kernel: Kernel,
    dequantise: Kernel,
}

/// Tokens up to which a product is the skinny kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// With all weights in bf16.
    pub plain: usize,
    /// With others, which would have to go through the scratch memory.
    pub quantised: usize,
}

impl Few {
    /// The larger of both.
    fn or(self, other: Few) -> Self {
        Self { plain: self.plain.max(other.plain), quantised: self.quantised.max(other.quantised) }
    }
}

/// Tokens that products by the library are a multiple of.
const TILE: usize = 64;

/// What is short as long as the library is not there.
const UNSETTLED: Few = Few { plain: 64, quantised: 128 };

/// When the library may be opened. That keeps the driver busy, so that an answer which began meanwhile would stutter.
#[derive(PartialEq, Eq)]
enum Word {
    /// A prompt is being read, an answer written.
    Busy,
    /// Nobody waits for the card.
    Idle,
    /// A long prompt waits for it, or a measurement.
    Now,
}

/// A model that is loaded ahead of its first prompt has this long until the library is opened.
const AHEAD: Duration = Duration::from_millis(100);

/// Opens cuBLASLt, where it is, and makes it load its kernels, once nobody waits for the card. It is large: this takes a fifth
/// of a second, in which the driver serves others badly. Until then our own kernels do without it, at half its speed. It is
/// never opened in the middle of a prompt or of its answer, so that the same prompt to a freshly loaded model is always read
/// the same way.
fn open_library(words: &Receiver<Word>, usual: &[Usual]) -> Option<Library> {
    let mut word = words.recv_timeout(AHEAD);
    while let Ok(Word::Busy) = word {
        word = words.recv().map_err(RecvTimeoutError::from);
    }
    if word == Err(RecvTimeoutError::Disconnected) {
        return None;
    }
    let mut library = Library::open()?;
    timeline::mark("cuBLASLt handle");
    // A prompt that waits will do this by itself.
    let sizes: &[usize] = if word == Ok(Word::Now) { &[] } else { &[TILE, 2 * TILE, 3 * TILE, 4 * TILE] };
    let stream = Stream::new().ok()?;
    for (m, usual) in sizes.iter().flat_map(|m| usual.iter().map(move |usual| (*m, usual))) {
        usual.prepare(&mut library, &stream, m)?;
    }
    drop(stream);
    timeline::mark("cuBLASLt");
    Some(library)
}

/// A product that every prompt of the model has.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// Where there are as many bf16 as its weights, whatever they say.
    pub weights: u64,
    /// Rows of the weights.
    pub n: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Where the product goes.
    pub into: Into,
}

impl Usual {
    /// The product of `m` tokens once, of anything into nowhere: the library chooses its kernel and loads it, which takes some
    /// milliseconds that the first prompt of this length would feel. `None` where that fails.
    fn prepare(self, library: &mut Library, stream: &Stream, m: usize) -> Option<()> {
        let Self { weights, n, k, into } = self;
        // A, then C, both of them within the workspace: a product may use that too, as what comes of it is nobody's.
        let a = library.workspace.pointer();
        let c = a + (m * k * 2).next_multiple_of(256) as u64;
        let end = c + (m * n * if into == Into::Half { 2 } else { 4 }) as u64;
        if end <= a + WORKSPACE as u64 {
            library.multiply(stream.0, a, weights, c, Problem { m, n, k, ldc: n, into }).ok()?;
        }
        Some(())
    }
}

impl Drop for Gemm {
    fn drop(&mut self) {
        // Or `coming` would be waited for until it has opened the library.
        self.word = None;
    }
}

impl Gemm {
    /// `scratch`: what is needed for quantised weights ([`SCRATCH`] elements); `room`: how many rows there are in all buffers,
    /// A's and C's. The library comes beside, and prepares for the `usual` products.
    pub fn new(
        gpu: &Gpu,
        kernels: &Kernels,
        tuning: Tuning,
        scratch: Option<DeviceBuffer<u16>>,
        room: usize,
        usual: Vec<Usual>,
    ) -> Result<Self, ModelError> {
        let limits = Limits {
            multiprocessors: gpu.card.multiprocessors.max(1) as usize,
            shared: kernels.skinny[0].shared_limit,
        };
        let (word, words) = channel();
        Ok(Self {
            word: Some(word),
            coming: Some(Beside::start(gpu, move || open_library(&words, &usual))),
            library: None,
            skinny: Skinny { kernels: kernels.skinny, limits, overlap: tuning.overlap },
            few: tuning.few,
            room,
            scratch,
            kernel: kernels.gemm,
            dequantise: kernels.dequantise_rows,
        })
    }

    fn tell(&self, word: Word) {
        // Who listened has begun, or ended.
        let _ = self.word.as_ref().map(|to| to.send(word));
    }

    /// A prompt is being read, or an answer written.
    pub fn busy(&self) {
        self.tell(Word::Busy);
    }

    /// Nobody waits for the card.
    pub fn idle(&self) {
        self.tell(Word::Idle);
    }

    /// Waits for the library.
    pub fn settle(&mut self) {
        self.tell(Word::Now);
        if let Some(mut coming) = self.coming.take() {
            self.library = coming.take();
        }
    }

    /// Asks for the library at once; true when it is there.
    pub fn hurry(&self) -> bool {
        self.tell(Word::Now);
        self.is_settled()
    }

    /// Whether long prompts go as fast as they ever will.
    pub fn is_settled(&self) -> bool {
        self.coming.as_ref().is_none_or(Beside::is_finished)
    }

    /// Who multiplies the matrices of long prompts, for reports.
    pub fn backend(&mut self) -> &'static str {
        self.settle();
        if self.library.is_some() { "cuBLASLt" } else { "own kernel" }
    }

    /// Bytes of scratch and workspace.
    pub fn bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, DeviceBuffer::bytes)
            + if self.coming.is_some() || self.library.is_some() { WORKSPACE as u64 } else { 0 }
    }

    /// Uses the own kernel from now on.
    pub fn forget_library(&mut self) {
        self.settle();
        self.library = None;
    }

    /// Changes what counts as a short prompt, from the time on when the library is there.
    pub fn set_few(&mut self, few: Few) {
        self.settle();
        self.few = few;
    }

    /// The kernel for few tokens.
    pub fn skinny(&self) -> Skinny {
        self.skinny
    }

    fn is_short(&self, mats: &[Mat], tokens: usize) -> bool {
        let plain = mats.iter().all(|mat| mat.format() == Format::Bf16);
        let few = if self.is_settled() { self.few } else { self.few.or(UNSETTLED) };
        tokens <= if plain { few.plain } else { few.quantised }
    }

    /// `mats` one above the other (each `k` wide) times `m` rows at `a`; C's rows are `ldc` long.
    pub fn multiply(
        &mut self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m): (u64, usize),
        (c, ldc): (u64, usize),
        into: Into,
    ) -> Result<(), ModelError> {
        if self.is_short(mats, m) && self.skinny.multiply(gpu, mats, (a, m), (c, ldc), into)? {
            return Ok(());
        }
        if self.is_settled() {
            self.settle();
        }
        let element = if into == Into::Half { 2 } else { 4 };
        let (mut column, mut i) = (0, 0);
        while let Some(&first) = mats.get(i) {
            let k = first.cols as usize;
            let at = c + (column * element) as u64;
            if first.format() == Format::Bf16 {
                let mut rows = first.rows as usize;
                i += 1;
                // Matrices that lie one after the other are one matrix.
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

    /// Dequantises as many matrices as fit (or one of them in slices) and multiplies. Returns matrices and rows done.
    fn through_scratch(
        &mut self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m): (u64, usize),
        (c, ldc): (u64, usize),
        into: Into,
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
        let element = if into == Into::Half { 2 } else { 4 };
        let all = mats[0].rows as usize;
        for first in (0..all).step_by(fits.max(1)) {
            let rows = fits.min(all - first);
            self.dequantise(gpu, &mats[0], first, rows, scratch)?;
            self.product(gpu, a, scratch, c + (first * element) as u64, Problem { m, n: rows, k, ldc, into })?;
        }
        Ok((1, all))
    }

    fn dequantise(&self, gpu: &Gpu, mat: &Mat, first: usize, rows: usize, out: u64) -> Result<(), ModelError> {
        let per_row = mat.cols as u64 / 32;
        let args = DequantiseArgs { m: *mat, out, first: first as u64 * per_row, count: rows as u64 * per_row };
        // SAFETY: the rows lie within the matrix and `out` has room for them.
        unsafe { self.dequantise.launch(gpu.stream, Shape::linear(args.count.div_ceil(128), 128), &args) }
    }

    fn product(&mut self, gpu: &Gpu, a: u64, w: u64, c: u64, problem: Problem) -> Result<(), ModelError> {
        // With whole tiles of tokens there are few shapes, and each that comes for the first time takes the library some
        // milliseconds. What the rows beyond hold is nobody's.
        let padded = match problem.into {
            Into::Half | Into::Add => problem.m.next_multiple_of(TILE).min(self.room.max(problem.m)),
            Into::Float => problem.m,
        };
        if let Some(library) = &mut self.library
            && library.multiply(gpu.stream, a, w, c, Problem { m: padded, ..problem })?
        {
            return Ok(());
        }
        let Problem { m, n, k, ldc, into } = problem;
        let (m32, n32, k32) = (m as i32, n as i32, k as i32);
        let args = GemmArgs { a, w, c, m: m32, n: n32, k: k32, lda: k32, ldc: ldc as i32, mode: into.mode() };
        let grid = (m.div_ceil(128) as u32, n.div_ceil(128) as u32, 1);
        // SAFETY: A holds m rows, W n rows, C m rows of ldc; the kernel guards its edges.
        unsafe {
            self.kernel.launch(gpu.stream, Shape { grid, threads: 128, shared: 3 * 32768, overlap: false }, &args)
        }
    }
}

/// What cuBLASLt chose for a shape.
struct Plan {
    operation: lt::cublasLtMatmulDesc_t,
    weights: lt::cublasLtMatrixLayout_t,
    input: lt::cublasLtMatrixLayout_t,
    output: lt::cublasLtMatrixLayout_t,
    algorithm: lt::cublasLtMatmulAlgo_t,
}

/// cuBLASLt, loaded at run time.
struct Library {
    handle: lt::cublasLtHandle_t,
    workspace: DeviceBuffer<u8>,
    plans: HashMap<Problem, Option<Plan>>,
}

// SAFETY: handles without thread affinity, used by one thread at a time.
unsafe impl Send for Library {}

impl Library {
    fn open() -> Option<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: the library is there; the handle goes into a local.
        let made = unsafe {
            lt::is_culib_present() && lt::cublasLtCreate(&mut handle) == lt::cublasStatus_t::CUBLAS_STATUS_SUCCESS
        };
        let workspace = if made { DeviceBuffer::new(WORKSPACE).ok()? } else { return None };
        Some(Self { handle, workspace, plans: HashMap::new() })
    }

    /// False where cuBLASLt has nothing for this shape.
    fn multiply(&mut self, stream: CUstream, a: u64, w: u64, c: u64, problem: Problem) -> Result<bool, ModelError> {
        if !self.plans.contains_key(&problem) {
            let plan = self.plan(problem);
            self.plans.insert(problem, plan);
        }
        let Some(Some(plan)) = self.plans.get(&problem) else { return Ok(false) };
        let (one, beta) = (1.0f32, if problem.into == Into::Add { 1.0f32 } else { 0.0 });
        // SAFETY: layouts describe the operands; C is both input and output.
        let status = unsafe {
            lt::cublasLtMatmul(
                self.handle,
                plan.operation,
                (&raw const one).cast(),
                w as *const c_void,
                plan.weights,
                a as *const c_void,
                plan.input,
                (&raw const beta).cast(),
                c as *const c_void,
                plan.output,
                c as *mut c_void,
                plan.output,
                &plan.algorithm,
                self.workspace.pointer() as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )
        };
        if status == lt::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
            return Ok(true);
        }
        Err(ModelError::Device { message: format!("a matrix product failed ({status:?})"), sticky: false })
    }

    /// Column-major and transposed: Cᵀ[n][m] = W · Aᵀ.
    fn plan(&self, p: Problem) -> Option<Plan> {
        use lt::cudaDataType_t::{CUDA_R_16BF, CUDA_R_32F};
        let ok = |status| status == lt::cublasStatus_t::CUBLAS_STATUS_SUCCESS;
        let layout = |kind, rows: usize, cols: usize, stride: usize| {
            let mut layout = ptr::null_mut();
            // SAFETY: a handle into a local.
            let made =
                unsafe { lt::cublasLtMatrixLayoutCreate(&mut layout, kind, rows as u64, cols as u64, stride as i64) };
            ok(made).then_some(layout)
        };
        let (mut operation, mut preference) = (ptr::null_mut(), ptr::null_mut());
        let transposed = 1i32;
        // SAFETY: handles into locals; attributes are passed with their sizes.
        unsafe {
            let computes = lt::cublasComputeType_t::CUBLAS_COMPUTE_32F;
            ok(lt::cublasLtMatmulDescCreate(&mut operation, computes, CUDA_R_32F)).then_some(())?;
            let attribute = lt::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
            ok(lt::cublasLtMatmulDescSetAttribute(operation, attribute, (&raw const transposed).cast(), 4))
                .then_some(())?;
            ok(lt::cublasLtMatmulPreferenceCreate(&mut preference)).then_some(())?;
            let most = lt::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let bytes = WORKSPACE;
            ok(lt::cublasLtMatmulPreferenceSetAttribute(preference, most, (&raw const bytes).cast(), 8))
                .then_some(())?;
        }
        let weights = layout(CUDA_R_16BF, p.k, p.n, p.k)?;
        let input = layout(CUDA_R_16BF, p.k, p.m, p.k)?;
        let output = layout(if p.into == Into::Half { CUDA_R_16BF } else { CUDA_R_32F }, p.n, p.m, p.ldc)?;
        // SAFETY: all zeros is a valid value of this plain C structure.
        let mut found: lt::cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: all descriptors were made above; one result is asked for.
        let status = unsafe {
            let status = lt::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                operation,
                weights,
                input,
                output,
                output,
                preference,
                1,
                &mut found,
                &mut count,
            );
            lt::cublasLtMatmulPreferenceDestroy(preference);
            status
        };
        (ok(status) && count > 0).then_some(Plan { operation, weights, input, output, algorithm: found.algo })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by `plan` and `open`, destroyed once, before the context goes.
        unsafe {
            for plan in self.plans.drain().filter_map(|(_, plan)| plan) {
                lt::cublasLtMatrixLayoutDestroy(plan.weights);
                lt::cublasLtMatrixLayoutDestroy(plan.input);
                lt::cublasLtMatrixLayoutDestroy(plan.output);
                lt::cublasLtMatmulDescDestroy(plan.operation);
            }
            lt::cublasLtDestroy(self.handle);
        }
    }
}
