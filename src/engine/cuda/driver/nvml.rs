//! NVML queries of GPU memory, processes and connections. Every value is optional: there may be no library or no
//! permission, and a container may hide processes.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus};
use nvml_wrapper::enum_wrappers::nv_link::IntDeviceType;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// The most NVLinks of a GPU.
const MOST_LINKS: u32 = 18;

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

/// What is at the other end of an NVLink.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkEnd {
    /// A switch, which connects all GPUs that have links to it.
    Switch,
    /// The device at this PCI address.
    Device(String),
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

    /// The number of active NVLinks between the GPUs at two PCI addresses, directly or through switches; 0 if there are none
    /// or NVML does not say.
    pub fn links(&self, a: &str, b: &str) -> u32 {
        let Some(address) = self.same_bus_id(b) else { return 0 };
        let (of_a, of_b) = (self.link_ends(a), self.link_ends(b));
        match shared_links(&of_a, &address, &of_b) {
            // In a virtual machine the switches have no addresses; NVML still says that links join the two.
            0 if self.joined(a, b) => of_a.len().min(of_b.len()) as u32,
            links => links,
        }
    }

    fn joined(&self, a: &str, b: &str) -> bool {
        let (a, b) = (self.0.device_by_pci_bus_id(a), self.0.device_by_pci_bus_id(b));
        let (Ok(a), Ok(b)) = (a, b) else { return false };
        a.p2p_status(&b, P2pCapabilitiesIndex::NvLink).is_ok_and(|status| status == P2pStatus::Ok)
    }

    fn link_ends(&self, bus_id: &str) -> Vec<LinkEnd> {
        let Ok(device) = self.0.device_by_pci_bus_id(bus_id) else { return Vec::new() };
        let links = (0..MOST_LINKS).map(|number| device.link_wrapper_for(number));
        let active = links.filter(|link| link.is_active().unwrap_or(false));
        let ends = active.map(|link| match link.remote_device_type(link.link()) {
            Ok(IntDeviceType::Switch) => LinkEnd::Switch,
            // Without an address it leads to a device that is not shown.
            _ => LinkEnd::Device(link.remote_pci_info().map(|info| info.bus_id).unwrap_or_default()),
        });
        ends.collect()
    }
}

/// The links of GPU `a` to the GPU at the address `b`; if there are none, those through switches.
fn shared_links(a: &[LinkEnd], b: &str, ends_of_b: &[LinkEnd]) -> u32 {
    let direct = a.iter().filter(|end| matches!(end, LinkEnd::Device(address) if address == b)).count();
    let switched = |ends: &[LinkEnd]| ends.iter().filter(|end| **end == LinkEnd::Switch).count();
    let links = if direct > 0 { direct } else { switched(a).min(switched(ends_of_b)) };
    links as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_counted_between_two_gpus_or_through_a_switch() {
        let to = |address: &str| LinkEnd::Device(address.into());
        let (a, b) = ([to("b"), to("b"), to("c"), to("b")], [to("a"), to("a"), to("a"), to("c")]);
        assert_eq!(shared_links(&a, "b", &b), 3);
        assert_eq!(shared_links(&a, "d", &[to("c")]), 0);
        let switches = vec![LinkEnd::Switch; 18];
        assert_eq!(shared_links(&switches, "b", &switches), 18);
        assert_eq!(shared_links(&switches, "b", &switches[..12]), 12);
        assert_eq!(shared_links(&switches, "b", &[]), 0);
        assert_eq!(shared_links(&[], "b", &switches), 0);
    }
}
