//! Memory of one GPU, or of the host, that several GPUs read and write.

use std::ptr;

use cudarc::driver::sys;

use super::PinnedBuffer;
use super::errors::check;
use crate::engine::error::ModelError;

/// Where [`SharedMemory`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// On the GPU with this ordinal; all GPUs that share it have access to each other's memory.
    Gpu(usize),
    /// Pinned memory of the host, for GPUs that have no access to each other.
    Host,
}

enum Kind {
    /// Mapped for the GPUs that share it, and for no other memory of them.
    Mapped {
        address: u64,
        bytes: usize,
        handle: sys::CUmemGenericAllocationHandle,
    },
    Pinned(PinnedBuffer),
}

/// Memory with one address for all GPUs that share it. Its content is undefined at first.
pub struct SharedMemory(Kind);

/// Properties of an allocation on a GPU.
fn properties(ordinal: usize) -> sys::CUmemAllocationProp {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut properties: sys::CUmemAllocationProp = unsafe { std::mem::zeroed() };
    properties.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = location(ordinal);
    properties
}

fn location(ordinal: usize) -> sys::CUmemLocation {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut location: sys::CUmemLocation = unsafe { std::mem::zeroed() };
    location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    location.id = ordinal as i32;
    location
}

impl SharedMemory {
    /// Allocates `bytes` bytes at `home`, mapped for the GPUs with these ordinals. A context must be current.
    pub fn new(bytes: usize, home: Home, ordinals: &[usize]) -> Result<Self, ModelError> {
        match home {
            Home::Host => PinnedBuffer::new(bytes).map(|pinned| Self(Kind::Pinned(pinned))),
            Home::Gpu(ordinal) => Self::mapped(bytes, ordinal, ordinals),
        }
    }

    fn mapped(bytes: usize, home: usize, ordinals: &[usize]) -> Result<Self, ModelError> {
        let properties = properties(home);
        let (mut granularity, mut handle, mut address) = (0, 0, 0);
        let least = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        // SAFETY: a query into a local.
        let asked = unsafe { sys::cuMemGetAllocationGranularity(&mut granularity, &properties, least) };
        check(asked, "asking for the size of shared memory")?;
        let bytes = bytes.max(1).next_multiple_of(granularity.max(1));
        let shares = |ordinal: &usize| sys::CUmemAccessDesc {
            location: location(*ordinal),
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        let access: Vec<_> = ordinals.iter().map(shares).collect();
        // SAFETY: handles into locals; what was made is released on every error.
        unsafe {
            check(sys::cuMemCreate(&mut handle, bytes, &properties, 0), "allocating memory for the exchange")?;
            let reserved = check(sys::cuMemAddressReserve(&mut address, bytes, 0, 0, 0), "reserving addresses");
            if let Err(error) = reserved {
                sys::cuMemRelease(handle);
                return Err(error);
            }
            let mapped = check(sys::cuMemMap(address, bytes, 0, handle, 0), "mapping memory for the exchange");
            if let Err(error) = mapped {
                sys::cuMemAddressFree(address, bytes);
                sys::cuMemRelease(handle);
                return Err(error);
            }
            // From here on `drop` releases everything.
            let memory = Self(Kind::Mapped { address, bytes, handle });
            check(sys::cuMemSetAccess(address, bytes, access.as_ptr(), access.len()), "sharing memory among GPUs")?;
            Ok(memory)
        }
    }

    /// The address, the same on all GPUs that share it and, in the host's memory, on the host.
    pub fn pointer(&self) -> u64 {
        match &self.0 {
            Kind::Mapped { address, .. } => *address,
            Kind::Pinned(pinned) => pinned.pointer() as u64,
        }
    }

    /// Sets `count` numbers of 16 bits from the byte `first` on. The stream's GPU must share the memory, which must be a GPU's.
    pub fn fill(&self, first: usize, bits: u16, count: usize, stream: sys::CUstream) -> Result<(), ModelError> {
        let Kind::Mapped { address, bytes, .. } = self.0 else {
            return Err(ModelError::Invalid("only memory of a GPU is filled".into()));
        };
        if first + count * 2 > bytes {
            return Err(ModelError::Invalid("a fill goes beyond shared memory".into()));
        }
        // SAFETY: the range was checked.
        check(unsafe { sys::cuMemsetD16Async(address + first as u64, bits, count, stream) }, "filling memory")
    }

    /// Clears the first `bytes` bytes. The stream's GPU must share the memory.
    pub fn clear(&self, bytes: usize, stream: sys::CUstream) -> Result<(), ModelError> {
        match &self.0 {
            Kind::Mapped { address, bytes: most, .. } => {
                // SAFETY: the memory is ours for this length.
                let cleared = unsafe { sys::cuMemsetD8Async(*address, 0, bytes.min(*most), stream) };
                check(cleared, "clearing memory")
            }
            Kind::Pinned(pinned) => {
                // SAFETY: as above; no kernel uses it, as the callers clear it between steps only.
                unsafe { ptr::write_bytes(pinned.pointer(), 0, bytes) };
                Ok(())
            }
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Kind::Mapped { address, bytes, handle } = self.0 {
            // SAFETY: made by `mapped`, released once, after the work of all GPUs that share it has ended.
            unsafe {
                sys::cuMemUnmap(address, bytes);
                sys::cuMemAddressFree(address, bytes);
                sys::cuMemRelease(handle);
            }
        }
    }
}
