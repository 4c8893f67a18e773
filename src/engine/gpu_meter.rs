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

/// Reads the memory in use on the GPUs of a model, all together.
pub struct GpuMeter(#[cfg(cuda)] Inner);

#[cfg(cuda)]
struct Inner {
    management: super::cuda::Management,
    /// Every GPU that NVML shows, before any was used: PCI address and memory.
    before: Vec<(String, GpuBytes)>,
    /// PCI addresses of the GPUs of the loaded model, as NVML writes them.
    bus_ids: Vec<String>,
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
        Some(Self(Inner { before: before.collect(), bus_ids: Vec::new(), management }))
    }

    /// Selects the GPUs that models for `device` run on. Call it after a load.
    pub fn select(&mut self, device: DevicePreference) {
        let gpus = super::cuda::opened(device).unwrap_or_default();
        self.0.bus_ids = gpus.iter().filter_map(|gpu| self.0.management.same_bus_id(&gpu.bus_id)).collect();
    }

    /// What was in use on the selected GPUs when this was opened.
    pub fn before(&self) -> GpuBytes {
        let of = |wanted: &String| self.0.before.iter().find(|(bus_id, _)| bus_id == wanted).map(|(_, bytes)| *bytes);
        sum(self.0.bus_ids.iter().map(|bus_id| of(bus_id).unwrap_or_default()))
    }

    /// What is in use on the selected GPUs now.
    pub fn now(&self) -> GpuBytes {
        sum(self.0.bus_ids.iter().map(|bus_id| bytes(&self.0.management, bus_id)))
    }
}

/// The sums; `None` without GPUs, or if one of the figures is missing.
#[cfg(cuda)]
fn sum(gpus: impl Iterator<Item = GpuBytes>) -> GpuBytes {
    let added = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
    gpus.reduce(|a, b| GpuBytes { own: added(a.own, b.own), used: added(a.used, b.used) }).unwrap_or_default()
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

#[cfg(all(test, cuda))]
mod tests {
    use super::*;

    #[test]
    fn memory_of_several_gpus_is_added_unless_a_figure_is_missing() {
        let of = |own, used| GpuBytes { own, used: Some(used) };
        assert_eq!(sum([of(Some(1), 10)].into_iter()), of(Some(1), 10));
        assert_eq!(sum([of(Some(1), 10), of(Some(2), 20)].into_iter()), of(Some(3), 30));
        assert_eq!(sum([of(Some(1), 10), of(None, 20)].into_iter()), of(None, 30));
        assert_eq!(sum(std::iter::empty()), GpuBytes::default());
    }
}
