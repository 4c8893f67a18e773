//! cuBLASLt: opened at run time, beside a model that answers already, and its matrix products.

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
/// Tokens that products by the library are a multiple of.
pub const TILE: usize = 64;

/// When the library may be opened. That keeps the driver busy, so that an answer which began meanwhile would stutter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenPolicy {
    /// A prompt is being read, an answer written.
    Busy,
    /// Nobody waits for the card.
    Idle,
    /// A long prompt waits for it, or a measurement.
    Now,
}

/// The library is opened when nobody has waited for the card for so long.
const AHEAD: Duration = Duration::from_millis(100);

/// Waits for the moment to open the library; whether somebody waits for it then. `None` where it is no longer wanted.
fn moment(words: &Receiver<OpenPolicy>, ahead: Duration) -> Option<bool> {
    // A load ends with its slowest part, which may be the tokenizer.
    let mut word = Ok(OpenPolicy::Busy);
    loop {
        word = match word {
            Ok(OpenPolicy::Busy) => words.recv().map_err(RecvTimeoutError::from),
            // Nobody shall wait for it at the end of a one-shot answer, after which the model goes.
            Ok(OpenPolicy::Idle) => words.recv_timeout(ahead),
            Ok(OpenPolicy::Now) => return Some(true),
            Err(RecvTimeoutError::Timeout) => return Some(false),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Opens cuBLASLt, where it is, and makes it load its kernels, once nobody waits for the card. It is large: this takes a fifth
/// of a second, in which the driver serves others badly. Until then our own kernels do without it, at half its speed. It is
/// never opened in the middle of a prompt or of its answer, so that the same prompt to a freshly loaded model is always read
/// the same way.
fn open(words: &Receiver<OpenPolicy>, usual: &[WarmupShape]) -> Option<Library> {
    let hurried = moment(words, AHEAD)?;
    let mut library = Library::open()?;
    timeline::mark("cuBLASLt handle");
    let stream = Stream::new().ok()?;
    // The first product of each kind takes the longest by far, as the library then loads its kernels; nobody would hear a
    // cancel during a prompt's.
    let at = library.workspace.pointer();
    let (w, c) = (at + (4 << 20), at + (8 << 20));
    for into in [Epilogue::StoreBf16, Epilogue::AddF32] {
        library.multiply(stream.0, at, w, c, Problem { m: 256, n: 1024, k: 1024, ldc: 1024, into }).ok()?;
    }
    // What is left is for the usual prompts; one that waits does it for itself.
    let sizes: &[usize] = if hurried { &[] } else { &[TILE, 2 * TILE, 3 * TILE, 4 * TILE] };
    for (m, usual) in sizes.iter().flat_map(|m| usual.iter().map(move |usual| (*m, usual))) {
        usual.prepare(&mut library, &stream, m)?;
    }
    drop(stream);
    timeline::mark("cuBLASLt");
    Some(library)
}

/// A product that every prompt of the model has.
#[derive(Clone, Copy, Debug)]
pub struct WarmupShape {
    /// Where there are as many bf16 as its weights, whatever they say.
    pub weights: u64,
    /// Rows of the weights.
    pub n: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Where the product goes.
    pub into: Epilogue,
}

impl WarmupShape {
    /// The product of `m` tokens once, of anything into nowhere: the library chooses its kernel and loads it, which takes some
    /// milliseconds that the first prompt of this length would feel. `None` where that fails.
    fn prepare(self, library: &mut Library, stream: &Stream, m: usize) -> Option<()> {
        let Self { weights, n, k, into } = self;
        // A, then C, both of them within the workspace: a product may use that too, as what comes of it is nobody's.
        let a = library.workspace.pointer();
        let c = a + (m * k * 2).next_multiple_of(256) as u64;
        let end = c + (m * n * if into == Epilogue::StoreBf16 { 2 } else { 4 }) as u64;
        if end <= a + WORKSPACE as u64 {
            library.multiply(stream.0, a, weights, c, Problem { m, n, k, ldc: n, into }).ok()?;
        }
        Some(())
    }
}

/// The library's place: first it is on its way, then it is there, or not to be had.
pub struct CublasLtLoader {
    /// What tells `coming` when to begin.
    word: Option<Sender<OpenPolicy>>,
    coming: Option<BackgroundTask<Library>>,
    opened: Option<Library>,
}

impl CublasLtLoader {
    /// Sends for it; it prepares for the `usual` products.
    pub fn new(gpu: &Gpu, usual: Vec<WarmupShape>) -> Self {
        let (word, words) = channel();
        Self { word: Some(word), coming: Some(BackgroundTask::start(gpu, move || open(&words, &usual))), opened: None }
    }

    fn tell(&self, word: OpenPolicy) {
        // Who listened has begun, or ended.
        let _ = self.word.as_ref().map(|to| to.send(word));
    }

    /// A prompt is being read, or an answer written. With what is there now it is done to its end.
    pub fn busy(&mut self) {
        self.tell(OpenPolicy::Busy);
        self.look();
    }

    /// The load has ended, or an answer: nobody waits for the card.
    pub fn idle(&self) {
        self.tell(OpenPolicy::Idle);
    }

    /// Asks for it at once; true when it is there.
    pub fn hurry(&mut self) -> bool {
        self.tell(OpenPolicy::Now);
        self.look();
        self.is_settled()
    }

    /// Waits for it.
    pub fn settle(&mut self) {
        self.tell(OpenPolicy::Now);
        self.opened = self.coming.take().and_then(|mut coming| coming.take()).or(self.opened.take());
    }

    fn look(&mut self) {
        if self.coming.as_ref().is_some_and(BackgroundTask::is_finished) {
            self.settle();
        }
    }

    /// Whether it is known to be there, or not to be had.
    pub fn is_settled(&self) -> bool {
        self.coming.is_none()
    }

    /// Goes without it from now on.
    pub fn forget(&mut self) {
        self.settle();
        self.opened = None;
    }

    /// The library, where it is there.
    pub fn get(&mut self) -> Option<&mut Library> {
        self.opened.as_mut()
    }

    /// Bytes that it takes, or will.
    pub fn bytes(&self) -> u64 {
        if self.coming.is_some() || self.opened.is_some() { WORKSPACE as u64 } else { 0 }
    }
}

impl Drop for CublasLtLoader {
    fn drop(&mut self) {
        // Or `coming` would be waited for until it has opened the library.
        self.word = None;
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
        // SAFETY: the library is there; the handle goes into a local.
        let made = unsafe {
            lt::is_culib_present() && lt::cublasLtCreate(&mut handle) == lt::cublasStatus_t::CUBLAS_STATUS_SUCCESS
        };
        let workspace = if made { DeviceBuffer::new(WORKSPACE).ok()? } else { return None };
        Some(Self { handle, workspace, plans: HashMap::new() })
    }

    /// C = A · Wᵀ on `stream`. False where cuBLASLt has nothing for this shape.
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
        let output = layout(if p.into == Epilogue::StoreBf16 { CUDA_R_16BF } else { CUDA_R_32F }, p.n, p.m, p.ldc)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What comes of words that were all said before anybody listened, the speaker still there or not.
    fn after(said: &[OpenPolicy], there: bool, ahead: Duration) -> Option<bool> {
        let (word, words) = channel();
        said.iter().for_each(|said| word.send(*said).unwrap());
        let word = there.then_some(word);
        let found = moment(&words, ahead);
        drop(word);
        found
    }

    #[test]
    fn the_library_is_opened_when_nobody_waits_for_the_card_or_somebody_for_it() {
        let long = Duration::from_secs(600);
        assert_eq!(after(&[OpenPolicy::Idle], true, Duration::ZERO), Some(false), "loaded ahead of its first prompt");
        assert_eq!(
            after(&[OpenPolicy::Idle, OpenPolicy::Busy], false, long),
            None,
            "loaded for a prompt that waits already"
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
            "after a prompt that was stopped"
        );
        assert_eq!(after(&[], false, long), None, "the model is gone");
        assert_eq!(after(&[OpenPolicy::Busy], false, long), None);
    }
}
