//! The input of matrix products: f32 rows, quantised once for all matrices that read them.

use super::isa::for_each_isa;
use super::{GgmlType, Threads};

/// Elements per scale.
pub(super) const BLOCK: usize = 32;

/// A batch of rows, copied in by [`Activations::set`]. The first product with a quantised matrix quantises them to
/// 8 bits; later products with the same input (query, key and value; gate and up) reuse that form.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    floats: Vec<f32>,
    quantised: Quantised,
    is_quantised: bool,
}

/// Rows as signed bytes, one scale per 32 elements (as in Q8_0: largest magnitude / 127).
#[derive(Default)]
pub(super) struct Quantised {
    /// `rows * cols` signed bytes.
    pub q: Vec<i8>,
    /// `rows * cols / 32` scales.
    pub scale: Vec<f32>,
    /// The same scales, each stored twice: one per 16 elements.
    pub scale16: Vec<f32>,
    /// `rows * cols / 32` sums of the dequantised elements (scale included).
    pub sum: Vec<f32>,
    /// The same sums per 16 elements.
    pub sum16: Vec<f32>,
    /// Scale and sum of each 32 elements, interleaved.
    pub pair: Vec<[f32; 2]>,
}

/// A borrowed range of [`Quantised`]: one or more rows.
#[derive(Clone, Copy)]
pub(super) struct QRows<'a> {
    pub q: &'a [i8],
    pub scale: &'a [f32],
    pub scale16: &'a [f32],
    pub sum: &'a [f32],
    pub sum16: &'a [f32],
    pub pair: &'a [[f32; 2]],
}

impl Quantised {
    fn resize(&mut self, len: usize) {
        self.q.resize(len, 0);
        self.scale.resize(len / BLOCK, 0.0);
        self.scale16.resize(len / 16, 0.0);
        self.sum.resize(len / BLOCK, 0.0);
        self.sum16.resize(len / 16, 0.0);
        self.pair.resize(len / BLOCK, [0.0; 2]);
    }

    /// Elements `start..end` of the concatenated rows.
    pub(super) fn range(&self, start: usize, end: usize) -> QRows<'_> {
        QRows {
            q: &self.q[start..end],
            scale: &self.scale[start / BLOCK..end / BLOCK],
            scale16: &self.scale16[start / 16..end / 16],
            sum: &self.sum[start / BLOCK..end / BLOCK],
            sum16: &self.sum16[start / 16..end / 16],
            pair: &self.pair[start / BLOCK..end / BLOCK],
        }
    }
}

impl Activations {
    /// An empty batch. Its buffers grow to the largest batch so far and are never shrunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies `rows` rows of `cols` elements.
    ///
    /// # Panics
    /// If `x.len() != rows * cols`.
    pub fn set(&mut self, pool: &Threads, x: &[f32], rows: usize, cols: usize) {
        assert_eq!(x.len(), rows * cols, "activations are rows x cols");
        let _ = pool;
        (self.rows, self.cols, self.is_quantised) = (rows, cols, false);
        self.floats.clear();
        self.floats.extend_from_slice(x);
    }

    /// Rows in the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Quantises the batch if matrices of `kind` read bytes and it is not quantised yet.
    pub(super) fn prepare(&mut self, pool: &Threads, kind: GgmlType) {
        if !kind.is_quantised() || self.is_quantised {
            return;
        }
        self.quantised.resize(self.rows * self.cols);
        let out = OutPointers::of(&mut self.quantised);
        let floats = &self.floats;
        let body = |start: usize, end: usize| {
            // SAFETY: `split` returns disjoint ranges inside the buffers, in whole blocks.
            let out = unsafe { out.range(start, end) };
            quantise(pool.isa(), &floats[start..end], out);
        };
        if self.rows == 1 {
            body(0, floats.len())
        } else {
            pool.split(floats.len(), 16 * BLOCK, &body)
        }
        self.is_quantised = true;
    }

    pub(super) fn floats(&self) -> &[f32] {
        &self.floats
    }

    pub(super) fn quantised(&self) -> &Quantised {
        &self.quantised
    }
}

/// Raw pointers into [`Quantised`], through which threads write disjoint ranges.
struct OutPointers {
    q: *mut i8,
    scale: *mut f32,
    scale16: *mut f32,
    sum: *mut f32,
    sum16: *mut f32,
    pair: *mut [f32; 2],
}

/// A mutable range of [`Quantised`].
struct QRowsMut<'a> {
    q: &'a mut [i8],
    scale: &'a mut [f32],
    scale16: &'a mut [f32],
    sum: &'a mut [f32],
    sum16: &'a mut [f32],
    pair: &'a mut [[f32; 2]],
}

// SAFETY: only disjoint ranges are written through it (see `OutPointers::range`).
unsafe impl Sync for OutPointers {}

impl OutPointers {
    fn of(out: &mut Quantised) -> Self {
        Self {
            q: out.q.as_mut_ptr(),
            scale: out.scale.as_mut_ptr(),
            scale16: out.scale16.as_mut_ptr(),
            sum: out.sum.as_mut_ptr(),
            sum16: out.sum16.as_mut_ptr(),
            pair: out.pair.as_mut_ptr(),
        }
    }

    /// # Safety
    /// `start..end` must be whole blocks inside the buffers, and no other live range may overlap it.
    unsafe fn range(&self, start: usize, end: usize) -> QRowsMut<'_> {
        let n = end - start;
        // SAFETY: guaranteed by the caller.
        unsafe {
            QRowsMut {
                q: std::slice::from_raw_parts_mut(self.q.add(start), n),
                scale: std::slice::from_raw_parts_mut(self.scale.add(start / BLOCK), n / BLOCK),
                scale16: std::slice::from_raw_parts_mut(self.scale16.add(start / 16), n / 16),
                sum: std::slice::from_raw_parts_mut(self.sum.add(start / BLOCK), n / BLOCK),
                sum16: std::slice::from_raw_parts_mut(self.sum16.add(start / 16), n / 16),
                pair: std::slice::from_raw_parts_mut(self.pair.add(start / BLOCK), n / BLOCK),
            }
        }
    }
}

for_each_isa! {
    /// Quantises whole blocks of 32 elements.
    fn quantise(isa, x: &[f32], out: QRowsMut<'_>) = quantise_blocks
}

#[inline(always)]
fn quantise_blocks(x: &[f32], out: QRowsMut<'_>) {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    for (b, (x, q)) in x.chunks_exact(BLOCK).zip(out.q.chunks_exact_mut(BLOCK)).enumerate() {
        let mut lanes = [0f32; 16];
        for i in 0..16 {
            lanes[i] = x[i].abs().max(x[i + 16].abs());
        }
        let largest = lanes.iter().fold(0f32, |a, &b| a.max(b));
        let d = largest / 127.0;
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        let mut sums = [0i32; 2];
        for half in 0..2 {
            for i in 16 * half..16 * half + 16 {
                let rounded = (x[i] * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
                let byte = rounded as i8;
                q[i] = byte;
                sums[half] += i32::from(byte);
            }
        }
        out.scale[b] = d;
        out.scale16[2 * b..2 * b + 2].fill(d);
        out.sum16[2 * b] = d * sums[0] as f32;
        out.sum16[2 * b + 1] = d * sums[1] as f32;
        out.sum[b] = d * (sums[0] + sums[1]) as f32;
        out.pair[b] = [d, out.sum[b]];
    }
}
