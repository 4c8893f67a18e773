//! Attention with AVX-512: scores of 16 keys a vector, and 16 dimensions of values a vector.
//!
//! Few queries (a step) read the cache's half-precision numbers directly; many (a prefill) share one conversion of
//! each block of keys. `M` queries at a time keep their sums in registers.

use std::arch::x86_64::*;

use super::{KEY_BLOCK, Scratch, TILE, Task, begin, exp, mask};

/// Queries from which one conversion of the keys for all of them is cheaper than one for each eight.
const CONVERT_FROM: usize = 16;

/// What `attend_plain` does.
///
/// # Safety
/// The processor must have what `Isa::Avx512` names; `task.head_dim` must be a multiple of 16.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
        // SAFETY: the lengths above; queries, scores and sums have `queries` rows (`begin`).
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

/// Whether query `m` must not see all keys of the block.
#[inline]
fn is_cut(task: &Task<'_>, m: usize, from: usize, to: usize) -> bool {
    let position = task.position + m / task.group;
    to - from < KEY_BLOCK || to > position + 1 || task.window.is_some_and(|w| position + 1 - from > w)
}

/// What `soften` of the plain twin does.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn soften(task: &Task<'_>, s: &mut Scratch, m: usize) {
    let scores = s.scores[m * KEY_BLOCK..(m + 1) * KEY_BLOCK].as_chunks_mut::<TILE>().0;
    let mut vectors = [_mm512_setzero_ps(); KEY_BLOCK / TILE];
    let mut largest = _mm512_set1_ps(s.max[m]);
    for (vector, scores) in vectors.iter_mut().zip(scores.iter()) {
        // SAFETY: sixteen scores.
        *vector = unsafe { _mm512_loadu_ps(scores.as_ptr()) };
        largest = _mm512_max_ps(largest, *vector);
    }
    let max = _mm512_reduce_max_ps(largest);
    if max == f32::NEG_INFINITY {
        return scores.as_flattened_mut().fill(0.0);
    }
    let mut sum = _mm512_setzero_ps();
    for (vector, scores) in vectors.into_iter().zip(scores) {
        let weight = exp_of(_mm512_sub_ps(vector, _mm512_set1_ps(max)));
        sum = _mm512_add_ps(sum, weight);
        // SAFETY: sixteen weights.
        unsafe { _mm512_storeu_ps(scores.as_mut_ptr(), weight) };
    }
    let sum = _mm512_reduce_add_ps(sum);
    if max == s.max[m] {
        s.sum[m] += sum;
        return;
    }
    let shrink = exp(s.max[m] - max);
    s.sum[m] = s.sum[m] * shrink + sum;
    s.max[m] = max;
    for acc in s.acc[m * task.head_dim..(m + 1) * task.head_dim].as_chunks_mut::<TILE>().0 {
        // SAFETY: sixteen sums.
        unsafe {
            let shrunk = _mm512_mul_ps(_mm512_loadu_ps(acc.as_ptr()), _mm512_set1_ps(shrink));
            _mm512_storeu_ps(acc.as_mut_ptr(), shrunk);
        }
    }
}

/// `ops::exp` of sixteen numbers at or below zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp_of(x: __m512) -> __m512 {
    let set = |x: f32| _mm512_set1_ps(x);
    let x = _mm512_max_ps(x, set(-104.0));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, set(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, set(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, set(-2.121_944_4e-4), r);
    let mut p = set(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = _mm512_fmadd_ps(p, r, set(coefficient));
    }
    let p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, set(1.0)));
    _mm512_scalef_ps(p, n)
}

