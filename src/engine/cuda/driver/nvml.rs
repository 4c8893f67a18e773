//! NVML queries of GPU memory and processes. Every value is optional: there may be no library or no permission, and a
//! container may hide processes.

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// Memory use of one GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuUse {
    /// Bytes in use by all processes.
    pub used: Option<u64>,
    /// Bytes in total.
    pub total: Option<u64>,
    /// Whether NVML lists this process on the GPU; `None` if the process list is not available.
    pub listed: Option<bool>,
    /// Bytes in use by this process.
    pub own: Option<u64>,
}

/// An NVML session.
pub struct Management(Nvml);

impl Management {
    /// `None` if the library cannot be loaded.
    pub fn open() -> Option<Self> {
        Nvml::init().ok().map(Self)
    }

    /// The driver's version, for example `580.159.04`.
    pub fn driver_version(&self) -> Option<String> {
        self.0.sys_driver_version().ok()
    }

    /// The PCI addresses of all GPUs, as NVML writes them.
    pub fn bus_ids(&self) -> Vec<String> {
        let devices = (0..self.0.device_count().unwrap_or(0)).filter_map(|index| self.0.device_by_index(index).ok());
        devices.filter_map(|device| Some(device.pci_info().ok()?.bus_id)).collect()
    }

    /// A PCI address that the driver wrote, as NVML writes it.
    pub fn same_bus_id(&self, bus_id: &str) -> Option<String> {
        Some(self.0.device_by_pci_bus_id(bus_id).ok()?.pci_info().ok()?.bus_id)
    }

    /// Millijoules that the GPU at a PCI address has used since the driver started; GPUs before Volta do not count them.
    pub fn energy_mj(&self, bus_id: &str) -> Option<u64> {
        self.0.device_by_pci_bus_id(bus_id).ok()?.total_energy_consumption().ok()
    }

    /// Memory use of the GPU at a PCI address; empty if there is no such GPU.
    pub fn usage(&self, bus_id: &str) -> GpuUse {
        let Ok(device) = self.0.device_by_pci_bus_id(bus_id) else { return GpuUse::default() };
        let memory = device.memory_info().ok();
        let processes = device.running_compute_processes().ok();
        let own = processes.as_ref().and_then(|list| list.iter().find(|process| process.pid == std::process::id()));
        GpuUse {
            used: memory.as_ref().map(|m| m.used),
            total: memory.as_ref().map(|m| m.total),
            listed: processes.as_ref().map(|_| own.is_some()),
            own: own.and_then(|process| match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            }),
        }
    }
}
