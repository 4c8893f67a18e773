//! Malformed headers: each must be an error, never a panic, a huge allocation or a wrong tensor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::engine::cpu::GgmlType;
use crate::engine::weights::plan::TensorPlan;
use crate::engine::weights::testing::{GgufWriter, Meta, Random, StoredTensor, Tensors};

fn sample() -> (GgufWriter, Tensors) {
    let pairs = vec![
        ("general.architecture".to_owned(), Meta::Text("llama".into())),
        ("llama.block_count".to_owned(), Meta::U32(1)),
        ("llama.rope.freq_base".to_owned(), Meta::F32(1e4)),
    ];
    let mut random = Random(7);
    let tensors = ["a.weight", "b.weight", "c.weight"]
        .map(|name| (name.to_owned(), StoredTensor::random(&mut random, 3, 64, GgmlType::Q4_0)));
    (GgufWriter::new(pairs), tensors.into_iter().collect())
}

fn read(bytes: &[u8]) -> Result<Header, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    std::fs::write(&path, bytes).unwrap();
    read_header(&path)
}

fn complaint(bytes: &[u8]) -> String {
    let error = read(bytes).expect_err("this should not have been read");
    assert!(error.to_string().contains("x.gguf"), "{error}");
    error.to_string()
}

/// The file with the first `old` overwritten by `new`.
fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut out = bytes.to_vec();
    out[at..at + new.len()].copy_from_slice(new);
    out
}

/// A header with the single key `k` of type `kind`; `value` is its encoding.
fn with_value(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b'k');
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes
}

