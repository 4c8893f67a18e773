//! Prefills of many thousand tokens against a forward pass in double precision.
//!
//! The reference uses candle's f64 matrix products, which are independent of our kernels; the rest is written out here.
//! Only Llama with `rope_freqs.weight`, as in the GGUF files of Llama 3.1.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};

use super::*;
use crate::engine::weights::plan::TensorPlan;

/// Queries per block of attention; bounds the memory for scores.
const BLOCK: usize = 64;

/// A model in double precision that reads each tensor when it is needed.
struct Deep<'a> {
    plan: &'a TensorPlan,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    epsilon: f64,
    /// Radians per position, one for each pair.
    frequencies: Vec<f64>,
}

impl<'a> Deep<'a> {
    fn open(parts: &'a ModelParts) -> Self {
        let metadata = parts.metadata().unwrap();
        let number = |key: &str| metadata.uint(&format!("llama.{key}")).unwrap() as usize;
        let (hidden, heads) = (number("embedding_length"), number("attention.head_count"));
        let dim = metadata.uint("llama.attention.key_length").map_or(hidden / heads, |dim| dim as usize);
        let mut deep = Self {
            plan: &parts.plan,
            hidden,
            layers: number("block_count"),
            heads,
            kv_heads: number("attention.head_count_kv"),
            dim,
            epsilon: metadata.float("llama.attention.layer_norm_rms_epsilon").unwrap(),
            frequencies: Vec::new(),
        };
        let theta = metadata.float("llama.rope.freq_base").unwrap();
        let divisors = deep.values("rope_freqs.weight");
        deep.frequencies =
            divisors.iter().enumerate().map(|(i, d)| theta.powf(-2.0 * i as f64 / dim as f64) / d).collect();
        assert!(divisors.iter().any(|d| *d != 1.0), "this model has no RoPE scaling");
        deep
    }

    /// Rows `from..to` of a tensor.
    fn rows(&self, name: &str, from: usize, to: usize) -> Vec<f64> {
        let tensor = self.plan.get(name).unwrap();
        let row = tensor.bytes as usize / tensor.rows;
        let mut bytes = vec![0; (to - from) * row];
        let file = File::open(&self.plan.files[tensor.file]).unwrap();
        file.read_exact_at(&mut bytes, tensor.offset + (from * row) as u64).unwrap();
        StoredTensor { rows: to - from, cols: tensor.cols, vector: false, kind: tensor.kind, bytes }.values()
    }

    fn values(&self, name: &str) -> Vec<f64> {
        self.rows(name, 0, self.plan.get(name).unwrap().rows)
    }

    /// `x` (rows × cols) times the transposed matrix `name`.
    fn product(&self, x: &[f64], name: &str) -> Vec<f64> {
        let tensor = self.plan.get(name).unwrap();
        let weight = matrix(self.values(name), tensor.cols);
        numbers(&matrix(x.to_vec(), tensor.cols).matmul(&weight.t().unwrap()).unwrap())
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.values(name);
        let normed = x.chunks(self.hidden).flat_map(|row| {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
            let root = (mean + self.epsilon).sqrt();
            row.iter().zip(&weight).map(move |(v, w)| v / root * w).collect::<Vec<_>>()
        });
        normed.collect()
    }

    /// RoPE on adjacent elements of each head; the row index is the position.
    fn turn(&self, rows: &mut [f64], width: usize) {
        for (position, row) in rows.chunks_mut(width).enumerate() {
            for head in row.chunks_mut(self.dim) {
                for (pair, frequency) in head.chunks_mut(2).zip(&self.frequencies) {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
                }
            }
        }
    }

    /// The columns of one head in a matrix of `heads` heads.
    fn head(&self, rows: &[f64], heads: usize, head: usize) -> Vec<f64> {
        rows.chunks(heads * self.dim).flat_map(|row| &row[head * self.dim..(head + 1) * self.dim]).copied().collect()
    }

