//! Memory that the card works with: its own, and the host's that it can reach. Both are given back when dropped.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

use cudarc::driver::sys;

use super::Gpu;
use super::errors::check;
use crate::engine::error::ModelError;

/// Memory on the card, in elements of `T`.
pub struct DeviceBuffer<T> {
    pointer: sys::CUdeviceptr,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Copy> DeviceBuffer<T> {
    /// Room for `length` elements, not initialised.
    pub fn new(length: usize) -> Result<Self, ModelError> {
        let bytes = length
            .max(1)
            .checked_mul(size_of::<T>())
            .ok_or_else(|| ModelError::OutOfMemory("a buffer is too large".into()))?;
        let mut pointer = 0;
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuMemAlloc_v2(&mut pointer, bytes) }, "taking memory on the card")?;
        Ok(Self { pointer, length, element: PhantomData })
    }

    /// A copy of `data`.
    pub fn from_slice(gpu: &Gpu, data: &[T]) -> Result<Self, ModelError> {
        let buffer = Self::new(data.len())?;
        buffer.write(gpu, 0, data)?;
        Ok(buffer)
    }

    /// Where it lies on the card.
    pub fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Where element `index` lies.
    pub fn at(&self, index: usize) -> u64 {
        debug_assert!(index <= self.length);
        self.pointer + (index * size_of::<T>()) as u64
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        (self.length * size_of::<T>()) as u64
    }

    /// Copies `data` to `first..`, in the order of `gpu`'s stream.
    pub fn write(&self, gpu: &Gpu, first: usize, data: &[T]) -> Result<(), ModelError> {
        self.fits(first, data.len())?;
        let bytes = size_of_val(data);
        check(
            // SAFETY: the range was checked. `data` is pageable, so the driver has taken its copy when the call returns.
            unsafe { sys::cuMemcpyHtoDAsync_v2(self.at(first), data.as_ptr().cast(), bytes, gpu.stream) },
            "copying to the card",
        )
    }

    /// Copies `first..first + out.len()` into `out`, after everything on `gpu`'s stream.
    pub fn read(&self, gpu: &Gpu, first: usize, out: &mut [T]) -> Result<(), ModelError> {
        self.fits(first, out.len())?;
        let bytes = size_of_val(out);
        check(
            // SAFETY: the range was checked, `out` is writable for its length and outlives the wait below.
            unsafe { sys::cuMemcpyDtoHAsync_v2(out.as_mut_ptr().cast(), self.at(first), bytes, gpu.stream) },
            "copying from the card",
        )?;
        gpu.synchronize()
    }

    /// Sets every byte.
    pub fn fill(&self, gpu: &Gpu, byte: u8) -> Result<(), ModelError> {
        // SAFETY: the buffer is ours for its whole length.
        check(unsafe { sys::cuMemsetD8Async(self.pointer, byte, self.bytes() as usize, gpu.stream) }, "clearing memory")
    }

    fn fits(&self, first: usize, length: usize) -> Result<(), ModelError> {
        if first.checked_add(length).is_some_and(|end| end <= self.length) {
            return Ok(());
        }
        Err(ModelError::Invalid("a copy goes beyond its buffer on the card".into()))
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once; the driver waits for kernels that still use it.
        unsafe { sys::cuMemFree_v2(self.pointer) };
    }
}

/// Ordinary memory in large pages, made and touched before there is a context; pinning it then is quick.
pub struct HostMemory(memmap2::MmapMut);

impl HostMemory {
    /// Room for `length` bytes, zeroed. `None` where the system refuses.
    pub fn new(length: usize) -> Option<Self> {
        let mut map = memmap2::MmapMut::map_anon(length.next_multiple_of(2 << 20)).ok()?;
        #[cfg(target_os = "linux")]
        // Advice only: with small pages it takes longer, no more.
        let _ = map.advise(memmap2::Advice::HugePage);
        map.iter_mut().step_by(4096).for_each(|byte| *byte = 0);
        Some(Self(map))
    }
}

/// Host memory that the card can read and write: copies from it run at the bus's full speed.
pub struct PinnedBuffer {
    pointer: *mut u8,
    /// What was pinned where it lay; else the driver's own allocation.
    host: Option<HostMemory>,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for PinnedBuffer {}
// SAFETY: shared use goes through raw pointers whose users keep their ranges apart.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Room for `length` bytes, zeroed.
    pub fn new(length: usize) -> Result<Self, ModelError> {
        let mut pointer = ptr::null_mut::<c_void>();
        // SAFETY: a handle into a local; the context is current. 1: usable from every context.
        check(unsafe { sys::cuMemHostAlloc(&mut pointer, length.max(1), 1) }, "taking pinned memory")?;
        Ok(Self { pointer: pointer.cast(), host: None })
    }

    /// Pins memory that is there already.
    pub fn pin(mut host: HostMemory) -> Result<Self, ModelError> {
        let (pointer, bytes) = (host.0.as_mut_ptr(), host.0.len());
        // SAFETY: the mapping is ours and stays until `drop` has unpinned it. 1: for every context.
        check(unsafe { sys::cuMemHostRegister_v2(pointer.cast(), bytes, 1) }, "pinning memory")?;
        Ok(Self { pointer, host: Some(host) })
    }

    /// Where it lies, for the host and (unified addressing) the card.
    pub fn pointer(&self) -> *mut u8 {
        self.pointer
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        // SAFETY: made by `new` or `pin`, given back once; a mapping goes after this, with its field.
        unsafe {
            match self.host {
                Some(_) => sys::cuMemHostUnregister(self.pointer.cast()),
                None => sys::cuMemFreeHost(self.pointer.cast()),
            }
        };
    }
}
