//! Products of quantised matrices with many rows of activations, with AVX-512 and VNNI: 64 multiplications of bytes an
//! instruction.
//!
//! 16 rows of weights are unpacked into a panel, four columns of each row side by side, so that one instruction serves
//! 16 rows and no sum across lanes is needed; the sums of eight rows of activations stay in registers.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::GgmlType;
use super::activations::{BLOCK, QRows, Quantised};
use super::unpack::{Quant, with_quant};
use super::x86::{CHUNK, Groups, X86};

/// Rows of weights in a panel.
pub(super) const PANEL: usize = 16;
/// Rows of activations in registers.
const BATCH: usize = 8;

/// Sixteen rows of weights, unpacked: `[column / 4][row][4]` bytes, `[group][row]` scales and minima.
#[derive(Default)]
struct Panel {
    q: Vec<u8>,
    scale: Vec<f32>,
    min: Vec<f32>,
}

thread_local! {
    static PANEL_SCRATCH: RefCell<Panel> = RefCell::default();
}

/// `out[i * stride + r] = rows[r] · x[i]` for up to 16 rows of a quantised type and all rows of activations.
///
/// # Safety
/// The processor must have what `Isa::Avx512` names; `rows` must hold `count <= 16` rows of `cols` numbers, `x` whole
/// rows of as many, and `out` must have room for `count` numbers at each `i * stride`, used by nobody else.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn gemm(
    kind: GgmlType,
    rows: &[u8],
    count: usize,
    cols: usize,
    x: &Quantised,
    out: *mut f32,
    stride: usize,
) {
    PANEL_SCRATCH.with_borrow_mut(|panel| {
        // SAFETY: the caller's condition.
        with_quant!(kind, Q => unsafe {
            unpack_panel::<Q>(rows, count, cols, panel);
            gemm_of::<Q>(panel, count, cols, x, out, stride);
        }, else ());
    });
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack_panel<Q: X86>(rows: &[u8], count: usize, cols: usize, panel: &mut Panel) {
    panel.q.resize(cols * PANEL, 0);
    panel.scale.resize(cols / Q::GROUP * PANEL, 0.0);
    panel.min.resize(cols / Q::GROUP * PANEL, 0.0);
    let row_bytes = cols / Q::N * Q::BYTES;
    let mut groups = Groups::new();
    for r in 0..PANEL {
        // Rows that are missing repeat the last one; their results are not stored.
        let row = &rows[r.min(count - 1) * row_bytes..][..row_bytes];
        for (chunk, bytes) in row.chunks(CHUNK / Q::N * Q::BYTES).enumerate() {
            // SAFETY: whole blocks of at most `CHUNK` numbers.
            unsafe { Q::row_groups(bytes, &mut groups) };
            for g in 0..bytes.len() / Q::BYTES * (Q::N / Q::GROUP) {
                let at = (chunk * (CHUNK / Q::GROUP) + g) * PANEL + r;
                panel.scale[at] = groups.scale[g];
                panel.min[at] = groups.min[g];
            }
        }
    }
    let parts = Q::N / BLOCK;
    for b in 0..cols / Q::N {
        for part in 0..parts {
            let block = |r: usize| rows[r.min(count - 1) * row_bytes + b * Q::BYTES..].as_ptr();
            // SAFETY: block `b` of each row lies in `rows`; the panel has 8 * 64 bytes for each part.
            unsafe {
                let pair = |r: usize| {
                    let (low, high) = (Q::part(block(r), part), Q::part(block(r + 8), part));
                    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
                };
                let rows = [pair(0), pair(1), pair(2), pair(3), pair(4), pair(5), pair(6), pair(7)];
                transpose(rows, panel.q.as_mut_ptr().add((b * parts + part) * BLOCK * PANEL));
            }
        }
    }
}

/// Rows 0 to 7 (low halves) and 8 to 15 (high halves) of eight 4-byte columns to eight columns of sixteen rows.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(rows: [__m512i; 8], out: *mut u8) {
    let four = |a: __m512i, b: __m512i, c: __m512i, d: __m512i| {
        let (ab0, ab1) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab0, cd0),
            _mm512_unpackhi_epi64(ab0, cd0),
            _mm512_unpacklo_epi64(ab1, cd1),
            _mm512_unpackhi_epi64(ab1, cd1),
        ]
    };
    let upper = four(rows[0], rows[1], rows[2], rows[3]);
    let lower = four(rows[4], rows[5], rows[6], rows[7]);
    let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for j in 0..4 {
        // SAFETY: the caller's condition: 512 bytes at `out`.
        unsafe {
            _mm512_storeu_si512(out.add(64 * j).cast(), _mm512_permutex2var_epi64(upper[j], even, lower[j]));
            _mm512_storeu_si512(out.add(64 * (4 + j)).cast(), _mm512_permutex2var_epi64(upper[j], odd, lower[j]));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn gemm_of<Q: Quant>(panel: &Panel, count: usize, cols: usize, x: &Quantised, out: *mut f32, stride: usize) {
    let mask = if count >= PANEL { 0xFFFF } else { (1u16 << count) - 1 };
    let n = x.q.len() / cols;
    let mut i = 0;
    while i < n {
        let rows = x.range(i * cols, (i + BATCH).min(n) * cols);
        // SAFETY: `rows` has that many rows; the caller's condition for `out`.
        unsafe {
            let out = out.add(i * stride);
            match n - i {
                1 => tile::<Q, 1>(panel, cols, rows, out, stride, mask),
                2 => tile::<Q, 2>(panel, cols, rows, out, stride, mask),
                3 => tile::<Q, 3>(panel, cols, rows, out, stride, mask),
                4 => tile::<Q, 4>(panel, cols, rows, out, stride, mask),
                5 => tile::<Q, 5>(panel, cols, rows, out, stride, mask),
                6 => tile::<Q, 6>(panel, cols, rows, out, stride, mask),
                7 => tile::<Q, 7>(panel, cols, rows, out, stride, mask),
                _ => tile::<Q, 8>(panel, cols, rows, out, stride, mask),
            }
        }
        i += BATCH;
    }
}

/// A panel times `M` rows of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<Q: Quant, const M: usize>(
    panel: &Panel,
    cols: usize,
    x: QRows<'_>,
    out: *mut f32,
    stride: usize,
    mask: u16,
) {
    let groups = cols / Q::GROUP;
    let (scales, xsums) = if Q::GROUP == 16 { (x.scale16, x.sum16) } else { (x.scale, x.sum) };
    debug_assert!(x.q.len() == M * cols && scales.len() == M * groups && panel.q.len() >= cols * PANEL);
    let (q, scales, xsums) = (x.q.as_ptr(), scales.as_ptr(), xsums.as_ptr());
    let mut total = [_mm512_setzero_ps(); M];
    for g in 0..groups {
        let mut dots = [_mm512_setzero_si512(); M];
        // SAFETY: all reads lie inside the panel and the M rows of activations (asserted above).
        unsafe {
            for k in g * Q::GROUP / 4..(g + 1) * Q::GROUP / 4 {
                let w = _mm512_loadu_si512(panel.q.as_ptr().add(k * 4 * PANEL).cast());
                for m in 0..M {
                    let four = q.add(m * cols + 4 * k).cast::<i32>().read_unaligned();
                    dots[m] = _mm512_dpbusd_epi32(dots[m], w, _mm512_set1_epi32(four));
                }
            }
            let scale = _mm512_loadu_ps(panel.scale.as_ptr().add(g * PANEL));
            let min = _mm512_loadu_ps(panel.min.as_ptr().add(g * PANEL));
            for m in 0..M {
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(*scales.add(m * groups + g)));
                total[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[m]), factor, total[m]);
                total[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(*xsums.add(m * groups + g)), total[m]);
            }
        }
    }
    for (m, total) in total.into_iter().enumerate() {
        // SAFETY: the caller's condition; the mask leaves out rows that are not there.
        unsafe { _mm512_mask_storeu_ps(out.add(m * stride), mask, total) };
    }
}
