//! The engine on NVIDIA cards: own kernels for the Llama family, loading, decoding and giving everything back.
//!
//! Machine code for the cards named in `TARGETS` is part of the program; the driver is loaded at run time, so a build with
//! this feature also starts where there is none. Dropping a loaded model resets the card's primary context: afterwards
//! nothing of this process is left on the card. Knows no conversations and no terminals.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::error::ModelError;
use super::model::load::{ModelParts, read_text};
use super::model::{LoadOptions, LoadedModel, Model};
use super::source::ModelFiles;
use crate::protocol::{DeviceInfo, DeviceKind, DevicePreference, LoadProgress, ModelInfo};

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

pub use model::CudaModel;

/// The compute capabilities that this build has machine code for.
pub const TARGETS: &str = env!("CHATNAP_CUDA_TARGETS");

/// What is said where a driver answers and shows nothing.
const NO_CARD: &str = "CUDA shows no card (CUDA_VISIBLE_DEVICES may hide it)";

/// Bytes that the last model's release gave back on its card, by NVML's word; each release can be asked for once. Dropping
/// the model has done the work: no context of this process is left.
pub fn release() -> Option<u64> {
    driver::take_freed()
}

/// What came of asking for a card.
pub enum Loaded {
    /// The model runs on a card.
    Model(Box<LoadedModel>),
    /// There is no card to use, and the user left the choice to us: load on the CPU and say why.
    UseCpu(String),
}

/// Loads a model onto the card that `options` ask for. With `DevicePreference::Auto`, what keeps a card from ever running
/// the model (no driver, no card, an unknown family) sends it to the CPU instead. Too little memory is an error that says
/// what would fit: how much slower the CPU may be is the user's choice.
pub fn load(options: &LoadOptions<'_>, progress: &mut dyn FnMut(LoadProgress)) -> Result<Loaded, ModelError> {
    let automatic = options.device == DevicePreference::Auto;
    match load_on_card(options, progress) {
        Ok(model) => Ok(Loaded::Model(Box::new(model))),
        Err(ModelError::Unsupported(why)) if automatic => Ok(Loaded::UseCpu(why)),
        Err(error) => Err(error),
    }
}

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

/// A card with a context of ours on it, the kernels, and memory for the weights to pass through.
pub(crate) struct Opened {
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
}

/// Often enough that a cancel is heard at once.
const LOOK_AROUND: Duration = Duration::from_millis(2);

/// Reads the headers while the card gets its context. That takes the driver a fifth of a second in one piece; a cancel does
/// not wait for it, but the next load and the end of the program do ([`settle`]).
pub(crate) fn open(options: &LoadOptions<'_>) -> Result<(ModelParts, Opened), ModelError> {
    timeline::restart();
    let card = choose(options.device)?;
    timeline::mark("driver");
    if options.cancel.is_cancelled() {
        return Err(ModelError::Cancelled);
    }
    let (sender, receiver) = mpsc::channel();
    let opener = std::thread::Builder::new().name("card".into()).spawn(move || {
        // Where nobody takes it any more, it is dropped here: the context is given back.
        drop(sender.send(Opened::new(card)));
    });
    opener.map_err(|error| ModelError::Io(format!("no thread for the card: {error}")))?;
    let parts = ModelParts::open(options.files, options.context_length);
    timeline::mark("headers");
    let opened = loop {
        match receiver.recv_timeout(LOOK_AROUND) {
            Ok(opened) => break opened,
            Err(RecvTimeoutError::Timeout) if options.cancel.is_cancelled() => return Err(ModelError::Cancelled),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                break Err(ModelError::Invalid("the card could not be opened".into()));
            }
        }
    };
    let parts = parts?;
    match model::unsupported(&parts.config, &parts.plan) {
        Some(why) => Err(ModelError::Unsupported(why)),
        None => Ok((parts, opened?)),
    }
}

/// Waits until no context of this process is left, so long at most: a load that was cancelled gives its own back behind the
/// scenes, and a program should not end in the middle of that.
pub fn settle(most: Duration) -> bool {
    turn::settle(most)
}

fn load_on_card(options: &LoadOptions<'_>, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadedModel, ModelError> {
    let (parts, opened) = open(options)?;
    let folder = match options.files {
        ModelFiles::Safetensors(folder) => folder.as_path(),
        _ => Path::new(""),
    };
    let (text, loaded) = std::thread::scope(|scope| {
        let text = scope.spawn(|| read_text(&parts, folder, options.chat_template));
        let loaded = load_parts(&parts, opened, options, progress);
        let text = text.join().unwrap_or_else(|_| Err(ModelError::Invalid("the tokenizer could not be made".into())));
        (text, loaded)
    });
    let (mut model, (tokenizer, template)) = (loaded?, text?);
    model.ready();
    let info = ModelInfo {
        name: options.name.to_owned(),
        architecture: parts.config.architecture.clone(),
        quantization: parts.quantization(),
        parameters: parts.plan.parameters(),
        context_length: parts.config.context_length,
        trained_context_length: parts.config.trained_context_length,
        device: DeviceInfo { kind: DeviceKind::Cuda, name: model.gpu().card.name.clone() },
        memory: model.memory(),
        warnings: parts.warnings(&tokenizer, &template),
    };
    Ok(LoadedModel { model: Box::new(model), tokenizer, template, info })
}

/// Weights and caches of a model whose headers were read. On an error nothing stays on the card; after a cancel it is given
/// back behind the scenes.
pub(crate) fn load_parts(
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
