//! A byte buffer in its own anonymous mapping: page-aligned, zeroed lazily by the kernel, unmapped on drop.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

use crate::engine::error::ModelError;

/// An owned buffer, page-aligned (at least 64 bytes) and zero-initialised. Only pages that were written to are
/// resident. Drop unmaps it, so that the memory returns to the system whatever the allocator does.
pub struct AlignedBytes {
    map: Option<MmapMut>,
    len: usize,
}

impl AlignedBytes {
    /// A zeroed buffer of `len` bytes; `OutOfMemory` if the mapping fails.
    pub fn zeroed(len: usize) -> Result<Self, ModelError> {
        if len == 0 {
            return Ok(Self { map: None, len });
        }
        let map = MmapOptions::new()
            .len(len)
            .map_anon()
            .map_err(|e| ModelError::OutOfMemory(format!("cannot get {len} bytes of memory: {e}")))?;
        Ok(Self { map: Some(map), len })
    }

    /// A zeroed buffer for weights, on huge pages if the system has them: decode reads all weights once per token, and
    /// with 4 KiB pages TLB misses take part of that time. (The KV cache stays on small pages, so that only its used
    /// part is resident.)
    pub fn for_weights(len: usize) -> Result<Self, ModelError> {
        let buffer = Self::zeroed(len)?;
        #[cfg(target_os = "linux")]
        if let Some(map) = &buffer.map {
            // Fails if the kernel has no huge pages. That costs speed only.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(buffer)
    }

    /// A buffer with a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut buffer = Self::zeroed(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    /// The bytes as little-endian half-precision bit patterns (the length is rounded down).
    pub(super) fn as_u16(&self) -> &[u16] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the mapping is page-aligned and valid as long as `self`, and every bit pattern is a valid u16.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<u16>(), self.len / 2) }
    }

    /// Mutable version of [`Self::as_u16`].
    pub(super) fn as_u16_mut(&mut self) -> &mut [u16] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as in `as_u16`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<u16>(), self.len / 2) }
    }
}

/// `len` zeroed bytes for file contents other than tensors; `OutOfMemory` if the allocation fails.
pub fn zeroed_vec(len: usize) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|e| ModelError::OutOfMemory(format!("cannot get {len} bytes of memory: {e}")))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        self.map.as_mut().map_or(&mut [], |map| &mut map[..len])
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}
