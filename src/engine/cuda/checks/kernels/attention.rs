//! Attention kernels against a reference softmax in f64.

use super::{Bench, Random, Report, halves, relative_error, wide};
use crate::engine::cuda::driver::{DeviceBuffer, LaunchConfig};
use crate::engine::cuda::hopper_attention::{AttentionBuffers, HopperAttention};
use crate::engine::cuda::kernels::{HEAD_DIMS, HEADS};
use crate::engine::cuda::matmul::hopper_skinny::Order;
use crate::engine::cuda::params::*;
use crate::engine::cuda::prompt::prefill_shared;
use crate::engine::cuda::step::decode_shared;
use crate::engine::error::ModelError;

impl Bench {
    pub(super) fn decode_attention(
        &self,
        dim: usize,
        group: usize,
        len: usize,
        window: usize,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        let (kv_heads, context) = (2, len + 5);
        let heads = kv_heads * group;
        let q = random.normals(heads * dim);
        let (k, v) =
            (halves(&random.normals(kv_heads * context * dim)), halves(&random.normals(kv_heads * context * dim)));
        let groups = group.div_ceil(HEADS);
        let splits = 16;
        let (dq, dk, dv) = (
            DeviceBuffer::from_slice(&self.gpu, &q)?,
            DeviceBuffer::from_slice(&self.gpu, &k)?,
            DeviceBuffer::from_slice(&self.gpu, &v)?,
        );
        let out = DeviceBuffer::from_slice(&self.gpu, &vec![f32::NAN; heads * dim])?;
        let (part_o, part_ml) =
            (DeviceBuffer::<f32>::new(heads * dim * splits)?, DeviceBuffer::<f32>::new(heads * splits * 2)?);
        let counters = DeviceBuffer::from_slice(&self.gpu, &vec![0i32; heads])?;
        let state = DeviceBuffer::from_slice(&self.gpu, &[State { pos: len as i32 - 1, ..State::default() }])?;
        let scale = 1.0 / (dim as f32).sqrt();
        let width = HEAD_DIMS.iter().position(|d| *d == dim).unwrap_or(0);
        let two = decode_shared(dim, 2) <= self.kernels.attention_decode[width].shared_limit;
        let stages = 1 + u32::from(random.below(2) == 1 && two);
        let args = AttentionArgs {
            q: dq.pointer(),
            k: dk.pointer(),
            v: dv.pointer(),
            out: out.pointer(),
            part_o: part_o.pointer(),
            part_ml: part_ml.pointer(),
            counters: counters.pointer(),
            state: state.pointer(),
            scale,
            context: context as i32,
            heads_per_kv: group as i32,
            window: window as i32,
            splits: splits as i32,
            keys: 64 << random.below(4),
            stages: stages as i32,
        };
        let shared = decode_shared(dim, stages);
        let shape = LaunchConfig {
            grid: (kv_heads as u32, splits as u32, groups as u32),
            threads: 256,
            shared,
            overlap: false,
            ..LaunchConfig::default()
        };
        // SAFETY: all sizes in `args` match the buffers, which live until the read below.
        unsafe { self.kernels.attention_decode[width].launch(self.gpu.stream, shape, &args)? };
        let mut got = vec![0.0; heads * dim];
        out.read(&self.gpu, 0, &mut got)?;
        let first = if window > 0 { len.saturating_sub(window) } else { 0 };
        let (k, v) = (wide(&k), wide(&v));
        let mut wanted = Vec::new();
        for head in 0..heads {
            let at = head / group * context * dim;
            wanted.extend(attend(&q[head * dim..][..dim], &k[at..], &v[at..], first..len, scale));
        }
        let error = relative_error(&got, &wanted);
        report.tell(
            &format!("attention, one token, {len} keys, head {dim}, group {group}, window {window}"),
            error,
            1e-4,
        );
        Ok(())
    }

