//! Causal attention on the KV cache, without copies of keys or values, for decode (one query) and prefill (many).
//!
//! Online softmax (FlashAttention, arXiv 2205.14135): each query keeps a running maximum, a running sum and the
//! weighted sum of values so far. For one query over many keys, the keys are split among threads and joined at the end.

use std::cell::RefCell;

use super::half::f16_to_f32;
use super::isa::for_each_isa;
use super::kv_cache::TILE;
use super::ops::exp;
use super::{Isa, KvCache, Threads};

#[cfg(target_arch = "x86_64")]
mod x86;

/// Parameters of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads; a multiple of the cache's KV heads.
    pub heads: usize,
    /// Factor on the scores (usually 1/√head size).
    pub scale: f32,
    /// Positions that a query attends to, its own included; `None`: all up to its own.
    pub window: Option<usize>,
}

/// Keys per iteration: as f32 they fit in the L1 cache.
const KEY_BLOCK: usize = 64;
/// Minimum keys per split: below it the join costs more than the split saves.
const SPLIT_KEYS: usize = 256;
/// Query rows that share one conversion of the keys.
const ROW_BLOCK: usize = 16;

/// Attention of the queries at `position..position + rows`. Their own keys and values must be in the cache already.
/// `q` and `out` are rows × heads × head size.
///
/// # Panics
/// If lengths or heads are inconsistent, or a position is out of range.
pub fn attention(
    pool: &Threads,
    shape: &AttentionShape,
    cache: &KvCache,
    layer: usize,
    q: &[f32],
    position: usize,
    out: &mut [f32],
) {
    let width = shape.heads * cache.head_dim();
    let rows = q.len() / width;
    assert!(q.len() == rows * width && out.len() == q.len(), "queries and output are whole rows of heads");
    assert!(shape.heads.is_multiple_of(cache.heads()), "query heads are a multiple of KV heads");
    assert!(position + rows <= cache.capacity(), "the KV cache holds these positions");
    if rows == 0 {
        return;
    }
    let (keys, values) = (|h| cache.keys(layer, h), |h| cache.values(layer, h));
    let group = shape.heads / cache.heads();
    let output = Output(out.as_mut_ptr());
    let blocks = rows.div_ceil(ROW_BLOCK);
    let first = shape.window.map_or(0, |w| (position + 1).saturating_sub(w)) / TILE * TILE;
    let splits = if rows == 1 { key_splits(pool.n(), cache.heads(), position + 1 - first) } else { 1 };
    let partial = Partials::new(if splits > 1 { cache.heads() * splits * group } else { 0 }, cache.head_dim());
    pool.run(cache.heads() * blocks * splits, &|part| {
        // The last rows have the most keys: schedule them first, so that no long part starts at the end.
        let (head, rest) = (part % cache.heads(), part / cache.heads());
        let (block, split) = (blocks - 1 - rest / splits, rest % splits);
        let row0 = block * ROW_BLOCK;
        let row1 = (row0 + ROW_BLOCK).min(rows);
        let from = shape.window.map_or(0, |w| (position + row0 + 1).saturating_sub(w)) / TILE * TILE;
        let to = position + row1;
        let step = split_step(to - from, splits);
        let task = Task {
            q: &q[row0 * width..row1 * width],
            width,
            head_offset: head * group * cache.head_dim(),
            group,
            head_dim: cache.head_dim(),
            rows: row1 - row0,
            position: position + row0,
            keys: keys(head),
            values: values(head),
            from: (from + split * step).min(to),
            to: (from + (split + 1) * step).min(to),
            scale: shape.scale,
            window: shape.window,
        };
        SCRATCH.with_borrow_mut(|scratch| {
            attend(pool.isa(), &task, scratch);
            let first = (head * splits + split) * group;
            // SAFETY: each part writes its own heads and rows of the output, or its own partials.
            unsafe {
                if splits > 1 { partial.store(first, scratch) } else { output.store(row0 * width, &task, scratch) }
            }
        });
    });
    if splits > 1 {
        partial.join(cache.heads(), splits, group, out);
    }
}

