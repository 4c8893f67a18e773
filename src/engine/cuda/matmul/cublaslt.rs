//! Matrix products by cuBLASLt, which is loaded at run time, in the background after the model is ready.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use cudarc::cublaslt::sys as lt;
use cudarc::driver::sys::CUstream;

use crate::engine::cuda::driver::{BackgroundTask, DeviceBuffer, Gpu, Stream};
use crate::engine::cuda::load::timeline;
use crate::engine::cuda::params::{Epilogue, Problem};
use crate::engine::error::ModelError;

/// Bytes of cuBLASLt's workspace.
pub const WORKSPACE: usize = 32 << 20;
/// cuBLASLt products are padded to a multiple of this many tokens.
pub const TILE: usize = 64;

/// When cuBLASLt may be loaded. Loading occupies the driver, so decoding would stutter during it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenPolicy {
    /// A prefill or decode loop is running.
    Busy,
    /// The GPU is idle.
    Idle,
    /// A long prompt or a measurement is blocked on it.
    Now,
}

/// Idle time of the GPU before cuBLASLt is loaded.
const AHEAD: Duration = Duration::from_millis(100);

/// Blocks until cuBLASLt may be loaded. `Some(true)`: a prompt is blocked on it; `Some(false)`: the GPU was idle for
/// `ahead`; `None`: the model is being dropped.
fn moment(words: &Receiver<OpenPolicy>, ahead: Duration) -> Option<bool> {
    // The GPU part of a load can end before its slowest part, which may be the tokenizer.
    let mut word = Ok(OpenPolicy::Busy);
    loop {
        word = match word {
            Ok(OpenPolicy::Busy) => words.recv().map_err(RecvTimeoutError::from),
            // The delay keeps a one-shot run, which drops the model after the answer, from waiting for it.
            Ok(OpenPolicy::Idle) => words.recv_timeout(ahead),
            Ok(OpenPolicy::Now) => return Some(true),
            Err(RecvTimeoutError::Timeout) => return Some(false),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Loads cuBLASLt, if it is installed, and makes it load its kernels, once the GPU is idle. This takes 0.2 s, in which
/// other driver calls are slow; until then the kernels of this program run, at half its speed. It is never loaded
/// during a prompt or its answer, so that a freshly loaded model always computes the same prompt with the same kernels.
fn open(words: &Receiver<OpenPolicy>, usual: &[WarmupShape]) -> Option<Library> {
    let hurried = moment(words, AHEAD)?;
    let mut library = Library::open()?;
    timeline::mark("cuBLASLt handle");
    let stream = Stream::new().ok()?;
    // The first product of each epilogue is by far the slowest, because cuBLASLt then loads its kernels; in a prompt it
    // would delay a cancel.
    let at = library.workspace.pointer();
    let (w, c) = (at + (4 << 20), at + (8 << 20));
    for into in [Epilogue::StoreBf16, Epilogue::AddF32] {
        library.multiply(stream.0, at, w, c, Problem { m: 256, n: 1024, k: 1024, ldc: 1024, into }).ok()?;
    }
    // Warm up the usual shapes. Skipped if a prompt is blocked: it prepares its own shapes.
    let sizes: &[usize] = if hurried { &[] } else { &[TILE, 2 * TILE, 3 * TILE, 4 * TILE] };
    for (m, usual) in sizes.iter().flat_map(|m| usual.iter().map(move |usual| (*m, usual))) {
        usual.prepare(&mut library, &stream, m)?;
    }
    drop(stream);
    timeline::mark("cuBLASLt");
    Some(library)
}

/// The shape of a product that every prompt of the model computes.
#[derive(Clone, Copy, Debug)]
pub struct WarmupShape {
    /// Device address of at least `n` x `k` bf16 elements; their values do not matter.
    pub weights: u64,
    /// Rows of the weights.
    pub n: usize,
    /// Columns of the weights.
    pub k: usize,
    pub into: Epilogue,
}

impl WarmupShape {
    /// Runs the product of `m` tokens once on scratch memory, so that cuBLASLt selects and loads its kernel now: that
    /// takes some milliseconds, which would delay the first prompt of this length. `None` if it fails.
    fn prepare(self, library: &mut Library, stream: &Stream, m: usize) -> Option<()> {
        let Self { weights, n, k, into } = self;
        // A, then C, both in the workspace. The product may overwrite them as workspace: the result is discarded.
        let a = library.workspace.pointer();
        let c = a + (m * k * 2).next_multiple_of(256) as u64;
        let end = c + (m * n * if into == Epilogue::StoreBf16 { 2 } else { 4 }) as u64;
        if end <= a + WORKSPACE as u64 {
            library.multiply(stream.0, a, weights, c, Problem { m, n, k, ldc: n, into }).ok()?;
        }
        Some(())
    }
}

/// Loads cuBLASLt in the background: first pending, then loaded or unavailable.
pub struct CublasLtLoader {
    /// Signals `coming` when it may load.
    word: Option<Sender<OpenPolicy>>,
    coming: Option<BackgroundTask<Library>>,
    opened: Option<Library>,
}

impl CublasLtLoader {
    /// Starts the background task, which waits for [`Self::idle`] and then warms up the `usual` products.
    pub fn new(gpu: &Gpu, usual: Vec<WarmupShape>) -> Self {
        let (word, words) = channel();
        Self { word: Some(word), coming: Some(BackgroundTask::start(gpu, move || open(&words, &usual))), opened: None }
    }

    fn signal(&self, word: OpenPolicy) {
        // An error means that the task no longer waits: it is loading, or has ended.
        let _ = self.word.as_ref().map(|to| to.send(word));
    }

    /// A prompt begins. The library is used for it if it is loaded now, and is not loaded before [`Self::idle`].
    pub fn busy(&mut self) {
        self.signal(OpenPolicy::Busy);
        self.look();
    }

    /// The load or an answer has ended: the GPU is idle.
    pub fn idle(&self) {
        self.signal(OpenPolicy::Idle);
    }

    /// Requests loading now, without blocking; true once loading has ended.
    pub fn hurry(&mut self) -> bool {
        self.signal(OpenPolicy::Now);
        self.look();
        self.is_settled()
    }

    /// Loads it now and waits until loading has ended.
    pub fn settle(&mut self) {
        self.signal(OpenPolicy::Now);
        self.opened = self.coming.take().and_then(|mut coming| coming.take()).or(self.opened.take());
    }

    fn look(&mut self) {
        if self.coming.as_ref().is_some_and(BackgroundTask::is_finished) {
            self.settle();
        }
    }

    /// Whether loading has ended, successfully or not.
    pub fn is_settled(&self) -> bool {
        self.coming.is_none()
    }

    /// Unloads it and never uses it again.
    pub fn forget(&mut self) {
        self.settle();
        self.opened = None;
    }

    /// The library; `None` while it is pending or if it is unavailable.
    pub fn get(&mut self) -> Option<&mut Library> {
        self.opened.as_mut()
    }

    /// Bytes of its workspace, also while it is pending.
    pub fn bytes(&self) -> u64 {
        if self.coming.is_some() || self.opened.is_some() { WORKSPACE as u64 } else { 0 }
    }
}

impl Drop for CublasLtLoader {
    fn drop(&mut self) {
        // Closes the channel, so that joining `coming` does not wait for it to load the library.
        self.word = None;
    }
}

/// Descriptors of a shape and the algorithm that cuBLASLt selected for it.
struct Plan {
    operation: lt::cublasLtMatmulDesc_t,
    weights: lt::cublasLtMatrixLayout_t,
    input: lt::cublasLtMatrixLayout_t,
    output: lt::cublasLtMatrixLayout_t,
    algorithm: lt::cublasLtMatmulAlgo_t,
}

/// A cuBLASLt handle with its workspace and cached plans.
pub struct Library {
    handle: lt::cublasLtHandle_t,
    workspace: DeviceBuffer<u8>,
    plans: HashMap<Problem, Option<Plan>>,
}

// SAFETY: handles without thread affinity, used by one thread at a time.
unsafe impl Send for Library {}

impl Library {
    fn open() -> Option<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: the library is present; the handle is written to a local.
        let made = unsafe {
            lt::is_culib_present() && lt::cublasLtCreate(&mut handle) == lt::cublasStatus_t::CUBLAS_STATUS_SUCCESS
        };
        let workspace = if made { DeviceBuffer::new(WORKSPACE).ok()? } else { return None };
        Some(Self { handle, workspace, plans: HashMap::new() })
    }

    /// C = A · Wᵀ on `stream`. False if cuBLASLt has no algorithm for this shape.
    pub fn multiply(&mut self, stream: CUstream, a: u64, w: u64, c: u64, problem: Problem) -> Result<bool, ModelError> {
        if !self.plans.contains_key(&problem) {
            let plan = self.plan(problem);
            self.plans.insert(problem, plan);
        }
        let Some(Some(plan)) = self.plans.get(&problem) else { return Ok(false) };
        let (one, beta) = (1.0f32, if problem.into == Epilogue::AddF32 { 1.0f32 } else { 0.0 });
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

    /// cuBLASLt is column-major, so the plan is for the transposed product: `Cᵀ[n][m] = W · Aᵀ`.
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
        let output = layout(if p.into == Epilogue::StoreBf16 { CUDA_R_16BF } else { CUDA_R_32F }, p.n, p.m, p.ldc)?;
        // SAFETY: all zeros is a valid value of this plain C structure.
        let mut found: lt::cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: all descriptors were created above; one result is requested.
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
        // SAFETY: created by `plan` and `open`, destroyed once, before the context.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The result of `moment` if all of `said` is sent before it runs. `there`: keeps the sender open.
    fn after(said: &[OpenPolicy], there: bool, ahead: Duration) -> Option<bool> {
        let (word, words) = channel();
        said.iter().for_each(|said| word.send(*said).unwrap());
        let word = there.then_some(word);
        let found = moment(&words, ahead);
        drop(word);
        found
    }

    #[test]
    fn cublaslt_loads_when_idle_or_on_demand_and_not_after_a_disconnect() {
        let long = Duration::from_secs(600);
        assert_eq!(after(&[OpenPolicy::Idle], true, Duration::ZERO), Some(false), "loaded ahead of its first prompt");
        assert_eq!(
            after(&[OpenPolicy::Idle, OpenPolicy::Busy], false, long),
            None,
            "loaded for a prompt that is already queued"
        );
        assert_eq!(
            after(&[OpenPolicy::Busy, OpenPolicy::Busy, OpenPolicy::Idle], true, Duration::ZERO),
            Some(false),
            "after an answer"
        );
        assert_eq!(
            after(&[OpenPolicy::Busy, OpenPolicy::Idle], false, long),
            None,
            "after the only answer of a one-shot"
        );
        assert_eq!(
            after(&[OpenPolicy::Busy, OpenPolicy::Idle, OpenPolicy::Busy, OpenPolicy::Now], true, long),
            Some(true)
        );
        assert_eq!(after(&[OpenPolicy::Now], true, long), Some(true));
        assert_eq!(
            after(&[OpenPolicy::Busy, OpenPolicy::Now], true, Duration::ZERO),
            Some(true),
            "after a cancelled prompt"
        );
        assert_eq!(after(&[], false, long), None, "the model was dropped");
        assert_eq!(after(&[OpenPolicy::Busy], false, long), None);
    }
}
