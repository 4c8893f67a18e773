//! Location, type and shape of each tensor, independent of the file format and of the device that loads them.
//!
//! Names are GGUF's (`blk.0.attn_q.weight`), also for safetensors. Does no I/O.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::ggml_type;
use super::gguf::{Header, invalid};
use crate::engine::cpu::GgmlType;
use crate::engine::error::ModelError;

/// One tensor in a file: `rows` × `cols`, `cols` contiguous. A vector is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Index into `TensorPlan::files`.
    pub file: usize,
    /// Absolute byte offset in that file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Element or block type of the stored weights.
    pub kind: GgmlType,
    /// Outer dimension (output features).
    pub rows: usize,
    /// Inner dimension (input features).
    pub cols: usize,
}

/// All tensors of a model by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorPlan {
    /// The files; `PlannedTensor::file` is an index into them.
    pub files: Vec<PathBuf>,
    /// Tensors by GGUF name.
    pub tensors: BTreeMap<String, PlannedTensor>,
    /// Tensors that no supported model uses, by the names in the files.
    pub strange: Vec<String>,
    /// Type names of tensors of unsupported types, by GGUF name.
    pub unreadable: BTreeMap<String, String>,
    /// Warnings about the files, for the user.
    pub warnings: Vec<String>,
}

impl TensorPlan {
    /// The tensors of a checked GGUF header; an unsupported type is an error.
    pub fn from_gguf(header: &Header) -> Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        // Sorted by name, not in hash order: with several unsupported tensors, each run names the same one.
        let mut in_order: Vec<_> = header.tensors.iter().collect();
        in_order.sort_by_key(|(name, _)| *name);
        for (name, info) in in_order {
            let path = &header.files[info.file];
            let kind = ggml_type(path, name, info.ggml_type)?;
            let cols = info.dimensions.first().copied().unwrap_or(1);
            let rows = info.dimensions.iter().skip(1).product();
            let (file, offset, bytes) = (info.file, info.offset, info.size);
            tensors.insert(name.clone(), PlannedTensor { file, offset, bytes, kind, rows, cols });
        }
        Ok(Self { files: header.files.clone(), tensors, ..Self::default() })
    }

    /// A tensor that may be absent.
    pub fn get(&self, name: &str) -> Option<&PlannedTensor> {
        self.tensors.get(name)
    }

    /// A tensor that must be present with this shape.
    pub fn require(&self, name: &str, rows: usize, cols: usize) -> Result<&PlannedTensor, ModelError> {
        match self.get(name) {
            Some(tensor) if (tensor.rows, tensor.cols) == (rows, cols) => Ok(tensor),
            Some(tensor) => Err(invalid(
                self.path_of(tensor),
                format!("tensor {name:?} is {} × {}, but the model needs {rows} × {cols}", tensor.rows, tensor.cols),
            )),
            None => Err(self.missing(name)),
        }
    }

    /// An error about a required tensor that is absent or of an unsupported type.
    pub fn missing(&self, name: &str) -> ModelError {
        match self.unreadable.get(name) {
            Some(kind) => self.unsupported(format!(
                "tensor {name:?} is stored as {kind}, which chatnap cannot read; in safetensors it reads F32, F16 and BF16: take \
                 a file with one of these, or a GGUF file of the model"
            )),
            None => self.invalid(format!("the model needs a tensor {name:?} and the file has none")),
        }
    }

    /// A tensor that may be absent, and otherwise must have this shape.
    pub fn optional(&self, name: &str, rows: usize, cols: usize) -> Result<Option<&PlannedTensor>, ModelError> {
        self.get(name).map(|_| self.require(name, rows, cols)).transpose()
    }

    /// Replaces the tensors `whole.weight` and `whole.bias`, if present, by consecutive parts: (name, rows).
    pub fn split(&mut self, whole: &str, parts: &[(String, usize)]) -> Result<(), ModelError> {
        for (suffix, vector) in [("weight", false), ("bias", true)] {
            let Some(tensor) = self.tensors.get(&format!("{whole}.{suffix}")).copied() else { continue };
            let rows = if vector { tensor.cols } else { tensor.rows };
            if parts.iter().map(|(_, rows)| rows).sum::<usize>() != rows {
                return Err(invalid(
                    self.path_of(&tensor),
                    format!("tensor \"{whole}.{suffix}\" has {rows} rows, which contradicts the hyperparameters"),
                ));
            }
            self.tensors.remove(&format!("{whole}.{suffix}"));
            let mut offset = tensor.offset;
            if let Some((name, _)) = parts.iter().find(|(name, _)| self.taken(whole, name, suffix)) {
                let what = format!("it has both \"{whole}.{suffix}\" and \"{name}.{suffix}\", which is a part of it");
                return Err(invalid(self.path_of(&tensor), what));
            }
            for (name, part) in parts {
                let bytes = tensor.bytes / rows as u64 * *part as u64;
                let (rows, cols) = if vector { (1, *part) } else { (*part, tensor.cols) };
                let part = PlannedTensor { offset, bytes, rows, cols, ..tensor };
                self.tensors.insert(format!("{name}.{suffix}"), part);
                offset += bytes;
            }
        }
        Ok(())
    }

    /// Whether the file already has a tensor with the name of this part of `whole`.
    fn taken(&self, whole: &str, part: &str, suffix: &str) -> bool {
        part != whole && self.get(&format!("{part}.{suffix}")).is_some()
    }

    /// Number of weights of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|t| (t.rows as u64).saturating_mul(t.cols as u64)).sum()
    }

    /// The type that stores the most weights.
    pub fn main_type(&self) -> Option<GgmlType> {
        let mut sums: BTreeMap<&'static str, (u64, GgmlType)> = BTreeMap::new();
        for tensor in self.tensors.values() {
            let entry = sums.entry(tensor.kind.name()).or_insert((0, tensor.kind));
            entry.0 = entry.0.saturating_add((tensor.rows as u64).saturating_mul(tensor.cols as u64));
        }
        sums.into_values().max_by_key(|(sum, _)| *sum).map(|(_, kind)| kind)
    }

    /// An error about the whole model; names its first file.
    pub fn invalid(&self, what: impl std::fmt::Display) -> ModelError {
        invalid(self.files.first().map_or(Path::new("the model"), PathBuf::as_path), what)
    }

    /// As `invalid`, for a valid file that cannot be run.
    pub fn unsupported(&self, what: impl std::fmt::Display) -> ModelError {
        ModelError::Unsupported(self.invalid(what).to_string())
    }

    fn path_of(&self, tensor: &PlannedTensor) -> &Path {
        &self.files[tensor.file]
    }
}
