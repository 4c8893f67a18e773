//! The engine on NVIDIA cards: own kernels for the Llama family, loading, decoding and giving everything back.
//!
//! Machine code for the cards named in `TARGETS` is part of the program; the driver is loaded at run time, so a build with
//! this feature also starts where there is none. Dropping a loaded model resets the card's primary context: afterwards
//! nothing of this process is left on the card. Knows no conversations and no terminals.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::error::ModelError;
use super::model::LoadOptions;
use super::model::parts::ModelParts;
use super::source::CancelFlag;
use crate::protocol::{DevicePreference, LoadProgress};

pub(crate) mod bandwidth;
mod beside;
mod buffer;
pub mod check;
pub mod compare;
mod decode;
pub(crate) mod driver;
mod faults;
pub(crate) mod fit;
pub(crate) mod gemm;
mod hopper_attention;
mod hopper_gemm;
mod hopper_skinny;
pub mod inspect;
pub(crate) mod kernels;
mod launch;
pub(crate) mod layout;
pub(crate) mod library;
pub(crate) mod model;
pub(crate) mod nvml;
mod pace;
pub(crate) mod params;
mod prompt;
pub(crate) mod skinny;
mod step;
mod tensor_map;
mod timeline;
pub mod trial;
pub(crate) mod tuning;
mod turn;
pub(crate) mod upload;
pub(crate) mod weights;

pub use model::{CudaModel, unsupported};

/// The compute capabilities that this build has machine code for.
pub const TARGETS: &str = env!("CHATNAP_CUDA_TARGETS");

/// What is said where a driver answers and shows nothing.
const NO_CARD: &str = "CUDA shows no card (CUDA_VISIBLE_DEVICES may hide it)";

/// Whether a card would be asked first for `device`: there is one, as far as a look without a context can tell.
pub fn expected(device: DevicePreference) -> bool {
    device != DevicePreference::Cpu && choose(device).is_ok()
}

/// Bytes a second that the card of `device` reads of its memory, measured now. No model may be on the card: its context is
/// this process's only one, and is given back at the end.
pub fn read_bandwidth(device: DevicePreference) -> Result<f64, ModelError> {
    let mut gpu = driver::Gpu::open(choose(device)?)?;
    let kernels = kernels::Kernels::load(&mut gpu)?;
    bandwidth::measure(&gpu, &kernels)
}

/// The card that is asked for; with `Auto` the first.
fn choose(device: DevicePreference) -> Result<driver::CardProperties, ModelError> {
    let wanted = match device {
        DevicePreference::Cuda(ordinal) => ordinal,
        DevicePreference::Auto | DevicePreference::Cpu => 0,
    };
    let mut cards = driver::cards()?;
    if wanted < cards.len() {
        return Ok(cards.swap_remove(wanted));
    }
    Err(ModelError::Unsupported(match cards.len() {
        0 => NO_CARD.into(),
        1 => format!("there is no card {wanted}; the only one is 0"),
        count => format!("there is no card {wanted}; CUDA shows 0 to {}", count - 1),
    }))
}

/// A GPU with a context of this process, the kernels, and pinned memory for the weights to pass through.
pub struct Opened {
    kernels: kernels::Kernels,
    memory: upload::RingMemory,
    gpu: driver::Gpu,
}

impl Opened {
    fn new(card: driver::CardProperties) -> Result<Self, ModelError> {
        let readers = tuning::Tuning::for_card(card.compute_capability).readers;
        std::thread::scope(|scope| {
            let memory = scope.spawn(move || upload::RingMemory::new(readers));
            let mut gpu = driver::Gpu::open(card)?;
            timeline::mark("context");
            let kernels = kernels::Kernels::load(&mut gpu)?;
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

/// Waits up to `timeout` until no context of this process is left; whether that came true. A program should not end while
/// a cancelled load destroys its context in the background.
pub fn wait_for_contexts(timeout: Duration) -> bool {
    turn::settle(timeout)
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
    let room = fit::Room { free, total, utilization: options.gpu_memory_utilization };
    fit::check(options.name, plan.needs, parts.config.context_length, room, options.smaller)?;
    if options.cancel.is_cancelled() {
        return Err(give_back(gpu, ()));
    }
    let ring = memory.pin()?;
    timeline::mark("pinned ring");
    let tuning = tuning::Tuning::for_card(gpu.card.compute_capability);
    let repack = kernels.repack;
    let loaded = weights::load(&gpu, repack, &ring, &parts.config, &parts.plan, options.cancel, progress);
    let (layout, arena) = match loaded {
        Err(ModelError::Cancelled) => return Err(give_back(gpu, ring)),
        loaded => loaded?,
    };
    let scratch = if plan.scratch { Some(driver::DeviceBuffer::new(gemm::SCRATCH)?) } else { None };
    let usual = layout.usual_products(scratch.as_ref().map(driver::DeviceBuffer::pointer));
    let gemm = gemm::Gemm::new(&gpu, &kernels, tuning, scratch, plan.chunk, usual)?;
    let pace = pace::Pace::new(plan.chunk, parts.plan.parameters(), gpu.card.multiprocessors);
    CudaModel::new(gpu, kernels, parts.config.clone(), layout, arena, plan.chunk, pace, gemm, ring)
}

/// Drops a card and what else lies on it on a thread of their own: that takes a tenth of a second, and who cancelled a load
/// shall not wait for it. Where no thread can be had it happens here.
fn give_back<T: Send + 'static>(gpu: driver::Gpu, rest: T) -> ModelError {
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
