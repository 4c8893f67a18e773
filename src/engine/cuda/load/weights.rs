//! A model's tensors in GPU memory: one arena, laid out from the plan before any tensor is read.

use super::timeline;
use super::upload::{Job, Ring, jobs_for, upload};
use crate::engine::cpu::Matrix;
use crate::engine::cuda::driver::{DeviceBuffer, Gpu, Kernel};
use crate::engine::cuda::layout::{Arena, Format, Mat};
use crate::engine::cuda::matmul::SCRATCH;
use crate::engine::cuda::matmul::cublaslt::WarmupShape;
use crate::engine::cuda::params::Epilogue;
use crate::engine::cuda::split::{Piece, Split};
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::weights::plan::{PlannedTensor, TensorPlan};
use crate::engine::weights::reader::{read_floats, read_tensors};
use crate::protocol::LoadProgress;

/// One layer. Vectors are device addresses of f32; 0 if the model has no such vector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layer {
    pub attention_norm: u64,
    pub q: Mat,
    pub k: Mat,
    pub v: Mat,
    pub q_bias: u64,
    pub k_bias: u64,
    pub v_bias: u64,
    pub q_norm: u64,
    pub k_norm: u64,
    pub output: Mat,
    pub ffn_norm: u64,
    pub gate: Mat,
    pub up: Mat,
    pub down: Mat,
}

/// The address of every tensor.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub embedding: Mat,
    pub output: Mat,
    pub output_norm: u64,
    pub layers: Vec<Layer>,
    /// Size of the arena.
    pub bytes: u64,
    matrices: Vec<(String, Piece, Mat)>,
    vectors: Vec<(String, Piece, u64)>,
}

struct Builder<'a> {
    split: &'a Split,
    plan: &'a TensorPlan,
    arena: Arena,
    layout: Layout,
}

impl Builder<'_> {
    fn matrix(&mut self, name: &str) -> Result<Mat, ModelError> {
        let tensor = self.plan.get(name).ok_or_else(|| self.plan.invalid(format!("there is no tensor {name:?}")))?;
        let piece = self.split.piece(name, tensor);
        let format = if piece.is_whole_blocks(tensor) { Format::of(tensor.kind) } else { Format::F32 };
        let mat = self.arena.matrix(format, piece.rows.len(), piece.cols.len());
        self.layout.matrices.push((name.to_owned(), piece, mat));
        Ok(mat)
    }

    /// 0 if the model has no such vector.
    fn vector(&mut self, name: &str) -> u64 {
        let Some(tensor) = self.plan.get(name) else { return 0 };
        let piece = self.split.piece(name, tensor);
        let at = self.arena.take((piece.rows.len() * piece.cols.len() * 4) as u64);
        self.layout.vectors.push((name.to_owned(), piece, at));
        at
    }
}