    /// Attention of the queries at `positions`, which are ascending.
    fn attention(&self, q: &[f64], k: &[f64], v: &[f64], positions: &[usize]) -> Vec<f64> {
        let width = self.heads * self.dim;
        let one = |head: usize| {
            let shared = head / (self.heads / self.kv_heads);
            let keys = matrix(self.head(k, self.kv_heads, shared), self.dim);
            let values = matrix(self.head(v, self.kv_heads, shared), self.dim);
            let queries = self.head(q, self.heads, head);
            let blocks = positions.chunks(BLOCK).flat_map(|block| {
                let seen = block[block.len() - 1] + 1;
                let picked = block.iter().flat_map(|p| &queries[p * self.dim..(p + 1) * self.dim]).copied().collect();
                let near = |all: &Tensor| all.narrow(0, 0, seen).unwrap();
                let scores = matrix(picked, self.dim).matmul(&near(&keys).t().unwrap()).unwrap();
                let mut weights = numbers(&scores);
                for (row, position) in weights.chunks_mut(seen).zip(block) {
                    soften(row, position + 1, (self.dim as f64).sqrt());
                }
                numbers(&matrix(weights, seen).matmul(&near(&values)).unwrap())
            });
            blocks.collect::<Vec<f64>>()
        };
        // Two threads, each computes one head at a time.
        let mut out = vec![0.0; positions.len() * width];
        let heads: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let halves = [0, 1].map(|half| {
                let heads = (0..self.heads).filter(move |head| head % 2 == half);
                let one = &one;
                scope.spawn(move || heads.map(|head| (head, one(head))).collect::<Vec<_>>())
            });
            let mut all: Vec<_> = halves.into_iter().flat_map(|half| half.join().unwrap()).collect();
            all.sort_by_key(|(head, _)| *head);
            all.into_iter().map(|(_, out)| out).collect()
        });
        for (head, values) in heads.iter().enumerate() {
            for (row, values) in out.chunks_mut(width).zip(values.chunks(self.dim)) {
                row[head * self.dim..(head + 1) * self.dim].copy_from_slice(values);
            }
        }
        out
    }

    /// The logits of `tokens` at the positions `wanted` (ascending).
    fn logits(&self, tokens: &[u32], wanted: &[usize]) -> Vec<Vec<f64>> {
        let mut x: Vec<f64> =
            tokens.iter().flat_map(|t| self.rows("token_embd.weight", *t as usize, *t as usize + 1)).collect();
        let everywhere: Vec<usize> = (0..tokens.len()).collect();
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let normed = self.norm(&x, &name("attn_norm"));
            let mut q = self.product(&normed, &name("attn_q"));
            let mut k = self.product(&normed, &name("attn_k"));
            let v = self.product(&normed, &name("attn_v"));
            self.turn(&mut q, self.heads * self.dim);
            self.turn(&mut k, self.kv_heads * self.dim);
            // After the keys and values of the last layer, only the requested rows are needed.
            let positions = if layer + 1 == self.layers { wanted } else { &everywhere };
            let attended = self.attention(&q, &k, &v, positions);
            x = positions.iter().flat_map(|p| x[p * self.hidden..(p + 1) * self.hidden].to_vec()).collect();
            add(&mut x, &self.product(&attended, &name("attn_output")));
            let normed = self.norm(&x, &name("ffn_norm"));
            let gate = self.product(&normed, &name("ffn_gate"));
            let up = self.product(&normed, &name("ffn_up"));
            let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            add(&mut x, &self.product(&inner, &name("ffn_down")));
        }
        let last = self.norm(&x, "output_norm.weight");
        let output = if self.plan.get("output.weight").is_some() { "output.weight" } else { "token_embd.weight" };
        let vocab = self.plan.get(output).unwrap().rows;
        self.product(&last, output).chunks(vocab).map(<[f64]>::to_vec).collect()
    }
}

/// Softmax of the first `seen` scores, divided by `divisor`; the others become 0.
fn soften(scores: &mut [f64], seen: usize, divisor: f64) {
    let (own, later) = scores.split_at_mut(seen);
    later.fill(0.0);
    let largest = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    own.iter_mut().for_each(|s| *s = ((*s - largest) / divisor).exp());
    let sum: f64 = own.iter().sum();
    own.iter_mut().for_each(|s| *s /= sum);
}

