//! Parses the bytes of a GGUF header. Every count and length is checked against the file size before anything of
//! that size is allocated: a hostile header costs at most a small multiple of its own bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{Header, Metadata, TensorInfo, Value, invalid, truncated};
use crate::engine::cpu::zeroed_vec;
use crate::engine::error::ModelError;
use crate::engine::weights::file::{byte_size, open_regular};
use crate::engine::weights::file_kind;

/// Bytes: far above any real header (a vocabulary of 262,144 tokens takes 12 MB), far below what exhausts memory.
const MAX_HEADER: u64 = 512 << 20;
const MAX_ARRAY: u64 = 1 << 24;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_PAIRS: u64 = 1 << 16;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Reads the header of one file; `index` is its position among the split files.
pub(super) fn read_file(path: &Path, index: usize) -> Result<Header, ModelError> {
    let (file, size) = open_regular(path)?;
    let mut cursor = Cursor { reader: BufReader::with_capacity(1 << 18, file), at: 0, size, path };
    let (tensor_count, pair_count) = cursor.preamble()?;
    let mut metadata = Metadata::default();
    for _ in 0..pair_count {
        let key = cursor.string()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind, &key)?;
        if metadata.values.insert(key.clone(), value).is_some() {
            return Err(invalid(path, format!("the key {key:?} comes twice")));
        }
    }
    let mut tensors = HashMap::new();
    for _ in 0..tensor_count {
        let (name, tensor) = cursor.tensor(index)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(invalid(path, format!("the tensor {name:?} comes twice")));
        }
    }
    place(path, &metadata, &mut tensors, cursor.at, size)?;
    Ok(Header { metadata, tensors, files: vec![path.to_path_buf()] })
}

/// Makes the offsets absolute, and checks that tensors are within the file, aligned and do not overlap.
fn place(
    path: &Path,
    metadata: &Metadata,
    tensors: &mut HashMap<String, TensorInfo>,
    header_end: u64,
    size: u64,
) -> Result<(), ModelError> {
    let alignment = match metadata.values.get("general.alignment") {
        None => 32,
        Some(_) => metadata.uint("general.alignment").unwrap_or(0),
    };
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(invalid(
            path,
            format!("general.alignment is {alignment}, not a power of two up to {MAX_ALIGNMENT}"),
        ));
    }
    let data = header_end.next_multiple_of(alignment);
    let mut spans = Vec::with_capacity(tensors.len());
    // Sorted by offset, not in hash order: a file with several faults yields the same error in each run.
    let mut in_order: Vec<_> = tensors.iter_mut().collect();
    in_order.sort_by(|(a, one), (b, other)| (one.offset, *a).cmp(&(other.offset, *b)));
    for (name, tensor) in in_order {
        if tensor.offset % alignment != 0 {
            return Err(invalid(path, format!("tensor {name:?} is not aligned to {alignment} bytes")));
        }
        let start = data.checked_add(tensor.offset);
        let end = start.and_then(|start| start.checked_add(tensor.size));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => {
                tensor.offset = start;
                spans.push((start, end, name.as_str()));
            }
            _ => {
                let (bytes, offset) = (tensor.size, tensor.offset);
                let what =
                    format!("it has {size} bytes, and tensor {name:?} takes {bytes} from byte {offset} of the data on");
                return Err(truncated(path, what));
            }
        }
    }
    spans.sort_unstable();
    match spans.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        None => Ok(()),
        Some(pair) => Err(invalid(path, format!("tensors {:?} and {:?} overlap", pair[0].2, pair[1].2))),
    }
}

/// Reads forward, never past the file's end or `MAX_HEADER`.
struct Cursor<'a> {
    reader: BufReader<File>,
    at: u64,
    size: u64,
    path: &'a Path,
}

