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
    /// The number of GPUs whose memory it is, in equal shares; 0: it is RAM.
    pub gpus: usize,
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

    /// Whether it is GPU memory.
    pub fn is_gpu(self) -> bool {
        self.gpus > 0
    }

    /// `14.2 GB of RAM`, or `151 GB of memory of 2 GPUs`.
    pub fn describe(self) -> String {
        let bytes = bytes(self.bytes);
        match self.gpus {
            0 => format!("{bytes} of RAM"),
            1 => format!("{bytes} of GPU memory"),
            several => format!("{bytes} of memory of {several} GPUs"),
        }
    }
}

/// The memory that a load for `device` would use; `None` if the system does not report it. `cpu_only`: the model has no
/// GPU code. Starts the GPU driver, so not for the interface's thread.
pub fn room(device: DevicePreference, utilization: f32, cpu_only: bool) -> Option<Room> {
    if !cpu_only && device != DevicePreference::Cpu {
        if let Some(room) = gpu_room(device, utilization) {
            return Some(room);
        }
        if matches!(device, DevicePreference::Cuda(_)) {
            return None;
        }
    }
    let bytes = memory::available_bytes()?.saturating_add(memory::resident_bytes().unwrap_or(0));
    Some(Room { bytes, gpus: 0 })
}

/// The GPUs for a model, and their memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As the driver gives it; of several the first one's.
    pub name: String,
    /// Their number, at least 1.
    pub count: usize,
    /// Bytes of their memory in total.
    pub bytes: u64,
}

/// The GPUs that the largest model for `device` would use; `None` if there is none. Starts the GPU driver.
#[cfg(cuda)]
pub fn gpu(device: DevicePreference, utilization: f32) -> Option<Gpu> {
    let found = (device != DevicePreference::Cpu).then(|| super::cuda::usable(device, utilization)).flatten()?;
    let name = found.gpus.first()?.name.clone();
    Some(Gpu { name, count: found.gpus.len(), bytes: found.gpus.iter().map(|gpu| gpu.total).sum() })
}

/// The GPUs that a load for `device` would use: none in this build.
#[cfg(not(cuda))]
pub fn gpu(_: DevicePreference, _: f32) -> Option<Gpu> {
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
fn gpu_room(device: DevicePreference, utilization: f32) -> Option<Room> {
    let found = super::cuda::usable(device, utilization)?;
    Some(Room { bytes: found.bytes, gpus: found.gpus.len() })
}

#[cfg(not(cuda))]
fn gpu_room(_: DevicePreference, _: f32) -> Option<Room> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_reported_and_bounds_a_model() {
        let found = room(DevicePreference::Cpu, 0.9, false);
        assert!(found.is_none_or(|room| !room.is_gpu() && room.holds(1 << 20) && !room.holds(1 << 50)), "{found:?}");
        let room = Room { bytes: 10_300, gpus: 1 };
        assert_eq!((room.positions(10_000, 10), room.positions(20_000, 10)), (10, 0));
        let of = |gpus| Room { bytes: 151_200_000_000, gpus }.describe();
        assert_eq!([0, 1, 2].map(of), ["151 GB of RAM", "151 GB of GPU memory", "151 GB of memory of 2 GPUs"]);
    }
}
