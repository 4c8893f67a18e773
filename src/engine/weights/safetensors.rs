//! Safetensors folders: reads and checks the headers of one or more shards, and maps tensor names to GGUF's.
//!
//! Format: the README of huggingface/safetensors. Reads headers only, no weights.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::file::open_regular;
use super::gguf::{invalid, truncated};
use super::plan::{PlannedTensor, TensorPlan};
use super::{file_kind, json};
use crate::engine::cpu::{GgmlType, zeroed_vec};
use crate::engine::error::ModelError;

/// Bytes; the limit of huggingface/safetensors itself.
const MAX_HEADER: u64 = 100_000_000;

/// Reads a folder's headers into a plan. `norms_around_ffn`: the family has a norm after attention and another one
/// before the feed-forward part (Gemma), which changes the meaning of `post_attention_layernorm`.
pub fn read_folder(folder: &Path, norms_around_ffn: bool) -> Result<TensorPlan, ModelError> {
    plan(folder, |foreign| gguf_name(foreign, norms_around_ffn))
}

/// As `read_folder`, with the tensor names of the files.
pub fn read_folder_as_named(folder: &Path) -> Result<TensorPlan, ModelError> {
    plan(folder, |foreign| Some(foreign.to_owned()))
}

fn plan(folder: &Path, rename: impl Fn(&str) -> Option<String>) -> Result<TensorPlan, ModelError> {
    let mut plan = TensorPlan { files: shards(folder)?, ..TensorPlan::default() };
    for (index, path) in plan.files.iter().enumerate() {
        for (foreign, tensor) in read_file(path, index)? {
            let Some(name) = rename(&foreign) else {
                plan.strange.push(foreign);
                continue;
            };
            let twice = match tensor {
                Stored::Readable(tensor) => plan.tensors.insert(name, tensor).is_some(),
                Stored::As(kind) => plan.unreadable.insert(name, kind).is_some(),
            };
            if twice {
                return Err(invalid(path, format!("the tensor {foreign:?} is there twice")));
            }
        }
    }
    Ok(plan)
}

/// The safetensors files of a folder: those listed in its index, or `model.safetensors`.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        let json: Value = read_json(&index)?;
        let map = json.get("weight_map").and_then(Value::as_object).into_iter().flatten();
        let named: Option<Vec<_>> = map.map(|(_, file)| file.as_str().map(str::to_owned)).collect();
        let mut names = named.filter(|names| !names.is_empty()).ok_or_else(|| {
            invalid(&index, "it names no files under \"weight_map\", so it is not a model's index; fetch it again")
        })?;
        names.sort();
        names.dedup();
        if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1 || name.contains("..")) {
            return Err(invalid(&index, format!("it names {name:?}, which is not a file of the folder")));
        }
        let paths: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
        return match paths.iter().find(|path| !path.is_file()) {
            Some(missing) => {
                Err(invalid(missing, "this part of the model, which the index names, is missing; fetch it again"))
            }
            None => Ok(paths),
        };
    }
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
    let hint = match pickled.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => format!(
            ": its weights are in {name}, a pickle, which chatnap does not read; take a safetensors or GGUF file of the model"
        ),
        None => "; fetch the one that belongs to the model".to_owned(),
    };
    Err(invalid(folder, format!("the folder has neither model.safetensors nor model.safetensors.index.json{hint}")))
}

/// Reads a JSON file of at most 100 MB.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let (file, size) = open_regular(path)?;
    if size > MAX_HEADER {
        return Err(invalid(path, format!("{size} bytes are too many for a JSON file of a model")));
    }
    let mut text = Vec::with_capacity(size as usize);
    file.take(MAX_HEADER).read_to_end(&mut text).map_err(|e| ModelError::Io(format!("{}: {e}", path.display())))?;
    json::from_slice(&text).map_err(|error| no_json(path, &text, &error))
}

/// An error about invalid JSON: names the actual format if it is recognised, otherwise the syntax error.
pub(crate) fn no_json(path: &Path, text: &[u8], error: &serde_json::Error) -> ModelError {
    match file_kind::of_bytes(text) {
        Some(what) => invalid(path, format!("this is not JSON; {what}")),
        None => invalid(path, format!("{error}; fetch the file again")),
    }
}

