//! GGUF headers (v2, v3), checked against the file before anything is allocated.
//!
//! Format: `docs/gguf.md` of the ggml project.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::engine::error::ModelError;

mod parse;

/// A metadata value. Integers of every width are kept as `I64`/`U64`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    U64(u64),
    /// Any signed integer.
    I64(i64),
    /// Any float.
    F64(f64),
    /// A flag; any non-zero byte is `true`.
    Bool(bool),
    /// Text; invalid UTF-8 is replaced by U+FFFD.
    String(String),
    /// An array of strings.
    Strings(Vec<String>),
    /// An array of floats; 64-bit ones are narrowed.
    Floats(Vec<f32>),
    /// An array of integers or flags; values above `i64::MAX` saturate.
    Ints(Vec<i64>),
}

/// The key-value part of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Values by key.
    pub values: HashMap<String, Value>,
}

impl Metadata {
    /// The string under `key`; `None` for another type.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }
    /// The non-negative integer under `key`.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match *self.values.get(key)? {
            Value::U64(v) => Some(v),
            Value::I64(v) => u64::try_from(v).ok(),
            _ => None,
        }
    }
    /// The float under `key` (integers convert).
    pub fn float(&self, key: &str) -> Option<f64> {
        match *self.values.get(key)? {
            Value::F64(v) => Some(v),
            Value::U64(v) => Some(v as f64),
            Value::I64(v) => Some(v as f64),
            _ => None,
        }
    }
    /// The flag under `key`.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.values.get(key)? {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
    /// The array of strings under `key`.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.values.get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }
    /// The array of floats under `key`.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.values.get(key)? {
            Value::Floats(v) => Some(v),
            _ => None,
        }
    }
    /// The array of integers under `key`.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        match self.values.get(key)? {
            Value::Ints(v) => Some(v),
            _ => None,
        }
    }
}

/// A header: metadata and the location of each tensor.
#[derive(Clone, Debug)]
pub struct Header {
    /// The key-value part, of the first file if the model is split.
    pub metadata: Metadata,
    /// Tensors by name.
    pub tensors: HashMap<String, TensorInfo>,
    /// The files, in order; `TensorInfo::file` is an index into them.
    pub files: Vec<PathBuf>,
}

/// Shape, type and location of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions, innermost (contiguous) first, as GGUF stores them.
    pub dimensions: Vec<usize>,
    /// Type number of ggml (`ggml.h`, enum `ggml_type`).
    pub ggml_type: u32,
    /// Index of the split file that holds it.
    pub file: usize,
    /// Absolute byte offset in that file.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Reads and checks the header of one file.
pub fn read_header(path: &Path) -> Result<Header, ModelError> {
    parse::read_file(path, 0)
}

/// Reads, checks and merges the headers of a model's files, in order. The metadata is that of the first file.
pub fn read_split_header(paths: &[PathBuf]) -> Result<Header, ModelError> {
    let Some((first, rest)) = paths.split_first() else {
        return Err(ModelError::Invalid("no GGUF file was named".into()));
    };
    let mut all = read_header(first)?;
    for (index, path) in rest.iter().enumerate() {
        let part = parse::read_file(path, index + 1)?;
        check_part(path, &part.metadata, index + 1, paths.len())?;
        for (name, tensor) in part.tensors {
            if all.tensors.insert(name.clone(), tensor).is_some() {
                return Err(invalid(path, format!("tensor {name:?} is in an earlier part too")));
            }
        }
        all.files.push(path.clone());
    }
    Ok(all)
}

/// Rejects a header with missing parts, by the first file's counts: parts are found by name, and files get renamed.
pub fn check_whole(header: &Header) -> Result<(), ModelError> {
    let path = header.files.first().map_or(Path::new("the model"), PathBuf::as_path);
    let (files, tensors) = (header.files.len() as u64, header.tensors.len() as u64);
    match (header.metadata.uint("split.count"), header.metadata.uint("split.tensors.count")) {
        (Some(count), _) if count > 1 && count != files => Err(invalid(
            path,
            format!(
                "the model is split into {count} files and {files} of them were found; put all of them side by side, with the \
                 names that they came with (…-00001-of-{count:05}.gguf)"
            ),
        )),
        (_, Some(count)) if files > 1 && count != tensors => Err(invalid(
            path,
            format!("the first file counts {count} tensors in all parts, but they hold {tensors}; fetch it again"),
        )),
        _ => Ok(()),
    }
}

/// `split.no` and `split.count` of a further part, if present, must match its position and the number of files.
fn check_part(path: &Path, metadata: &Metadata, index: usize, count: usize) -> Result<(), ModelError> {
    for (key, expected) in [("split.no", index), ("split.count", count)] {
        if let Some(value) = metadata.uint(key)
            && value != expected as u64
        {
            return Err(invalid(path, format!("{key} is {value}, but {expected} was expected for this part")));
        }
    }
    Ok(())
}

/// The files of a model whose first file is `first`: itself, or all of `NAME-00001-of-00003.gguf`, ….
pub fn split_files(first: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let name = first.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some((stem, index, count)) = split_name(name) else {
        return Ok(vec![first.to_path_buf()]);
    };
    if index != 1 || count == 0 {
        return Err(ModelError::Invalid(format!(
            "{} is part {index} of {count}; name the first part instead",
            first.display()
        )));
    }
    let parts: Vec<_> =
        (1..=count).map(|i| first.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect();
    match parts.iter().find(|part| !part.is_file()) {
        None => Ok(parts),
        Some(part) => Err(ModelError::Invalid(format!(
            "{} is split into {count} files and {} is missing",
            first.display(),
            part.display()
        ))),
    }
}

/// `NAME-00001-of-00003.gguf` → (`NAME`, 1, 3).
fn split_name(name: &str) -> Option<(&str, u32, u32)> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let digits = |s: &str| (s.len() == 5).then(|| s.parse().ok()).flatten();
    Some((stem, digits(index)?, digits(count)?))
}

/// An error that names the file.
pub(crate) fn invalid(path: &Path, what: impl std::fmt::Display) -> ModelError {
    ModelError::Invalid(format!("{}: {what}", path.display()))
}

/// An error about a file that ends too early: names the file, the fault and the remedy, a new download.
pub(crate) fn truncated(path: &Path, what: impl std::fmt::Display) -> ModelError {
    ModelError::Truncated(format!("{}: the file is truncated or damaged: {what}; fetch it again", path.display()))
}

#[cfg(test)]
mod tests;