impl Cursor<'_> {
    fn remaining(&self) -> u64 {
        self.size.min(MAX_HEADER).saturating_sub(self.at)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), ModelError> {
        if out.len() as u64 > self.remaining() {
            return Err(self.cut());
        }
        self.reader.read_exact(out).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.cut(),
            _ => ModelError::Io(format!("{}: {error}", self.path.display())),
        })?;
        self.at += out.len() as u64;
        Ok(())
    }

    fn cut(&self) -> ModelError {
        truncated(self.path, format!("its header does not end within its {} bytes", self.size))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Magic, version and the two counts.
    fn preamble(&mut self) -> Result<(u64, u64), ModelError> {
        if self.size < 4 || &self.array::<4>()? != b"GGUF" {
            let what = file_kind::describe(self.path).map_or(String::new(), |what| format!("; {what}"));
            return Err(invalid(self.path, format!("this is not a GGUF file{what}")));
        }
        match self.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 && version > 3 => {
                return Err(ModelError::Unsupported(format!(
                    "{}: big-endian GGUF is not supported",
                    self.path.display()
                )));
            }
            version => {
                return Err(ModelError::Unsupported(format!(
                    "{}: GGUF version {version} is not supported (2 and 3 are)",
                    self.path.display()
                )));
            }
        }
        // A tensor takes at least 24 bytes of header and a pair at least 13.
        let tensors = self.count("tensors", 24, MAX_TENSORS)?;
        let pairs = self.count("keys", 13, MAX_PAIRS)?;
        Ok((tensors, pairs))
    }

    /// Reads a count of items that take at least `least` bytes each; an error if it exceeds `most` or the file size.
    fn count(&mut self, what: &str, least: u64, most: u64) -> Result<u64, ModelError> {
        let count = self.u64()?;
        if count > most {
            return Err(invalid(self.path, format!("the header counts {count} {what}; at most {most} are allowed")));
        }
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.remaining()) {
            let counted = format!("the header counts {count} {what}, more than its {} bytes can hold", self.size);
            return Err(truncated(self.path, counted));
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String, ModelError> {
        let length = self.count("bytes of text", 1, u64::MAX)?;
        let mut bytes = zeroed_vec(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.fill(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A value of ggml metadata type `kind`.
    fn value(&mut self, kind: u32, key: &str) -> Result<Value, ModelError> {
        match kind {
            8 => Ok(Value::String(self.string()?)),
            9 => self.list(key),
            _ => self.scalar(kind, key),
        }
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::U64(self.array::<1>()?[0].into()),
            1 => Value::I64(i8::from_le_bytes(self.array()?).into()),
            2 => Value::U64(u16::from_le_bytes(self.array()?).into()),
            3 => Value::I64(i16::from_le_bytes(self.array()?).into()),
            4 => Value::U64(self.u32()?.into()),
            5 => Value::I64(i32::from_le_bytes(self.array()?).into()),
            6 => Value::F64(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            9 => return Err(invalid(self.path, format!("the key {key:?} holds arrays within an array"))),
            _ => return Err(invalid(self.path, format!("the key {key:?} has the unknown type {kind}"))),
        })
    }

    /// An array; all integer widths, and flags, become `i64`. Nested arrays are an error.
    fn list(&mut self, key: &str) -> Result<Value, ModelError> {
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return self.scalar(kind, key),
        };
        let count = self.count("array elements", least, MAX_ARRAY)?;
        // The vectors grow while reading: an element takes more memory than its `least` bytes in the file.
        let capacity = count.min(1 << 16) as usize;
        match kind {
            8 => {
                let mut all = Vec::with_capacity(capacity);
                for _ in 0..count {
                    all.push(self.string()?);
                }
                Ok(Value::Strings(all))
            }
            6 | 12 => {
                let mut all = Vec::with_capacity(capacity);
                for _ in 0..count {
                    all.push(match self.scalar(kind, key)? {
                        Value::F64(v) => v as f32,
                        _ => 0.0,
                    });
                }
                Ok(Value::Floats(all))
            }
            _ => {
                let mut all = Vec::with_capacity(capacity);
                for _ in 0..count {
                    all.push(match self.scalar(kind, key)? {
                        Value::I64(v) => v,
                        Value::U64(v) => i64::try_from(v).unwrap_or(i64::MAX),
                        Value::Bool(v) => v.into(),
                        _ => 0,
                    });
                }
                Ok(Value::Ints(all))
            }
        }
    }

    /// One tensor; its offset is relative to the data section.
    fn tensor(&mut self, file: usize) -> Result<(String, TensorInfo), ModelError> {
        let name = self.string()?;
        let rank = self.u32()?;
        if rank > 4 {
            return Err(invalid(self.path, format!("tensor {name:?} has {rank} dimensions (at most 4)")));
        }
        let mut dimensions = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            let length = self.u64()?;
            let Ok(length) = usize::try_from(length) else {
                return Err(invalid(self.path, format!("tensor {name:?} has a dimension of {length}")));
            };
            dimensions.push(length);
        }
        let ggml_type = self.u32()?;
        let offset = self.u64()?;
        let size = byte_size(self.path, &name, ggml_type, &dimensions)?;
        Ok((name, TensorInfo { dimensions, ggml_type, file, offset, size }))
    }
}
