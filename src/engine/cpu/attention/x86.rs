//! Attention with AVX2 or AVX-512: a vector holds the scores of 8 or 16 keys, or as many dimensions of a value.
//!
//! Few queries (decode) convert the half-precision cache in registers; many queries (prefill) share one f32 copy of
//! each block of keys. The sums of `M` queries stay in registers.

use super::{KEY_BLOCK, Scratch, TILE, Task, begin, exp, mask};
use crate::engine::cpu::Isa;
use crate::engine::cpu::vectors::{ymm, zmm};

/// Minimum number of queries for which an f32 copy of the keys is cheaper than repeated conversions in registers.
const CONVERT_FROM: usize = 16;

/// SIMD version of `attend_plain`.
///
/// # Safety
/// The CPU must support `isa` (AVX2 at least); `task.head_dim` must be a multiple of 16.
pub(super) unsafe fn attend(isa: Isa, task: &Task<'_>, s: &mut Scratch) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match isa {
            Isa::Avx512 | Isa::Avx512Vnni => avx512::attend(task, s),
            _ => avx2::attend(task, s),
        }
    }
}

/// Whether some keys of the block are masked for query `m`.
#[inline]
fn is_cut(task: &Task<'_>, m: usize, from: usize, to: usize) -> bool {
    let position = task.position + m / task.group;
    to - from < KEY_BLOCK || to > position + 1 || task.window.is_some_and(|w| position + 1 - from > w)
}

