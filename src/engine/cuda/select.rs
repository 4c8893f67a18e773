//! Selects the GPU for a `DevicePreference`.

use super::driver::nvml::Management;
use super::driver::{self, GpuProperties};
use super::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::protocol::DevicePreference;

/// The error message if the driver works and reports no GPU.
pub const NO_CARD: &str = "CUDA shows no GPU (CUDA_VISIBLE_DEVICES may hide it)";

/// Whether a load for `device` would try a GPU first. Queries the driver without creating a context.
pub fn expected(device: DevicePreference) -> bool {
    device != DevicePreference::Cpu && choose(device).is_ok()
}

/// Bytes of the requested GPU's memory that this process may use, including what it uses already; `None` without a GPU.
/// Creates no context. Without NVML, memory that other processes use is not subtracted.
pub fn usable_bytes(device: DevicePreference, utilization: f32) -> Option<u64> {
    let gpu = choose(device).ok()?;
    let usage = Management::open().map(|management| management.usage(&gpu.bus_id)).unwrap_or_default();
    let others = usage.used.map_or(0, |used| used.saturating_sub(usage.own.unwrap_or(0)));
    Some(super::load::capacity::budget(gpu.total.saturating_sub(others), gpu.total, utilization))
}

/// The requested GPU; for `Auto` the first one.
pub fn choose(device: DevicePreference) -> Result<GpuProperties, ModelError> {
    let wanted = match device {
        DevicePreference::Cuda(ordinal) => ordinal,
        DevicePreference::Auto | DevicePreference::Cpu => 0,
    };
    let mut gpus = driver::list_gpus()?;
    if wanted < gpus.len() {
        let mut gpu = gpus.swap_remove(wanted);
        gpu.shared_limit = gpu.shared_limit.min(Tuning::for_capability(gpu.compute_capability).shared);
        return Ok(gpu);
    }
    Err(ModelError::Unsupported(match gpus.len() {
        0 => NO_CARD.into(),
        1 => format!("there is no GPU {wanted}; the only one is 0"),
        count => format!("there is no GPU {wanted}; CUDA shows 0 to {}", count - 1),
    }))
}
