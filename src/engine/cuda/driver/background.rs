//! Background GPU work: a thread with the CUDA context current, joined before the context is destroyed.

use std::thread::JoinHandle;

use cudarc::driver::sys;

use super::Gpu;
use super::errors::check;
use crate::engine::error::ModelError;

/// The context handle of a [`Gpu`], for a background thread that is joined before the `Gpu` is dropped.
#[derive(Clone, Copy)]
struct Context(sys::CUcontext);

// SAFETY: CUDA contexts may be made current on any thread.
unsafe impl Send for Context {}

impl Context {
    /// Makes the context current on this thread.
    fn activate(self) -> Result<(), ModelError> {
        // SAFETY: `BackgroundTask` joins the thread before the context is destroyed.
        check(unsafe { sys::cuCtxSetCurrent(self.0) }, "using the GPU")
    }
}

/// Work on a thread that `drop` joins. Must be dropped before its [`Gpu`].
pub struct BackgroundTask<T>(Option<JoinHandle<Option<T>>>);

impl<T: Send + 'static> BackgroundTask<T> {
    /// Runs `work` with `gpu`'s context current. If the thread cannot be started, the result is `None`.
    pub fn start(gpu: &Gpu, work: impl FnOnce() -> Option<T> + Send + 'static) -> Self {
        let context = Context(gpu.context());
        let thread = std::thread::Builder::new().name("beside".into());
        Self(thread.spawn(move || context.activate().ok().and_then(|()| work())).ok())
    }
}

impl<T> BackgroundTask<T> {
    /// Whether [`Self::take`] returns without blocking.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Joins the thread and returns its result; `None` on every later call.
    pub fn take(&mut self) -> Option<T> {
        self.0.take().and_then(|thread| thread.join().ok().flatten())
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        self.take();
    }
}
