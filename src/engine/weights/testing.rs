//! For tests and the GPU checks: small random models, described by a `Spec`, written as GGUF or safetensors folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engine::cpu::{AlignedBytes, GgmlType, Matrix};

mod safetensors;
mod spec;

pub(crate) use spec::{Scaling, Spec};

/// A seeded random number generator (xorshift64*): the same weights in every run.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// One tensor as stored in a file.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    pub rows: usize,
    pub cols: usize,
    pub vector: bool,
    pub kind: GgmlType,
    pub bytes: Vec<u8>,
}

impl StoredTensor {
    /// Floats stored as `kind`, which must be an unquantised type.
    pub fn floats(values: &[f32], rows: usize, cols: usize, vector: bool, kind: GgmlType) -> Self {
        assert_eq!(values.len(), rows * cols);
        let bytes = match kind {
            GgmlType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            GgmlType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            GgmlType::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            other => panic!("{} is quantised", other.name()),
        };
        Self { rows, cols, vector, kind, bytes }
    }

    /// A random matrix of any type, scaled so that activations neither vanish nor saturate in a forward pass.
    pub fn random(random: &mut Random, rows: usize, cols: usize, kind: GgmlType) -> Self {
        if !kind.is_quantised() {
            let scale = 2.0 / (cols as f32).sqrt();
            let values: Vec<_> = (0..rows * cols).map(|_| random.float() * scale).collect();
            return Self::floats(&values, rows, cols, false, kind);
        }
        // Offsets of the half-precision scales within a block, and values that make weights of about 1/sqrt(256).
        let scales: &[(usize, f32)] = match kind {
            GgmlType::Q4_0 => &[(0, 0.016)],
            GgmlType::Q4_1 => &[(0, 0.016), (2, -0.12)],
            GgmlType::Q5_0 => &[(0, 0.008)],
            GgmlType::Q5_1 => &[(0, 0.008), (2, -0.124)],
            GgmlType::Q8_0 => &[(0, 0.001)],
            GgmlType::Q2K => &[(80, 0.0075), (82, 0.011)],
            GgmlType::Q3K => &[(108, 0.0018)],
            GgmlType::Q4K => &[(0, 0.0004), (2, 0.003)],
            GgmlType::Q5K => &[(0, 0.0002), (2, 0.0031)],
            _ => &[(208, 5.5e-5)],
        };
        let mut bytes = random.bytes(kind.row_bytes(cols).unwrap() * rows);
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            for (at, scale) in scales {
                let scale = half::f16::from_f32(scale * (1.0 + 0.3 * random.float()));
                block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        Self { rows, cols, vector: false, kind, bytes }
    }

    /// The dequantised weights.
    pub fn values(&self) -> Vec<f64> {
        let data = AlignedBytes::copy_of(&self.bytes).unwrap();
        let matrix = Matrix::new(self.kind, self.rows, self.cols, data).unwrap();
        let mut row = vec![0.0; self.cols];
        let mut all = Vec::with_capacity(self.rows * self.cols);
        for r in 0..self.rows {
            matrix.dequantize_row(r, &mut row);
            all.extend(row.iter().map(|v| f64::from(*v)));
        }
        all
    }
}

/// Tensors by GGUF name.
pub(crate) type Tensors = BTreeMap<String, StoredTensor>;

/// A metadata value to write.
#[derive(Clone, Debug)]
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
}

/// Writes GGUF files with alignment 32, the format's default.
pub(crate) struct GgufWriter {
    pub version: u32,
    pub pairs: Vec<(String, Meta)>,
}

impl GgufWriter {
    pub fn new(pairs: Vec<(String, Meta)>) -> Self {
        Self { version: 3, pairs }
    }

    pub fn bytes(&self, tensors: &Tensors) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        for (key, value) in &self.pairs {
            text(&mut out, key);
            match value {
                Meta::U32(v) => out.extend([4_u32.to_le_bytes(), v.to_le_bytes()].concat()),
                Meta::F32(v) => out.extend([6_u32.to_le_bytes(), v.to_le_bytes()].concat()),
                Meta::Flag(v) => out.extend([&7_u32.to_le_bytes()[..], &[u8::from(*v)]].concat()),
                Meta::Texts(all) => {
                    out.extend([9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat());
                    out.extend((all.len() as u64).to_le_bytes());
                    all.iter().for_each(|v| text(&mut out, v));
                }
                Meta::Numbers(all) => {
                    out.extend([9_u32.to_le_bytes(), 5_u32.to_le_bytes()].concat());
                    out.extend((all.len() as u64).to_le_bytes());
                    all.iter().for_each(|v| out.extend(v.to_le_bytes()));
                }
                Meta::Text(v) => {
                    out.extend(8_u32.to_le_bytes());
                    text(&mut out, v);
                }
            }
        }
        let mut offset = 0_u64;
        for (name, tensor) in tensors {
            text(&mut out, name);
            let dimensions = if tensor.vector { vec![tensor.cols] } else { vec![tensor.cols, tensor.rows] };
            out.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|d| out.extend((*d as u64).to_le_bytes()));
            out.extend(tensor.kind.to_ggml().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (tensor.bytes.len() as u64).next_multiple_of(32);
        }
        for tensor in tensors.values() {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }

    pub fn write(&self, folder: &Path, tensors: &Tensors) -> PathBuf {
        let path = folder.join("model.gguf");
        std::fs::write(&path, self.bytes(tensors)).unwrap();
        path
    }
}
