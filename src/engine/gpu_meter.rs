//! NVML's count of GPU memory, for measurements. Without a GPU build or NVML there is none.

use crate::protocol::DevicePreference;

/// Bytes of GPU memory in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuBytes {
    /// By this process; `None` where NVML does not show it, as in containers.
    pub own: Option<u64>,
    /// By all processes.
    pub used: Option<u64>,
}

/// Reads the memory in use on one GPU.
pub struct GpuMeter(#[cfg(cuda)] Inner);

#[cfg(cuda)]
struct Inner {
    management: super::cuda::Management,
    /// Every GPU that NVML shows, before any was used: PCI address and memory.
    before: Vec<(String, GpuBytes)>,
    /// PCI address of the GPU of the loaded model.
    bus_id: Option<String>,
}

#[cfg(cuda)]
impl GpuMeter {
    /// `None` if NVML is not available. Reads the memory of all GPUs: which one the model will run on is only known after
    /// the driver was started, and a measured load should include that.
    pub fn open() -> Option<Self> {
        let management = super::cuda::Management::open()?;
        let before = management.bus_ids().into_iter().map(|bus_id| {
            let bytes = bytes(&management, &bus_id);
            (bus_id, bytes)
        });
        Some(Self(Inner { before: before.collect(), bus_id: None, management }))
    }

    /// Selects the GPU that models for `device` run on. Call it after a load.
    pub fn select(&mut self, device: DevicePreference) {
        let chosen = super::cuda::choose(device).ok();
        self.0.bus_id = chosen.and_then(|gpu| self.0.management.same_bus_id(&gpu.bus_id));
    }

    /// What was in use on the selected GPU when this was opened.
    pub fn before(&self) -> GpuBytes {
        let found = self.0.before.iter().find(|(bus_id, _)| Some(bus_id) == self.0.bus_id.as_ref());
        found.map(|(_, bytes)| *bytes).unwrap_or_default()
    }

    /// What is in use on the selected GPU now.
    pub fn now(&self) -> GpuBytes {
        self.0.bus_id.as_ref().map(|bus_id| bytes(&self.0.management, bus_id)).unwrap_or_default()
    }
}

#[cfg(cuda)]
fn bytes(management: &super::cuda::Management, bus_id: &str) -> GpuBytes {
    let usage = management.usage(bus_id);
    GpuBytes { own: usage.own, used: usage.used }
}

#[cfg(not(cuda))]
impl GpuMeter {
    /// `None`: this build uses no GPU.
    pub fn open() -> Option<Self> {
        None
    }

    /// Does nothing in this build.
    pub fn select(&mut self, _: DevicePreference) {}

    /// Nothing in this build.
    pub fn before(&self) -> GpuBytes {
        GpuBytes::default()
    }

    /// Nothing in this build.
    pub fn now(&self) -> GpuBytes {
        GpuBytes::default()
    }
}
