//! Data for `chatnap gpu`: GPUs, their connections, driver, memory in use, and the read bandwidth that limits decoding.

use super::driver::nvml::Management;
use super::driver::peers::peers;
use super::driver::{Gpu, GpuProperties, driver_version, list_gpus};
use super::exchange_time::measure as exchange_time;
use super::kernels::Kernels;
use super::select::NO_CARD;
use super::{bandwidth, images};
use crate::engine::error::ModelError;

/// Model families that the kernels support, if the heads have one of these widths.
const FAMILIES: &str = "Llama, Mistral, SmolLM2, Qwen 2, Qwen 3 and Phi 3 (heads 32, 64 or 128 wide)";

/// One GPU.
#[derive(Clone, Debug)]
pub struct GpuReport {
    /// Name, compute capability, memory and address.
    pub properties: GpuProperties,
    /// Bytes in use by all processes, from NVML.
    pub used: Option<u64>,
    /// Bytes free for a new process; 0 if unknown.
    pub free: u64,
    /// Measured read bandwidth of the GPU memory in bytes per second, or why it could not be measured.
    pub bandwidth: Result<f64, String>,
    /// The first NVIDIA driver that runs this build's kernels on it.
    pub driver_needed: u32,
}

/// How two GPUs are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// By this number of NVLinks, at least 1.
    NvLink(u32),
    /// By PCI Express alone.
    Pcie,
}

/// The connection of two GPUs.
#[derive(Clone, Debug)]
pub struct Connection {
    /// CUDA's number of one GPU.
    pub a: usize,
    /// CUDA's number of the other GPU, above `a`.
    pub b: usize,
    /// `None` without NVML.
    pub link: Option<Link>,
    /// Whether each can read and write the other's memory.
    pub direct: bool,
    /// Measured seconds of an exchange of 8192 numbers, or why it could not be measured; `None`: it was not measured.
    pub exchange: Option<Result<f64, String>>,
}

/// The result of [`inspect`].
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Driver version, for example `580.159.04`, from NVML.
    pub driver: Option<String>,
    /// The CUDA version that the driver supports, for example (13, 0).
    pub cuda: Option<(i32, i32)>,
    /// Compute capabilities that this build has kernels for, in words.
    pub targets: String,
    /// Where the kernels come from: embedded ready-made, or compiled.
    pub kernels: &'static str,
    /// Model families that this build runs on a GPU.
    pub families: &'static str,
    /// The GPUs visible to this process.
    pub gpus: Vec<GpuReport>,
    /// Each pair of them.
    pub connections: Vec<Connection>,
}

/// Queries every visible GPU. Creates a temporary context on each to measure its bandwidth.
pub fn inspect() -> Result<Inspection, ModelError> {
    let gpus = list_gpus()?;
    if gpus.is_empty() {
        return Err(ModelError::Unsupported(NO_CARD.into()));
    }
    let management = Management::open();
    let connections = connections(&gpus, management.as_ref());
    let reports = gpus.into_iter().map(|gpu| report(gpu, management.as_ref())).collect();
    Ok(Inspection {
        driver: management.as_ref().and_then(Management::driver_version),
        cuda: driver_version(),
        targets: images::targets(),
        kernels: images::ORIGIN,
        families: FAMILIES,
        gpus: reports,
        connections,
    })
}

fn connections(gpus: &[GpuProperties], management: Option<&Management>) -> Vec<Connection> {
    let pairs = gpus.iter().enumerate().flat_map(|(place, a)| gpus[place + 1..].iter().map(move |b| (a, b)));
    let connection = |(a, b): (&GpuProperties, &GpuProperties)| Connection {
        a: a.ordinal,
        b: b.ordinal,
        link: management.map(|management| match management.links(&a.bus_id, &b.bus_id) {
            0 => Link::Pcie,
            links => Link::NvLink(links),
        }),
        direct: peers(a.ordinal, b.ordinal),
        exchange: Some(exchange_time(a, b).map(|time| time.exchange.as_secs_f64()).map_err(|error| error.to_string())),
    };
    pairs.map(connection).collect()
}

fn report(properties: GpuProperties, management: Option<&Management>) -> GpuReport {
    let figures = management.map(|m| m.usage(&properties.bus_id)).unwrap_or_default();
    let measured = measure(properties.clone());
    let free = match (&measured, figures.used) {
        (Ok((free, _)), _) => *free,
        (Err(_), Some(used)) => properties.total.saturating_sub(used),
        (Err(_), None) => 0,
    };
    GpuReport {
        driver_needed: images::driver_needed(properties.compute_capability),
        used: figures.used,
        free,
        bandwidth: measured.map(|(_, rate)| rate).map_err(|e| e.to_string()),
        properties,
    }
}

/// Free bytes and read bandwidth.
fn measure(properties: GpuProperties) -> Result<(u64, f64), ModelError> {
    let mut gpu = Gpu::open(properties)?;
    let (free, _) = gpu.memory()?;
    let kernels = Kernels::load(&mut gpu)?;
    bandwidth::measure(&gpu, &kernels).map(|rate| (free, rate))
}