/// Sixteen numbers from memory, converted where they are halves.
trait Lanes: Copy {
    /// # Safety
    /// AVX-512; 16 numbers must be readable at `at`.
    unsafe fn load(at: *const Self) -> __m512;
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's condition.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Lanes for u16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's condition.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_floats(halves: &[u16], out: &mut [f32]) {
    for (halves, out) in halves.as_chunks::<TILE>().0.iter().zip(out.as_chunks_mut::<TILE>().0) {
        // SAFETY: both have 16 numbers.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), u16::load(halves.as_ptr())) };
    }
}

/// Scores of all queries with the keys of whole tiles.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn all_scores<K: Lanes>(keys: *const K, tiles: usize, d: usize, queries: usize, q: &[f32], scores: &mut [f32]) {
    for m in (0..queries).step_by(8) {
        let (q, out) = (q[m * d..].as_ptr(), scores[m * KEY_BLOCK..].as_mut_ptr());
        // SAFETY: `min(8, queries - m)` queries and rows of scores lie there; keys as the caller says.
        unsafe {
            match queries - m {
                1 => tiles_of::<K, 1, 4>(keys, tiles, d, q, out),
                2 => tiles_of::<K, 2, 4>(keys, tiles, d, q, out),
                3 => tiles_of::<K, 3, 4>(keys, tiles, d, q, out),
                4 => tiles_of::<K, 4, 4>(keys, tiles, d, q, out),
                5 => tiles_of::<K, 5, 2>(keys, tiles, d, q, out),
                6 => tiles_of::<K, 6, 2>(keys, tiles, d, q, out),
                7 => tiles_of::<K, 7, 2>(keys, tiles, d, q, out),
                _ => tiles_of::<K, 8, 2>(keys, tiles, d, q, out),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn tiles_of<K: Lanes, const M: usize, const T: usize>(
    keys: *const K,
    tiles: usize,
    d: usize,
    q: *const f32,
    out: *mut f32,
) {
    let mut t = 0;
    // SAFETY: tiles `t..t + T` are among the caller's.
    unsafe {
        while t + T <= tiles {
            some_tiles::<K, M, T>(keys.add(t * TILE * d), d, q, out.add(t * TILE));
            t += T;
        }
        while t < tiles {
            some_tiles::<K, M, 1>(keys.add(t * TILE * d), d, q, out.add(t * TILE));
            t += 1;
        }
    }
}

/// `M` queries with `T` tiles of keys.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn some_tiles<K: Lanes, const M: usize, const T: usize>(keys: *const K, d: usize, q: *const f32, out: *mut f32) {
    let mut sums = [[_mm512_setzero_ps(); M]; T];
    for e in 0..d {
        let mut key = [_mm512_setzero_ps(); T];
        for (t, key) in key.iter_mut().enumerate() {
            // SAFETY: dimension `e` of tile `t`.
            *key = unsafe { K::load(keys.add((t * d + e) * TILE)) };
        }
        for m in 0..M {
            // SAFETY: dimension `e` of query `m`.
            let q = _mm512_set1_ps(unsafe { *q.add(m * d + e) });
            for t in 0..T {
                sums[t][m] = _mm512_fmadd_ps(q, key[t], sums[t][m]);
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (m, sum) in sums.into_iter().enumerate() {
            // SAFETY: `M` rows of `KEY_BLOCK` scores; tile `t` lies in them.
            unsafe { _mm512_storeu_ps(out.add(m * KEY_BLOCK + t * TILE), sum) };
        }
    }
}

/// Adds the weighted values of `count` keys to all queries' sums.
#[inline]
#[target_feature(enable = "avx512f")]
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
        // SAFETY: `min(4, queries - m)` rows of weights and sums lie there; values as the caller says.
        unsafe {
            match queries - m {
                1 => weigh_dimensions::<K, 1>(values, count, d, weights, acc),
                2 => weigh_dimensions::<K, 2>(values, count, d, weights, acc),
                3 => weigh_dimensions::<K, 3>(values, count, d, weights, acc),
                _ => weigh_dimensions::<K, 4>(values, count, d, weights, acc),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn weigh_dimensions<K: Lanes, const M: usize>(
    values: *const K,
    count: usize,
    d: usize,
    weights: *const f32,
    acc: *mut f32,
) {
    let mut e = 0;
    // SAFETY: dimensions `e..e + 64` or `e..e + 16` are below `d`.
    unsafe {
        while e + 4 * TILE <= d {
            weigh::<K, M, 4>(values.add(e), count, d, weights, acc.add(e));
            e += 4 * TILE;
        }
        while e < d {
            weigh::<K, M, 1>(values.add(e), count, d, weights, acc.add(e));
            e += TILE;
        }
    }
}

/// `M` queries, `16 * V` dimensions.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn weigh<K: Lanes, const M: usize, const V: usize>(
    values: *const K,
    count: usize,
    d: usize,
    weights: *const f32,
    acc: *mut f32,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    for (m, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: row `m` of the sums.
            *sum = unsafe { _mm512_loadu_ps(acc.add(m * d + v * TILE)) };
        }
    }
    for j in 0..count {
        let mut value = [_mm512_setzero_ps(); V];
        for (v, value) in value.iter_mut().enumerate() {
            // SAFETY: key `j` of the block.
            *value = unsafe { K::load(values.add(j * d + v * TILE)) };
        }
        for m in 0..M {
            // SAFETY: weight `j` of query `m`.
            let w = _mm512_set1_ps(unsafe { *weights.add(m * KEY_BLOCK + j) });
            for v in 0..V {
                sums[m][v] = _mm512_fmadd_ps(w, value[v], sums[m][v]);
            }
        }
    }
    for (m, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: row `m` of the sums.
            unsafe { _mm512_storeu_ps(acc.add(m * d + v * TILE), sum) };
        }
    }
}
