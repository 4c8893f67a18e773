//! GEMV on AArch64: quantised weights times one to four activation rows, with the byte dot products (SDOT) of Armv8.2.
//! Blocks are unpacked by the portable code, which the compiler vectorises.

use std::arch::aarch64::*;
use std::arch::asm;

use super::activations::QRows;
use super::dequantize::{MAX_GROUPS, MAX_N, Quant, with_quant};
use super::{GgmlType, Isa};

/// Maximum activation rows per call.
pub(super) const ROWS: usize = 4;

/// `out[m * stride + r] = rows[r] · x[m]` for a quantised type and 1 to `ROWS` rows `x`.
///
/// # Safety
/// The CPU must support `isa` (not `Plain`); `rows` must have `count` rows, as wide as the `batch` rows of `x`. `out`
/// must have `count` elements at each `m * stride`, which nothing else may access.
#[expect(clippy::too_many_arguments, reason = "a matrix, its input and its output, with their sizes")]
pub(super) unsafe fn multiply(
    isa: Isa,
    kind: GgmlType,
    rows: &[u8],
    count: usize,
    x: QRows<'_>,
    batch: usize,
    out: *mut f32,
    stride: usize,
) {
    debug_assert_eq!(isa, Isa::Dotprod);
    // SAFETY: guaranteed by the caller.
    with_quant!(kind, Q => unsafe {
        match batch {
            1 => many::<Q, 1>(rows, count, x, out, stride),
            2 => many::<Q, 2>(rows, count, x, out, stride),
            3 => many::<Q, 3>(rows, count, x, out, stride),
            _ => many::<Q, 4>(rows, count, x, out, stride),
        }
    }, else ());
}

/// Adds the dot products of 16 signed bytes to `sums`, four products per lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // Inline assembly: the intrinsic is not stable at this crate's minimum Rust version.
    // SAFETY: the instruction reads and writes only these registers.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn many<Q: Quant, const M: usize>(rows: &[u8], count: usize, x: QRows<'_>, out: *mut f32, stride: usize) {
    let cols = x.q.len() / M;
    let (row_bytes, row_groups) = (cols / Q::N * Q::BYTES, cols / Q::GROUP);
    let (scales, xsums) = if Q::GROUP == 16 { (x.scale16, x.sum16) } else { (x.scale, x.sum) };
    let (mut q, mut scale, mut min) = ([0u8; MAX_N], [0f32; MAX_GROUPS], [0f32; MAX_GROUPS]);
    for r in 0..count {
        let (mut sums, mut mins) = ([vdupq_n_f32(0.0); M], [0f32; M]);
        for (b, block) in rows[r * row_bytes..][..row_bytes].chunks_exact(Q::BYTES).enumerate() {
            Q::unpack(block, &mut q, &mut scale, &mut min);
            for g in 0..Q::N / Q::GROUP {
                let group = b * (Q::N / Q::GROUP) + g;
                for m in 0..M {
                    let mut dots = vdupq_n_s32(0);
                    for half in 0..Q::GROUP / 16 {
                        // SAFETY: 16 bytes of the group, in the block and in row `m` of the activations.
                        let (w, x) = unsafe {
                            let w = vld1q_u8(q.as_ptr().add(g * Q::GROUP + 16 * half));
                            (w, vld1q_s8(x.q.as_ptr().add(m * cols + group * Q::GROUP + 16 * half)))
                        };
                        // Wide bytes have 128 subtracted, which replaces their minimum.
                        let w = if Q::WIDE { veorq_u8(w, vdupq_n_u8(0x80)) } else { w };
                        dots = dot(dots, vreinterpretq_s8_u8(w), x);
                    }
                    let at = m * row_groups + group;
                    sums[m] = vfmaq_n_f32(sums[m], vcvtq_f32_s32(dots), scale[g] * scales[at]);
                    if !Q::WIDE {
                        mins[m] += min[g] * xsums[at];
                    }
                }
            }
        }
        for m in 0..M {
            // SAFETY: guaranteed by the caller.
            unsafe { *out.add(m * stride + r) = vaddvq_f32(sums[m]) + mins[m] };
        }
    }
}
