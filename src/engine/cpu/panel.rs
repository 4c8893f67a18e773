//! Sixteen rows of weights brought into the order that products with several rows of activations read: four columns of
//! each row side by side, so that one instruction serves all the rows in a register and no sum across lanes is needed.

use super::GgmlType;

/// Rows of weights in a panel.
pub(super) const ROWS: usize = 16;
/// Most columns of quantised weights in a panel: its 16 KiB stay in the first-level cache beside the activations.
pub(super) const COLUMNS: usize = 1024;
/// Most groups of a row.
pub(super) const GROUPS: usize = COLUMNS / 16;

/// Quantised weights, unpacked.
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

/// Part of a matrix: `count <= ROWS` rows of `cols` numbers.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub kind: GgmlType,
    pub bytes: &'a [u8],
    pub count: usize,
    pub cols: usize,
}

/// Where a tile goes: `count` numbers at each multiple of `stride`, added to what is there if `add`.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub out: *mut f32,
    pub stride: usize,
    pub count: usize,
    pub add: bool,
}

impl Target {
    /// Writes the sums of row `m`.
    ///
    /// # Safety
    /// The numbers must be there, used by nobody else.
    #[inline(always)]
    pub(super) unsafe fn store(self, m: usize, sums: &[f32; ROWS]) {
        // SAFETY: the caller's condition.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.add(m * self.stride), self.count) };
        if self.add {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        } else {
            out.copy_from_slice(&sums[..self.count]);
        }
    }
}

/// Lets `$tile::<…, M>($args)` handle `$rows` (1 to 8) rows of activations.
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