    pub(super) fn prefill_attention(
        &self,
        dim: usize,
        tokens: usize,
        position: usize,
        window: usize,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), ModelError> {
        let (kv_heads, group, context) = (2, 3, position + tokens + 9);
        let heads = kv_heads * group;
        let q = halves(&random.normals(tokens * heads * dim));
        let side = kv_heads * context * dim;
        // NaN after the last position: the kernel must not read it.
        let mut cache = halves(&random.normals(2 * side));
        cache.chunks_exact_mut(context * dim).for_each(|head| head[(position + tokens) * dim..].fill(0x7fff));
        let (dq, dcache) = (DeviceBuffer::from_slice(&self.gpu, &q)?, DeviceBuffer::from_slice(&self.gpu, &cache)?);
        let out = DeviceBuffer::from_slice(&self.gpu, &vec![0x7fffu16; tokens * heads * dim])?;
        let scale = 1.0 / (dim as f32).sqrt();
        let args = PrefillAttentionArgs {
            q: dq.pointer(),
            k: dcache.pointer(),
            v: dcache.at(side),
            out: out.pointer(),
            scale,
            tokens: tokens as i32,
            position: position as i32,
            heads: heads as i32,
            heads_per_kv: group as i32,
            context: context as i32,
            window: window as i32,
            q_stride: (heads * dim) as i32,
            order: Order::Natural as i32,
        };
        let (k, v) = cache.split_at(side);
        let (q, k, v) = (wide(&q), wide(k), wide(v));
        let mut wanted = Vec::new();
        for token in 0..tokens {
            let end = position + token + 1;
            let first = if window > 0 { end.saturating_sub(window) } else { 0 };
            for head in 0..heads {
                let at = head / group * context * dim;
                wanted.extend(attend(&q[(token * heads + head) * dim..][..dim], &k[at..], &v[at..], first..end, scale));
            }
        }
        let mut got = vec![0; tokens * heads * dim];
        let mut compare = |kernel: &str| -> Result<(), ModelError> {
            out.read(&self.gpu, 0, &mut got)?;
            let error = relative_error(&wide(&got), &wanted);
            let what = format!("attention{kernel}, {tokens} tokens at {position}, head {dim}, window {window}");
            report.tell(&what, error, 1e-2);
            out.fill(&self.gpu, 0x7f)
        };

        let width = HEAD_DIMS.iter().position(|d| *d == dim).unwrap_or(0);
        let shared = prefill_shared(dim);
        let shape = LaunchConfig {
            grid: (tokens.div_ceil(64) as u32, heads as u32, 1),
            threads: 128,
            shared,
            overlap: false,
            ..LaunchConfig::default()
        };
        // SAFETY: all sizes in `args` match the buffers, which live until the read in `compare`.
        unsafe { self.kernels.attention_prefill[width].launch(self.gpu.stream, shape, &args)? };
        compare("")?;
        let Some(kernels) = self.kernels.hopper else { return Ok(()) };
        let cache = (dcache.pointer(), 2 * kv_heads * context);
        let places = AttentionBuffers { queries: (dq.pointer(), tokens, heads * dim), cache, head_dim: dim };
        let Some(hopper) = HopperAttention::new(&kernels.attention, &places)? else { return Ok(()) };
        // SAFETY: `hopper` was built for these buffers, and all sizes in `args` match them.
        unsafe { hopper.launch(&self.gpu, &args, false)? };
        compare(" by the Hopper kernel")
    }
}

/// Attention of one query over the positions `keys`, in f64.
fn attend(q: &[f32], k: &[f32], v: &[f32], keys: std::ops::Range<usize>, scale: f32) -> Vec<f64> {
    let dim = q.len();
    let score = |key: usize| {
        q.iter().zip(&k[key * dim..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * f64::from(scale)
    };
    let scores: Vec<f64> = keys.clone().map(score).collect();
    let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut out = vec![0.0; dim];
    for (key, weight) in keys.zip(&weights) {
        for (o, x) in out.iter_mut().zip(&v[key * dim..]) {
            *o += weight / sum * f64::from(*x);
        }
    }
    out
}
