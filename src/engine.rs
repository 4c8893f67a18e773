//! The engine's handle: what a front end may ask for. One worker thread behind it owns the model.
//!
//! Knows nothing of terminals, conversations on disk or command lines.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::*;

pub mod chat_template;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod generation;
pub mod lifecycle;
pub mod model;
pub mod prefix;
pub mod prompt;
pub mod sampler;
pub mod scripted;
pub mod tokenizer;
pub mod weights;
mod worker;

/// A flag that stops long work from another thread; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the work to stop. There is no way back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The files of one model, found and complete on this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFiles {
    /// GGUF; more than one path where the model is split, in order.
    Gguf(Vec<PathBuf>),
    /// A folder with `config.json`, safetensors and a tokenizer.
    Safetensors(PathBuf),
    /// A script that plays a model; for tests.
    Scripted(PathBuf),
}

/// Where an engine gets its model from. Implemented by the shell (`hub`), so that the engine knows no network.
pub trait ModelSource: Send {
    /// The name that the user knows the model by.
    fn name(&self) -> String;

    /// Finds the files, fetching them if need be; blocks. Reports `Download` and `Verify` progress and stops soon
    /// after `cancel` is raised, with an error of kind `Cancelled`.
    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError>;
}

/// What an engine is started with.
pub struct EngineOptions {
    /// Where the model comes from; asked anew at each load.
    pub source: Box<dyn ModelSource>,
    /// How long an idle engine keeps its weights.
    pub idle_window: IdleWindow,
    /// KV cache positions; `None`: 8192, or the model's own where that is smaller.
    pub context_length: Option<usize>,
    /// Where to run.
    pub device: DevicePreference,
    /// Share of the VRAM that may be used, 0 to 1.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one for each physical core.
    pub threads: Option<usize>,
}

/// The engine: one worker thread that owns the model. Dropping the handle cancels, releases and joins.
pub struct Engine {}

impl Engine {
    /// Starts the worker, cold: no file is touched before the first `load` or `generate`. `sink` gets every event,
    /// on the worker's thread; it must not block.
    pub fn start(options: EngineOptions, sink: impl Fn(EngineEvent) + Send + 'static) -> Result<Self, EngineError> {
        let _ = (options, sink);
        todo!("owner: engine")
    }

    /// A fresh request number.
    pub fn next_id(&self) -> RequestId {
        todo!("owner: engine")
    }

    /// Queues a request; loads first where the engine is cold. Exactly one `Finished` or `Failed` follows.
    pub fn generate(&self, request: GenerationRequest) {
        let _ = request;
        todo!("owner: engine")
    }

    /// Stops a request, also one that is queued, loading or in prefill; `Finished { reason: Cancelled }` follows.
    pub fn cancel(&self, id: RequestId) {
        let _ = id;
        todo!("owner: engine")
    }

    /// Starts to load, so that the first request finds the model warm. Nothing happens where it is loaded already.
    pub fn load(&self) {
        todo!("owner: engine")
    }

    /// Gives the memory back as soon as nothing is in flight or queued; stops a load that nobody waits for.
    pub fn release(&self) {
        todo!("owner: engine")
    }

    /// Asks for the exact number of tokens that `messages` would take; `Counted` follows where the model is loaded,
    /// nothing where it is not.
    pub fn count(&self, id: RequestId, messages: Vec<ChatMessage>) {
        let _ = (id, messages);
        todo!("owner: engine")
    }

    /// Changes the model (and its options) for the requests that follow; the loaded one is released first.
    pub fn switch(&self, options: EngineOptions) {
        let _ = options;
        todo!("owner: engine")
    }
}
