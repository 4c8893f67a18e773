//! Matrix products of a prompt: C[m][n] = A[m][k] · W[n][k]ᵀ with bf16 operands and f32 sums. cuBLASLt where it can be
//! loaded, else the kernel in `prefill.cu`. Quantised weights are turned into bf16 in slices first.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::sys as lt;

use super::driver::{DeviceBuffer, Gpu, Kernel, Shape};
use super::kernels::Kernels;
use super::layout::Format;
use super::params::{DequantiseArgs, GemmArgs, Mat};
use super::timeline;
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
    library: Option<Library>,
    scratch: Option<DeviceBuffer<u16>>,
    kernel: Kernel,
    dequantise: Kernel,
}

/// Finds cuBLASLt and maps it, where it is: it is large, and this takes longer than most other steps of a load.
pub fn preload() {
    // SAFETY: the first call tries to open the library; the second asks for its version, where there is one.
    unsafe {
        if lt::is_culib_present() {
            lt::cublasLtGetVersion();
        }
    }
}

impl Gemm {
    /// `quantised`: whether scratch is needed.
    pub fn new(gpu: &Gpu, kernels: &Kernels, quantised: bool) -> Result<Self, ModelError> {
        gpu.activate()?;
        let mut library = Library::open();
        timeline::mark("cuBLASLt handle");
        if let Some(library) = &mut library {
            // The first product loads the library's kernels; better now, while the weights are read.
            let at = library.workspace.pointer();
            let (w, c) = (at + (4 << 20), at + (8 << 20));
            library.multiply(gpu, at, w, c, Problem { m: 64, n: 1024, k: 1024, ldc: 1024, into: Into::Half })?;
            library.multiply(gpu, at, w, c, Problem { m: 64, n: 1024, k: 1024, ldc: 1024, into: Into::Add })?;
        }
        Ok(Self {
            library,
            scratch: if quantised { Some(DeviceBuffer::new(SCRATCH)?) } else { None },
            kernel: kernels.gemm,
            dequantise: kernels.dequantise_rows,
        })
    }

    /// Who multiplies, for reports.
    pub fn backend(&self) -> &'static str {
        if self.library.is_some() { "cuBLASLt" } else { "own kernel" }
    }

    /// Bytes of scratch and workspace.
    pub fn bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, DeviceBuffer::bytes)
            + self.library.as_ref().map_or(0, |library| library.workspace.bytes())
    }

    /// Uses the own kernel from now on.
    pub fn forget_library(&mut self) {
        self.library = None;
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
        if let Some(library) = &mut self.library
            && library.multiply(gpu, a, w, c, problem)?
        {
            return Ok(());
        }
        let Problem { m, n, k, ldc, into } = problem;
        let mode = match into {
            Into::Half => 0,
            Into::Add => 1,
            Into::Float => 2,
        };
        let args = GemmArgs { a, w, c, m: m as i32, n: n as i32, k: k as i32, lda: k as i32, ldc: ldc as i32, mode };
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
    fn multiply(&mut self, gpu: &Gpu, a: u64, w: u64, c: u64, problem: Problem) -> Result<bool, ModelError> {
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
                gpu.stream.cast(),
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