fn matrix(values: Vec<f64>, cols: usize) -> Tensor {
    let rows = values.len() / cols;
    Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn add(x: &mut [f64], more: &[f64]) {
    assert_eq!(x.len(), more.len());
    x.iter_mut().zip(more).for_each(|(x, m)| *x += m);
}

/// Prefills a prompt that ends at the last of `depths` and compares the logits at each of them.
fn check_depths(path: &Path, depths: &[usize], tolerance: f64) {
    let context = depths[depths.len() - 1] + 1;
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path.to_path_buf()]), Some(context)).unwrap();
    let mut model = Transformer::load(&parts.config, &parts.plan, None, &CancelFlag::default(), &mut |_| {}).unwrap();
    let vocab = parts.config.vocab_size as u64;
    let mut random = crate::engine::weights::testing::Random(0x1234_5678_9ABC_DEF1);
    let tokens: Vec<u32> = (0..context).map(|_| (random.next() % vocab) as u32).collect();
    let started = Instant::now();
    let mut done = 0;
    let ours: Vec<Vec<f32>> = depths
        .iter()
        .map(|depth| {
            let mut logits = Vec::new();
            model.forward(&tokens[done..=*depth], done, &mut logits).unwrap();
            done = depth + 1;
            logits
        })
        .collect();
    let engine = started.elapsed();
    let theirs = Deep::open(&parts).logits(&tokens, depths);
    println!("{context} tokens: engine {engine:.1?}, reference {:.1?}", started.elapsed() - engine);
    for ((depth, ours), theirs) in depths.iter().zip(&ours).zip(&theirs) {
        let apart = difference(ours, theirs);
        let top = |logits: &mut dyn Iterator<Item = f64>| {
            logits.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(token, _)| token)
        };
        let same = top(&mut ours.iter().map(|v| f64::from(*v))) == top(&mut theirs.iter().copied());
        println!("position {depth}: {apart:.1e} apart, the same best token: {same}");
        assert!(apart < tolerance, "position {depth}: {apart}");
    }
}

/// A small Llama 3.1: two query heads per KV head, frequencies scaled beyond 8192 positions.
fn small_llama_3_1() -> Spec {
    let scaling = Scaling::Llama3 { factor: 8.0, original: 8192 };
    let shape = Spec { hidden: 128, ff: 256, layers: 2, heads: 4, kv: 2, dim: 32, ..Spec::new("llama") };
    Spec { scaling, theta: 500_000.0, context: 32_768, kind: GgmlType::BF16, ..shape }
}

#[test]
fn a_prefill_of_thousands_of_tokens_agrees_with_f64() {
    let spec = small_llama_3_1();
    let folder = tempfile::tempdir().unwrap();
    let path = spec.gguf().write(folder.path(), &spec.tensors());
    check_depths(&path, &[100, 8000], EXACT);
    // Compare the two references too: they are independent.
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path]), None).unwrap();
    let tensors = spec.tensors();
    let mut naive = Reference::new(&spec, &tensors);
    let tokens = sequence(&spec, 12);
    let expected: Vec<_> = tokens.iter().enumerate().map(|(i, t)| naive.logits(*t, i)).collect();
    let fast = Deep::open(&parts).logits(&tokens, &[5, 11]);
    for (ours, theirs) in fast.iter().zip([&expected[5], &expected[11]]) {
        let apart: f64 = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // The file stores rope_freqs in single precision.
        assert!(apart < 1e-5, "{apart}");
    }
}

/// Any GGUF file like Llama 3.1's, at 100, 8,000 and 30,000 positions. Takes minutes.
/// `CHATNAP_DEEP_MODEL=FILE cargo test --lib a_file_agrees -- --ignored --nocapture`
#[test]
#[ignore = "needs a model file (CHATNAP_DEEP_MODEL) and minutes"]
fn a_file_agrees_with_f64_at_100_8000_and_30000() {
    let path = std::env::var_os("CHATNAP_DEEP_MODEL").expect("CHATNAP_DEEP_MODEL names a GGUF file");
    let path = Path::new(&path);
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path.to_path_buf()]), None).unwrap();
    let quantised = parts.plan.tensors.values().any(|tensor| tensor.kind.is_quantised());
    check_depths(path, &[100, 8000, 30_000], if quantised { QUANTISED } else { EXACT });
}
