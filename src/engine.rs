//! The engine's handle, which front ends use. A worker thread behind it owns the request queue and the lifecycle.
//!
//! Independent of terminals, stored conversations and the command line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::clock::Timestamp;
use crate::protocol::*;

pub mod chat_template;
pub mod cpu;
pub mod crash;
#[cfg(cuda)]
pub mod cuda;
pub mod error;
pub mod fingerprint;
pub mod generation;
pub mod gpu_meter;
pub mod lifecycle;
pub mod load;
pub mod memory;
pub mod model;
pub mod prefix;
pub mod prompt;
pub mod recommended;
pub mod remote;
pub mod room;
pub mod sampler;
pub mod scripted;
pub mod source;
pub mod tokenizer;
pub mod weights;
mod worker;

use source::ModelSource;
use worker::{Message, Worker};

/// Options of [`Engine::start`] and [`Engine::switch`].
pub struct EngineOptions {
    /// Locates the model's files; called again at each load.
    pub source: Box<dyn ModelSource>,
    /// How long an idle engine keeps its weights.
    pub idle_window: IdleWindow,
    /// KV cache positions; `None`: 8192, or the trained context length if that is smaller.
    pub context_length: Option<usize>,
    /// The device to load the model on.
    pub device: DevicePreference,
    /// Share of the VRAM that may be used, 0 to 1.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one for each physical core.
    pub threads: Option<usize>,
    /// The chat template to use instead of the model's.
    pub chat_template: Option<chat_template::Chosen>,
}

/// The engine: a worker thread owns queue and lifecycle, a device thread owns the model while one is loaded.
/// Dropping the handle cancels, releases and joins, within 2 s.
#[derive(Debug)]
pub struct Engine {
    outbox: Sender<Message>,
    last_id: AtomicU64,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the worker, cold: no file is opened before the first `load` or `generate`. `sink` receives every event
    /// on the worker's thread and must not block.
    pub fn start(options: EngineOptions, sink: impl Fn(EngineEvent) + Send + 'static) -> Result<Self, EngineError> {
        memory::limit_arenas();
        let (outbox, inbox) = channel();
        let worker = Worker::new(options, inbox, outbox.clone(), Box::new(sink));
        let thread = std::thread::Builder::new().name("chatnap-engine".into());
        let worker = thread.spawn(move || worker.run()).map_err(|error| {
            EngineError::new(ErrorKind::Failed, format!("the system cannot start a thread for the engine: {error}"))
        })?;
        Ok(Self { outbox, last_id: AtomicU64::new(0), worker: Some(worker) })
    }

    /// A request id that this engine has not returned before.
    pub fn next_id(&self) -> RequestId {
        RequestId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Queues a request; loads the model first if the engine is cold. Exactly one `Finished` or `Failed` follows.
    pub fn generate(&self, request: GenerationRequest) {
        self.send(Message::Generate(request, Timestamp::now()));
    }

    /// Stops a request, also one that is queued, loading or in prefill; `Finished { reason: Cancelled }` follows.
    /// No effect if the request has already ended.
    pub fn cancel(&self, id: RequestId) {
        self.send(Message::Cancel(id));
    }

    /// Starts the GPU driver in the background, which takes 0.1 s and no GPU memory.
    pub fn wake(&self) {
        self.send(Message::StartDriver);
    }

    /// Starts to load, so that the model is warm at the first request. No effect if it is already loaded.
    pub fn load(&self) {
        self.send(Message::Load);
    }

    /// Releases the memory as soon as no request is in flight or queued; stops a load that no request waits for.
    pub fn release(&self) {
        self.send(Message::Release);
    }

    /// Requests the exact token count of the prompt of `request`, which is not answered. `Counted` follows if the model
    /// is loaded, no event if it is not. A running answer is finished first.
    pub fn count(&self, request: CountRequest) {
        self.send(Message::Count(request));
    }

    /// Changes the model (and its options) for the requests that follow; the loaded one is released first.
    pub fn switch(&self, options: EngineOptions) {
        self.send(Message::Switch(options));
    }

    /// Changes the idle window; the loaded model stays, and an idle period that is running begins again.
    pub fn set_idle_window(&self, window: IdleWindow) {
        self.send(Message::SetWindow(window));
    }

    fn send(&self, message: Message) {
        // The worker receives until this handle is dropped.
        let _ = self.outbox.send(message);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.send(Message::Shutdown);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