/// Number of splits for the `keys` of one query, each of which has at least one key.
fn key_splits(threads: usize, heads: usize, keys: usize) -> usize {
    let most = keys.div_ceil(SPLIT_KEYS);
    // Four parts per thread balance the load.
    let wanted = most.min((threads * 4).div_ceil(heads)).max(1);
    keys.div_ceil(split_step(keys, wanted)).max(1)
}

/// Keys of each of `splits` splits, but for the last: whole blocks.
fn split_step(keys: usize, splits: usize) -> usize {
    keys.div_ceil(splits).next_multiple_of(KEY_BLOCK).max(KEY_BLOCK)
}

/// A range of queries of one KV head, and a range of keys.
struct Task<'a> {
    /// Query rows of all heads; this KV head's part of a row starts at `head_offset`.
    q: &'a [f32],
    width: usize,
    head_offset: usize,
    group: usize,
    head_dim: usize,
    rows: usize,
    /// Position of the first row.
    position: usize,
    keys: &'a [u16],
    values: &'a [u16],
    /// First key, a multiple of `TILE`; keys are `from..to`.
    from: usize,
    to: usize,
    scale: f32,
    window: Option<usize>,
}

/// Buffers of one thread. Query `m` is row `m / group`, head `m % group` of the task.
#[derive(Default)]
struct Scratch {
    /// Scaled queries, `[m][d]`.
    q: Vec<f32>,
    /// Keys of a block as f32, `[tile][d][16]`.
    keys: Vec<f32>,
    /// Values of a block as f32, `[key][d]`.
    values: Vec<f32>,
    /// Scores, overwritten by softmax weights, `[m][key]`.
    scores: Vec<f32>,
    /// Weighted sum of values so far, `[m][d]`.
    acc: Vec<f32>,
    /// Running maximum of the scores, `[m]`.
    max: Vec<f32>,
    /// Running sum of the weights, `[m]`.
    sum: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn attend(isa: Isa, task: &Task<'_>, scratch: &mut Scratch) {
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Plain && task.head_dim.is_multiple_of(TILE) {
        // SAFETY: the pool's `Isa` is supported by the CPU; the head size was checked.
        return unsafe { x86::attend(isa, task, scratch) };
    }
    attend_generic(isa, task, scratch);
}

for_each_isa! {
    fn attend_generic(isa, task: &Task<'_>, scratch: &mut Scratch) = attend_plain
}

#[inline(always)]
fn attend_plain(task: &Task<'_>, s: &mut Scratch) {
    begin(task, s);
    let mut from = task.from;
    while from < task.to {
        let to = (from + KEY_BLOCK).min(task.to);
        convert(task, s, from, to);
        scores(task, s, to - from);
        for m in 0..task.rows * task.group {
            mask(task, m, &mut s.scores[m * KEY_BLOCK..(m + 1) * KEY_BLOCK], from, to);
            soften(task, s, m);
        }
        weigh(task, s, to - from);
        from = to;
    }
}

/// Resizes the buffers and copies the queries, scaled.
#[inline(always)]
fn begin(task: &Task<'_>, s: &mut Scratch) {
    let (m, d) = (task.rows * task.group, task.head_dim);
    s.q.clear();
    for row in task.q.chunks_exact(task.width) {
        let mine = &row[task.head_offset..task.head_offset + task.group * d];
        s.q.extend(mine.iter().map(|x| x * task.scale));
    }
    s.keys.resize(KEY_BLOCK * d, 0.0);
    s.values.resize(KEY_BLOCK * d, 0.0);
    s.scores.resize(m * KEY_BLOCK, 0.0);
    s.acc.clear();
    s.acc.resize(m * d, 0.0);
    s.max.clear();
    s.max.resize(m, f32::NEG_INFINITY);
    s.sum.clear();
    s.sum.resize(m, 0.0);
}

/// Converts keys and values `from..to` to f32.
#[inline(always)]
fn convert(task: &Task<'_>, s: &mut Scratch, from: usize, to: usize) {
    let d = task.head_dim;
    let end = to.next_multiple_of(TILE);
    for (out, &x) in s.keys.iter_mut().zip(&task.keys[from * d..end * d]) {
        *out = f16_to_f32(x);
    }
    for (out, &x) in s.values.iter_mut().zip(&task.values[from * d..to * d]) {
        *out = f16_to_f32(x);
    }
}

/// Scores of all queries with `count` keys, rounded up to whole tiles.
#[inline(always)]
fn scores(task: &Task<'_>, s: &mut Scratch, count: usize) {
    let d = task.head_dim;
    for (t, tile) in s.keys.chunks_exact(TILE * d).enumerate().take(count.div_ceil(TILE)) {
        let (tile, _) = tile.as_chunks::<TILE>();
        for (m, q) in s.q.chunks_exact(d).enumerate() {
            let mut lanes = [0f32; TILE];
            for (q, keys) in q.iter().zip(tile) {
                for i in 0..TILE {
                    lanes[i] += q * keys[i];
                }
            }
            s.scores[m * KEY_BLOCK + t * TILE..][..TILE].copy_from_slice(&lanes);
        }
    }
}

/// Sets the masked scores of query `m` to -∞: keys after it, before its window, and past the end of the block.
#[inline(always)]
fn mask(task: &Task<'_>, m: usize, scores: &mut [f32], from: usize, to: usize) {
    let position = task.position + m / task.group;
    let first = task.window.map_or(0, |w| (position + 1).saturating_sub(w));
    let low = first.saturating_sub(from).min(KEY_BLOCK);
    let high = (position + 1).min(to).saturating_sub(from);
    scores[..low].fill(f32::NEG_INFINITY);
    scores[high..].fill(f32::NEG_INFINITY);
}

/// Online softmax step of query `m`: scores become weights relative to the new maximum; earlier sums are rescaled.
#[inline(always)]
fn soften(task: &Task<'_>, s: &mut Scratch, m: usize) {
    let scores = &mut s.scores[m * KEY_BLOCK..(m + 1) * KEY_BLOCK];
    let mut largest = [s.max[m]; TILE];
    for chunk in scores.as_chunks::<TILE>().0 {
        for i in 0..TILE {
            largest[i] = if chunk[i] > largest[i] { chunk[i] } else { largest[i] };
        }
    }
    let max = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if max == f32::NEG_INFINITY {
        scores.fill(0.0);
        return;
    }
    let mut sums = [0f32; TILE];
    for chunk in scores.as_chunks_mut::<TILE>().0 {
        for i in 0..TILE {
            chunk[i] = exp(chunk[i] - max);
            sums[i] += chunk[i];
        }
    }
    let shrink = exp(s.max[m] - max);
    s.sum[m] = s.sum[m] * shrink + sums.iter().sum::<f32>();
    s.max[m] = max;
    if shrink != 1.0 {
        for x in &mut s.acc[m * task.head_dim..(m + 1) * task.head_dim] {
            *x *= shrink;
        }
    }
}

/// Adds the weighted values of `count` keys.
#[inline(always)]
fn weigh(task: &Task<'_>, s: &mut Scratch, count: usize) {
    let d = task.head_dim;
    for (m, acc) in s.acc.chunks_exact_mut(d).enumerate() {
        let weights = &s.scores[m * KEY_BLOCK..][..count];
        for (&w, value) in weights.iter().zip(s.values.chunks_exact(d)) {
            for (acc, &v) in acc.iter_mut().zip(value) {
                *acc += w * v;
            }
        }
    }
}

/// Pointer to the output; parts write disjoint rows and heads.
struct Output(*mut f32);

// SAFETY: `Output::store` requires disjoint writes.
unsafe impl Sync for Output {}

impl Output {
    /// Normalises the rows and writes them, the first at `start`.
    ///
    /// # Safety
    /// The output must contain the task's rows there, and nothing else may access this head's part of them.
    unsafe fn store(&self, start: usize, task: &Task<'_>, s: &Scratch) {
        let n = task.group * task.head_dim;
        for (i, acc) in s.acc.chunks_exact(n).enumerate() {
            let at = start + i * task.width + task.head_offset;
            // SAFETY: guaranteed by the caller.
            let out = unsafe { std::slice::from_raw_parts_mut(self.0.add(at), n) };
            for (g, (out, acc)) in out.chunks_exact_mut(task.head_dim).zip(acc.chunks_exact(task.head_dim)).enumerate()
            {
                let inverse = 1.0 / s.sum[i * task.group + g];
                out.iter_mut().zip(acc).for_each(|(out, &x)| *out = x * inverse);
            }
        }
    }
}

/// Results of one query's heads per key split, not yet normalised: weighted values, then maximum and sum.
struct Partials {
    data: std::cell::UnsafeCell<Vec<f32>>,
    head_dim: usize,
}

// SAFETY: `Partials::store` requires disjoint writes; `join` takes `self` by value.
unsafe impl Sync for Partials {}

impl Partials {
    fn new(slots: usize, head_dim: usize) -> Self {
        Self { data: std::cell::UnsafeCell::new(vec![0.0; slots * (head_dim + 2)]), head_dim }
    }

    /// # Safety
    /// Nothing else may access the slots from `first` on, one for each query in the scratch.
    unsafe fn store(&self, first: usize, s: &Scratch) {
        let size = self.head_dim + 2;
        // SAFETY: only the address is taken; the vector itself is not resized while parts run.
        let data = unsafe { (*self.data.get()).as_mut_ptr() };
        for (m, acc) in s.acc.chunks_exact(self.head_dim).enumerate() {
            // SAFETY: guaranteed by the caller; `new` allocated all slots.
            let slot = unsafe { std::slice::from_raw_parts_mut(data.add((first + m) * size), size) };
            slot[..self.head_dim].copy_from_slice(acc);
            slot[self.head_dim] = s.max[m];
            slot[self.head_dim + 1] = s.sum[m];
        }
    }

    /// Merges the splits into one normalised row of heads.
    fn join(self, heads: usize, splits: usize, group: usize, out: &mut [f32]) {
        let (d, size) = (self.head_dim, self.head_dim + 2);
        let data = self.data.into_inner();
        let slot = |head: usize, split: usize, g: usize| &data[((head * splits + split) * group + g) * size..][..size];
        for head in 0..heads {
            for g in 0..group {
                let max = (0..splits).fold(f32::NEG_INFINITY, |a, split| a.max(slot(head, split, g)[d]));
                let out = &mut out[(head * group + g) * d..][..d];
                out.fill(0.0);
                let mut sum = 0.0;
                for part in (0..splits).map(|split| slot(head, split, g)) {
                    let factor = exp(part[d] - max);
                    sum += factor * part[d + 1];
                    out.iter_mut().zip(part).for_each(|(out, &x)| *out += factor * x);
                }
                out.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_has_a_key_and_begins_at_a_tile() {
        for threads in [1, 2, 3, 4, 8, 16, 24, 32, 128] {
            for heads in [1, 2, 3, 8, 32] {
                for keys in (1..5000).chain([8193, 30_001, 131_072]) {
                    let splits = key_splits(threads, heads, keys);
                    let step = split_step(keys, splits);
                    assert!(step.is_multiple_of(TILE) && splits * step >= keys, "{threads} {heads} {keys}");
                    assert!((splits - 1) * step < keys, "{threads} {heads} {keys}: the last of {splits} is empty");
                }
            }
        }
    }
}
