//! A buffer of bytes on pages of its own: aligned, zeroed lazily by the system, given back at once when dropped.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

use crate::engine::error::ModelError;

/// An owned buffer, page-aligned (at least 64 bytes) and zero at first. It takes memory only where it was written to,
/// and all of it goes back to the system on drop, whatever the allocator's habits.
pub struct AlignedBytes {
    map: Option<MmapMut>,
    len: usize,
}

impl AlignedBytes {
    /// A zeroed buffer of `len` bytes; `OutOfMemory` where the system refuses.
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

    /// The same for weights, on large pages if the system offers them: decode reads all weights once a token, and with
    /// pages of 4 KiB the address translation takes part of that time. (The KV cache stays on small pages, so that it
    /// takes memory only as far as it is used.)
    pub fn for_weights(len: usize) -> Result<Self, ModelError> {
        let buffer = Self::zeroed(len)?;
        #[cfg(target_os = "linux")]
        if let Some(map) = &buffer.map {
            // Refused where the kernel has no large pages, which costs speed alone.
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

    /// Its bytes as little-endian half-precision bit patterns (the length is rounded down).
    pub(super) fn as_u16(&self) -> &[u16] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the mapping is page-aligned, lives as long as `self`, and every bit pattern is a valid u16.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<u16>(), self.len / 2) }
    }

    /// Like [`Self::as_u16`], to write.
    pub(super) fn as_u16_mut(&mut self) -> &mut [u16] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: as in `as_u16`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<u16>(), self.len / 2) }
    }
}

/// `len` zeroed bytes for what a file holds beside its tensors; `OutOfMemory` where the system refuses.
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
