//! Matrix products of short prompts with quantised weights on Hopper cards (`kernels/hopper_skinny.cu`): how many blocks share
//! the depth. Pure but for the launch.

use crate::engine::cuda::driver::tensor_map::TensorMap;
use crate::engine::cuda::driver::{Gpu, Kernel, LaunchConfig};
use crate::engine::cuda::layout::Mat;
use crate::engine::cuda::params::{Epilogue, HopperSkinnyArgs};
use crate::engine::error::ModelError;

/// The numbers of tokens that there are kernels for; a block takes that many or fewer.
pub const ROOMS: [usize; 3] = [16, 64, 128];
/// Rows of their blocks.
const ROWS: [usize; 3] = [256, 256, 128];
/// What the depth is divided in.
const SLAB: usize = 128;
/// Tiles of 64 columns of X in shared memory.
const STAGES: usize = 10;
const THREADS: u32 = 384;
/// Blocks of a cluster, at most, as every card can do.
pub const MOST_SHARES: usize = 8;
const MATRICES: usize = 3;

/// The kernels and the card.
#[derive(Clone, Copy)]
pub struct HopperSkinny {
    /// By [`ROOMS`].
    pub kernels: [Kernel; ROOMS.len()],
    /// Clusters of 1 block, of 2, … that the card runs at once.
    pub at_once: [[usize; MOST_SHARES]; ROOMS.len()],
    pub overlap: bool,
}

/// The order of the numbers in rows that are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    #[default]
    Natural = 0,
    /// As this kernel takes them.
    Slots = 1,
}

impl Order {
    /// Where in a row the numbers at `k` and `k + 1` are, `k` even (`slot_of` in `common.cuh`).
    pub fn slot_of(self, k: usize) -> usize {
        match self {
            Order::Natural => k,
            Order::Slots => k & !127 | (k >> 2 & 7) << 4 | (k >> 5 & 3) << 1 | (k >> 1 & 1) << 3,
        }
    }
}

/// The kernel for so many tokens: its number in [`ROOMS`].
fn kernel_for(tokens: usize) -> usize {
    ROOMS.iter().position(|room| tokens <= *room).unwrap_or(ROOMS.len() - 1)
}

/// How many blocks should share the depth: for so many tiles of `rows` rows, slabs of depth, and bytes of weights that a block
/// reads of a slab.
fn shares((tiles, rows): (usize, usize), slabs: usize, slab_bytes: f64, at_once: &[usize; MOST_SHARES]) -> usize {
    // Microseconds as they were measured on an H100: a block's beginning and end, and a slab, of which a multiprocessor reads
    // 23 KB in a microsecond.
    let time = |share: usize| {
        let waves = tiles.div_ceil(at_once[share - 1].max(1)) as f64;
        waves * (9.0 + slabs.div_ceil(share) as f64 * (slab_bytes / 23e3).max(0.3 + rows as f64 / 300.0))
    };
    (1..=MOST_SHARES.min(slabs)).min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(1)
}

impl HopperSkinny {
    /// With what the card can run at once.
    pub fn new(gpu: &Gpu, kernels: [Kernel; ROOMS.len()], overlap: bool) -> Self {
        let mut at_once = [[0; MOST_SHARES]; ROOMS.len()];
        for (index, at_once) in at_once.iter_mut().enumerate() {
            for (share, clusters) in (1..).zip(at_once) {
                *clusters = gpu.clusters(kernels[index], LaunchConfig { cluster: share, ..Self::shape(index) });
            }
        }
        Self { kernels, at_once, overlap }
    }

    /// A block of the kernel: the ring, and later the sums in its place, from a multiple of 1024 bytes on.
    fn shape(kernel: usize) -> LaunchConfig {
        let (tokens, rows) = (ROOMS[kernel], ROWS[kernel]);
        let (ring, sums) = (STAGES * tokens * 64 * 2, tokens * (rows + 4) * 4);
        let shared = ring.max(sums) as u32 + 1024;
        LaunchConfig { threads: THREADS, shared, ..LaunchConfig::default() }
    }

    /// Whether the kernel can do a product of these matrices.
    pub fn takes(mats: &[Mat]) -> bool {
        let fits = |mat: &Mat| {
            let (rows, cols) = (mat.rows as usize, mat.cols as usize);
            !mat.format().is_plain() && cols.is_multiple_of(SLAB) && rows.is_multiple_of(4)
        };
        !mats.is_empty() && mats.len() <= MATRICES && mats.iter().all(fits)
    }

    /// Blocks that share the depth of this product of `m` rows.
    pub fn choose(&self, mats: &[Mat], m: usize) -> usize {
        let kernel = kernel_for(m);
        let rows = ROWS[kernel];
        let tiles = mats.iter().map(|mat| (mat.rows as usize).div_ceil(rows)).sum();
        let bytes = |mat: &Mat| mat.format().bytes(rows, SLAB) as f64;
        let most = mats.iter().map(bytes).fold(0.0, f64::max);
        shares((tiles, rows), mats.first().map_or(1, |mat| mat.cols as usize / SLAB), most, &self.at_once[kernel])
    }

    /// `mats` (equally wide) one above the other times `m` rows at `a`, each in the order of the slots; C's rows are `ldc`
    /// long, a multiple of 4. There are `room` rows from A on, whatever they hold.
    ///
    /// # Safety
    /// The kernel [takes](Self::takes) these matrices; A holds m rows and `room`, C m rows of `ldc`.
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
        // SAFETY: the caller vouches for the operands; the kernel guards its edges.
        unsafe { self.kernels[kernel].launch(gpu.stream, shape, &args) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tiles_share_the_depth_and_many_do_not() {
        let (bytes, at_once) = ((ROWS[0] * SLAB) as f64 * 0.5625, [132, 66, 42, 32, 22, 19, 16, 15]);
        assert_eq!(shares((112, 256), 32, bytes, &at_once), 1, "gate and up");
        assert_eq!(shares((16, 256), 112, bytes, &at_once), 7, "down: 16 clusters of 8 do not fit at once");
        assert_eq!(shares((24, 256), 32, bytes, &at_once), 4, "Q, K and V");
        assert!(shares((1, 256), 2, bytes, &at_once) <= 2);
    }

    #[test]
    fn every_place_of_a_slab_is_taken_once() {
        // Four weights of a lane are a step's places 2t, 2t + 1, 2t + 8 and 2t + 9.
        let four = |order: Order, k: usize| (order.slot_of(k), order.slot_of(k + 2));
        assert_eq!(four(Order::Slots, 32 + 8), (2 * 16 + 2, 2 * 16 + 10), "the second lane's third step");
        for order in [Order::Natural, Order::Slots] {
            let mut places: Vec<usize> = (0..256).step_by(2).map(|k| order.slot_of(k)).collect();
            places.sort_unstable();
            assert_eq!(places, (0..256).step_by(2).collect::<Vec<_>>());
        }
    }
}