/// One tensor's entry in the header; `data_offsets` are relative to the end of the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header as pairs in file order: a map would hide duplicate names.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        all.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(all))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A tensor of a supported type, or the name of an unsupported type.
enum Stored {
    Readable(PlannedTensor),
    As(String),
}

/// The tensors of one file, with the names in the file.
fn read_file(path: &Path, index: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    read_header(path, index).map_err(|error| match file_kind::describe(path) {
        Some(what) if what != file_kind::SAFETENSORS => {
            invalid(path, format!("this is not a safetensors file; {what}"))
        }
        _ => error,
    })
}

fn read_header(path: &Path, index: usize) -> Result<Vec<(String, Stored)>, ModelError> {
    let (mut file, size) = open_regular(path)?;
    let io = |error: std::io::Error| invalid(path, format!("the header cannot be read: {error}"));
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > size.saturating_sub(8) {
        return Err(truncated(path, format!("it has {size} bytes, and its header alone claims {length}")));
    }
    let mut text = zeroed_vec(usize::try_from(length).unwrap_or(usize::MAX))?;
    file.read_exact(&mut text).map_err(io)?;
    let Entries(entries) = serde_json::from_slice(&text).map_err(|e| invalid(path, format!("the header: {e}")))?;
    let data = 8 + length;
    let mut spans = Vec::with_capacity(entries.len());
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (begin, end) = entry.data_offsets;
        if begin > end || end > size - data {
            let what = format!("tensor {name:?} claims bytes {begin} to {end} of its data, which has {}", size - data);
            return Err(truncated(path, what));
        }
        spans.push((begin, end));
        let tensor = planned(path, &name, &entry, index, data)?;
        tensors.push((name, tensor));
    }
    spans.sort_unstable();
    if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(invalid(path, "tensors overlap"));
    }
    Ok(tensors)
}

fn planned(path: &Path, name: &str, entry: &Entry, file: usize, data: u64) -> Result<Stored, ModelError> {
    let kind = match entry.dtype.as_str() {
        "BF16" => GgmlType::BF16,
        "F16" => GgmlType::F16,
        "F32" => GgmlType::F32,
        other => return Ok(Stored::As(other.to_owned())),
    };
    let wrong = || invalid(path, format!("tensor {name:?}: shape {:?} and its bytes do not agree", entry.shape));
    let count = entry.shape.iter().try_fold(1_u64, |all, &d| all.checked_mul(d)).ok_or_else(wrong)?;
    let bytes = count.checked_mul(kind.block_bytes() as u64).ok_or_else(wrong)?;
    let (begin, end) = entry.data_offsets;
    if bytes != end - begin {
        return Err(wrong());
    }
    if bytes == 0 {
        return Ok(Stored::As(format!("{:?}, no numbers at all", entry.shape)));
    }
    let cols = entry.shape.last().copied().unwrap_or(1);
    let rows = (count / cols) as usize;
    Ok(Stored::Readable(PlannedTensor { file, offset: data + begin, bytes, kind, rows, cols: cols as usize }))
}

/// The GGUF name of a tensor of a `transformers` checkpoint; `None` if no supported text model uses it.
fn gguf_name(foreign: &str, norms_around_ffn: bool) -> Option<String> {
    let rest = ["model.language_model.", "language_model.model.", "language_model.", "model."]
        .iter()
        .find_map(|prefix| foreign.strip_prefix(prefix))
        .unwrap_or(foreign);
    let (module, part) = rest.rsplit_once('.')?;
    if part != "weight" && part != "bias" {
        return None;
    }
    let top = match module {
        "embed_tokens" => Some("token_embd"),
        "norm" => Some("output_norm"),
        "lm_head" => Some("output"),
        _ => None,
    };
    if let Some(top) = top {
        return Some(format!("{top}.{part}"));
    }
    let (layer, module) = module.strip_prefix("layers.")?.split_once('.')?;
    layer.parse::<u32>().ok()?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" if norms_around_ffn => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        // Phi-3 stores gate and up as one matrix; GGUF calls it `ffn_up` too.
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{part}"))
}
