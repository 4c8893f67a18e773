//! Opens weight files, and checks the type and the size that a header gives for one tensor.

use std::fs::File;
use std::path::Path;

use super::gguf::invalid;
use crate::engine::cpu::GgmlType;
use crate::engine::error::ModelError;

/// The type of a tensor; for an unsupported one, an error with the tensor's name and ggml's name of the type.
pub(super) fn ggml_type(path: &Path, name: &str, number: u32) -> Result<GgmlType, ModelError> {
    GgmlType::from_ggml(number).ok_or_else(|| {
        ModelError::Unsupported(format!(
            "{}: tensor {name:?} is stored as {}, which chatnap cannot read; it reads F32, F16, BF16, Q4_0, Q4_1, Q5_0, \
             Q5_1, Q8_0 and Q2_K to Q6_K: take another file of the model, for example Q4_K_M",
            path.display(),
            foreign_type_name(number)
        ))
    })
}

/// ggml's name of an unsupported type (`ggml.h`, enum `ggml_type`).
fn foreign_type_name(number: u32) -> String {
    let name = match number {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return format!("the unknown type {number}"),
    };
    name.into()
}

/// Size in bytes of a GGUF tensor, by checked arithmetic; 0 for an unsupported type, which `TensorPlan::from_gguf`
/// rejects: the file's vocabulary is still usable.
pub(super) fn byte_size(path: &Path, name: &str, number: u32, dimensions: &[usize]) -> Result<u64, ModelError> {
    let Some(kind) = GgmlType::from_ggml(number) else { return Ok(0) };
    let wraps = || invalid(path, format!("tensor {name:?} has dimensions {dimensions:?}, whose product is too large"));
    let count = dimensions.iter().try_fold(1_u64, |all, &d| all.checked_mul(d as u64)).ok_or_else(wraps)?;
    let contiguous = dimensions.first().copied().unwrap_or(1);
    if contiguous == 0 || count == 0 || !contiguous.is_multiple_of(kind.block_size()) {
        return Err(invalid(
            path,
            format!(
                "tensor {name:?} has dimensions {dimensions:?}, which {} blocks of {} do not fill",
                kind.name(),
                kind.block_size()
            ),
        ));
    }
    (count / kind.block_size() as u64).checked_mul(kind.block_bytes() as u64).ok_or_else(wraps)
}

/// Opens a regular file and returns its size in bytes. A pipe or a device could block for ever and is an error.
pub fn open_regular(path: &Path) -> Result<(File, u64), ModelError> {
    let io = |error: std::io::Error| ModelError::Io(format!("{}: {error}", path.display()));
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(ModelError::Io(format!("{}: this is not a plain file", path.display())));
    }
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    Ok((file, size))
}
