//! Work on the card beside a model's own, on threads that end before the context does.

use std::thread::JoinHandle;

use cudarc::driver::sys;

use super::Gpu;
use super::errors::check;
use crate::engine::error::ModelError;

/// The context of a [`Gpu`], for a thread that works beside its owner and ends before the `Gpu` goes.
#[derive(Clone, Copy)]
struct Context(sys::CUcontext);

// SAFETY: the driver's contexts may be made current on any thread.
unsafe impl Send for Context {}

impl Context {
    /// Makes the context current on this thread.
    fn activate(self) -> Result<(), ModelError> {
        // SAFETY: `BackgroundTask` ends the thread before the context goes.
        check(unsafe { sys::cuCtxSetCurrent(self.0) }, "using the card")
    }
}

/// Work on the card beside a model's own, on a thread that ends before this is gone. To be dropped before the [`Gpu`].
pub struct BackgroundTask<T>(Option<JoinHandle<Option<T>>>);

impl<T: Send + 'static> BackgroundTask<T> {
    /// Starts it with `gpu`'s context current. Where no thread can be had, nothing comes of it.
    pub fn start(gpu: &Gpu, work: impl FnOnce() -> Option<T> + Send + 'static) -> Self {
        let context = Context(gpu.context());
        let thread = std::thread::Builder::new().name("beside".into());
        Self(thread.spawn(move || context.activate().ok().and_then(|()| work())).ok())
    }
}

impl<T> BackgroundTask<T> {
    /// Whether its result is there.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the result, which comes once.
    pub fn take(&mut self) -> Option<T> {
        self.0.take().and_then(|thread| thread.join().ok().flatten())
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        self.take();
    }
}
