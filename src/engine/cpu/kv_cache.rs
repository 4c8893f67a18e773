//! The KV cache: keys and values of the evaluated positions, in half precision.

use super::half::f32_to_f16;
use super::isa::for_each_isa;
use super::{AlignedBytes, Threads};
use crate::engine::error::ModelError;

/// Positions whose keys are interleaved: 16 scores are computed as one vector, without a horizontal sum.
pub(super) const TILE: usize = 16;

/// Preallocated keys and values: layers × KV heads × positions × head size. Pages become resident when they are first
/// written.
///
/// Keys are stored in tiles of 16 positions, dimension by dimension (`[tile][dimension][16]`); values position by
/// position (`[position][dimension]`). Attention reads both sequentially.
pub struct KvCache {
    layers: usize,
    heads: usize,
    capacity: usize,
    head_dim: usize,
    keys: AlignedBytes,
    values: AlignedBytes,
}

impl KvCache {
    /// An empty cache; `OutOfMemory` if it cannot be allocated.
    pub fn new(layers: usize, kv_heads: usize, positions: usize, head_dim: usize) -> Result<Self, ModelError> {
        let too_large = || ModelError::OutOfMemory(format!("a KV cache of {positions} positions is too large"));
        let capacity = positions.checked_next_multiple_of(TILE).ok_or_else(too_large)?;
        let bytes = [layers, kv_heads, capacity, head_dim]
            .into_iter()
            .try_fold(size_of::<u16>(), usize::checked_mul)
            .filter(|&bytes| bytes < isize::MAX as usize / 2)
            .ok_or_else(too_large)?;
        let (keys, values) = (AlignedBytes::zeroed(bytes)?, AlignedBytes::zeroed(bytes)?);
        Ok(Self { layers, heads: kv_heads, capacity, head_dim, keys, values })
    }

    /// Bytes reserved (pages are not resident before their first use).
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Positions that fit: the requested number, rounded up to whole tiles.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// KV heads per layer.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Elements per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Stores the keys and values (each rows × KV heads × head size) of `rows` positions from `position` on.
    ///
    /// # Panics
    /// If the layer or a position is out of range, or the lengths are inconsistent.
    pub fn write(&mut self, pool: &Threads, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let width = self.heads * self.head_dim;
        let rows = keys.len() / width;
        assert!(keys.len() == rows * width && values.len() == keys.len(), "keys and values are whole rows");
        assert!(layer < self.layers && position + rows <= self.capacity, "the KV cache has that layer and position");
        let (base, d, stride) = (self.base(layer, 0), self.head_dim, self.capacity * self.head_dim);
        let store = Store {
            keys: self.keys.as_u16_mut()[base..].as_mut_ptr(),
            values: self.values.as_u16_mut()[base..].as_mut_ptr(),
        };
        let isa = pool.isa();
        let head = |head: usize| {
            // SAFETY: the layer's part of the cache has `stride` elements per head; each part writes one head.
            let (keys_out, values_out) = unsafe { store.head(head * stride, stride) };
            for i in 0..rows {
                let at = i * width + head * d;
                store_values(isa, &values[at..at + d], &mut values_out[(position + i) * d..(position + i + 1) * d]);
                let tile = (position + i) / TILE * TILE * d;
                let lane = (position + i) % TILE;
                store_keys(isa, &keys[at..at + d], &mut keys_out[tile..tile + TILE * d], lane);
            }
        };
        if rows == 1 { (0..self.heads).for_each(head) } else { pool.run(self.heads, &head) }
    }

    /// The bit patterns of a layer's keys and values at the first `positions`.
    #[cfg(test)]
    pub fn bits(&self, layer: usize, positions: usize) -> Vec<u16> {
        // Keys are stored in tiles of positions; those past the end were never written.
        let end = positions.next_multiple_of(TILE) * self.head_dim;
        let heads = (0..self.heads).flat_map(|head| [&self.keys(layer, head)[..end], &self.values(layer, head)[..end]]);
        heads.flatten().copied().collect()
    }

    /// Keys of one head: `[tile][dimension][16]`.
    #[inline]
    pub(super) fn keys(&self, layer: usize, head: usize) -> &[u16] {
        let base = self.base(layer, head);
        &self.keys.as_u16()[base..base + self.capacity * self.head_dim]
    }

    /// Values of one head: `[position][dimension]`.
    #[inline]
    pub(super) fn values(&self, layer: usize, head: usize) -> &[u16] {
        let base = self.base(layer, head);
        &self.values.as_u16()[base..base + self.capacity * self.head_dim]
    }

    fn base(&self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.capacity * self.head_dim
    }
}

/// Raw pointers to one layer's keys and values, through which threads write disjoint heads.
struct Store {
    keys: *mut u16,
    values: *mut u16,
}

// SAFETY: each part of a loop writes one head (see `Store::head`).
unsafe impl Sync for Store {}

impl Store {
    /// # Safety
    /// `start..start + len` must be inside both buffers, and nothing else may access it.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one buffer, see Safety")]
    unsafe fn head(&self, start: usize, len: usize) -> (&mut [u16], &mut [u16]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.keys.add(start), len),
                std::slice::from_raw_parts_mut(self.values.add(start), len),
            )
        }
    }
}

for_each_isa! {
    fn store_values(isa, value: &[f32], out: &mut [u16]) = to_halves
}

for_each_isa! {
    /// Writes one key into its lane of a tile.
    fn store_keys(isa, key: &[f32], tile: &mut [u16], lane: usize) = to_lane
}

#[inline(always)]
fn to_halves(value: &[f32], out: &mut [u16]) {
    for (out, &x) in out.iter_mut().zip(value) {
        *out = f32_to_f16(x);
    }
}

#[inline(always)]
fn to_lane(key: &[f32], tile: &mut [u16], lane: usize) {
    for (&x, tile) in key.iter().zip(tile.as_chunks_mut::<TILE>().0) {
        tile[lane] = f32_to_f16(x);
    }
}
