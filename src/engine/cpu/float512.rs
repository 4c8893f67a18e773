//! Products of float matrices with many rows of activations, AVX-512: 16 rows of weights are brought into a panel of
//! floats, `[column][row]`, some columns at a time.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::GgmlType;
use super::avx512::{PANEL, transpose};

/// Columns in a panel: 64 KiB.
const COLUMNS: usize = 1024;
/// Rows of activations in registers.
const BATCH: usize = 8;

thread_local! {
    static PANEL_SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out[i * stride + r] = rows[r] · x[i]` for up to 16 rows of a float type and all rows of activations.
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
    x: &[f32],
    out: *mut f32,
    stride: usize,
) {
    let mask = if count >= PANEL { 0xFFFF } else { (1u16 << count) - 1 };
    PANEL_SCRATCH.with_borrow_mut(|panel| {
        panel.resize(COLUMNS * PANEL, 0.0);
        for from in (0..cols).step_by(COLUMNS) {
            let to = (from + COLUMNS).min(cols);
            // SAFETY: the caller's condition; `from..to` are columns, and the panel has room for them.
            unsafe {
                unpack(kind, rows, count, cols, from..to, panel);
                for i in (0..x.len() / cols).step_by(BATCH) {
                    let part = Part { panel, x: x.as_ptr().add(i * cols + from), cols, columns: to - from };
                    let (out, add) = (out.add(i * stride), from > 0);
                    match x.len() / cols - i {
                        1 => tile::<1>(&part, out, stride, mask, add),
                        2 => tile::<2>(&part, out, stride, mask, add),
                        3 => tile::<3>(&part, out, stride, mask, add),
                        4 => tile::<4>(&part, out, stride, mask, add),
                        5 => tile::<5>(&part, out, stride, mask, add),
                        6 => tile::<6>(&part, out, stride, mask, add),
                        7 => tile::<7>(&part, out, stride, mask, add),
                        _ => tile::<8>(&part, out, stride, mask, add),
                    }
                }
            }
        }
    });
}

/// Some columns of a panel and of the activations.
struct Part<'a> {
    panel: &'a [f32],
    x: *const f32,
    cols: usize,
    columns: usize,
}

/// Eight numbers of a row as floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn eight(kind: GgmlType, at: *const u8) -> __m256i {
    // SAFETY: the caller's condition: eight numbers lie at `at`.
    unsafe {
        match kind {
            GgmlType::F32 => _mm256_loadu_si256(at.cast()),
            GgmlType::F16 => _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(at.cast()))),
            _ => _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()))),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack(
    kind: GgmlType,
    rows: &[u8],
    count: usize,
    cols: usize,
    range: std::ops::Range<usize>,
    panel: &mut [f32],
) {
    let size = kind.block_bytes();
    let whole = range.len() / 8 * 8;
    for k in (0..whole).step_by(8) {
        // Rows that are missing repeat the last one; their results are not stored.
        let row = |r: usize| rows[(r.min(count - 1) * cols + range.start + k) * size..].as_ptr();
        // SAFETY: columns `k..k + 8` of the range lie in each row; the panel has 8 * 64 bytes for them.
        unsafe {
            let pair = |r: usize| {
                let (low, high) = (eight(kind, row(r)), eight(kind, row(r + 8)));
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
            };
            let rows = [pair(0), pair(1), pair(2), pair(3), pair(4), pair(5), pair(6), pair(7)];
            transpose(rows, panel[k * PANEL..(k + 8) * PANEL].as_mut_ptr().cast());
        }
    }
    for k in whole..range.len() {
        for r in 0..PANEL {
            let at = (r.min(count - 1) * cols + range.start + k) * size;
            let mut number = [0.0];
            super::unpack::dequantize(kind, &rows[at..at + size], &mut number);
            panel[k * PANEL + r] = number[0];
        }
    }
}

/// A panel times `M` rows of activations, added to what is there where `add`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn tile<const M: usize>(part: &Part<'_>, out: *mut f32, stride: usize, mask: u16, add: bool) {
    debug_assert!(part.panel.len() >= part.columns * PANEL);
    let mut total = [_mm512_setzero_ps(); M];
    if add {
        for (m, total) in total.iter_mut().enumerate() {
            // SAFETY: the caller's condition; the mask leaves out rows that are not there.
            *total = unsafe { _mm512_maskz_loadu_ps(mask, out.add(m * stride)) };
        }
    }
    for k in 0..part.columns {
        // SAFETY: column `k` of the panel and of the `M` rows of activations.
        unsafe {
            let w = _mm512_loadu_ps(part.panel.as_ptr().add(k * PANEL));
            for (m, total) in total.iter_mut().enumerate() {
                *total = _mm512_fmadd_ps(w, _mm512_set1_ps(*part.x.add(m * part.cols + k)), *total);
            }
        }
    }
    for (m, total) in total.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(out.add(m * stride), mask, total) };
    }
}
