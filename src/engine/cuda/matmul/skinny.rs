//! Matrix products of short prompts by the kernel of `skinny.cu`: selects the rows of a block, and launches.

use crate::engine::cuda::driver::{Gpu, Kernel, LaunchConfig};
use crate::engine::cuda::layout::{Format, Mat};
use crate::engine::cuda::params::{Epilogue, SkinnyArgs};
use crate::engine::error::ModelError;

/// Most tokens of a thread block, which reads its weights once for all of them.
pub const BLOCK_TOKENS: usize = 64;
/// Most tokens of a thread block, one kernel for each.
pub const ROOMS: [usize; 3] = [16, 32, BLOCK_TOKENS];
/// Matrices of one launch.
const MATRICES: usize = 3;
const WARPS: usize = 8;
/// Rows of a warp. (16 rows with twice as many warps were no faster: slower for 50 tokens, faster for 16.)
const ROWS: usize = 32;
/// Groups of rows that a block's warps can be divided into; the warps of a group split k.
pub const GROUPS: [usize; 4] = [1, 2, 4, 8];
const STAGES: usize = 3;
/// Bytes of the sums of all warps.
const SUMS: usize = WARPS * BLOCK_TOKENS * 36 * 4;

/// Microseconds of one step of a block, measured on an H100; only the ratios matter. [`START`]: overhead per block.
fn step_time(depths: usize, room: usize, weight_bytes: f64) -> f64 {
    let (depths, room) = (depths as f64, room as f64);
    1.0 + 0.2 * depths + room * (0.014 + 0.0073 * depths) + weight_bytes / 40e3
}
const START: f64 = 4.0;

/// Whether the kernel supports this format; others are converted to bf16 first.
pub fn takes(format: Format) -> bool {
    format != Format::F32
}

/// The work division of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    /// Groups of 32 rows per block; the `8 / groups` warps of each group split k.
    pub groups: usize,
    /// Bytes of shared memory.
    pub shared: u32,
}

/// The GPU limits that the tiling depends on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub multiprocessors: usize,
    /// Bytes of shared memory per block.
    pub shared: u32,
}

/// The token capacity of a block: the entry of [`ROOMS`] for this number of tokens.
fn room(tokens: usize) -> usize {
    ROOMS.into_iter().find(|room| tokens <= *room).unwrap_or(BLOCK_TOKENS)
}

impl Limits {
    /// The tiling with this number of groups; `None` if it exceeds the shared memory.
    pub fn tiling(self, groups: usize, tokens: usize) -> Option<Tiling> {
        let room = room(tokens);
        let shared = (STAGES * (WARPS / groups) * 4 * (room * 64 + 32)).max(SUMS) as u32;
        (shared <= self.shared).then_some(Tiling { groups, shared })
    }
}

/// The tiling with the lowest estimated time for stacked matrices of `rows` rows and `cols` columns.
pub fn tiling(rows: &[usize], cols: usize, row_bytes: u64, tokens: usize, limits: Limits) -> Option<Tiling> {
    let candidates = GROUPS.into_iter().filter_map(|groups| {
        let depths = WARPS / groups;
        let tiling = limits.tiling(groups, tokens)?;
        let taller = ROWS * groups;
        let blocks = rows.iter().map(|n| n.div_ceil(taller)).sum::<usize>() * tokens.div_ceil(BLOCK_TOKENS);
        let waves = blocks.div_ceil(limits.multiprocessors.max(1)) as f64;
        let steps = cols.div_ceil(128 * depths) as f64;
        let bytes = taller as f64 * row_bytes as f64 / steps;
        Some((tiling, waves * (START + steps * step_time(depths, room(tokens), bytes))))
    });
    candidates.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(tiling, _)| tiling)
}

#[derive(Clone, Copy)]
pub struct Skinny {
    /// By [`ROOMS`].
    pub kernels: [Kernel; ROOMS.len()],
    pub limits: Limits,
    pub overlap: bool,
}