impl Layout {
    /// Assigns addresses from `base` on to one GPU's part; with base 0 only `bytes` is meaningful.
    pub fn new(split: &Split, plan: &TensorPlan, base: u64) -> Result<Self, ModelError> {
        let config = &split.config;
        let mut b = Builder { split, plan, arena: Arena::new(base), layout: Self::default() };
        // Address 0 means "none", so no tensor may begin there if the base is 0.
        b.arena.take(1);
        for layer in 0..config.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let layer = Layer {
                attention_norm: b.vector(&name("attn_norm.weight")),
                q_bias: b.vector(&name("attn_q.bias")),
                k_bias: b.vector(&name("attn_k.bias")),
                v_bias: b.vector(&name("attn_v.bias")),
                q_norm: b.vector(&name("attn_q_norm.weight")),
                k_norm: b.vector(&name("attn_k_norm.weight")),
                ffn_norm: b.vector(&name("ffn_norm.weight")),
                q: b.matrix(&name("attn_q.weight"))?,
                k: b.matrix(&name("attn_k.weight"))?,
                v: b.matrix(&name("attn_v.weight"))?,
                output: b.matrix(&name("attn_output.weight"))?,
                gate: b.matrix(&name("ffn_gate.weight"))?,
                up: b.matrix(&name("ffn_up.weight"))?,
                down: b.matrix(&name("ffn_down.weight"))?,
            };
            b.layout.layers.push(layer);
        }
        b.layout.output_norm = b.vector("output_norm.weight");
        b.layout.embedding = b.matrix("token_embd.weight")?;
        b.layout.output = match config.tied {
            true => b.layout.embedding.of_rows(split.vocabulary.clone()),
            false => b.matrix("output.weight")?,
        };
        b.layout.bytes = b.arena.end() - base;
        Ok(b.layout)
    }

    /// Bytes of weights that one decode step reads.
    pub fn bytes_a_token(&self) -> u64 {
        let size = |mat: &Mat| mat.format().bytes(mat.rows as usize, mat.cols as usize);
        let layers: u64 = self
            .layers
            .iter()
            .map(|l| [l.q, l.k, l.v, l.output, l.gate, l.up, l.down].iter().map(size).sum::<u64>())
            .sum();
        layers + size(&self.output)
    }

    /// The cuBLASLt products of one layer of a prompt, for its warm-up: bf16 matrices with the first layer's weights,
    /// others with `scratch`. `sum`: how O and down are written.
    pub fn usual_products(&self, scratch: Option<u64>, sum: Epilogue) -> Vec<WarmupShape> {
        let Some(layer) = self.layers.first() else { return Vec::new() };
        let uses: [(&[Mat], Epilogue); 4] = [
            (&[layer.q, layer.k, layer.v], Epilogue::StoreBf16),
            (&[layer.output], sum),
            (&[layer.gate, layer.up], Epilogue::StoreBf16),
            (&[layer.down], sum),
        ];
        let usual = |(mats, into): (&[Mat], Epilogue)| {
            let (n, k) = (mats.iter().map(|mat| mat.rows as usize).sum::<usize>(), mats[0].cols as usize);
            let plain = mats.iter().all(|mat| mat.format() == Format::Bf16);
            let weights = if plain { Some(mats[0].main) } else { scratch.filter(|_| n * k <= SCRATCH) };
            weights.map(|weights| WarmupShape { weights, n, k, into })
        };
        uses.into_iter().filter_map(usual).collect()
    }

    /// The format of every matrix, with duplicates.
    pub fn formats(&self) -> impl Iterator<Item = Format> + '_ {
        self.matrices.iter().map(|(_, _, mat)| mat.format())
    }
}

/// Allocates the arena and uploads all tensors into it.
pub fn load(
    gpu: &Gpu,
    repack: Kernel,
    ring: &Ring,
    split: &Split,
    plan: &TensorPlan,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(Layout, DeviceBuffer<u8>), ModelError> {
    let measured = Layout::new(split, plan, 0)?;
    let arena = DeviceBuffer::<u8>::new(measured.bytes as usize)?;
    timeline::mark("arena");
    let layout = Layout::new(split, plan, arena.pointer())?;
    let mut jobs: Vec<Job> = Vec::new();
    for (name, piece, mat) in &layout.matrices {
        let tensor = plan.get(name).ok_or_else(|| plan.invalid(format!("there is no tensor {name:?}")))?;
        match piece.is_whole_blocks(tensor) {
            true => jobs.extend(jobs_for(tensor, piece, *mat)),
            false => {
                let bytes = read_columns(plan, name, piece, cancel)?;
                arena.write(gpu, (mat.main - arena.pointer()) as usize, &bytes)?;
            }
        }
    }
    for (name, piece, at) in &layout.vectors {
        let tensor = plan.get(name).ok_or_else(|| plan.invalid(format!("there is no tensor {name:?}")))?;
        let values = read_floats(plan, tensor)?;
        let values = values.get(piece.cols.clone()).unwrap_or_default();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        arena.write(gpu, (at - arena.pointer()) as usize, &bytes)?;
    }
    timeline::mark("vectors");
    upload(gpu, repack, ring, &plan.files, &jobs, cancel, progress)?;
    gpu.synchronize()?;
    timeline::mark("weights");
    Ok((layout, arena))
}

/// Columns of a matrix as F32, for a part that does not begin or end at a block of the tensor's type.
fn read_columns(plan: &TensorPlan, name: &str, piece: &Piece, cancel: &CancelFlag) -> Result<Vec<u8>, ModelError> {
    let read = |_: &str, tensor: &PlannedTensor, bytes| {
        let matrix = Matrix::new(tensor.kind, tensor.rows, tensor.cols, bytes)?;
        let mut row = vec![0.0; tensor.cols];
        let mut out = Vec::with_capacity(piece.rows.len() * piece.cols.len() * 4);
        for index in piece.rows.clone() {
            matrix.dequantize_row(index, &mut row);
            out.extend(row[piece.cols.clone()].iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(out)
    };
    let mut found = read_tensors(plan, &[name.to_owned()], 1, cancel, &mut |_| {}, read)?;
    found.remove(name).ok_or_else(|| plan.invalid(format!("there is no tensor {name:?}")))
}
