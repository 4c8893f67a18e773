//! Device memory and pinned host memory, freed on drop.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

use cudarc::driver::sys;

use super::Gpu;
use super::errors::check;
use crate::engine::error::ModelError;

/// Device memory, in elements of `T`.
pub struct DeviceBuffer<T> {
    pointer: sys::CUdeviceptr,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Copy> DeviceBuffer<T> {
    /// Allocates `length` uninitialised elements.
    pub fn new(length: usize) -> Result<Self, ModelError> {
        let bytes = length
            .max(1)
            .checked_mul(size_of::<T>())
            .ok_or_else(|| ModelError::OutOfMemory("a buffer is too large".into()))?;
        let mut pointer = 0;
        // SAFETY: a handle into a local; the context is current.
        check(unsafe { sys::cuMemAlloc_v2(&mut pointer, bytes) }, "allocating GPU memory")?;
        Ok(Self { pointer, length, element: PhantomData })
    }

    pub fn from_slice(gpu: &Gpu, data: &[T]) -> Result<Self, ModelError> {
        let buffer = Self::new(data.len())?;
        buffer.write(gpu, 0, data)?;
        Ok(buffer)
    }

    /// The device address.
    pub fn pointer(&self) -> u64 {
        self.pointer
    }

    /// The device address of element `index`.
    pub fn at(&self, index: usize) -> u64 {
        debug_assert!(index <= self.length);
        self.pointer + (index * size_of::<T>()) as u64
    }

    pub fn bytes(&self) -> u64 {
        (self.length * size_of::<T>()) as u64
    }

    /// Copies `data` to `first..`, in stream order on `gpu`'s stream.
    pub fn write(&self, gpu: &Gpu, first: usize, data: &[T]) -> Result<(), ModelError> {
        self.fits(first, data.len())?;
        let bytes = size_of_val(data);
        check(
            // SAFETY: the range was checked. `data` is pageable, so the driver has copied it when the call returns.
            unsafe { sys::cuMemcpyHtoDAsync_v2(self.at(first), data.as_ptr().cast(), bytes, gpu.stream) },
            "copying to the GPU",
        )
    }

    /// Copies `first..first + out.len()` into `out`. Blocks until all earlier work on `gpu`'s stream is done.
    pub fn read(&self, gpu: &Gpu, first: usize, out: &mut [T]) -> Result<(), ModelError> {
        self.fits(first, out.len())?;
        let bytes = size_of_val(out);
        check(
            // SAFETY: the range was checked, `out` is writable for its length and outlives the wait below.
            unsafe { sys::cuMemcpyDtoHAsync_v2(out.as_mut_ptr().cast(), self.at(first), bytes, gpu.stream) },
            "copying from the GPU",
        )?;
        gpu.synchronize()
    }

    /// Copies these bytes to `address`, which is pinned memory of the host with room for them, in stream order.
    pub fn copy_to(&self, gpu: &Gpu, bytes: Range<usize>, address: u64) -> Result<(), ModelError> {
        if bytes.end as u64 > self.bytes() {
            return Err(ModelError::Invalid("a copy goes beyond its buffer on the GPU".into()));
        }
        let from = self.pointer + bytes.start as u64;
        // SAFETY: the range was checked; the callers pass exchange memory, which lives as long as the model.
        let copied = unsafe { sys::cuMemcpyAsync(address, from, bytes.len(), gpu.stream) };
        check(copied, "copying to the host")
    }

    /// Sets every byte, asynchronously on `gpu`'s stream.
    pub fn fill(&self, gpu: &Gpu, byte: u8) -> Result<(), ModelError> {
        // SAFETY: the buffer is ours for its whole length.
        check(unsafe { sys::cuMemsetD8Async(self.pointer, byte, self.bytes() as usize, gpu.stream) }, "clearing memory")
    }

    fn fits(&self, first: usize, length: usize) -> Result<(), ModelError> {
        if first.checked_add(length).is_some_and(|end| end <= self.length) {
            return Ok(());
        }
        Err(ModelError::Invalid("a copy goes beyond its buffer on the GPU".into()))
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once; the driver waits for kernels that still use it.
        unsafe { sys::cuMemFree_v2(self.pointer) };
    }
}

/// Pageable memory in huge pages, allocated and faulted in before the context exists, which makes pinning it fast.
pub struct HostMemory(memmap2::MmapMut);

impl HostMemory {
    /// Allocates `length` zeroed bytes. `None` if the mapping fails.
    pub fn new(length: usize) -> Option<Self> {
        let mut map = memmap2::MmapMut::map_anon(length.next_multiple_of(2 << 20)).ok()?;
        #[cfg(target_os = "linux")]
        // The error is ignored: without huge pages, pinning only takes longer.
        let _ = map.advise(memmap2::Advice::HugePage);
        map.iter_mut().step_by(4096).for_each(|byte| *byte = 0);
        Some(Self(map))
    }
}

/// Pinned host memory that the GPU can access directly: copies from it run at full bus bandwidth.
pub struct PinnedBuffer {
    pointer: *mut u8,
    /// The mapping that `pin` registered; `None` if the driver allocated the memory.
    host: Option<HostMemory>,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for PinnedBuffer {}
// SAFETY: shared access goes through raw pointers to ranges that do not overlap.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Allocates `length` bytes.
    pub fn new(length: usize) -> Result<Self, ModelError> {
        let mut pointer = ptr::null_mut::<c_void>();
        // SAFETY: a handle into a local; the context is current. 1: portable, pinned for all contexts.
        check(unsafe { sys::cuMemHostAlloc(&mut pointer, length.max(1), 1) }, "allocating pinned memory")?;
        Ok(Self { pointer: pointer.cast(), host: None })
    }

    /// Pins existing memory.
    pub fn pin(mut host: HostMemory) -> Result<Self, ModelError> {
        let (pointer, bytes) = (host.0.as_mut_ptr(), host.0.len());
        // SAFETY: `self` owns the mapping and keeps it until `drop` has unpinned it. 1: pinned for all contexts.
        check(unsafe { sys::cuMemHostRegister_v2(pointer.cast(), bytes, 1) }, "pinning memory")?;
        Ok(Self { pointer, host: Some(host) })
    }

    /// The address, valid on the host and (unified addressing) on the GPU.
    pub fn pointer(&self) -> *mut u8 {
        self.pointer
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        // SAFETY: created by `new` or `pin`, freed once; the mapping is unmapped afterwards, when its field is dropped.
        unsafe {
            match self.host {
                Some(_) => sys::cuMemHostUnregister(self.pointer.cast()),
                None => sys::cuMemFreeHost(self.pointer.cast()),
            }
        };
    }
}
