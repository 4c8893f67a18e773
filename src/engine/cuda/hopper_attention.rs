//! Attention for a prompt on Hopper cards, with what their copy engine has to know (`kernels/hopper_attention.cu`).

use super::driver::tensor_map::TensorMap;
use super::driver::{Gpu, Kernel, LaunchConfig};
use super::params::{HopperAttentionArgs, PrefillAttentionArgs};
use crate::engine::error::ModelError;

/// Queries of a block, and keys of a tile.
pub const ROWS: usize = 128;
const KEYS: u32 = 128;
const THREADS: u32 = 384;
/// Head widths that the kernel is made for.
pub const HEAD_DIMS: [usize; 2] = [64, 128];

/// The kernel for one model: its buffers never move.
pub struct HopperAttention {
    kernel: Kernel,
    queries: TensorMap,
    cache: TensorMap,
    /// Where the cache begins.
    start: u64,
    head_dim: usize,
}

/// Where a model's queries and cache lie.
pub struct AttentionBuffers {
    /// Address, rows and columns of the prompt's Q, K and V.
    pub queries: (u64, usize, usize),
    /// Address and rows (of `head_dim`) of all layers' keys and values.
    pub cache: (u64, usize),
    pub head_dim: usize,
}

impl HopperAttention {
    /// `kernels`: in the order of [`HEAD_DIMS`]; `None` where none is made for heads of this width.
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

    /// The same as the kernel for all cards would do with `args`.
    ///
    /// # Safety
    /// `args.q` is where the places' queries begin, `args.k` and `args.v` lie in their cache, and the cache holds every
    /// position before and of these tokens; `args.out` has a row for each of them.
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
        // Queries and two tiles each of keys and values, from a multiple of 1024 bytes on.
        let shared = ((ROWS + 4 * KEYS as usize) * self.head_dim * 2 + 1024) as u32;
        let grid = ((args.tokens as u32).div_ceil(ROWS as u32), args.heads as u32, 1);
        // SAFETY: the caller vouches for the addresses.
        unsafe {
            self.kernel.launch(
                gpu.stream,
                LaunchConfig { grid, threads: THREADS, shared, overlap, ..LaunchConfig::default() },
                &own,
            )
        }
    }
}

/// Tokens whose blocks fill the card's multiprocessors once, each with one block; 0 where there are more heads than those.
/// Deep in a context attention takes as long for a part of such a wave as for all of it.
pub fn wave(multiprocessors: i32, heads: usize) -> usize {
    multiprocessors.max(0) as usize / heads.max(1) * ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_what_the_card_takes_at_once() {
        assert_eq!(wave(132, 32), 512);
        assert_eq!(wave(132, 24), 640);
        assert_eq!(wave(132, 9), 14 * 128);
        assert_eq!((wave(78, 96), wave(0, 0)), (0, 0));
    }

    #[test]
    fn the_arguments_have_the_kernels_layout() {
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, cache), 128);
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, out), 256);
        assert_eq!(std::mem::offset_of!(HopperAttentionArgs, v_row), 296);
    }
}
