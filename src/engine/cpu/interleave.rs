//! Transposes sixteen rows into columns of four bytes, in x86 registers.

use std::arch::x86_64::*;

/// Transposes an 8 × 8 matrix of 32-bit elements.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose8(rows: [__m256i; 8]) -> [__m256i; 8] {
    let four = |a: __m256i, b: __m256i, c: __m256i, d: __m256i| {
        let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab0, cd0),
            _mm256_unpackhi_epi64(ab0, cd0),
            _mm256_unpacklo_epi64(ab1, cd1),
            _mm256_unpackhi_epi64(ab1, cd1),
        ]
    };
    let upper = four(rows[0], rows[1], rows[2], rows[3]);
    let lower = four(rows[4], rows[5], rows[6], rows[7]);
    let low = |i: usize| _mm256_permute2x128_si256::<0x20>(upper[i], lower[i]);
    let high = |i: usize| _mm256_permute2x128_si256::<0x31>(upper[i], lower[i]);
    [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)]
}

/// Writes eight 32-bit columns of sixteen rows to `out`, column by column; `row(r)` returns the columns of row `r`.
///
/// # Safety
/// Needs AVX2 and 512 writable bytes at `out`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn interleave_ymm(row: impl Fn(usize) -> __m256i, out: *mut u8) {
    for half in 0..2 {
        let at = 8 * half;
        let rows = [row(at), row(at + 1), row(at + 2), row(at + 3), row(at + 4), row(at + 5), row(at + 6), row(at + 7)];
        for (j, column) in transpose8(rows).into_iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe { _mm256_storeu_si256(out.add(64 * j + 32 * half).cast(), column) };
        }
    }
}

/// [`interleave_ymm`] with AVX-512.
///
/// # Safety
/// Needs AVX-512 F and 512 writable bytes at `out`.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
pub(super) unsafe fn interleave_zmm(row: impl Fn(usize) -> __m256i, out: *mut u8) {
    // Rows 0 to 7 are in the low halves, 8 to 15 in the high halves.
    let pair = |r: usize| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(row(r)), row(r + 8));
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
    let upper = four(pair(0), pair(1), pair(2), pair(3));
    let lower = four(pair(4), pair(5), pair(6), pair(7));
    let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    for j in 0..4 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            _mm512_storeu_si512(out.add(64 * j).cast(), _mm512_permutex2var_epi64(upper[j], even, lower[j]));
            _mm512_storeu_si512(out.add(64 * (4 + j)).cast(), _mm512_permutex2var_epi64(upper[j], odd, lower[j]));
        }
    }
}
