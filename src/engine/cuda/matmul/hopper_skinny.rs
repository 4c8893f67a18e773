//! Matrix products of short prompts with quantised weights on Hopper GPUs (`kernels/hopper_skinny.cu`): selects the
//! number of blocks that split k, and launches.

use crate::engine::cuda::driver::tensor_map::TensorMap;
use crate::engine::cuda::driver::{Gpu, Kernel, LaunchConfig};
use crate::engine::cuda::layout::Mat;
use crate::engine::cuda::params::{Epilogue, HopperSkinnyArgs};
use crate::engine::error::ModelError;

/// Maximum tokens of a block, one kernel for each.
pub const ROOMS: [usize; 3] = [16, 64, 128];
/// Rows of a block, by [`ROOMS`].
const ROWS: [usize; 3] = [256, 256, 128];
/// The unit of k that is split among blocks.
const SLAB: usize = 128;
/// Tiles of 64 columns of X in shared memory.
const STAGES: usize = 10;
pub(in crate::engine::cuda) const THREADS: u32 = 384;
/// Maximum blocks of a cluster: the size that CUDA guarantees on every GPU.
pub const MOST_SHARES: usize = 8;
const MATRICES: usize = 3;

#[derive(Clone, Copy)]
pub struct HopperSkinny {
    /// By [`ROOMS`].
    pub kernels: [Kernel; ROOMS.len()],
    /// Maximum co-resident clusters, by [`ROOMS`], then by cluster size minus 1.
    pub at_once: [[usize; MOST_SHARES]; ROOMS.len()],
    pub overlap: bool,
}

/// The order of the elements in a row of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending k.
    #[default]
    Natural = 0,
    /// The order that this kernel's tensor core fragments need.
    Slots = 1,
}

impl Order {
    /// The place in a row of the elements `k` and `k + 1`, `k` even (`slot_of` in `common.cuh`).
    pub fn slot_of(self, k: usize) -> usize {
        match self {
            Order::Natural => k,
            Order::Slots => k & !127 | (k >> 2 & 7) << 4 | (k >> 5 & 3) << 1 | (k >> 1 & 1) << 3,
        }
    }
}

/// The index in [`ROOMS`] of the kernel for this number of tokens.
fn kernel_for(tokens: usize) -> usize {
    ROOMS.iter().position(|room| tokens <= *room).unwrap_or(ROOMS.len() - 1)
}

/// The number of blocks to split k among with the lowest estimated time, for `tiles` tiles of `rows` rows and `slabs`
/// slabs of `slab_bytes` bytes of weights per tile.
fn shares((tiles, rows): (usize, usize), slabs: usize, slab_bytes: f64, at_once: &[usize; MOST_SHARES]) -> usize {
    // Microseconds, measured on an H100: 9 for the start and end of a block, and the slabs, of which a multiprocessor
    // reads 23 KB per microsecond.
    let time = |share: usize| {
        let waves = tiles.div_ceil(at_once[share - 1].max(1)) as f64;
        waves * (9.0 + slabs.div_ceil(share) as f64 * (slab_bytes / 23e3).max(0.3 + rows as f64 / 300.0))
    };
    (1..=MOST_SHARES.min(slabs)).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(1)
}

impl HopperSkinny {
    /// Queries the maximum co-resident clusters for each kernel and cluster size.
    pub fn new(gpu: &Gpu, kernels: [Kernel; ROOMS.len()], overlap: bool) -> Self {
        let mut at_once = [[0; MOST_SHARES]; ROOMS.len()];
        for (index, at_once) in at_once.iter_mut().enumerate() {
            for (share, clusters) in (1..).zip(at_once) {
                *clusters = gpu.clusters(kernels[index], LaunchConfig { cluster: share, ..Self::shape(index) });
            }
        }
        Self { kernels, at_once, overlap }
    }

    /// Threads and shared memory of a block: the ring, later overwritten by the sums, plus 1024 bytes to align it.
    fn shape(kernel: usize) -> LaunchConfig {
        let (tokens, rows) = (ROOMS[kernel], ROWS[kernel]);
        let (ring, sums) = (STAGES * tokens * 64 * 2, tokens * (rows + 4) * 4);
        let shared = ring.max(sums) as u32 + 1024;
        LaunchConfig { threads: THREADS, shared, ..LaunchConfig::default() }
    }