macro_rules! kernels {
    ($name:ident, $features:literal, $v:ident) => {
        mod $name {
            use super::*;
            use $v::LANES;

            /// Queries whose sums are in registers.
            const QUERIES: usize = 8 / $v::HALVES;

            /// Vectors of keys or dimensions per iteration with `queries` queries: as many as the registers hold.
            const fn at_once(queries: usize) -> usize {
                if queries * $v::HALVES <= 4 { 4 } else { 2 }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn attend(task: &Task<'_>, s: &mut Scratch) {
                begin(task, s);
                let (d, queries) = (task.head_dim, task.rows * task.group);
                assert!(d % TILE == 0 && s.q.len() == queries * d && task.values.len() >= task.to * d);
                assert!(task.from.is_multiple_of(TILE) && task.keys.len() >= task.to.next_multiple_of(TILE) * d);
                let mut from = task.from;
                while from < task.to {
                    let to = (from + KEY_BLOCK).min(task.to);
                    let tiles = (to - from).div_ceil(TILE);
                    let (keys, values) = (&task.keys[from * d..][..tiles * TILE * d], &task.values[from * d..to * d]);
                    // SAFETY: lengths asserted above; queries, scores and sums have `queries` rows (`begin`).
                    unsafe {
                        if queries >= CONVERT_FROM {
                            to_floats(keys, &mut s.keys);
                            all_scores::<f32>(s.keys.as_ptr(), tiles, d, queries, &s.q, &mut s.scores);
                        } else {
                            all_scores::<u16>(keys.as_ptr(), tiles, d, queries, &s.q, &mut s.scores);
                        }
                    }
                    for m in 0..queries {
                        if is_cut(task, m, from, to) {
                            mask(task, m, &mut s.scores[m * KEY_BLOCK..(m + 1) * KEY_BLOCK], from, to);
                        }
                        soften(task, s, m);
                    }
                    // SAFETY: as above.
                    unsafe {
                        if queries >= CONVERT_FROM {
                            to_floats(values, &mut s.values);
                            weigh_all::<f32>(s.values.as_ptr(), to - from, d, queries, &s.scores, &mut s.acc);
                        } else {
                            weigh_all::<u16>(values.as_ptr(), to - from, d, queries, &s.scores, &mut s.acc);
                        }
                    }
                    from = to;
                }
            }

            /// SIMD version of the scalar `soften`.
            #[inline]
            #[target_feature(enable = $features)]
            fn soften(task: &Task<'_>, s: &mut Scratch, m: usize) {
                let scores = s.scores[m * KEY_BLOCK..(m + 1) * KEY_BLOCK].as_chunks_mut::<LANES>().0;
                let mut vectors = [$v::zero_float(); KEY_BLOCK / LANES];
                let mut largest = $v::set_float(s.max[m]);
                for (vector, scores) in vectors.iter_mut().zip(scores.iter()) {
                    // SAFETY: `LANES` scores.
                    *vector = unsafe { $v::load_floats(scores.as_ptr()) };
                    largest = $v::max_floats(largest, *vector);
                }
                let max = $v::largest(largest);
                if max == f32::NEG_INFINITY {
                    return scores.as_flattened_mut().fill(0.0);
                }
                let mut sum = $v::zero_float();
                for (vector, scores) in vectors.into_iter().zip(scores) {
                    let weight = exp_of($v::sub_floats(vector, $v::set_float(max)));
                    sum = $v::add_floats(sum, weight);
                    // SAFETY: `LANES` weights.
                    unsafe { $v::store_floats(scores.as_mut_ptr(), weight) };
                }
                let sum = $v::sum(sum);
                if max == s.max[m] {
                    s.sum[m] += sum;
                    return;
                }
                let shrink = exp(s.max[m] - max);
                s.sum[m] = s.sum[m] * shrink + sum;
                s.max[m] = max;
                for acc in s.acc[m * task.head_dim..(m + 1) * task.head_dim].as_chunks_mut::<LANES>().0 {
                    // SAFETY: `LANES` sums.
                    unsafe {
                        let shrunk = $v::mul($v::load_floats(acc.as_ptr()), $v::set_float(shrink));
                        $v::store_floats(acc.as_mut_ptr(), shrunk);
                    }
                }
            }

            /// `ops::exp` for arguments at or below zero.
            #[inline]
            #[target_feature(enable = $features)]
            fn exp_of(x: $v::Float) -> $v::Float {
                // Below -87 the scalar `exp` returns 0, this one 1e-38.
                let x = $v::max_floats(x, $v::set_float(-87.0));
                let n = $v::round($v::mul(x, $v::set_float(std::f32::consts::LOG2_E)));
                let r = $v::fnmadd(n, $v::set_float(0.693_359_4), x);
                let r = $v::fnmadd(n, $v::set_float(-2.121_944_4e-4), r);
                let mut p = $v::set_float(1.987_569_1e-4);
                for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
                    p = $v::fmadd(p, r, $v::set_float(coefficient));
                }
                let p = $v::fmadd($v::mul(p, r), r, $v::add_floats(r, $v::set_float(1.0)));
                $v::scale(p, n)
            }

            /// Element types that load as a vector of f32.
            trait Lanes: Copy {
                /// # Safety
                /// The CPU must support the features; `LANES` elements must be readable at `at`.
                unsafe fn load(at: *const Self) -> $v::Float;
            }

            impl Lanes for f32 {
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn load(at: *const Self) -> $v::Float {
                    // SAFETY: guaranteed by the caller.
                    unsafe { $v::load_floats(at) }
                }
            }

            impl Lanes for u16 {
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn load(at: *const Self) -> $v::Float {
                    // SAFETY: guaranteed by the caller.
                    unsafe { $v::load_halves(at) }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn to_floats(halves: &[u16], out: &mut [f32]) {
                for (halves, out) in halves.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
                    // SAFETY: both have `LANES` elements.
                    unsafe { $v::store_floats(out.as_mut_ptr(), u16::load(halves.as_ptr())) };
                }
            }

            /// Scores of all queries with the keys of `tiles` whole tiles.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn all_scores<K: Lanes>(
                keys: *const K,
                tiles: usize,
                d: usize,
                queries: usize,
                q: &[f32],
                scores: &mut [f32],
            ) {
                let vectors = tiles * (TILE / LANES);
                for m in (0..queries).step_by(QUERIES) {
                    let (q, out) = (q[m * d..].as_ptr(), scores[m * KEY_BLOCK..].as_mut_ptr());
                    // SAFETY: `min(QUERIES, queries - m)` rows of queries and scores; the caller guarantees the keys.
                    unsafe {
                        match QUERIES.min(queries - m) {
                            1 => scores_of::<K, 1, { at_once(1) }>(keys, vectors, d, q, out),
                            2 => scores_of::<K, 2, { at_once(2) }>(keys, vectors, d, q, out),
                            3 => scores_of::<K, 3, { at_once(3) }>(keys, vectors, d, q, out),
                            4 => scores_of::<K, 4, { at_once(4) }>(keys, vectors, d, q, out),
                            5 => scores_of::<K, 5, { at_once(5) }>(keys, vectors, d, q, out),
                            6 => scores_of::<K, 6, { at_once(6) }>(keys, vectors, d, q, out),
                            7 => scores_of::<K, 7, { at_once(7) }>(keys, vectors, d, q, out),
                            _ => scores_of::<K, 8, { at_once(8) }>(keys, vectors, d, q, out),
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn scores_of<K: Lanes, const M: usize, const T: usize>(
                keys: *const K,
                vectors: usize,
                d: usize,
                q: *const f32,
                out: *mut f32,
            ) {
                let mut at = 0;
                // SAFETY: `at + T <= vectors`, or `at < vectors`.
                unsafe {
                    while at + T <= vectors {
                        some_scores::<K, M, T>(keys, at, d, q, out);
                        at += T;
                    }
                    while at < vectors {
                        some_scores::<K, M, 1>(keys, at, d, q, out);
                        at += 1;
                    }
                }
            }

            /// Scores of `M` queries with the key vectors `from..from + T`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn some_scores<K: Lanes, const M: usize, const T: usize>(
                keys: *const K,
                from: usize,
                d: usize,
                q: *const f32,
                out: *mut f32,
            ) {
                let start: [*const K; T] = std::array::from_fn(|t| {
                    let first = (from + t) * LANES;
                    // SAFETY: address of the first dimension of these keys.
                    unsafe { keys.add(first / TILE * d * TILE + first % TILE) }
                });
                let mut sums = [[$v::zero_float(); M]; T];
                for e in 0..d {
                    let mut key = [$v::zero_float(); T];
                    for (key, start) in key.iter_mut().zip(start) {
                        // SAFETY: dimension `e` of the tile.
                        *key = unsafe { K::load(start.add(e * TILE)) };
                    }
                    for m in 0..M {
                        // SAFETY: dimension `e` of query `m`.
                        let q = $v::set_float(unsafe { *q.add(m * d + e) });
                        for t in 0..T {
                            sums[t][m] = $v::fmadd(q, key[t], sums[t][m]);
                        }
                    }
                }
                for (t, sums) in sums.into_iter().enumerate() {
                    for (m, sum) in sums.into_iter().enumerate() {
                        // SAFETY: `M` rows of `KEY_BLOCK` scores, which include these keys.
                        unsafe { $v::store_floats(out.add(m * KEY_BLOCK + (from + t) * LANES), sum) };
                    }
                }
            }

            /// Adds the weighted values of `count` keys to the sums of all queries.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn weigh_all<K: Lanes>(
                values: *const K,
                count: usize,
                d: usize,
                queries: usize,
                weights: &[f32],
                acc: &mut [f32],
            ) {
                for m in (0..queries).step_by(4) {
                    let (weights, acc) = (weights[m * KEY_BLOCK..].as_ptr(), acc[m * d..].as_mut_ptr());
                    // SAFETY: `min(4, queries - m)` rows of weights and sums; the caller guarantees the values.
                    unsafe {
                        match queries - m {
                            1 => weigh_dimensions::<K, 1, { at_once(1) }>(values, count, d, weights, acc),
                            2 => weigh_dimensions::<K, 2, { at_once(2) }>(values, count, d, weights, acc),
                            3 => weigh_dimensions::<K, 3, { at_once(3) }>(values, count, d, weights, acc),
                            _ => weigh_dimensions::<K, 4, { at_once(4) }>(values, count, d, weights, acc),
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn weigh_dimensions<K: Lanes, const M: usize, const V: usize>(
                values: *const K,
                count: usize,
                d: usize,
                weights: *const f32,
                acc: *mut f32,
            ) {
                let mut e = 0;
                // SAFETY: dimensions `e..e + V * LANES` or `e..e + LANES` are below `d`.
                unsafe {
                    while e + V * LANES <= d {
                        weigh::<K, M, V>(values.add(e), count, d, weights, acc.add(e));
                        e += V * LANES;
                    }
                    while e < d {
                        weigh::<K, M, 1>(values.add(e), count, d, weights, acc.add(e));
                        e += LANES;
                    }
                }
            }

            /// Weighted sum for `M` queries and `V` vectors of dimensions.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn weigh<K: Lanes, const M: usize, const V: usize>(
                values: *const K,
                count: usize,
                d: usize,
                weights: *const f32,
                acc: *mut f32,
            ) {
                let mut sums = [[$v::zero_float(); V]; M];
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: row `m` of the sums.
                        *sum = unsafe { $v::load_floats(acc.add(m * d + v * LANES)) };
                    }
                }
                for j in 0..count {
                    let mut value = [$v::zero_float(); V];
                    for (v, value) in value.iter_mut().enumerate() {
                        // SAFETY: key `j` of the block.
                        *value = unsafe { K::load(values.add(j * d + v * LANES)) };
                    }
                    for m in 0..M {
                        // SAFETY: weight `j` of query `m`.
                        let w = $v::set_float(unsafe { *weights.add(m * KEY_BLOCK + j) });
                        for v in 0..V {
                            sums[m][v] = $v::fmadd(w, value[v], sums[m][v]);
                        }
                    }
                }
                for (m, sums) in sums.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        // SAFETY: row `m` of the sums.
                        unsafe { $v::store_floats(acc.add(m * d + v * LANES), sum) };
                    }
                }
            }
        }
    };
}

kernels!(avx2, "avx2,fma,f16c", ymm);
kernels!(avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", zmm);
