//! Description of a test model: enough to write its files and to compute it in a reference implementation.

use super::{GgufWriter, Meta, Random, StoredTensor, Tensors};
use crate::engine::cpu::GgmlType;

/// RoPE scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    Linear(f64),
    Llama3 { factor: f64, original: usize },
    Yarn { factor: f64, original: usize },
}

/// Hyperparameters of one small model.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub architecture: &'static str,
    pub hidden: usize,
    pub ff: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv: usize,
    pub dim: usize,
    pub vocab: usize,
    pub theta: f64,
    pub eps: f32,
    pub context: usize,
    pub tied: bool,
    pub biases: bool,
    pub scaling: Scaling,
    /// Number of keys visible to a query in layers with a sliding window.
    pub window: Option<usize>,
    pub kind: GgmlType,
    pub seed: u64,
}

impl Spec {
    pub fn new(architecture: &'static str) -> Self {
        let gemma = architecture == "gemma3";
        Self {
            architecture,
            hidden: 256,
            ff: 512,
            layers: if gemma { 7 } else { 2 },
            heads: 4,
            kv: 2,
            // Other than `hidden / heads` if the family allows it.
            dim: if matches!(architecture, "qwen3" | "gemma3") { 96 } else { 64 },
            vocab: 300,
            theta: if gemma { 1e6 } else { 1e4 },
            eps: 1e-5,
            context: 512,
            tied: gemma,
            biases: architecture == "qwen2",
            scaling: Scaling::None,
            window: gemma.then_some(9),
            kind: GgmlType::F32,
            seed: 0x9E37_79B9_7F4A_7C15,
        }
    }

    pub fn gemma(&self) -> bool {
        self.architecture == "gemma3"
    }

    /// The window of a layer, by the family's rule (Gemma: all but every sixth layer).
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| !self.gemma() || !(layer + 1).is_multiple_of(6))
    }

    /// Random tensors with GGUF's names.
    pub fn tensors(&self) -> Tensors {
        let mut random = Random(self.seed);
        let mut all = Tensors::new();
        let (q, kv) = (self.heads * self.dim, self.kv * self.dim);
        let fused = self.architecture == "phi3";
        let mut matrix = |all: &mut Tensors, name: String, rows, cols| {
            // Rows that are not a multiple of the block size are stored as Q8_0, as quantisers do, or as floats.
            let kind = [self.kind, GgmlType::Q8_0, GgmlType::F32];
            let kind = kind.into_iter().find(|kind| kind.row_bytes(cols).is_some()).unwrap();
            all.insert(format!("{name}.weight"), StoredTensor::random(&mut random, rows, cols, kind));
        };
        matrix(&mut all, "token_embd".into(), self.vocab, self.hidden);
        if !self.tied {
            matrix(&mut all, "output".into(), self.vocab, self.hidden);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            if fused {
                matrix(&mut all, name("attn_qkv"), q + 2 * kv, self.hidden);
                matrix(&mut all, name("ffn_up"), 2 * self.ff, self.hidden);
            } else {
                matrix(&mut all, name("attn_q"), q, self.hidden);
                matrix(&mut all, name("attn_k"), kv, self.hidden);
                matrix(&mut all, name("attn_v"), kv, self.hidden);
                matrix(&mut all, name("ffn_gate"), self.ff, self.hidden);
                matrix(&mut all, name("ffn_up"), self.ff, self.hidden);
            }
            matrix(&mut all, name("attn_output"), self.hidden, q);
            matrix(&mut all, name("ffn_down"), self.hidden, self.ff);
        }
        self.vectors(&mut all);
        all
    }

    /// Adds norms around 1, biases around 0 and Llama 3.1's RoPE divisors.
    fn vectors(&self, all: &mut Tensors) {
        let mut random = Random(self.seed ^ 0x5555);
        let mut vector = |name: String, length: usize, middle: f32, spread: f32| {
            let values: Vec<_> = (0..length).map(|_| middle + spread * random.float()).collect();
            all.insert(name, StoredTensor::floats(&values, 1, length, true, GgmlType::F32));
        };
        vector("output_norm.weight".into(), self.hidden, 1.0, 0.4);
        for layer in 0..self.layers {
            let mut norm = |part: &str, length| vector(format!("blk.{layer}.{part}.weight"), length, 1.0, 0.4);
            norm("attn_norm", self.hidden);
            norm("ffn_norm", self.hidden);
            if matches!(self.architecture, "qwen3" | "gemma3") {
                norm("attn_q_norm", self.dim);
                norm("attn_k_norm", self.dim);
            }
            if self.gemma() {
                norm("post_attention_norm", self.hidden);
                norm("post_ffw_norm", self.hidden);
            }
            if self.biases {
                let mut bias = |part: &str, length| vector(format!("blk.{layer}.{part}.bias"), length, 0.0, 0.5);
                bias("attn_q", self.heads * self.dim);
                bias("attn_k", self.kv * self.dim);
                bias("attn_v", self.kv * self.dim);
            }
        }
        if let Scaling::Llama3 { .. } = self.scaling {
            let divisors: Vec<_> = (0..self.dim / 2).map(|i| self.llama3_divisor(i) as f32).collect();
            let tensor = StoredTensor::floats(&divisors, 1, divisors.len(), true, GgmlType::F32);
            all.insert("rope_freqs.weight".into(), tensor);
        }
    }

    /// The value that GGUF's converter stores in `rope_freqs.weight` for Llama 3.1.
    pub fn llama3_divisor(&self, pair: usize) -> f64 {
        let Scaling::Llama3 { factor, original } = self.scaling else { return 1.0 };
        let (low, high, original) = (1.0, 4.0, original as f64);
        let wavelength = 2.0 * std::f64::consts::PI * self.theta.powf(2.0 * pair as f64 / self.dim as f64);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    }

    pub fn gguf(&self) -> GgufWriter {
        let a = self.architecture;
        let number = |key: &str, value: usize| (format!("{a}.{key}"), Meta::U32(value as u32));
        let float = |key: &str, value: f64| (format!("{a}.{key}"), Meta::F32(value as f32));
        let mut pairs = vec![
            ("general.architecture".to_owned(), Meta::Text(a.into())),
            number("block_count", self.layers),
            number("context_length", self.context),
            number("embedding_length", self.hidden),
            number("feed_forward_length", self.ff),
            number("attention.head_count", self.heads),
            number("attention.head_count_kv", self.kv),
            number("attention.key_length", self.dim),
            number("attention.value_length", self.dim),
            number("rope.dimension_count", self.dim),
            float("attention.layer_norm_rms_epsilon", f64::from(self.eps)),
            float("rope.freq_base", self.theta),
        ];
        if let Some(window) = self.window {
            pairs.push(number("attention.sliding_window", window));
        }
        let mut scaling = |kind: &str, factor: f64| {
            pairs.push((format!("{a}.rope.scaling.type"), Meta::Text(kind.into())));
            pairs.push(float("rope.scaling.factor", factor));
        };
        match self.scaling {
            Scaling::None | Scaling::Llama3 { .. } => {}
            Scaling::Linear(factor) => scaling("linear", factor),
            Scaling::Yarn { factor, original } => {
                scaling("yarn", factor);
                pairs.push(number("rope.scaling.original_context_length", original));
            }
        }
        GgufWriter::new(pairs)
    }
}
