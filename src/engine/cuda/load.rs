//! Loads a model onto a GPU: context, capacity check, layout, upload. `model::parts` reads headers and text.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::driver::{DeviceBuffer, Gpu, GpuProperties};
use super::images;
use super::kernels::Kernels;
use super::matmul::{Gemm, SCRATCH};
use super::model::{self, CudaModel};
use super::prefill_chunk::ChunkSizer;
use super::select::choose_first;
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

/// A GPU with a context of this process, the kernels, and host memory for the upload ring.
pub struct Opened {
    kernels: Kernels,
    memory: upload::RingMemory,
    gpu: Gpu,
}

impl Opened {
    fn new(properties: GpuProperties) -> Result<Self, ModelError> {
        let readers = Tuning::for_capability(properties.compute_capability).readers;
        // An error before the context is created, which takes 0.2 s.
        let images = images::for_gpu(properties.compute_capability)?;
        std::thread::scope(|scope| {
            let memory = scope.spawn(move || upload::RingMemory::new(readers));
            let images = scope.spawn(|| images.unpack());
            let mut gpu = Gpu::open(properties)?;
            timeline::mark("context");
            let images = images.join().map_err(|_| ModelError::Invalid("the kernels cannot be unpacked".into()))??;
            let kernels = Kernels::load_images(&mut gpu, &images)?;
            timeline::mark("kernels");
            let memory = memory.join().map_err(|_| ModelError::Io("no memory to read weights into".into()))?;
            Ok(Self { kernels, memory, gpu })
        })
    }

    /// The GPU's name, for example `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.gpu.properties.name
    }
}

/// Interval for polling the cancel flag.
const CANCEL_POLL: Duration = Duration::from_millis(2);

/// A context that a background thread creates: one driver call that blocks for 0.2 s. A cancelled load does not wait
/// for it; the next load and the program's exit do (`wait_for_contexts`).
pub struct Opening(Receiver<Result<Opened, ModelError>>);

impl Opening {
    /// Starts on the GPU that `device` selects. `Unsupported` if there is no driver or no such GPU.
    pub fn start(device: DevicePreference, cancel: &CancelFlag) -> Result<Self, ModelError> {
        timeline::restart();
        let properties = choose_first(device)?;
        timeline::mark("driver");
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        let (sender, receiver) = mpsc::channel();
        let opener = std::thread::Builder::new().name("chatnap-context".into()).spawn(move || {
            // If the receiver was dropped, `send` returns the result and the drop destroys the context.
            drop(sender.send(Opened::new(properties)));
        });
        opener.map_err(|error| ModelError::Io(format!("no thread for the GPU: {error}")))?;
        Ok(Self(receiver))
    }

    /// Waits until the context exists or `cancel` is raised.
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

/// Loads the weights and allocates the caches of a model whose headers were read. An error frees all GPU memory before
/// it returns; a cancel frees it on a background thread.
pub fn load(
    parts: &ModelParts,
    opened: Opened,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<CudaModel, ModelError> {
    let Opened { kernels, memory, gpu } = opened;
    gpu.activate()?;
    let plan = model::plan(&parts.config, &parts.plan, gpu.properties.multiprocessors)?;
    let (free, total) = gpu.memory()?;
    let room = capacity::Room { free, total, utilization: options.gpu_memory_utilization };
    capacity::check(options.name, plan.needs, parts.config.context_length, room, options.smaller, &[])?;
    if options.cancel.is_cancelled() {
        return Err(give_back(gpu, ()));
    }
    let ring = memory.pin()?;
    timeline::mark("pinned ring");
    let tuning = Tuning::for_capability(kernels.architecture);
    let repack = kernels.repack;
    let loaded = weights::load(&gpu, repack, &ring, &parts.config, &parts.plan, options.cancel, progress);
    let (layout, arena) = match loaded {
        Err(ModelError::Cancelled) => return Err(give_back(gpu, ring)),
        loaded => loaded?,
    };
    let scratch = if plan.scratch { Some(DeviceBuffer::new(SCRATCH)?) } else { None };
    let usual = layout.usual_products(scratch.as_ref().map(DeviceBuffer::pointer));
    let gemm = Gemm::new(&gpu, &kernels, tuning, scratch, plan.chunk, usual)?;
    let pace = ChunkSizer::new(plan.chunk, parts.plan.parameters(), gpu.properties.multiprocessors);
    CudaModel::new(gpu, kernels, parts.config.clone(), layout, arena, plan.chunk, pace, gemm, ring)
}

/// Destroys the context and the buffers in `rest` on a background thread: that takes 0.1 s, and a cancelled load must
/// return at once. If the thread cannot be started, it happens on this one.
fn give_back<T: Send + 'static>(gpu: Gpu, rest: T) -> ModelError {
    let give = move || {
        let activated = gpu.activate();
        drop(rest);
        // If `activate` failed, freeing `rest` fails too; dropping `gpu` still destroys the context.
        drop(activated);
        drop(gpu);
    };
    // If `spawn` fails, it drops the closure with its captures.
    drop(std::thread::Builder::new().name("give back".into()).spawn(give));
    ModelError::Cancelled
}