#[test]
fn a_valid_header_reads_back_in_versions_2_and_3() {
    let (mut writer, tensors) = sample();
    for version in [2, 3] {
        writer.version = version;
        let bytes = writer.bytes(&tensors);
        let header = read(&bytes).unwrap();
        assert_eq!(header.metadata.string("general.architecture"), Some("llama"));
        assert_eq!(header.metadata.uint("llama.block_count"), Some(1));
        assert_eq!(header.metadata.float("llama.rope.freq_base"), Some(1e4));
        for (name, tensor) in &tensors {
            let info = &header.tensors[name];
            assert_eq!(info.dimensions, [64, 3]);
            let start = info.offset as usize;
            assert_eq!(&bytes[start..start + info.size as usize], &tensor.bytes[..]);
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let (writer, tensors) = sample();
    let bytes = writer.bytes(&tensors);
    let used = read(&bytes).unwrap().tensors.values().map(|t| t.offset + t.size).max().unwrap() as usize;
    for length in 0..used {
        assert!(read(&bytes[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn a_truncated_file_names_its_first_tensor_and_the_remedy() {
    let (writer, tensors) = sample();
    let bytes = writer.bytes(&tensors);
    let header = read(&bytes).unwrap();
    let first = header.tensors.iter().min_by_key(|(_, tensor)| tensor.offset).unwrap();
    // All three are beyond the end; iterating in hash order would name a different one in each run.
    for _ in 0..20 {
        let said = complaint(&bytes[..first.1.offset as usize]);
        assert!(said.contains(&format!("{:?}", first.0)), "{said}");
        assert_eq!(said.matches("x.gguf").count(), 1, "{said}");
        assert!(said.ends_with("fetch it again"), "{said}");
    }
    let in_the_header = read(&bytes[..60]).unwrap_err();
    assert!(
        matches!(&in_the_header, ModelError::Truncated(text) if text.ends_with("fetch it again")),
        "{in_the_header}"
    );
}

#[test]
fn wrong_magic_version_and_counts_are_errors() {
    let (writer, tensors) = sample();
    let bytes = writer.bytes(&tensors);
    assert!(complaint(b"PK\x03\x04 this is a zip file, not a model").contains("not a GGUF"));
    assert!(complaint(&patched(&bytes, b"GGUF\x03\0\0\0", b"GGUF\x01\0\0\0")).contains("version 1"));
    assert!(complaint(&patched(&bytes, b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03")).contains("big-endian"));
    let mut huge = bytes.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(complaint(&huge).contains("tensors"));
    let mut huge = bytes.clone();
    huge[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(complaint(&huge).contains("keys"));
}

#[test]
fn hostile_values_are_errors() {
    let text = |length: u64| [&length.to_le_bytes()[..], b"abc"].concat();
    assert!(complaint(&with_value(8, &text(u64::MAX))).contains("text"));
    assert!(complaint(&with_value(8, &text(4))).contains("text"));
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()[..], &[0; 64]].concat();
    assert!(complaint(&with_value(9, &array(0, u64::MAX))).contains("array"));
    assert!(complaint(&with_value(9, &array(10, u64::MAX / 8 + 2))).contains("array"));
    assert!(complaint(&with_value(9, &array(9, 1))).contains("arrays within"));
    assert!(complaint(&with_value(9, &array(77, 1))).contains("unknown type"));
    assert!(complaint(&with_value(13, &[0; 8])).contains("unknown type"));
    assert!(read(&with_value(9, &array(0, 64))).is_ok());
}

#[test]
fn duplicate_keys_and_tensors_are_errors() {
    let (mut writer, tensors) = sample();
    writer.pairs.push(("llama.block_count".into(), Meta::U32(9)));
    assert!(complaint(&writer.bytes(&tensors)).contains("twice"));
    let (writer, tensors) = sample();
    assert!(complaint(&patched(&writer.bytes(&tensors), b"b.weight", b"a.weight")).contains("twice"));
}

#[test]
fn an_invalid_alignment_is_an_error() {
    for alignment in [0, 3, 48, 1 << 30] {
        let (mut writer, tensors) = sample();
        writer.pairs.push(("general.alignment".into(), Meta::U32(alignment)));
        assert!(complaint(&writer.bytes(&tensors)).contains("alignment"), "{alignment}");
    }
}

/// Position of a tensor's entry behind its name: rank, dimensions, type, offset.
fn entry(bytes: &[u8], name: &[u8]) -> usize {
    bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len()
}

#[test]
fn inconsistent_tensor_entries_are_errors() {
    let (writer, tensors) = sample();
    let bytes = writer.bytes(&tensors);
    let at = entry(&bytes, b"b.weight");
    let changed = |from: usize, new: &[u8]| {
        let mut out = bytes.clone();
        out[at + from..at + from + new.len()].copy_from_slice(new);
        out
    };
    assert!(complaint(&changed(0, &9_u32.to_le_bytes())).contains("dimensions"));
    // 2^63 × 4 wraps to 0 in 64 bits.
    let wrapping = [(1_u64 << 63).to_le_bytes(), 4_u64.to_le_bytes()].concat();
    assert!(complaint(&changed(4, &wrapping)).contains("too large"));
    assert!(complaint(&changed(4, &0_u64.to_le_bytes())).contains("b.weight"));
    assert!(complaint(&changed(4, &33_u64.to_le_bytes())).contains("do not fill"));
    assert!(complaint(&changed(12, &(1_u64 << 40).to_le_bytes())).contains("truncated"));
    // The header is read all the same, so that a tokenizer can be taken from such a file; the plan is the error.
    for (kind, name) in
        [(23, "IQ4_XS"), (28, "F64"), (34, "TQ1_0"), (39, "MXFP4"), (31, "Q4_0_4_4"), (4000, "unknown type 4000")]
    {
        let header = read(&changed(20, &u32::to_le_bytes(kind))).unwrap();
        let error = TensorPlan::from_gguf(&header).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("b.weight") && error.contains("x.gguf"), "{error}");
    }
    assert!(complaint(&changed(24, &0_u64.to_le_bytes())).contains("overlap"));
    assert!(complaint(&changed(24, &1_u64.to_le_bytes())).contains("aligned"));
    assert!(complaint(&changed(24, &(u64::MAX - 31).to_le_bytes())).contains("truncated"));
}

#[test]
fn a_folder_a_missing_file_and_a_device_are_io_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_header(folder.path()), Err(ModelError::Io(_))));
    assert!(matches!(read_header(&folder.path().join("none.gguf")), Err(ModelError::Io(_))));
    assert!(matches!(read_header(Path::new("/dev/zero")), Err(ModelError::Io(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With any few bytes of the header changed, reading ends, and accepted tensors are within the file.
    #[test]
    fn mutated_headers_never_panic(changes in prop::collection::vec((0_usize..330, any::<u8>()), 1..6)) {
        let (writer, tensors) = sample();
        let mut bytes = writer.bytes(&tensors);
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(header) = read(&bytes) {
            for tensor in header.tensors.values() {
                prop_assert!(tensor.offset + tensor.size <= bytes.len() as u64);
            }
        }
    }
}
