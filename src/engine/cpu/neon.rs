//! Products of quantised matrices with one to four rows of activations, by the byte dot products of Armv8.2: blocks are
//! unpacked by the plain code, which compilers turn into vectors, and meet each row of activations after that.

use std::arch::aarch64::*;
use std::arch::asm;

use super::activations::QRows;
use super::dequantize::{MAX_GROUPS, MAX_N, Quant, with_quant};
use super::{GgmlType, Isa};

/// Most rows of activations at a time.
pub(super) const ROWS: usize = 4;

/// `out[m * stride + r] = rows[r] · x[m]` for a quantised type and 1 to `ROWS` rows `x`.
///
/// # Safety
/// The processor must have what `isa` (not `Plain`) names; `rows` must hold `count` rows of as many numbers as the
/// `batch` rows in `x` have, and `out` must have room for them at each `m * stride`, used by nobody else.
#[expect(clippy::too_many_arguments, reason = "a matrix, its input and its output, each of a few parts")]
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
    // SAFETY: the caller's condition.
    with_quant!(kind, Q => unsafe {
        match batch {
            1 => many::<Q, 1>(rows, count, x, out, stride),
            2 => many::<Q, 2>(rows, count, x, out, stride),
            3 => many::<Q, 3>(rows, count, x, out, stride),
            _ => many::<Q, 4>(rows, count, x, out, stride),
        }
    }, else ());
}

/// Adds the products of 16 signed bytes to `sums`, by fours.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // The intrinsic is not stable in the oldest compiler that this crate supports.
    // SAFETY: the instruction reads and writes these registers alone.
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
                        // Bytes above 127 become what they are less 128, which is what their minimum stands for.
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
            // SAFETY: the caller's condition.
            unsafe { *out.add(m * stride + r) = vaddvq_f32(sums[m]) + mins[m] };
        }
    }
}
