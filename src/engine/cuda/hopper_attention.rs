//! Prefill attention for Hopper GPUs, with its tensor maps (`kernels/hopper_attention.cu`).

use super::driver::tensor_map::TensorMap;
use super::driver::{Gpu, Kernel, LaunchConfig};
use super::params::{HopperAttentionArgs, PrefillAttentionArgs};
use crate::engine::error::ModelError;

/// Queries of a block.
pub const ROWS: usize = 128;
/// Keys of a tile.
const KEYS: u32 = 128;
pub(super) const THREADS: u32 = 384;
/// Head widths that the kernel is compiled for.
pub const HEAD_DIMS: [usize; 2] = [64, 128];

/// The kernel with the tensor maps of one model, whose buffers never move.
pub struct HopperAttention {
    kernel: Kernel,
    queries: TensorMap,
    cache: TensorMap,
    /// Address of the cache.
    start: u64,
    head_dim: usize,
}

pub struct AttentionBuffers {
    /// Address, rows and columns of the prompt's Q, K and V.
    pub queries: (u64, usize, usize),
    /// Address and rows (of `head_dim` elements) of all layers' keys and values.
    pub cache: (u64, usize),
    pub head_dim: usize,
}

impl HopperAttention {
    /// `kernels`: in the order of [`HEAD_DIMS`]. `None` if no kernel supports this head width.
    pub fn new(kernels: &[Kernel; HEAD_DIMS.len()], places: &AttentionBuffers) -> Result<Option<Self>, ModelError> {
        let Some(index) = HEAD_DIMS.iter().position(|dim| *dim == places.head_dim) else { return Ok(None) };
        let ((queries, rows, columns), (start, cache_rows)) = (places.queries, places.cache);
        Ok(Some(Self {
            kernel: kernels[index],
            queries: TensorMap::new(queries, rows, columns, ROWS as u32)?,
            cache: TensorMap::new(start, cache_rows, places.head_dim, KEYS)?,
            start,
            head_dim: places.head_dim,
        }))
    }

    /// Computes the same as `attention_prefill` of `attention.cu` with `args`.
    ///
    /// # Safety
    /// `args.q` is the address of the queries given to `new`, `args.k` and `args.v` are in its cache, the cache holds
    /// every position up to the last of these tokens, and `args.out` has a row for each token.
    pub unsafe fn launch(&self, gpu: &Gpu, args: &PrefillAttentionArgs, overlap: bool) -> Result<(), ModelError> {
        let row = |address: u64| ((address - self.start) / (self.head_dim as u64 * 2)) as i32;
        let own = HopperAttentionArgs {
            queries: self.queries,
            cache: self.cache,
            out: args.out,
            scale: args.scale,
            tokens: args.tokens,
            position: args.position,
            heads: args.heads,
            heads_per_kv: args.heads_per_kv,
            context: args.context,
            window: args.window,
            k_row: row(args.k),
            v_row: row(args.v),
            order: args.order,
        };
        // Queries and two tiles each of keys and values, plus room to align them to 1024 bytes.
        let shared = ((ROWS + 4 * KEYS as usize) * self.head_dim * 2 + 1024) as u32;
        let grid = ((args.tokens as u32).div_ceil(ROWS as u32), args.heads as u32, 1);
        // SAFETY: the caller guarantees the addresses.
        unsafe {
            self.kernel.launch(
                gpu.stream,
                LaunchConfig { grid, threads: THREADS, shared, overlap, ..LaunchConfig::default() },
                &own,
            )
        }
    }
}

/// Tokens of one wave: one attention block per multiprocessor; 0 if there are more heads than multiprocessors. Deep in
/// a context, a partial wave takes as long as a full one.
pub fn wave(multiprocessors: i32, heads: usize) -> usize {
    multiprocessors.max(0) as usize / heads.max(1) * ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wave_has_one_block_per_multiprocessor() {
        assert_eq!(wave(132, 32), 512);
        assert_eq!(wave(132, 24), 640);
        assert_eq!(wave(132, 9), 14 * 128);
        assert_eq!((wave(78, 96), wave(0, 0)), (0, 0));
    }

    #[test]
    fn hopper_attention_args_match_the_kernel_layout() {
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, cache), 128);
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, out), 256);
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, v_row), 296);
    }
}
