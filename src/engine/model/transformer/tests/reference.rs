//! A naive forward pass in double precision, written from the formulas of the papers. It shares only the dequantised
//! weights with the engine.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use crate::engine::weights::testing::{Scaling, Spec, Tensors};

/// A model in double precision with the keys and values of the evaluated positions. All other positions have keys and
/// values of zero, as in a new KV cache.
pub(super) struct Reference<'a> {
    spec: &'a Spec,
    tensors: BTreeMap<String, (usize, Vec<f64>)>,
    /// (layer, position) → keys and values of all heads.
    cache: BTreeMap<(usize, usize), (Vec<f64>, Vec<f64>)>,
    /// The residual stream of the last call: the embedding, then the stream after each layer.
    pub layers: Vec<Vec<f64>>,
}

impl<'a> Reference<'a> {
    pub fn new(spec: &'a Spec, tensors: &Tensors) -> Self {
        let tensors = tensors.iter().map(|(name, t)| (name.clone(), (t.cols, t.values()))).collect();
        Self { spec, tensors, cache: BTreeMap::new(), layers: Vec::new() }
    }

    fn vector(&self, name: &str) -> &[f64] {
        &self.tensors[name].1
    }

    /// Rows `from..to` of a matrix times x, plus the bias if there is one.
    fn product_of(&self, name: &str, from: usize, to: usize, x: &[f64]) -> Vec<f64> {
        let (cols, values) = &self.tensors[&format!("{name}.weight")];
        assert_eq!(*cols, x.len());
        let bias = self.tensors.get(&format!("{name}.bias"));
        (from..to)
            .map(|r| {
                let row = &values[r * cols..(r + 1) * cols];
                row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>() + bias.map_or(0.0, |(_, b)| b[r])
            })
            .collect()
    }

    fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (cols, values) = &self.tensors[&format!("{name}.weight")];
        self.product_of(name, 0, values.len() / cols, x)
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let root = (mean + f64::from(self.spec.eps)).sqrt();
        x.iter().zip(self.vector(name)).map(|(v, w)| v / root * w).collect()
    }

    /// Normalises each head of Q or K if the model has head norms, then applies RoPE.
    fn prepared(&self, layer: usize, which: &str, heads: &[f64], position: usize) -> Vec<f64> {
        let name = format!("blk.{layer}.attn_{which}_norm.weight");
        let normed = heads
            .chunks(self.spec.dim)
            .flat_map(|head| if self.tensors.contains_key(&name) { self.norm(&name, head) } else { head.to_vec() });
        let mut all: Vec<f64> = normed.collect();
        for head in all.chunks_mut(self.spec.dim) {
            self.turn(layer, head, position);
        }
        all
    }

    fn turn(&self, layer: usize, head: &mut [f64], position: usize) {
        let half = self.spec.dim / 2;
        for i in 0..half {
            let (a, b) = if self.spec.architecture == "llama" { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (frequency, factor) = self.frequency(layer, i);
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (x, y) = (head[a], head[b]);
            head[a] = factor * (x * cos - y * sin);
            head[b] = factor * (x * sin + y * cos);
        }
    }

    /// Radians per position of pair i, and the factor on sine and cosine.
    fn frequency(&self, layer: usize, i: usize) -> (f64, f64) {
        let (spec, dim) = (self.spec, self.spec.dim as f64);
        if spec.gemma() && spec.layer_window(layer).is_some() {
            return (10_000_f64.powf(-2.0 * i as f64 / dim), 1.0);
        }
        let plain = spec.theta.powf(-2.0 * i as f64 / dim);
        match spec.scaling {
            Scaling::None => (plain, 1.0),
            Scaling::Linear(factor) => (plain / factor, 1.0),
            Scaling::Llama3 { .. } => (plain / spec.llama3_divisor(i), 1.0),
            Scaling::Yarn { factor, original } => {
                // YaRN, section 3.2: pairs with more than 32 rotations, or less than one, within the original context.
                let pair_of = |turns: f64| dim * (original as f64 / (turns * 2.0 * PI)).ln() / (2.0 * spec.theta.ln());
                let (low, high) = (pair_of(32.0).floor().max(0.0), pair_of(1.0).ceil().min(dim - 1.0));
                let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                let mixed = plain / factor * interpolated + plain * (1.0 - interpolated);
                (mixed, 0.1 * factor.ln() + 1.0)
            }
        }
    }

    fn attention(&mut self, layer: usize, position: usize, normed: &[f64]) -> Vec<f64> {
        let spec = self.spec;
        let (dim, q_rows, kv_rows) = (spec.dim, spec.heads * spec.dim, spec.kv * spec.dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (q, k, v) = if spec.architecture == "phi3" {
            let part = |from: usize, rows: usize| self.product_of(&name("attn_qkv"), from, from + rows, normed);
            (part(0, q_rows), part(q_rows, kv_rows), part(q_rows + kv_rows, kv_rows))
        } else {
            let part = |which: &str| self.product(&name(which), normed);
            (part("attn_q"), part("attn_k"), part("attn_v"))
        };
        let q = self.prepared(layer, "q", &q, position);
        let k = self.prepared(layer, "k", &k, position);
        self.cache.insert((layer, position), (k, v));

        let first = spec.layer_window(layer).map_or(0, |window| (position + 1).saturating_sub(window));
        let seen: Vec<_> = self.cache.range((layer, first)..=(layer, position)).map(|(_, kv)| kv).collect();
        // A position that was never written has score 0 and value 0: it only adds 1 to the sum of weights.
        let unseen = (position + 1 - first - seen.len()) as f64;
        let mut out = Vec::new();
        for (head, query) in q.chunks(dim).enumerate() {
            let shared = head / (spec.heads / spec.kv) * dim;
            let scores: Vec<f64> = seen
                .iter()
                .map(|(k, _)| {
                    let dot: f64 = query.iter().zip(&k[shared..shared + dim]).map(|(a, b)| a * b).sum();
                    (dot / (dim as f64).sqrt()).exp()
                })
                .collect();
            let sum = scores.iter().sum::<f64>() + unseen;
            out.extend(
                (0..dim).map(|d| scores.iter().zip(&seen).map(|(s, (_, v))| s * v[shared + d]).sum::<f64>() / sum),
            );
        }
        self.product(&name("attn_output"), &out)
    }

    fn feed_forward(&self, layer: usize, normed: &[f64]) -> Vec<f64> {
        let (spec, ff) = (self.spec, self.spec.ff);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (gate, up) = if spec.architecture == "phi3" {
            (self.product_of(&name("ffn_up"), 0, ff, normed), self.product_of(&name("ffn_up"), ff, 2 * ff, normed))
        } else {
            (self.product(&name("ffn_gate"), normed), self.product(&name("ffn_up"), normed))
        };
        let activate = |x: f64| match spec.gemma() {
            true => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh()),
            false => x / (1.0 + (-x).exp()),
        };
        let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| activate(*g) * u).collect();
        self.product(&name("ffn_down"), &inner)
    }

    /// Logits after `token` at `position`.
    pub fn logits(&mut self, token: u32, position: usize) -> Vec<f64> {
        let (hidden, gemma) = (self.spec.hidden, self.spec.gemma());
        let row = token as usize * hidden;
        let scale = if gemma { (hidden as f64).sqrt() } else { 1.0 };
        let mut x: Vec<f64> = self.vector("token_embd.weight")[row..row + hidden].iter().map(|v| v * scale).collect();
        self.layers = vec![x.clone()];
        for layer in 0..self.spec.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let mut attended = self.attention(layer, position, &self.norm(&name("attn_norm"), &x));
            if gemma {
                attended = self.norm(&name("post_attention_norm"), &attended);
            }
            x.iter_mut().zip(&attended).for_each(|(x, a)| *x += a);
            let mut fed = self.feed_forward(layer, &self.norm(&name("ffn_norm"), &x));
            if gemma {
                fed = self.norm(&name("post_ffw_norm"), &fed);
            }
            x.iter_mut().zip(&fed).for_each(|(x, f)| *x += f);
            self.layers.push(x.clone());
        }
        let last = self.norm("output_norm.weight", &x);
        self.product(if self.spec.tied { "token_embd" } else { "output" }, &last)
    }
}
