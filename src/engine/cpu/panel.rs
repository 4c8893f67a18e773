//! Sixteen weight rows repacked for products with several activation rows: four columns of each row are adjacent, so
//! that one dot-product instruction covers all rows in a register and no horizontal sum is needed.

use super::GgmlType;

/// Weight rows per panel.
pub(super) const ROWS: usize = 16;
/// Maximum columns of quantised weights per panel: its 16 KiB fit in the L1 cache beside the activations.
pub(super) const COLUMNS: usize = 1024;
/// Maximum groups per row.
pub(super) const GROUPS: usize = COLUMNS / 16;

/// Quantised weights, unpacked to bytes.
#[repr(align(64))]
pub(super) struct Panel {
    /// `[column / 4][row][4]`.
    pub q: [u8; COLUMNS * ROWS],
    /// `[group][row]`.
    pub scale: [f32; GROUPS * ROWS],
    /// `[group][row]`.
    pub min: [f32; GROUPS * ROWS],
}

impl Panel {
    pub(super) const fn new() -> Self {
        Self { q: [0; COLUMNS * ROWS], scale: [0.0; GROUPS * ROWS], min: [0.0; GROUPS * ROWS] }
    }
}

/// Part of a matrix: `count <= ROWS` rows of `cols` elements.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub kind: GgmlType,
    pub bytes: &'a [u8],
    pub count: usize,
    pub cols: usize,
}

/// Output of a tile: `count` elements at each multiple of `stride`; `add`: added to the previous contents.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub out: *mut f32,
    pub stride: usize,
    pub count: usize,
    pub add: bool,
}

impl Target {
    /// Writes the sums of activation row `m`.
    ///
    /// # Safety
    /// The output elements must be valid, and nothing else may access them.
    #[inline(always)]
    pub(super) unsafe fn store(self, m: usize, sums: &[f32; ROWS]) {
        // SAFETY: guaranteed by the caller.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.add(m * self.stride), self.count) };
        if self.add {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        } else {
            out.copy_from_slice(&sums[..self.count]);
        }
    }
}

/// Calls `$tile::<…, M>($args)` with `M = $rows` (1 to 8) activation rows.
macro_rules! with_rows {
    ($rows:expr, $tile:ident::<$($q:ident)?, M>($($arg:expr),* $(,)?)) => {
        match $rows {
            1 => $tile::<$($q,)? 1>($($arg),*),
            2 => $tile::<$($q,)? 2>($($arg),*),
            3 => $tile::<$($q,)? 3>($($arg),*),
            4 => $tile::<$($q,)? 4>($($arg),*),
            5 => $tile::<$($q,)? 5>($($arg),*),
            6 => $tile::<$($q,)? 6>($($arg),*),
            7 => $tile::<$($q,)? 7>($($arg),*),
            _ => $tile::<$($q,)? 8>($($arg),*),
        }
    };
}
pub(super) use with_rows;
