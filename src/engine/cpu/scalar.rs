//! Matrix-vector products in portable Rust: the reference for the SIMD kernels, and the fallback if there is none.

use super::GgmlType;
use super::activations::{BLOCK, QRows};
use super::dequantize::{MAX_GROUPS, MAX_N, Quant, with_quant};
use super::half::{bf16_to_f32, f16_to_f32};
use super::isa::for_each_isa;

for_each_isa! {
    /// `out[r] = rows[r] · x` for a quantised type; `rows` has `out.len()` rows.
    pub(super) fn gemv_quantised(isa, kind: GgmlType, rows: &[u8], x: QRows<'_>, out: &mut [f32]) = gemv_kinds
}

for_each_isa! {
    /// `out[r] = rows[r] · x` for a float type; `rows` has `out.len()` rows.
    pub(super) fn gemv_float(isa, kind: GgmlType, rows: &[u8], x: &[f32], out: &mut [f32]) = gemv_float_kinds
}

#[inline(always)]
fn gemv_kinds(kind: GgmlType, rows: &[u8], x: QRows<'_>, out: &mut [f32]) {
    with_quant!(kind, Q => gemv::<Q>(rows, x, out), else ());
}

#[inline(always)]
fn gemv<Q: Quant>(rows: &[u8], x: QRows<'_>, out: &mut [f32]) {
    let row_bytes = x.q.len() / Q::N * Q::BYTES;
    let (mut q, mut scale, mut min) = ([0u8; MAX_N], [0f32; MAX_GROUPS], [0f32; MAX_GROUPS]);
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let mut total = 0.0;
        for (b, block) in row.chunks_exact(Q::BYTES).enumerate() {
            Q::unpack(block, &mut q, &mut scale, &mut min);
            for g in 0..Q::N / Q::GROUP {
                let at = b * Q::N + g * Q::GROUP;
                let dot = dot_bytes::<Q>(&q[g * Q::GROUP..], &x.q[at..]);
                let sum = if Q::GROUP == 16 { x.sum16[at / 16] } else { x.sum[at / BLOCK] };
                total += scale[g] * x.scale[at / BLOCK] * dot as f32 + min[g] * sum;
            }
        }
        *out = total;
    }
}

#[inline(always)]
fn dot_bytes<Q: Quant>(q: &[u8], x: &[i8]) -> i32 {
    let mut dot = 0;
    for (&q, &x) in q[..Q::GROUP].iter().zip(&x[..Q::GROUP]) {
        dot += i32::from(q) * i32::from(x);
    }
    dot
}

#[inline(always)]
fn gemv_float_kinds(kind: GgmlType, rows: &[u8], x: &[f32], out: &mut [f32]) {
    match kind {
        GgmlType::F32 => float_rows::<4>(rows, x, out, |b| f32::from_le_bytes(*b)),
        GgmlType::F16 => float_rows::<2>(rows, x, out, |b| f16_to_f32(u16::from_le_bytes(*b))),
        _ => float_rows::<2>(rows, x, out, |b| bf16_to_f32(u16::from_le_bytes(*b))),
    }
}

/// Sixteen partial sums per row: a single sum would fix the order of additions and prevent vectorisation.
#[inline(always)]
fn float_rows<const W: usize>(rows: &[u8], x: &[f32], out: &mut [f32], value: impl Fn(&[u8; W]) -> f32) {
    for (row, out) in rows.chunks_exact(x.len() * W).zip(out) {
        let (numbers, _) = row.as_chunks::<W>();
        let mut lanes = [0f32; 16];
        let (w16, w_rest) = numbers.as_chunks::<16>();
        let (x16, x_rest) = x.as_chunks::<16>();
        for (w, x) in w16.iter().zip(x16) {
            for i in 0..16 {
                lanes[i] += value(&w[i]) * x[i];
            }
        }
        let rest: f32 = w_rest.iter().zip(x_rest).map(|(w, &x)| value(w) * x).sum();
        *out = lanes.iter().sum::<f32>() + rest;
    }
}
