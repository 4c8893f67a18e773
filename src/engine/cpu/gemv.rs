//! GEMV on x86: quantised weights times one to four activation rows, with AVX2, or VNNI if available.
//!
//! A weight row is unpacked 32 elements at a time and multiplied with each activation row while it is in a register.

use std::arch::x86_64::*;

use super::activations::{BLOCK, QRows};
use super::dequantize::with_quant;
use super::x86::{CHUNK, Groups, X86, eight, two_halves};
use super::{GgmlType, Isa, dequantize};

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
    // SAFETY: guaranteed by the caller.
    unsafe {
        match isa {
            Isa::Avx512Vnni => avx512vnni::multiply(kind, rows, count, x, batch, out, stride),
            Isa::AvxVnni => avxvnni::multiply(kind, rows, count, x, batch, out, stride),
            _ => avx2::multiply(kind, rows, count, x, batch, out, stride),
        }
    }
}

/// Dot products of 32 unsigned with 32 signed bytes, four per lane. AVX2 sums pairs of products in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_avx2<Q: X86>(w: __m256i, x: __m256i) -> __m256i {
    // 16-bit pair sums: 2 * 127 * 127 fits. The top bit of wider bytes is multiplied separately.
    let one = _mm256_set1_epi16(1);
    if !Q::WIDE {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), one);
    }
    let low = _mm256_maddubs_epi16(_mm256_and_si256(w, _mm256_set1_epi8(127)), x);
    let top = _mm256_and_si256(_mm256_srli_epi16::<7>(w), _mm256_set1_epi8(1));
    let high = _mm256_maddubs_epi16(top, x);
    _mm256_add_epi32(_mm256_madd_epi16(low, one), _mm256_madd_epi16(high, _mm256_set1_epi16(128)))
}

/// [`dot_avx2`] in one instruction.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_avxvnni<Q: X86>(w: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, x)
}

/// [`dot_avx2`] in one instruction of AVX-512 VNNI.
#[inline]
#[target_feature(enable = "avx2,avx512vnni,avx512vl")]
fn dot_avx512vnni<Q: X86>(w: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

/// Products of the weights' scales with those of `M` activation rows.
struct Factors<const M: usize>([[f32; CHUNK / 16]; M]);

/// Fills `factors` for a chunk that starts at element `from` of each row, and adds the minima's share to `sums`.
///
/// # Safety
/// Needs AVX2 and FMA; the chunk's groups must be a multiple of 8 and inside the activation rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn factors<Q: X86, const M: usize>(
    groups: &Groups,
    x: QRows<'_>,
    from: usize,
    numbers: usize,
    factors: &mut Factors<M>,
    sums: &mut [__m256; M],
) {
    let row = x.q.len() / M / Q::GROUP;
    let (scales, xsums) = if Q::GROUP == 16 { (x.scale16, x.sum16) } else { (x.scale, x.sum) };
    for m in 0..M {
        let at = m * row + from / Q::GROUP;
        for g in (0..numbers / Q::GROUP).step_by(8) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let scale = _mm256_loadu_ps(groups.scale.as_ptr().add(g));
                let scale = _mm256_mul_ps(scale, _mm256_loadu_ps(scales.as_ptr().add(at + g)));
                _mm256_storeu_ps(factors.0[m].as_mut_ptr().add(g), scale);
                let min = _mm256_loadu_ps(groups.min.as_ptr().add(g));
                sums[m] = _mm256_fmadd_ps(min, _mm256_loadu_ps(xsums.as_ptr().add(at + g)), sums[m]);
            }
        }
    }
}

