//! GGUF headers (v2, v3), checked against the file before anything is allocated.
//!
//! Format: `docs/gguf.md` of the ggml project.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::engine::model::ModelError;

/// A metadata value. Integers of every width are kept as `I64`/`U64`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    U64(u64),
    /// Any signed integer.
    I64(i64),
    /// Any float.
    F64(f64),
    /// A flag.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Vec<Value>),
    /// The common large arrays, kept flat.
    Strings(Vec<String>),
    /// An array of floats.
    Floats(Vec<f32>),
    /// An array of integers.
    Ints(Vec<i64>),
}

/// The key-value part of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// All pairs.
    pub values: HashMap<String, Value>,
}

impl Metadata {
    /// A string.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }
    /// A non-negative integer.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match *self.values.get(key)? {
            Value::U64(v) => Some(v),
            Value::I64(v) => u64::try_from(v).ok(),
            _ => None,
        }
    }
    /// A float (integers convert).
    pub fn float(&self, key: &str) -> Option<f64> {
        match *self.values.get(key)? {
            Value::F64(v) => Some(v),
            Value::U64(v) => Some(v as f64),
            Value::I64(v) => Some(v as f64),
            _ => None,
        }
    }
    /// A flag.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.values.get(key)? {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.values.get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }
    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.values.get(key)? {
            Value::Floats(v) => Some(v),
            _ => None,
        }
    }
    /// An array of integers.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        match self.values.get(key)? {
            Value::Ints(v) => Some(v),
            _ => None,
        }
    }
}

/// A header: metadata and where each tensor lies.
#[derive(Clone, Debug)]
pub struct Header {
    /// The key-value part.
    pub metadata: Metadata,
    /// Tensors by name.
    pub tensors: HashMap<String, TensorInfo>,
}

/// Where one tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions, innermost (contiguous) first, as GGUF stores them.
    pub dimensions: Vec<usize>,
    /// ggml type number.
    pub ggml_type: u32,
    /// Which of the split files.
    pub file: usize,
    /// Absolute byte offset in that file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Reads and checks the header of one file.
pub fn read_header(path: &Path) -> Result<Header, ModelError> {
    read_split_header(&[path.to_path_buf()])
}

/// Reads and checks the headers of a model's files, in order, into one.
pub fn read_split_header(paths: &[PathBuf]) -> Result<Header, ModelError> {
    let _ = paths;
    todo!("owner: models")
}
