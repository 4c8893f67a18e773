//! The engine on NVIDIA cards: own kernels for the Llama family, loading, decoding and giving everything back.
//!
//! Machine code for the cards named in `TARGETS` is part of the program; the driver is loaded at run time, so a build with
//! this feature also starts where there is none. Dropping a loaded model resets the card's primary context: afterwards
//! nothing of this process is left on the card. Knows no conversations and no terminals.

use std::path::Path;

use super::ModelFiles;
use super::model::load::{ModelParts, read_text};
use super::model::{LoadOptions, LoadedModel, Model, ModelError};
use crate::protocol::{DeviceInfo, DeviceKind, DevicePreference, LoadProgress, ModelInfo};

pub(crate) mod bandwidth;
mod buffer;
pub mod check;
pub mod compare;
mod decode;
pub(crate) mod driver;
mod faults;
pub(crate) mod fit;
pub(crate) mod gemm;
pub mod inspect;
pub(crate) mod kernels;
pub(crate) mod layout;
pub(crate) mod model;
pub(crate) mod nvml;
mod pace;
pub(crate) mod params;
mod prompt;
mod step;
mod timeline;
pub mod trial;
pub(crate) mod tuning;
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

/// A card with a context of ours on it, and the kernels.
pub(crate) struct Opened {
    kernels: kernels::Kernels,
    gpu: driver::Gpu,
}

impl Opened {
    fn new(card: driver::CardProperties) -> Result<Self, ModelError> {
        let mut gpu = driver::Gpu::open(card)?;
        timeline::mark("context");
        let kernels = kernels::Kernels::load(&mut gpu)?;
        timeline::mark("kernels");
        Ok(Self { kernels, gpu })
    }
}

/// Reads the headers while the card gets its context (a quarter of a second) and cuBLASLt is found and mapped.
pub(crate) fn open(options: &LoadOptions<'_>) -> Result<(ModelParts, Opened), ModelError> {
    timeline::restart();
    let card = choose(options.device)?;
    timeline::mark("driver");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gemm::preload();
            timeline::mark("cuBLASLt mapped");
        });
        let opened = scope.spawn(|| Opened::new(card));
        let parts = ModelParts::open(options.files, options.context_length);
        timeline::mark("headers");
        let lost = ModelError::Invalid("the card could not be opened".into());
        let opened = opened.join().unwrap_or(Err(lost));
        let parts = parts?;
        match model::unsupported(&parts.config, &parts.plan) {
            Some(why) => Err(ModelError::Unsupported(why)),
            None => Ok((parts, opened?)),
        }
    })
}

fn load_on_card(options: &LoadOptions<'_>, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadedModel, ModelError> {
    let (parts, opened) = open(options)?;
    let folder = match options.files {
        ModelFiles::Safetensors(folder) => folder.as_path(),
        _ => Path::new(""),
    };
    let (text, loaded) = std::thread::scope(|scope| {
        let text = scope.spawn(|| read_text(&parts, folder));
        let loaded = load_parts(&parts, opened, options, progress);
        let text = text.join().unwrap_or_else(|_| Err(ModelError::Invalid("the tokenizer could not be made".into())));
        (text, loaded)
    });
    let (model, (tokenizer, template)) = (loaded?, text?);
    let info = ModelInfo {
        name: options.name.to_owned(),
        architecture: parts.config.architecture.clone(),
        quantization: parts.quantization(),
        parameters: parts.plan.parameters(),
        context_length: parts.config.context_length,
        trained_context_length: parts.config.trained_context_length,
        device: DeviceInfo { kind: DeviceKind::Cuda, name: model.gpu().card.name.clone() },
        memory: model.memory(),
        warnings: tokenizer.warnings().iter().chain(template.warnings()).cloned().collect(),
    };
    Ok(LoadedModel { model: Box::new(model), tokenizer, template, info })
}

/// Weights and caches of a model whose headers were read. On an error nothing stays on the card.
pub(crate) fn load_parts(
    parts: &ModelParts,
    opened: Opened,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<CudaModel, ModelError> {
    let Opened { kernels, gpu } = opened;
    gpu.activate()?;
    let plan = model::plan(&parts.config, &parts.plan, gpu.card.multiprocessors)?;
    let (free, total) = gpu.memory()?;
    let room = fit::Room { free, total, utilization: options.gpu_memory_utilization };
    fit::check(options.name, plan.needs, parts.config.context_length, room, options.smaller)?;
    if options.cancel.is_cancelled() {
        return Err(ModelError::Cancelled);
    }
    // cuBLASLt takes a sixth of a second to get going, about as long as the weights take.
    let (gemm, loaded) = std::thread::scope(|scope| {
        let gemm = scope.spawn(|| {
            let gemm = gemm::Gemm::new(&gpu, &kernels, plan.scratch);
            timeline::mark("cuBLASLt");
            gemm
        });
        let loaded = weights::load(&gpu, kernels.repack, &parts.config, &parts.plan, options.cancel, progress);
        let lost = ModelError::Invalid("the matrix product could not be set up".into());
        (gemm.join().unwrap_or(Err(lost)), loaded)
    });
    let (gemm, (layout, arena)) = (gemm?, loaded?);
    let pace = pace::Pace::new(plan.chunk, parts.plan.parameters(), gpu.card.multiprocessors);
    CudaModel::new(gpu, kernels, parts.config.clone(), layout, arena, plan.chunk, pace, gemm)
}
