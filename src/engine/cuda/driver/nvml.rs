//! What the driver's management library says of cards and of this process. Every answer may be missing: no library, no
//! permission, or a container that hides processes.

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// One card's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CardUse {
    /// Bytes in use by everybody.
    pub used: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
    /// Whether this process is among the card's; `None` where the list is hidden.
    pub listed: Option<bool>,
    /// Bytes that this process holds, where the driver tells.
    pub own: Option<u64>,
}

/// A session with the library.
pub struct Management(Nvml);

impl Management {
    /// `None` where the library cannot be loaded.
    pub fn open() -> Option<Self> {
        Nvml::init().ok().map(Self)
    }

    /// The driver's version, for example `580.159.04`.
    pub fn driver_version(&self) -> Option<String> {
        self.0.sys_driver_version().ok()
    }

    /// Figures of the card at a PCI address.
    pub fn card(&self, bus_id: &str) -> CardUse {
        let Ok(device) = self.0.device_by_pci_bus_id(bus_id) else { return CardUse::default() };
        let memory = device.memory_info().ok();
        let processes = device.running_compute_processes().ok();
        let own = processes.as_ref().and_then(|list| list.iter().find(|process| process.pid == std::process::id()));
        CardUse {
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
