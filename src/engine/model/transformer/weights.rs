//! A model's tensors on the CPU: matrices in their storage format, vectors as f32.

use std::collections::HashMap;

use crate::engine::cpu::Matrix;
use crate::engine::error::ModelError;
use crate::engine::model::config::ModelConfig;
use crate::engine::source::CancelFlag;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::reader::{floats, read_tensors};
use crate::protocol::LoadProgress;

/// A matrix with an optional bias.
pub(super) struct Linear {
    pub weight: Matrix,
    pub bias: Option<Vec<f32>>,
}

pub(super) struct Layer {
    pub attention_norm: Vec<f32>,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    /// Weights of the head norms of Q and of K.
    pub head_norms: Option<(Vec<f32>, Vec<f32>)>,
    pub attention_output: Linear,
    pub post_attention_norm: Option<Vec<f32>>,
    pub ffn_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    pub post_ffn_norm: Option<Vec<f32>>,
}

pub(super) struct Weights {
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// `None`: tied, the embedding is used.
    output: Option<Matrix>,
    bytes: u64,
}

/// A tensor as read.
enum Tensor {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

/// Tensors that were read but not yet assigned to a layer.
struct Stock<'a> {
    tensors: HashMap<String, Tensor>,
    plan: &'a TensorPlan,
    norm_offset: f32,
}

impl Weights {
    /// Reads only the tensors that `config` needs.
    pub(super) fn read(
        config: &ModelConfig,
        plan: &TensorPlan,
        readers: usize,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, ModelError> {
        let names: Vec<_> = plan.tensors.keys().filter(|name| config.reads(name)).cloned().collect();
        let bytes = names.iter().filter_map(|name| plan.get(name)).map(|t| t.bytes).sum();
        let tensors = read_tensors(plan, &names, readers, cancel, progress, |name, tensor, bytes| {
            if name.ends_with("norm.weight") || name.ends_with(".bias") {
                return Ok(Tensor::Vector(floats(&plan.files[tensor.file], tensor, &bytes)?));
            }
            Ok(Tensor::Matrix(Matrix::new(tensor.kind, tensor.rows, tensor.cols, bytes)?))
        })?;
        let mut stock = Stock { tensors, plan, norm_offset: config.norm_offset };
        Ok(Self {
            embedding: stock.matrix("token_embd.weight")?,
            layers: (0..config.layers).map(|layer| stock.layer(layer)).collect::<Result<_, _>>()?,
            output_norm: stock.norm("output_norm.weight")?,
            output: if config.tied { None } else { Some(stock.matrix("output.weight")?) },
            bytes,
        })
    }

    /// The output matrix; the embedding if tied.
    pub(super) fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Size of the weights in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that one decode step reads. Of an untied embedding only one row is read.
    pub(super) fn bytes_per_step(&self) -> u64 {
        let looked_up = if self.output.is_some() { self.embedding.bytes() as u64 } else { 0 };
        self.bytes.saturating_sub(looked_up)
    }
}

impl Stock<'_> {
    fn layer(&mut self, layer: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let head_norms = match (self.has(&name("attn_q_norm.weight")), self.has(&name("attn_k_norm.weight"))) {
            (true, true) => Some((self.norm(&name("attn_q_norm.weight"))?, self.norm(&name("attn_k_norm.weight"))?)),
            _ => None,
        };
        Ok(Layer {
            attention_norm: self.norm(&name("attn_norm.weight"))?,
            q: self.linear(&name("attn_q"))?,
            k: self.linear(&name("attn_k"))?,
            v: self.linear(&name("attn_v"))?,
            head_norms,
            attention_output: self.linear(&name("attn_output"))?,
            post_attention_norm: self.optional_norm(&name("post_attention_norm.weight"))?,
            ffn_norm: self.norm(&name("ffn_norm.weight"))?,
            gate: self.linear(&name("ffn_gate"))?,
            up: self.linear(&name("ffn_up"))?,
            down: self.linear(&name("ffn_down"))?,
            post_ffn_norm: self.optional_norm(&name("post_ffw_norm.weight"))?,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn missing(&self, name: &str) -> ModelError {
        self.plan.invalid(format!("the tensor {name:?} is missing or has the wrong shape"))
    }

    fn matrix(&mut self, name: &str) -> Result<Matrix, ModelError> {
        match self.tensors.remove(name) {
            Some(Tensor::Matrix(matrix)) => Ok(matrix),
            _ => Err(self.missing(name)),
        }
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        match self.tensors.remove(name) {
            Some(Tensor::Vector(vector)) => Ok(vector),
            _ => Err(self.missing(name)),
        }
    }

    fn norm(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut weight = self.vector(name)?;
        if self.norm_offset != 0.0 {
            weight.iter_mut().for_each(|w| *w += self.norm_offset);
        }
        Ok(weight)
    }

    fn optional_norm(&mut self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        if self.has(name) { self.norm(name).map(Some) } else { Ok(None) }
    }

    fn linear(&mut self, name: &str) -> Result<Linear, ModelError> {
        let bias_name = format!("{name}.bias");
        let bias = if self.has(&bias_name) { Some(self.vector(&bias_name)?) } else { None };
        Ok(Linear { weight: self.matrix(&format!("{name}.weight"))?, bias })
    }
}
