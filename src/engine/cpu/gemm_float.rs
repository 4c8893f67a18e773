//! GEMM on x86: float weights times several activation rows. Sixteen weight rows are widened into an f32 panel,
//! `[column][row]`, a block of columns at a time.

use std::cell::RefCell;
use std::ops::Range;

use super::Isa;
use super::interleave::{interleave_ymm, interleave_zmm};
use super::panel::{ROWS, Rows, Target, with_rows};
use super::vectors::{ymm, zmm};
use super::x86::eight;

/// Columns per panel: 32 KiB.
const COLUMNS: usize = 512;

thread_local! {
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out[i * stride + r] = rows[r] · x[i]` for all activation rows.
///
/// # Safety
/// The CPU must support `isa` (AVX2 at least); `rows.bytes` must match its other fields, and `x` must have whole rows
/// of `rows.cols`. `out` must have `rows.count` elements at each `i * stride`, which nothing else may access.
pub(super) unsafe fn multiply(isa: Isa, rows: Rows<'_>, x: &[f32], out: *mut f32, stride: usize) {
    PANEL.with_borrow_mut(|panel| {
        panel.resize(COLUMNS * ROWS, 0.0);
        // SAFETY: guaranteed by the caller.
        unsafe {
            match isa {
                Isa::Avx512 | Isa::Avx512Vnni => avx512::multiply(panel, rows, x, out, stride),
                _ => avx2::multiply(panel, rows, x, out, stride),
            }
        }
    });
}

/// A range of columns of the panel and of the activations.
#[derive(Clone, Copy)]
struct Part<'a> {
    panel: &'a [f32],
    x: *const f32,
    cols: usize,
    columns: usize,
}

macro_rules! kernels {
    ($name:ident, $features:literal, $v:ident, $interleave:ident, rows: $most:literal) => {
        mod $name {
            use super::*;

            /// See the dispatching `multiply`; the panel has `COLUMNS` columns.
            ///
            /// # Safety
            /// As for the dispatching `multiply`; the CPU must support the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn multiply(
                panel: &mut [f32],
                rows: Rows<'_>,
                x: &[f32],
                out: *mut f32,
                stride: usize,
            ) {
                let (cols, n) = (rows.cols, x.len() / rows.cols);
                for from in (0..cols).step_by(COLUMNS) {
                    let to = (from + COLUMNS).min(cols);
                    // SAFETY: guaranteed by the caller; `from..to` are columns of `rows`, and they fit in the panel.
                    unsafe {
                        unpack(rows, from..to, panel);
                        for i in (0..n).step_by($most) {
                            let part = Part { panel, x: x.as_ptr().add(i * cols + from), cols, columns: to - from };
                            let target = Target { out: out.add(i * stride), stride, count: rows.count, add: from > 0 };
                            with_rows!($most.min(n - i), tile::<, M>(part, target));
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn unpack(rows: Rows<'_>, range: Range<usize>, panel: &mut [f32]) {
                let size = rows.kind.block_bytes();
                // Missing rows repeat the last one; their results are not stored.
                let at = |r: usize, k: usize| (r.min(rows.count - 1) * rows.cols + range.start + k) * size;
                let whole = range.len() / 8 * 8;
                for k in (0..whole).step_by(8) {
                    let row = |r: usize| rows.bytes[at(r, k)..at(r, k + 8)].as_ptr();
                    let out = panel[k * ROWS..(k + 8) * ROWS].as_mut_ptr().cast();
                    // SAFETY: eight columns of each row; `out` has eight columns.
                    unsafe { $interleave(|r| eight(rows.kind, row(r)), out) };
                }
                for k in whole..range.len() {
                    for r in 0..ROWS {
                        let mut number = [0.0];
                        super::super::dequantize::dequantize(rows.kind, &rows.bytes[at(r, k)..at(r, k + 1)], &mut number);
                        panel[k * ROWS + r] = number[0];
                    }
                }
            }

            /// Multiplies a panel with `M` activation rows.
            #[target_feature(enable = $features)]
            unsafe fn tile<const M: usize>(part: Part<'_>, target: Target) {
                debug_assert!(part.panel.len() >= part.columns * ROWS);
                let mut total = [[$v::zero_float(); $v::HALVES]; M];
                for k in 0..part.columns {
                    // SAFETY: column `k` of the panel and of the `M` activation rows.
                    unsafe {
                        let w: [$v::Float; $v::HALVES] = std::array::from_fn(|h| {
                            $v::load_floats(part.panel.as_ptr().add(k * ROWS + h * (ROWS / $v::HALVES)))
                        });
                        for m in 0..M {
                            let x = $v::set_float(*part.x.add(m * part.cols + k));
                            for h in 0..$v::HALVES {
                                total[m][h] = $v::fmadd(w[h], x, total[m][h]);
                            }
                        }
                    }
                }
                for (m, total) in total.into_iter().enumerate() {
                    let mut sums = [0f32; ROWS];
                    for (h, total) in total.into_iter().enumerate() {
                        // SAFETY: the lanes of the register are inside `sums`.
                        unsafe { $v::store_floats(sums.as_mut_ptr().add(h * (ROWS / $v::HALVES)), total) };
                    }
                    // SAFETY: guaranteed by the caller.
                    unsafe { target.store(m, &sums) };
                }
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", ymm, interleave_ymm, rows: 6);
kernels!(avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", zmm, interleave_zmm, rows: 8);