impl Skinny {
    /// The tiling for a product; `None` if the kernel does not support it.
    pub fn choose(&self, mats: &[Mat], tokens: usize) -> Option<Tiling> {
        if mats.len() > MATRICES || !mats.iter().all(|mat| takes(mat.format())) {
            return None;
        }
        let cols = mats.first()?.cols as usize;
        let rows: Vec<usize> = mats.iter().map(|mat| mat.rows as usize).collect();
        let bytes = mats.iter().map(|mat| mat.format().bytes(1, cols)).max()?;
        tiling(&rows, cols, bytes, tokens, self.limits)
    }

    /// Multiplies the `m` rows at `a` by `mats` (stacked, of equal width). C has rows of `ldc` elements.
    pub fn launch(
        &self,
        gpu: &Gpu,
        mats: &[Mat],
        (a, m): (u64, usize),
        (c, ldc): (u64, usize),
        into: Epilogue,
        tiling: Tiling,
    ) -> Result<(), ModelError> {
        let tiles = |i: usize| mats.get(i).map_or(0, |mat: &Mat| (mat.rows as usize).div_ceil(ROWS * tiling.groups));
        let mut w = [Mat::default(); MATRICES];
        w[..mats.len()].copy_from_slice(mats);
        let args = SkinnyArgs {
            w,
            x: a,
            out: c,
            tokens: m as i32,
            cols: mats[0].cols,
            ldc: ldc as i32,
            mode: into.mode(),
            tiles_a: tiles(0) as i32,
            tiles_b: (tiles(0) + tiles(1)) as i32,
            groups: tiling.groups as i32,
        };
        let grid = ((tiles(0) + tiles(1) + tiles(2)) as u32, m.div_ceil(BLOCK_TOKENS) as u32, 1);
        let shape = LaunchConfig {
            grid,
            threads: 32 * WARPS as u32,
            shared: tiling.shared,
            overlap: self.overlap,
            ..LaunchConfig::default()
        };
        let kernel = self.kernels[ROOMS.iter().position(|room| m <= *room).unwrap_or(ROOMS.len() - 1)];
        // SAFETY: A holds m rows, C m rows of ldc with room for all matrices; the kernel checks its bounds.
        unsafe { kernel.launch(gpu.stream, shape, &args) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPPER: Limits = Limits { multiprocessors: 132, shared: 227 << 10 };

    fn groups(rows: &[usize], cols: usize, tokens: usize, limits: Limits) -> usize {
        tiling(rows, cols, cols as u64 * 9 / 16, tokens, limits).map_or(0, |tiling| tiling.groups)
    }

    #[test]
    fn tall_matrices_use_more_groups_than_short_ones() {
        let wide = groups(&[14336, 14336], 4096, 50, HOPPER);
        let square = groups(&[4096], 4096, 50, HOPPER);
        assert!(wide >= 4 && square <= 2, "{wide} {square}");
    }

    #[test]
    fn chosen_tiling_fits_the_shared_memory() {
        for limit in [99 << 10, 163 << 10, 227 << 10] {
            for tokens in [1, 9, 50, 64, 200] {
                for (rows, cols) in [(4096, 14336), (192, 576), (128_256, 4096)] {
                    let limits = Limits { multiprocessors: 84, shared: limit };
                    let found = tiling(&[rows], cols, cols as u64 * 2, tokens, limits);
                    assert!(
                        found.is_some_and(|t| t.shared <= limit && WARPS.is_multiple_of(t.groups)),
                        "{limit} {tokens} {found:?}"
                    );
                }
            }
        }
        assert_eq!(tiling(&[4096], 4096, 8192, 64, Limits { multiprocessors: 20, shared: 48 << 10 }), None);
    }

    #[test]
    fn skinny_takes_every_format_except_f32() {
        assert!(Format::ALL.iter().all(|format| takes(*format) == (*format != Format::F32)));
    }
}