    /// Whether the kernel supports a product of these matrices.
    pub fn takes(mats: &[Mat]) -> bool {
        let fits = |mat: &Mat| {
            let (rows, cols) = (mat.rows as usize, mat.cols as usize);
            !mat.format().is_plain() && cols.is_multiple_of(SLAB) && rows.is_multiple_of(4)
        };
        !mats.is_empty() && mats.len() <= MATRICES && mats.iter().all(fits)
    }

    /// The number of blocks to split k among for this product of `m` rows.
    pub fn choose(&self, mats: &[Mat], m: usize) -> usize {
        let kernel = kernel_for(m);
        let rows = ROWS[kernel];
        let tiles = mats.iter().map(|mat| (mat.rows as usize).div_ceil(rows)).sum();
        let bytes = |mat: &Mat| mat.format().bytes(rows, SLAB) as f64;
        let most = mats.iter().map(bytes).fold(0.0, f64::max);
        shares((tiles, rows), mats.first().map_or(1, |mat| mat.cols as usize / SLAB), most, &self.at_once[kernel])
    }

    /// Multiplies the `m` rows at `a` (columns in [`Order::Slots`]) by `mats` (stacked, of equal width). Rows of C have
    /// `ldc` elements, a multiple of 4. `rows`: rows allocated for A, arbitrary beyond `m`.
    ///
    /// # Safety
    /// [`Self::takes`] must hold for `mats`; A has at least max(`m`, `rows`) rows, C `m` rows of `ldc`.
    #[allow(clippy::too_many_arguments, reason = "one product")]
    pub unsafe fn launch(
        &self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m, rows): (u64, usize, usize),
        (c, ldc): (u64, usize),
        into: Epilogue,
        share: usize,
    ) -> Result<(), ModelError> {
        let kernel = kernel_for(m);
        let tiles = |i: usize| mats.get(i).map_or(0, |mat: &Mat| (mat.rows as usize).div_ceil(ROWS[kernel]));
        let mut w = [Mat::default(); MATRICES];
        w[..mats.len()].copy_from_slice(mats);
        let (tokens, cols) = (ROOMS[kernel], mats[0].cols as usize);
        let args = HopperSkinnyArgs {
            x: TensorMap::new(a, m.next_multiple_of(tokens).min(rows.max(m)), cols, tokens as u32)?,
            w,
            out: c,
            tokens: m as i32,
            cols: cols as i32,
            ldc: ldc as i32,
            mode: into.mode(),
            tiles_a: tiles(0) as i32,
            tiles_b: (tiles(0) + tiles(1)) as i32,
            share: share as i32,
        };
        let grid = (((tiles(0) + tiles(1) + tiles(2)) * share) as u32, m.div_ceil(tokens) as u32, 1);
        let shape = LaunchConfig { grid, overlap: self.overlap, cluster: share as u32, ..Self::shape(kernel) };
        // SAFETY: the caller guarantees the operands; the kernel checks its bounds.
        unsafe { self.kernels[kernel].launch(gpu.stream, shape, &args) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tiles_split_k_among_blocks_and_many_do_not() {
        let (bytes, at_once) = ((ROWS[0] * SLAB) as f64 * 0.5625, [132, 66, 42, 32, 22, 19, 16, 15]);
        assert_eq!(shares((112, 256), 32, bytes, &at_once), 1, "gate and up");
        assert_eq!(shares((16, 256), 112, bytes, &at_once), 7, "down: 16 clusters of 8 do not fit at once");
        assert_eq!(shares((24, 256), 32, bytes, &at_once), 4, "Q, K and V");
        assert!(shares((1, 256), 2, bytes, &at_once) <= 2);
    }

    #[test]
    fn slot_order_is_a_permutation_of_each_slab() {
        // Four weights of a lane go to a step's places 2t, 2t + 1, 2t + 8 and 2t + 9.
        let four = |order: Order, k: usize| (order.slot_of(k), order.slot_of(k + 2));
        assert_eq!(four(Order::Slots, 32 + 8), (2 * 16 + 2, 2 * 16 + 10), "the second lane's third step");
        for order in [Order::Natural, Order::Slots] {
            let mut places: Vec<usize> = (0..256).step_by(2).map(|k| order.slot_of(k)).collect();
            places.sort_unstable();
            assert_eq!(places, (0..256).step_by(2).collect::<Vec<_>>());
        }
    }
}
