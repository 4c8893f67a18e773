//! What `chatnap gpu` shows: cards, driver, memory in use, and the read bandwidth that limits decoding.

use super::driver::nvml::Management;
use super::driver::{CardProperties, Gpu, cards, driver_version};
use super::kernels::Kernels;
use super::select::NO_CARD;
use super::{TARGETS, bandwidth};
use crate::engine::error::ModelError;

/// Families whose forward pass the kernels are made for, as far as their heads have a usual width.
const FAMILIES: &str = "Llama, Mistral, SmolLM2, Qwen 2, Qwen 3 and Phi 3 (heads 32, 64 or 128 wide)";

/// One card.
#[derive(Clone, Debug)]
pub struct CardReport {
    /// What it is.
    pub card: CardProperties,
    /// Bytes in use by everybody, where NVML tells.
    pub used: Option<u64>,
    /// Bytes free for a process that starts now.
    pub free: u64,
    /// Bytes a second that it reads of its memory, measured now; the text says why there is none.
    pub bandwidth: Result<f64, String>,
}

/// All that is known.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// For example `580.159.04`, where NVML tells.
    pub driver: Option<String>,
    /// CUDA's version of the driver.
    pub cuda: Option<(i32, i32)>,
    /// Compute capabilities that this build has machine code for.
    pub targets: &'static str,
    /// Families that it runs on a card.
    pub families: &'static str,
    /// The cards that CUDA shows.
    pub cards: Vec<CardReport>,
}

/// Looks at every card; on each it makes a context for a moment, to measure.
pub fn inspect() -> Result<Inspection, ModelError> {
    let cards = cards()?;
    if cards.is_empty() {
        return Err(ModelError::Unsupported(NO_CARD.into()));
    }
    let management = Management::open();
    let reports = cards.into_iter().map(|card| report(card, management.as_ref())).collect();
    Ok(Inspection {
        driver: management.as_ref().and_then(Management::driver_version),
        cuda: driver_version(),
        targets: TARGETS,
        families: FAMILIES,
        cards: reports,
    })
}

fn report(card: CardProperties, management: Option<&Management>) -> CardReport {
    let figures = management.map(|m| m.card(&card.bus_id)).unwrap_or_default();
    let measured = measure(card.clone());
    let free = match (&measured, figures.used) {
        (Ok((free, _)), _) => *free,
        (Err(_), Some(used)) => card.total.saturating_sub(used),
        (Err(_), None) => 0,
    };
    CardReport { used: figures.used, free, bandwidth: measured.map(|(_, rate)| rate).map_err(|e| e.to_string()), card }
}

/// Free bytes and read bandwidth.
fn measure(card: CardProperties) -> Result<(u64, f64), ModelError> {
    let mut gpu = Gpu::open(card)?;
    let (free, _) = gpu.memory()?;
    let kernels = Kernels::load(&mut gpu)?;
    bandwidth::measure(&gpu, &kernels).map(|rate| (free, rate))
}
