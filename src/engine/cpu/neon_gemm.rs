//! GEMM on AArch64: quantised weights times several activation rows, with the byte dot products (SDOT) of Armv8.2.
//! Tiled as on x86 (`gemm`), with sixteen weight rows in four registers.

use std::arch::aarch64::*;
use std::cell::RefCell;

use super::activations::Quantised;
use super::dequantize::{MAX_GROUPS, MAX_N, Quant, with_quant};
use super::neon::dot;
use super::panel::{COLUMNS, Panel, ROWS, Rows, Target, with_rows};

/// Activation rows whose sums fit in registers.
const MOST: usize = 4;
/// Registers that hold one 32-bit value for each row of a panel.
const QUARTERS: usize = ROWS / 4;

thread_local! {
    static PANEL: RefCell<Box<Panel>> = RefCell::new(Box::new(Panel::new()));
}

/// `out[i * stride + r] = rows[r] · x[i]` for all activation rows.
///
/// # Safety
/// The CPU must support SDOT; `rows.bytes` must match its other fields, and `x` must have whole rows of `rows.cols`.
/// `out` must have `rows.count` elements at each `i * stride`, which nothing else may access.
pub(super) unsafe fn multiply(rows: Rows<'_>, x: &Quantised, out: *mut f32, stride: usize) {
    PANEL.with_borrow_mut(|panel| {
        // SAFETY: guaranteed by the caller.
        with_quant!(rows.kind, Q => unsafe { multiply_of::<Q>(panel, rows, x, out, stride) }, else ());
    });
}

/// A few activation rows, from a given column on.
#[derive(Clone, Copy)]
struct Part {
    q: *const i8,
    scale: *const f32,
    sum: *const f32,
    /// Row strides: elements, and groups.
    cols: usize,
    row_groups: usize,
    /// Number of groups to multiply.
    groups: usize,
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn multiply_of<Q: Quant>(panel: &mut Panel, rows: Rows<'_>, x: &Quantised, out: *mut f32, stride: usize) {
    let (blocks, step, row_groups) = (rows.cols / Q::N, COLUMNS / Q::N, rows.cols / Q::GROUP);
    let (scale, sum) = if Q::GROUP == 16 { (&x.scale16, &x.sum16) } else { (&x.scale, &x.sum) };
    let n = x.q.len() / rows.cols;
    for from in (0..blocks).step_by(step) {
        let to = (from + step).min(blocks);
        unpack::<Q>(panel, rows, from, to);
        for i in (0..n).step_by(MOST) {
            let group = i * row_groups + from * (Q::N / Q::GROUP);
            // SAFETY: activation rows `i..n.min(i + MOST)` from column `from * Q::N` on; `out` is guaranteed by the
            // caller.
            unsafe {
                let part = Part {
                    q: x.q.as_ptr().add(i * rows.cols + from * Q::N),
                    scale: scale.as_ptr().add(group),
                    sum: sum.as_ptr().add(group),
                    cols: rows.cols,
                    row_groups,
                    groups: (to - from) * (Q::N / Q::GROUP),
                };
                let target = Target { out: out.add(i * stride), stride, count: rows.count, add: from > 0 };
                with_rows!(MOST.min(n - i), tile::<Q, M>(panel, part, target));
            }
        }
    }
}

/// Unpacks blocks `from..to` of each row. Wide bytes have 128 subtracted, which replaces their minimum.
fn unpack<Q: Quant>(panel: &mut Panel, rows: Rows<'_>, from: usize, to: usize) {
    let (row_bytes, groups) = (rows.cols / Q::N * Q::BYTES, Q::N / Q::GROUP);
    let (mut q, mut scale, mut min) = ([0u8; MAX_N], [0f32; MAX_GROUPS], [0f32; MAX_GROUPS]);
    for r in 0..ROWS {
        // Missing rows repeat the last one; their results are not stored.
        let row = &rows.bytes[r.min(rows.count - 1) * row_bytes..][from * Q::BYTES..to * Q::BYTES];
        for (b, block) in row.chunks_exact(Q::BYTES).enumerate() {
            Q::unpack(block, &mut q, &mut scale, &mut min);
            for (k, four) in q[..Q::N].as_chunks::<4>().0.iter().enumerate() {
                let four = if Q::WIDE { four.map(|byte| byte ^ 0x80) } else { *four };
                panel.q[(b * (Q::N / 4) + k) * 4 * ROWS + 4 * r..][..4].copy_from_slice(&four);
            }
            for g in 0..groups {
                panel.scale[(b * groups + g) * ROWS + r] = scale[g];
                panel.min[(b * groups + g) * ROWS + r] = min[g];
            }
        }
    }
}

/// Multiplies a panel with `M` activation rows.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<Q: Quant, const M: usize>(panel: &Panel, part: Part, target: Target) {
    debug_assert!(part.groups * Q::GROUP <= COLUMNS);
    let mut total = [[vdupq_n_f32(0.0); QUARTERS]; M];
    for g in 0..part.groups {
        let mut dots = [[vdupq_n_s32(0); QUARTERS]; M];
        // SAFETY: group `g` of the panel and of `M` activation rows.
        unsafe {
            for k in g * Q::GROUP / 4..(g + 1) * Q::GROUP / 4 {
                let w: [int8x16_t; QUARTERS] =
                    std::array::from_fn(|h| vld1q_s8(panel.q.as_ptr().add((k * QUARTERS + h) * 16).cast()));
                for m in 0..M {
                    let x = vreinterpretq_s8_s32(vld1q_dup_s32(part.q.add(m * part.cols + 4 * k).cast()));
                    for h in 0..QUARTERS {
                        dots[m][h] = dot(dots[m][h], w[h], x);
                    }
                }
            }
            for h in 0..QUARTERS {
                let scale = vld1q_f32(panel.scale.as_ptr().add(g * ROWS + 4 * h));
                let min = vld1q_f32(panel.min.as_ptr().add(g * ROWS + 4 * h));
                for m in 0..M {
                    let at = m * part.row_groups + g;
                    let factor = vmulq_n_f32(scale, *part.scale.add(at));
                    total[m][h] = vfmaq_f32(total[m][h], vcvtq_f32_s32(dots[m][h]), factor);
                    if !Q::WIDE {
                        total[m][h] = vfmaq_n_f32(total[m][h], min, *part.sum.add(at));
                    }
                }
            }
        }
    }
    for (m, total) in total.into_iter().enumerate() {
        let mut sums = [0f32; ROWS];
        for (h, total) in total.into_iter().enumerate() {
            // SAFETY: four elements inside `sums`.
            unsafe { vst1q_f32(sums.as_mut_ptr().add(4 * h), total) };
        }
        // SAFETY: guaranteed by the caller.
        unsafe { target.store(m, &sums) };
    }
}
