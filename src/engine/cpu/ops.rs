//! Row-wise f32 operations between matrix products: norms, RoPE, gated activations. Large inputs run in parallel.

use super::Threads;
use super::isa::for_each_isa;

/// Which elements of a head RoPE rotates as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Adjacent elements: 2i and 2i + 1 (GGUF's `llama`).
    Norm,
    /// Halves: i and i + d/2 (Hugging Face, GPT-NeoX).
    Neox,
}

/// Elements below which waking the other threads costs more than it saves.
const SHARE_FROM: usize = 16 * 1024;

/// A buffer of which threads write disjoint rows.
struct Rows(*mut f32);

// SAFETY: `share_rows`, its only user, creates disjoint ranges only.
unsafe impl Sync for Rows {}

impl Rows {
    /// # Safety
    /// The range must be inside the buffer and must not overlap another live range.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts of one buffer, see Safety")]
    unsafe fn range(&self, start: usize, len: usize) -> &mut [f32] {
        // SAFETY: guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Calls `body(start, range)` for ranges that cover `out`, each of whole rows of `width` elements (the last one is
/// shorter if `out` is not a whole number of rows).
fn share_rows(pool: &Threads, out: &mut [f32], width: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if out.len() < SHARE_FROM || out.len() <= width {
        return body(0, out);
    }
    let all = Rows(out.as_mut_ptr());
    pool.split(out.len(), width, &|start, end| {
        // SAFETY: `split` returns disjoint ranges inside the buffer.
        body(start, unsafe { all.range(start, end - start) });
    });
}

/// `out = x / sqrt(mean(x²) + eps) * weight` for each row of `weight.len()` elements (RMSNorm, arXiv 1910.07467).
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn rms_norm(pool: &Threads, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "a norm's output is as long as its input");
    let width = weight.len();
    share_rows(pool, out, width, &|start, out| {
        let x = &x[start..start + out.len()];
        norm_rows(pool.isa(), x, weight, eps, out);
    });
}

/// [`rms_norm`] in place, for each head of `weight.len()` elements (the QK-norm of Qwen 3).
pub fn rms_norm_heads(pool: &Threads, x: &mut [f32], weight: &[f32], eps: f32) {
    share_rows(pool, x, weight.len(), &|_, x| norm_rows_in_place(pool.isa(), x, weight, eps));
}

for_each_isa! {
    fn norm_rows(isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = norm_rows_plain
}

for_each_isa! {
    fn norm_rows_in_place(isa, x: &mut [f32], weight: &[f32], eps: f32) = norm_rows_in_place_plain
}

#[inline(always)]
fn norm_rows_plain(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        let factor = norm_factor(x, eps);
        for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * factor * w;
        }
    }
}

#[inline(always)]
fn norm_rows_in_place_plain(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let factor = norm_factor(x, eps);
        for (x, &w) in x.iter_mut().zip(weight) {
            *x *= factor * w;
        }
    }
}

#[inline(always)]
fn norm_factor(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] += chunk[i] * chunk[i];
        }
    }
    let total = lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    1.0 / (total / x.len() as f32 + eps).sqrt()
}

/// `out += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add(pool: &Threads, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "both have one length");
    share_rows(pool, out, 64, &|start, out| {
        for (out, &x) in out.iter_mut().zip(&x[start..]) {
            *out += x;
        }
    });
}

/// `gate = silu(gate) * up` with `silu(x) = x / (1 + e^-x)` (SwiGLU, arXiv 2002.05202).
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(pool: &Threads, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have one length");
    share_rows(pool, gate, 64, &|start, gate| silu_rows(pool.isa(), gate, &up[start..]));
}

/// `gate = gelu(gate) * up` with the tanh approximation (GeGLU, arXiv 2002.05202).
///
/// # Panics
/// If the lengths differ.
pub fn gelu_mul(pool: &Threads, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up have one length");
    share_rows(pool, gate, 64, &|start, gate| gelu_rows(pool.isa(), gate, &up[start..]));
}

for_each_isa! {
    fn silu_rows(isa, gate: &mut [f32], up: &[f32]) = silu_rows_plain
}

for_each_isa! {
    fn gelu_rows(isa, gate: &mut [f32], up: &[f32]) = gelu_rows_plain
}

#[inline(always)]
fn silu_rows_plain(gate: &mut [f32], up: &[f32]) {
    for (g, &u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

#[inline(always)]
fn gelu_rows_plain(gate: &mut [f32], up: &[f32]) {
    for (g, &u) in gate.iter_mut().zip(up) {
        let x = *g;
        // 0.5 (1 + tanh(y)) = 1 / (1 + e^-2y) with y = sqrt(2/pi) (x + 0.044715 x³).
        let y2 = 1.595_769 * (x + 0.044_715 * x * x * x);
        *g = x / (1.0 + exp(-y2)) * u;
    }
}

/// e^x within 2 ULP; 0 below -87, clamped at 88. Branch-free, so that loops over it vectorise.
/// Method: 2^n times the polynomial of Cephes `expf` on the remainder.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = (p * r * r + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { value }
}

/// Rotates the first `2 * pairs` elements of each head by the angles of its position, `pairs = cos.len() / rows`
/// (RoPE, arXiv 2104.09864). `x` is rows × heads × `head_dim`; `cos` and `sin` are rows × pairs.
///
/// # Panics
/// If the lengths are inconsistent.
pub fn rope(pool: &Threads, layout: RopeLayout, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], rows: usize) {
    assert!(rows > 0 && x.len().is_multiple_of(rows * head_dim), "rope needs whole rows of heads");
    let (width, pairs) = (x.len() / rows, cos.len() / rows);
    assert!(cos.len() == sin.len() && cos.len() == rows * pairs && 2 * pairs <= head_dim, "one angle for each pair");
    share_rows(pool, x, width, &|start, x| {
        for (i, row) in x.chunks_exact_mut(width).enumerate() {
            let at = (start / width + i) * pairs;
            rope_row(pool.isa(), layout, row, head_dim, &cos[at..at + pairs], &sin[at..at + pairs]);
        }
    });
}

for_each_isa! {
    fn rope_row(isa, layout: RopeLayout, row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) = rope_row_plain
}

#[inline(always)]
fn rope_row_plain(layout: RopeLayout, row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let pairs = cos.len();
    for head in row.chunks_exact_mut(head_dim) {
        match layout {
            RopeLayout::Norm => {
                for (pair, (&c, &s)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * c - b * s;
                    pair[1] = a * s + b * c;
                }
            }
            RopeLayout::Neox => {
                let (low, high) = head[..2 * pairs].split_at_mut(pairs);
                for i in 0..pairs {
                    let (a, b) = (low[i], high[i]);
                    low[i] = a * cos[i] - b * sin[i];
                    high[i] = a * sin[i] + b * cos[i];
                }
            }
        }
    }
}
