//! How much memory a model may take on this machine: a rough check before a download or a change of model. The load
//! itself checks exactly.

use std::path::Path;

use super::error::ModelError;
use super::memory;
use super::model::parts::ModelParts;
use super::source::ModelFiles;
use crate::protocol::DevicePreference;
use crate::wording::bytes;

/// Memory for a model, including what this process uses already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Whether it is GPU memory.
    pub gpu: bool,
}

impl Room {
    /// Whether weights of `size` bytes fit. Only the weights count: the rest depends on the context length.
    pub fn holds(self, size: u64) -> bool {
        size <= self.bytes
    }

    /// The most positions, with `cache` bytes of KV cache each, that fit beside weights of `size` bytes and 2 % of that
    /// for buffers.
    pub fn positions(self, size: u64, cache: u64) -> u64 {
        self.bytes.saturating_sub(size.saturating_add(size / 50)) / cache.max(1)
    }

    /// `14.2 GB of RAM`.
    pub fn describe(self) -> String {
        format!("{} of {}", bytes(self.bytes), if self.gpu { "GPU memory" } else { "RAM" })
    }
}

/// The memory that a load for `device` would use; `None` if the system does not report it. `cpu_only`: the model has no
/// GPU code. Starts the GPU driver, so not for the interface's thread.
pub fn room(device: DevicePreference, utilization: f32, cpu_only: bool) -> Option<Room> {
    if !cpu_only && device != DevicePreference::Cpu {
        if let Some(bytes) = gpu_bytes(device, utilization) {
            return Some(Room { bytes, gpu: true });
        }
        if matches!(device, DevicePreference::Cuda(_)) {
            return None;
        }
    }
    let bytes = memory::available_bytes()?.saturating_add(memory::resident_bytes().unwrap_or(0));
    Some(Room { bytes, gpu: false })
}

/// A GPU and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As the driver gives it.
    pub name: String,
    /// Bytes of its memory in total.
    pub bytes: u64,
}

/// The GPU that a load for `device` would use; `None` if there is none. Starts the GPU driver.
#[cfg(cuda)]
pub fn gpu(device: DevicePreference) -> Option<Gpu> {
    let found = (device != DevicePreference::Cpu).then(|| super::cuda::choose(device).ok()).flatten()?;
    Some(Gpu { name: found.name, bytes: found.total })
}

/// The GPU that a load for `device` would use: none in this build.
#[cfg(not(cuda))]
pub fn gpu(_: DevicePreference) -> Option<Gpu> {
    None
}

/// Bytes of RAM in total; `None` if the system does not report them.
pub fn total_ram() -> Option<u64> {
    memory::total_bytes()
}

/// What a GGUF file's header says about the memory that its model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Trained context length, in positions.
    pub context: usize,
    /// Bytes of KV cache for a position.
    pub cache: u64,
    /// Whether it has no GPU code.
    pub cpu_only: bool,
    /// `Q4_K_M`, or `unknown`.
    pub quantization: String,
}

/// Reads the header of a GGUF file (of all parts of a split one); an error if this engine does not run the model.
pub fn needs_of(path: &Path) -> Result<Needs, ModelError> {
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path.to_owned()]), None)?;
    let config = &parts.config;
    Ok(Needs {
        context: config.trained_context_length,
        // Keys and values, 16 bits each.
        cache: (4 * config.layers * config.kv_heads * config.head_dim) as u64,
        cpu_only: is_cpu_only(&parts),
        quantization: parts.quantization(),
    })
}

#[cfg(cuda)]
fn is_cpu_only(parts: &ModelParts) -> bool {
    super::cuda::unsupported(&parts.config, &parts.plan).is_some()
}

#[cfg(not(cuda))]
fn is_cpu_only(_: &ModelParts) -> bool {
    true
}

#[cfg(cuda)]
fn gpu_bytes(device: DevicePreference, utilization: f32) -> Option<u64> {
    super::cuda::usable_bytes(device, utilization)
}

#[cfg(not(cuda))]
fn gpu_bytes(_: DevicePreference, _: f32) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_reported_and_bounds_a_model() {
        let found = room(DevicePreference::Cpu, 0.9, false);
        assert!(found.is_none_or(|room| !room.gpu && room.holds(1 << 20) && !room.holds(1 << 50)), "{found:?}");
        let room = Room { bytes: 10_300, gpu: true };
        assert_eq!((room.positions(10_000, 10), room.positions(20_000, 10)), (10, 0));
        assert_eq!(Room { bytes: 14_200_000_000, gpu: false }.describe(), "14.2 GB of RAM");
    }
}
