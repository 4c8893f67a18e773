//! The keys and values of what was read so far, in half precision.

use super::half::f32_to_f16;
use super::{AlignedBytes, Threads};
use crate::engine::model::ModelError;

/// Positions whose keys lie interleaved: one vector of 16 scores at a time, without a sum across lanes.
pub(super) const TILE: usize = 16;

/// Preallocated keys and values: layers × KV heads × positions × head size. The system gives it memory only as far as
/// it is written to.
///
/// Keys of 16 positions lie together, dimension by dimension (`[tile][dimension][16]`); values lie position by
/// position (`[position][dimension]`). Both are what attention reads in order.
pub struct KvCache {
    layers: usize,
    heads: usize,
    capacity: usize,
    head_dim: usize,
    keys: AlignedBytes,
    values: AlignedBytes,
}

impl KvCache {
    /// An empty cache; `OutOfMemory` where it cannot be had.
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

    /// Bytes for so many positions, as [`KvCache::new`] takes them; `None` where the product wraps.
    pub fn bytes_for(layers: usize, kv_heads: usize, positions: usize, head_dim: usize) -> Option<usize> {
        [layers, kv_heads, positions.checked_next_multiple_of(TILE)?, head_dim]
            .into_iter()
            .try_fold(2 * size_of::<u16>(), usize::checked_mul)
    }

    /// Bytes set aside (not all of it resident before it is used).
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Positions that fit (at least as many as were asked for).
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// KV heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Numbers a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Stores the keys and values (each rows × KV heads × head size) of `rows` positions from `position` on.
    ///
    /// # Panics
    /// Where layer, positions or lengths do not fit.
    pub fn write(&mut self, pool: &Threads, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let width = self.heads * self.head_dim;
        let rows = keys.len() / width;
        assert!(keys.len() == rows * width && values.len() == keys.len(), "keys and values are whole rows");
        assert!(layer < self.layers && position + rows <= self.capacity, "the KV cache has that layer and position");
        let _ = pool;
        for i in 0..rows {
            for head in 0..self.heads {
                let at = i * width + head * self.head_dim;
                let (key, value) = (&keys[at..at + self.head_dim], &values[at..at + self.head_dim]);
                self.write_head(layer, head, position + i, key, value);
            }
        }
    }

    fn write_head(&mut self, layer: usize, head: usize, position: usize, key: &[f32], value: &[f32]) {
        let (base, d) = (self.base(layer, head), self.head_dim);
        let tile = base + position / TILE * TILE * d + position % TILE;
        let keys = self.keys.as_u16_mut();
        for (i, &x) in key.iter().enumerate() {
            keys[tile + i * TILE] = f32_to_f16(x);
        }
        let at = base + position * d;
        for (out, &x) in self.values.as_u16_mut()[at..at + d].iter_mut().zip(value) {
            *out = f32_to_f16(x);
        }
    }

    /// Keys of one head, tile by tile.
    #[inline]
    pub(super) fn keys(&self, layer: usize, head: usize) -> &[u16] {
        let base = self.base(layer, head);
        &self.keys.as_u16()[base..base + self.capacity * self.head_dim]
    }

    /// Values of one head, position by position.
    #[inline]
    pub(super) fn values(&self, layer: usize, head: usize) -> &[u16] {
        let base = self.base(layer, head);
        &self.values.as_u16()[base..base + self.capacity * self.head_dim]
    }

    fn base(&self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.capacity * self.head_dim
    }
}