macro_rules! kernels {
    ($name:ident, $features:literal, $dot:ident) => {
        mod $name {
            use super::*;

            /// See the dispatching `multiply`.
            ///
            /// # Safety
            /// As for the dispatching `multiply`; the CPU must support the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn multiply(
                kind: GgmlType,
                rows: &[u8],
                count: usize,
                x: QRows<'_>,
                batch: usize,
                out: *mut f32,
                stride: usize,
            ) {
                // SAFETY: guaranteed by the caller.
                with_quant!(kind, Q => unsafe {
                    match batch {
                        1 if Q::SIMPLE => simple::<Q>(rows, count, x, out),
                        1 => many::<Q, 1>(rows, count, x, out, stride),
                        2 => many::<Q, 2>(rows, count, x, out, stride),
                        3 => many::<Q, 3>(rows, count, x, out, stride),
                        _ => many::<Q, 4>(rows, count, x, out, stride),
                    }
                }, else ());
            }

            /// One activation row and a simple format: scales are read from each block, without a separate pass.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn simple<Q: X86>(rows: &[u8], count: usize, x: QRows<'_>, out: *mut f32) {
                let blocks = x.q.len() / BLOCK;
                for r in 0..count {
                    let row = rows[r * blocks * Q::BYTES..][..blocks * Q::BYTES].as_ptr();
                    let (mut sums, mut mins) = ([_mm256_setzero_ps(); 2], _mm_setzero_ps());
                    for b in 0..blocks {
                        // SAFETY: block `b` of the row and of the activations.
                        unsafe {
                            let block = row.add(b * Q::BYTES);
                            let both = two_halves(block);
                            let both = if Q::OFFSET.is_some() { _mm_broadcastss_ps(both) } else { both };
                            // Lane 0: the product of the scales; lane 1: the minimum times the sum.
                            let pair = _mm_castpd_ps(_mm_load_sd(x.pair.as_ptr().add(b).cast()));
                            let both = _mm_mul_ps(both, pair);
                            mins = _mm_add_ps(mins, both);
                            let dot = $dot::<Q>(
                                Q::part(block, 0),
                                _mm256_loadu_si256(x.q.as_ptr().add(b * BLOCK).cast()),
                            );
                            let scale = _mm256_broadcastss_ps(both);
                            sums[b % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sums[b % 2]);
                        }
                    }
                    let min = _mm_cvtss_f32(_mm_movehdup_ps(mins)) * Q::OFFSET.unwrap_or(1.0);
                    // SAFETY: guaranteed by the caller.
                    unsafe { *out.add(r) = sum_of(_mm256_add_ps(sums[0], sums[1])) + min };
                }
            }

            /// `M` activation rows.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn many<Q: X86, const M: usize>(
                rows: &[u8],
                count: usize,
                x: QRows<'_>,
                out: *mut f32,
                stride: usize,
            ) {
                let cols = x.q.len() / M;
                let row_bytes = cols / Q::N * Q::BYTES;
                let mut groups = Groups::new();
                let mut factor = Factors([[0.0; CHUNK / 16]; M]);
                for r in 0..count {
                    let mut sums = [_mm256_setzero_ps(); M];
                    let row = &rows[r * row_bytes..][..row_bytes];
                    for (chunk, bytes) in row.chunks(CHUNK / Q::N * Q::BYTES).enumerate() {
                        let (from, numbers) = (chunk * CHUNK, bytes.len() / Q::BYTES * Q::N);
                        // SAFETY: whole blocks of at most `CHUNK` elements, inside the activations.
                        unsafe {
                            Q::row_groups(bytes, &mut groups);
                            if numbers % (8 * Q::GROUP) == 0 {
                                factors::<Q, M>(&groups, x, from, numbers, &mut factor, &mut sums);
                            } else {
                                few_factors::<Q, M>(&groups, x, from, numbers, &mut factor, &mut sums);
                            }
                            dots::<Q, M>(bytes, &factor, x.q.as_ptr().add(from), cols, &mut sums);
                        }
                    }
                    for (m, sum) in sums.into_iter().enumerate() {
                        // SAFETY: guaranteed by the caller.
                        unsafe { *out.add(m * stride + r) = sum_of(sum) };
                    }
                }
            }

            /// `factors` for any number of groups.
            #[inline]
            #[target_feature(enable = $features)]
            fn few_factors<Q: X86, const M: usize>(
                groups: &Groups,
                x: QRows<'_>,
                from: usize,
                numbers: usize,
                factors: &mut Factors<M>,
                sums: &mut [__m256; M],
            ) {
                let row = x.q.len() / M / Q::GROUP;
                let (scales, xsums) = if Q::GROUP == 16 { (x.scale16, x.sum16) } else { (x.scale, x.sum) };
                for m in 0..M {
                    let at = m * row + from / Q::GROUP;
                    let mut sum = 0.0;
                    for g in 0..numbers / Q::GROUP {
                        factors.0[m][g] = groups.scale[g] * scales[at + g];
                        sum += groups.min[g] * xsums[at + g];
                    }
                    sums[m] = _mm256_add_ps(sums[m], _mm256_zextps128_ps256(_mm_set_ss(sum)));
                }
            }

            /// Adds the products of a chunk's bytes.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn dots<Q: X86, const M: usize>(
                bytes: &[u8],
                factors: &Factors<M>,
                x: *const i8,
                cols: usize,
                sums: &mut [__m256; M],
            ) {
                let parts = Q::N / BLOCK;
                // Two accumulators per row shorten the dependency chain of the additions.
                let mut other = [_mm256_setzero_ps(); M];
                for b in 0..bytes.len() / Q::BYTES {
                    for part in 0..parts {
                        let at = b * parts + part;
                        // SAFETY: block `b` and its part are inside `bytes`; the activations have as many elements.
                        let w = unsafe { Q::part(bytes.as_ptr().add(b * Q::BYTES), part) };
                        for m in 0..M {
                            // SAFETY: as above.
                            let x = unsafe { _mm256_loadu_si256(x.add(m * cols + at * BLOCK).cast()) };
                            let dot = _mm256_cvtepi32_ps($dot::<Q>(w, x));
                            let factor = if Q::GROUP == 16 {
                                let (low, high) = (factors.0[m][2 * at], factors.0[m][2 * at + 1]);
                                _mm256_insertf128_ps::<1>(_mm256_set1_ps(low), _mm_set1_ps(high))
                            } else {
                                _mm256_set1_ps(factors.0[m][at])
                            };
                            let sum = if part % 2 == 0 { &mut sums[m] } else { &mut other[m] };
                            *sum = _mm256_fmadd_ps(dot, factor, *sum);
                        }
                    }
                }
                for m in 0..M {
                    sums[m] = _mm256_add_ps(sums[m], other[m]);
                }
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", dot_avx2);
kernels!(avxvnni, "avx2,fma,f16c,avxvnni", dot_avxvnni);
kernels!(avx512vnni, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", dot_avx512vnni);

/// `out[r] = rows[r] · x` for a float type; `rows` has `out.len()` rows.
///
/// # Safety
/// The CPU must support AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn multiply_float(kind: GgmlType, rows: &[u8], x: &[f32], out: &mut [f32]) {
    let size = kind.block_bytes();
    let whole = x.len() / 32 * 32;
    for (row, out) in rows.chunks_exact(x.len() * size).zip(out) {
        let mut sums = [_mm256_setzero_ps(); 4];
        for k in (0..whole).step_by(32) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = k + 8 * i;
                // SAFETY: elements `at..at + 8` of the row and of `x`.
                unsafe {
                    let w = eight(kind, row[at * size..].as_ptr());
                    *sum = _mm256_fmadd_ps(_mm256_castsi256_ps(w), _mm256_loadu_ps(x[at..].as_ptr()), *sum);
                }
            }
        }
        let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let mut rest = [0.0; 32];
        dequantize::dequantize(kind, &row[whole * size..], &mut rest);
        let rest: f32 = x[whole..].iter().zip(rest).map(|(x, w)| x * w).sum();
        *out = sum_of(sum) + rest;
    }
}
