//! Matrix products of long prompts on Hopper GPUs (`kernels/hopper_gemm.cu`): tile selection and launch.

use crate::engine::cuda::driver::tensor_map::TensorMap;
use crate::engine::cuda::driver::{Gpu, Kernel, LaunchConfig};
use crate::engine::cuda::params::{Epilogue, HopperGemmArgs, Problem};
use crate::engine::error::ModelError;

/// Rows of A per tile.
const ROWS: usize = 128;
/// Rows of W per tile, one kernel for each.
pub const COLUMNS: [usize; 4] = [64, 128, 192, 256];
/// Microseconds per step of 64 in k, by [`COLUMNS`], measured on an H100; only the ratios matter.
const STEP: [f64; 4] = [0.28, 0.365, 0.50, 0.66];
/// Microseconds of overhead per tile, by [`COLUMNS`].
const TILE: [f64; 4] = [1.5, 2.0, 2.5, 3.0];
const DEPTH: usize = 64;
pub(in crate::engine::cuda) const THREADS: u32 = 384;
/// Bytes of shared memory for the ring of tiles (the kernel's `stages`).
const RING: usize = 200 * 1024;

#[derive(Clone, Copy)]
pub struct HopperGemm {
    /// By [`COLUMNS`].
    pub kernels: [Kernel; COLUMNS.len()],
    pub multiprocessors: usize,
    pub overlap: bool,
}

/// The index in [`COLUMNS`] with the lowest estimated time for `m` rows of A, `n` rows of W and depth `k`.
fn choose(m: usize, n: usize, k: usize, multiprocessors: usize) -> usize {
    let time = |index: usize| {
        let tiles = m.div_ceil(ROWS) * n.div_ceil(COLUMNS[index]);
        let waves = tiles.div_ceil(multiprocessors.max(1)) as f64;
        waves * (k.div_ceil(DEPTH) as f64 * STEP[index] + TILE[index])
    };
    (0..COLUMNS.len()).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(0)
}

impl HopperGemm {
    /// The index in [`COLUMNS`] of the kernel with the lowest estimated time.
    pub fn choose(&self, problem: Problem) -> usize {
        choose(problem.m, problem.n, problem.k, self.multiprocessors)
    }

    /// C = A · Wᵀ with the kernel at `index`. False if it does not support this shape. `room`: allocated rows of A,
    /// with any contents beyond m: the TMA is slower for tiles that the tensor map cuts off.
    ///
    /// # Safety
    /// A holds m rows of k (and at least `room` rows), W n rows of k, C m rows of `ldc`, in GPU memory and until the
    /// product has ended.
    pub unsafe fn multiply(
        &self,
        gpu: &Gpu,
        index: usize,
        (a, w, c): (u64, u64, u64),
        problem: Problem,
        room: usize,
    ) -> Result<bool, ModelError> {
        let Problem { m, n, k, ldc, into } = problem;
        // The TMA requires rows of whole 16 bytes, and the kernel stores four bf16 at a time.
        let whole = into != Epilogue::StoreBf16 || (n.is_multiple_of(4) && ldc.is_multiple_of(4));
        if !k.is_multiple_of(8) || !a.is_multiple_of(16) || !w.is_multiple_of(16) || !c.is_multiple_of(16) || !whole {
            return Ok(false);
        }
        let columns = COLUMNS[index];
        let args = HopperGemmArgs {
            a: TensorMap::new(a, m.next_multiple_of(ROWS).min(room.max(m)), k, ROWS as u32)?,
            w: TensorMap::new(w, n, k, columns as u32)?,
            c,
            m: m as i32,
            n: n as i32,
            k: k as i32,
            ldc: ldc as i32,
            mode: into.mode(),
        };
        let stage = (ROWS + columns) * DEPTH * 2;
        let shared = (RING / stage * stage + 1024) as u32;
        let tiles = m.div_ceil(ROWS) * n.div_ceil(columns);
        let grid = (tiles.min(self.multiprocessors) as u32, 1, 1);
        let shape = LaunchConfig { grid, threads: THREADS, shared, overlap: self.overlap, ..LaunchConfig::default() };
        // SAFETY: the caller guarantees the operands; the kernel checks its bounds.
        unsafe { self.kernels[index].launch(gpu.stream, shape, &args)? };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_picks_the_tile_width_that_leaves_few_multiprocessors_idle() {
        let columns = |m, n, k| COLUMNS[choose(m, n, k, 132)];
        assert_eq!(columns(2048, 28672, 4096), 256);
        assert_eq!(columns(512, 6144, 4096), 192, "128 tiles instead of 96 or 192");
        assert_eq!(columns(512, 4096, 14336), 128);
        assert_eq!(columns(50, 4096, 4096), 64);
    }
}
