//! Loads a model onto a GPU: the context, capacity, layout, upload. Headers and text are read elsewhere.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::driver::{CardProperties, DeviceBuffer, Gpu};
use super::kernels::Kernels;
use super::matmul::{Gemm, SCRATCH};
use super::model::{self, CudaModel};
use super::prefill_chunk::ChunkSizer;
use super::select::choose;
use super::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::engine::model::LoadOptions;
use crate::engine::model::parts::ModelParts;
use crate::engine::source::CancelFlag;
use crate::protocol::{DevicePreference, LoadProgress};

pub(super) mod capacity;
pub(super) mod timeline;
pub(super) mod upload;
pub(super) mod weights;

/// A GPU with a context of this process, the kernels, and pinned memory for the weights to pass through.
pub struct Opened {
    kernels: Kernels,
    memory: upload::RingMemory,
    gpu: Gpu,
}

impl Opened {
    fn new(card: CardProperties) -> Result<Self, ModelError> {
        let readers = Tuning::for_card(card.compute_capability).readers;
        std::thread::scope(|scope| {
            let memory = scope.spawn(move || upload::RingMemory::new(readers));
            let mut gpu = Gpu::open(card)?;
            timeline::mark("context");
            let kernels = Kernels::load(&mut gpu)?;
            timeline::mark("kernels");
            let memory = memory.join().map_err(|_| ModelError::Io("no memory to read weights into".into()))?;
            Ok(Self { kernels, memory, gpu })
        })
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.gpu.card.name
    }
}

/// How often a wait looks at the cancel flag.
const CANCEL_POLL: Duration = Duration::from_millis(2);

/// A context that is being created on a thread of its own. The driver takes 0.2 s for it in one piece. A cancelled load
/// does not wait for that; the next load and the end of the program do ([`wait_for_contexts`]).
pub struct Opening(Receiver<Result<Opened, ModelError>>);

impl Opening {
    /// Starts on the GPU that `device` asks for. `Unsupported` without a driver or such a GPU.
    pub fn start(device: DevicePreference, cancel: &CancelFlag) -> Result<Self, ModelError> {
        timeline::restart();
        let card = choose(device)?;
        timeline::mark("driver");
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        let (sender, receiver) = mpsc::channel();
        let opener = std::thread::Builder::new().name("chatnap-context".into()).spawn(move || {
            // Without a receiver it is dropped here, which destroys the context.
            drop(sender.send(Opened::new(card)));
        });
        opener.map_err(|error| ModelError::Io(format!("no thread for the GPU: {error}")))?;
        Ok(Self(receiver))
    }

    /// Waits until the context is there or `cancel` is raised.
    pub fn finish(self, cancel: &CancelFlag) -> Result<Opened, ModelError> {
        timeline::mark("headers");
        loop {
            match self.0.recv_timeout(CANCEL_POLL) {
                Ok(opened) => return opened,
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err(ModelError::Cancelled),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ModelError::Invalid("the GPU could not be opened".into()));
                }
            }
        }
    }
}

/// Weights and caches of a model whose headers were read. On an error nothing stays on the card; after a cancel it is given
/// back behind the scenes.
pub fn load(
    parts: &ModelParts,
    opened: Opened,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<CudaModel, ModelError> {
    let Opened { kernels, memory, gpu } = opened;
    gpu.activate()?;
    let plan = model::plan(&parts.config, &parts.plan, gpu.card.multiprocessors)?;
    let (free, total) = gpu.memory()?;
    let room = capacity::Room { free, total, utilization: options.gpu_memory_utilization };
    capacity::check(options.name, plan.needs, parts.config.context_length, room, options.smaller)?;
    if options.cancel.is_cancelled() {
        return Err(give_back(gpu, ()));
    }
    let ring = memory.pin()?;
    timeline::mark("pinned ring");
    let tuning = Tuning::for_card(gpu.card.compute_capability);
    let repack = kernels.repack;
    let loaded = weights::load(&gpu, repack, &ring, &parts.config, &parts.plan, options.cancel, progress);
    let (layout, arena) = match loaded {
        Err(ModelError::Cancelled) => return Err(give_back(gpu, ring)),
        loaded => loaded?,
    };
    let scratch = if plan.scratch { Some(DeviceBuffer::new(SCRATCH)?) } else { None };
    let usual = layout.usual_products(scratch.as_ref().map(DeviceBuffer::pointer));
    let gemm = Gemm::new(&gpu, &kernels, tuning, scratch, plan.chunk, usual)?;
    let pace = ChunkSizer::new(plan.chunk, parts.plan.parameters(), gpu.card.multiprocessors);
    CudaModel::new(gpu, kernels, parts.config.clone(), layout, arena, plan.chunk, pace, gemm, ring)
}

/// Drops a card and what else lies on it on a thread of their own: that takes a tenth of a second, and who cancelled a load
/// shall not wait for it. Where no thread can be had it happens here.
fn give_back<T: Send + 'static>(gpu: Gpu, rest: T) -> ModelError {
    let give = move || {
        let activated = gpu.activate();
        drop(rest);
        // Without the context nothing can be given back but the context.
        drop(activated);
        drop(gpu);
    };
    // Where the thread cannot be made, the closure is dropped, and all it holds with it.
    drop(std::thread::Builder::new().name("give back".into()).spawn(give));
    ModelError::Cancelled
}
