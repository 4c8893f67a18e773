//! Safetensors: the header of a file and the index of several files, compared with the crate `safetensors`.
//!
//! Input: an index (may be empty), a separator, a little-endian u32 with the number of data bytes after the header (its
//! top byte is ignored), 8 bytes that are added to the header's true length (0 in valid files), and the header's JSON.

use std::time::Duration;

use ::safetensors::SafeTensors;
use chatnap::engine::weights::plan::{PlannedTensor, TensorPlan};
use chatnap::engine::weights::safetensors::{read_folder, read_folder_as_named};
use serde_json::json;

use super::{SEPARATOR, Target, folder, parts, references, take, write_padded};

pub const TARGET: Target = Target {
    name: "safetensors",
    cases: 1000,
    time: Duration::from_secs(2),
    memory: 64 << 20,
    words: &[
        "__metadata__",
        "dtype",
        "shape",
        "data_offsets",
        "F32",
        "F16",
        "BF16",
        "I64",
        "F8_E4M3",
        "weight_map",
        "metadata",
        "model.safetensors",
        "model-00001-of-00001.safetensors",
        "../model.safetensors",
        "/etc/passwd",
        ".",
        "..",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "lm_head.weight",
        "[18446744073709551615,2]",
        "[4294967296,4294967296]",
        "[0,0]",
        "[]",
    ],
    seeds,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = references("model.safetensors")
        .iter()
        .map(|folder| {
            let (header, data) = header_of(&folder.join("model.safetensors"));
            input("", data, &header)
        })
        .collect();
    let index = json!({"metadata": {"total_size": 8}, "weight_map": {"a.weight": "model.safetensors"}}).to_string();
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b.weight": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [8, 11]},
        "c": {"dtype": "F32", "shape": [], "data_offsets": [11, 15]},
    });
    seeds.push(input(&index, 15, header.to_string().as_bytes()));
    seeds
}

/// The largest file in bytes that is compared: the crate needs the whole file in memory.
const MOST_COMPARED: u64 = 1 << 20;

/// The JSON of the header of a file, and the number of bytes after it.
pub fn header_of(path: &std::path::Path) -> (Vec<u8>, u32) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (bytes[8..8 + length].to_vec(), (bytes.len() - 8 - length) as u32)
}

fn input(index: &str, zeros: u32, header: &[u8]) -> Vec<u8> {
    [index.as_bytes(), &[SEPARATOR], &zeros.to_le_bytes(), &[0; 8], header].concat()
}

fn run(input: &[u8]) -> bool {
    let [index, rest] = parts(input);
    let ([a, b, c, _], rest) = take(rest);
    let (more, header) = take(rest);
    let length = (header.len() as u64).wrapping_add(u64::from_le_bytes(more));
    let bytes = [&length.to_le_bytes(), header].concat();
    let folder = folder(&[("model.safetensors.index.json", index)]);
    let mut size = 0;
    for name in ["model.safetensors", "model-00001-of-00001.safetensors"] {
        size = write_padded(&folder.path().join(name), &bytes, u32::from_le_bytes([a, b, c, 0]).into());
    }
    let plans = [true, false].map(|around| read_folder(folder.path(), around));
    for plan in plans.iter().flatten() {
        check(plan, folder.path(), size);
    }
    let named = read_folder_as_named(folder.path());
    if let Ok(plan) = &named {
        check(plan, folder.path(), size);
    }
    if index.is_empty() && header.len() as u64 == length && size <= MOST_COMPARED {
        let whole = [&bytes[..], &vec![0; (size - bytes.len() as u64) as usize]].concat();
        compare(&whole, named.as_ref().ok());
    }
    named.is_ok()
}

fn check(plan: &TensorPlan, folder: &std::path::Path, size: u64) {
    assert!(plan.files.iter().all(|file| file.parent() == Some(folder)), "{:?}", plan.files);
    for (name, tensor) in &plan.tensors {
        let PlannedTensor { offset, bytes, kind, rows, cols, .. } = *tensor;
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= size), "{name:?}: {tensor:?}");
        assert_eq!(rows as u64 * cols as u64 * kind.block_bytes() as u64, bytes, "{name:?}: {tensor:?}");
    }
}

/// Files that the crate accepts must be accepted here, except for empty tensors and duplicate names. If both accept it,
/// the results must be equal.
fn compare(bytes: &[u8], ours: Option<&TensorPlan>) {
    let Ok((length, theirs)) = SafeTensors::read_metadata(bytes) else { return };
    let all = theirs.tensors();
    let ours = match ours {
        Some(ours) => ours,
        // The crate keeps one tensor of a duplicate name; the bytes of the other are unused, or it is empty.
        None if all.values().any(|tensor| tensor.data_offsets.0 == tensor.data_offsets.1) => return,
        None if bytes[8..8 + length].iter().filter(|&&byte| byte == b'{').count() > all.len() + 1 => return,
        None => panic!("refused, but the crate reads {all:?}"),
    };
    for (name, tensor) in &ours.tensors {
        let other = all[name];
        let begin = 8 + length as u64 + other.data_offsets.0 as u64;
        let elements: usize = other.shape.iter().product();
        assert_eq!((tensor.offset, tensor.rows * tensor.cols), (begin, elements), "{name:?}");
    }
}
