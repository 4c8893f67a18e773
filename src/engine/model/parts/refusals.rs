//! Table of everything that the loaders reject, each with the reason and a file that triggers it; and of what they
//! accept, with or without a warning. The rule is in `engine::weights`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;
use crate::engine::cpu::GgmlType;
use crate::engine::weights::testing::{GgufWriter, Meta, Scaling, Spec, StoredTensor, Tensors};

/// An input that a loader rejects.
struct Refusal {
    what: &'static str,
    /// Why it could make answers wrong or the machine unsafe, or why it is unusable.
    reason: &'static str,
    /// Substrings of the message, besides the file name.
    says: &'static [&'static str],
    make: fn(&Path) -> ModelFiles,
}

/// A GGUF file of a small model, modified by `change`.
fn gguf(folder: &Path, spec: &Spec, change: impl FnOnce(&mut GgufWriter, &mut Tensors)) -> ModelFiles {
    let (mut writer, mut tensors) = (spec.gguf(), spec.tensors());
    change(&mut writer, &mut tensors);
    ModelFiles::Gguf(vec![writer.write(folder, &tensors)])
}

fn llama() -> Spec {
    Spec { kind: GgmlType::BF16, ..Spec::new("llama") }
}

/// A GGUF file with `key` (after the architecture prefix) set.
fn with_key(folder: &Path, spec: &Spec, key: &str, value: Meta) -> ModelFiles {
    gguf(folder, spec, |writer, _| {
        let key = if key.starts_with("general.") { key.to_owned() } else { format!("{}.{key}", spec.architecture) };
        writer.pairs.retain(|(name, _)| *name != key);
        writer.pairs.push((key, value));
    })
}

/// A GGUF file with one additional tensor.
fn with_tensor(folder: &Path, spec: &Spec, name: &str) -> ModelFiles {
    gguf(folder, spec, |_, tensors| {
        let vector = StoredTensor::floats(&[0.5; 256], 1, 256, true, GgmlType::F32);
        tensors.insert(name.into(), vector);
    })
}

/// A file with these bytes and the name `model.gguf`.
fn named_gguf(folder: &Path, bytes: &[u8]) -> ModelFiles {
    let path = folder.join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    ModelFiles::Gguf(vec![path])
}

/// A folder with its `config.json` modified by `change`.
fn folder(folder: &Path, spec: &Spec, change: impl FnOnce(&mut Map<String, Value>)) -> ModelFiles {
    spec.write_folder(folder, &spec.tensors(), 1);
    let path = folder.join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, Value::Object(config).to_string()).unwrap();
    ModelFiles::Safetensors(folder.to_path_buf())
}

fn with_config(at: &Path, key: &str, value: Value) -> ModelFiles {
    folder(at, &llama(), |config| drop(config.insert(key.into(), value)))
}

/// A folder with one additional tensor of zeros.
fn with_foreign_tensor(at: &Path, name: &str, dtype: &str, bytes: usize) -> ModelFiles {
    let files = folder(at, &llama(), |_| {});
    change_header(at, |header, end| {
        let shape = if dtype == "F32" { vec![bytes / 4] } else { vec![bytes] };
        header.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]}));
        bytes
    });
    files
}

/// A folder with the type of the tensor `name` set to `dtype` in the header.
fn with_type(at: &Path, name: &str, dtype: &str) -> ModelFiles {
    let files = folder(at, &llama(), |_| {});
    change_header(at, |header, _| {
        header[name]["dtype"] = dtype.into();
        0
    });
    files
}

/// Modifies the header of `model.safetensors`; `change` receives the length of the data and returns how many bytes of
/// zeros to append.
fn change_header(at: &Path, change: impl FnOnce(&mut Map<String, Value>, usize) -> usize) {
    let path = at.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let mut header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let more = change(&mut header, data.len());
    let header = Value::Object(header).to_string();
    let whole = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data, &vec![0; more]].concat();
    std::fs::write(path, whole).unwrap();
}

/// A folder with one file replaced.
fn with_file(at: &Path, name: &str, bytes: &[u8]) -> ModelFiles {
    let files = folder(at, &llama(), |_| {});
    std::fs::write(at.join(name), bytes).unwrap();
    files
}

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n";
const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>";

const NOT_THE_FILE: &str = "the file does not contain a model";
const OTHER_NETWORK: &str = "the engine would compute another network than the file's";
const NO_CODE: &str = "not implemented, and answers without it would be wrong";
const NO_READER: &str = "there is no reader for this format";

fn gguf_refusals() -> Vec<Refusal> {
    let row = |what, reason, says, make| Refusal { what, reason, says, make };
    vec![
        row("a Git LFS pointer", NOT_THE_FILE, &["Git LFS pointer", "git lfs pull"], |at| named_gguf(at, POINTER)),
        row("a web page", NOT_THE_FILE, &["web page", "fetch"], |at| named_gguf(at, PAGE)),
        row("an empty file", NOT_THE_FILE, &["empty", "fetch it again"], |at| named_gguf(at, b"")),
        row("a broken download", NOT_THE_FILE, &["zeros"], |at| named_gguf(at, &[0; 4096])),
        row("a zip archive", NOT_THE_FILE, &["zip archive", "PyTorch"], |at| named_gguf(at, b"PK\x03\x04rest")),
        row("a pickle", NOT_THE_FILE, &["pickle"], |at| named_gguf(at, b"\x80\x02}q\0.")),
        row("a compressed file", NOT_THE_FILE, &["gzip", "gunzip"], |at| named_gguf(at, b"\x1F\x8B\x08\0rest")),
        row("a file from before GGUF", NO_READER, &["before GGUF"], |at| named_gguf(at, b"tjgg\x03\0\0\0")),
        row("safetensors named GGUF", NO_READER, &["safetensors", "folder"], |at| {
            named_gguf(at, b"\x10\0\0\0\0\0\0\0{\"a\": {}}        ")
        }),
        row("GGUF of version 1", NO_READER, &["version 1"], |at| named_gguf(at, b"GGUF\x01\0\0\0")),
        row("big-endian GGUF", NO_READER, &["big-endian"], |at| named_gguf(at, b"GGUF\0\0\0\x03")),
        row("a truncated header", NOT_THE_FILE, &["truncated"], |at| named_gguf(at, b"GGUF\x03\0\0\0")),
        row("more layers than block_count", OTHER_NETWORK, &["blk.1.", "block_count is 1"], |at| {
            with_key(at, &llama(), "block_count", Meta::U32(1))
        }),
        row("fewer layers than block_count", OTHER_NETWORK, &["blk.2.", "has none"], |at| {
            with_key(at, &llama(), "block_count", Meta::U32(3))
        }),
        row("an unknown tensor of a layer", OTHER_NETWORK, &["blk.0.attn_norm.bias"], |at| {
            with_tensor(at, &llama(), "blk.0.attn_norm.bias")
        }),
        row("a bias of the output", OTHER_NETWORK, &["output.bias"], |at| with_tensor(at, &llama(), "output.bias")),
        row("an unknown tensor outside of the layers", OTHER_NETWORK, &["something.weight"], |at| {
            with_tensor(at, &llama(), "something.weight")
        }),
        row("head norms in a family without them", OTHER_NETWORK, &["blk.0.attn_q_norm.weight"], |at| {
            with_tensor(at, &llama(), "blk.0.attn_q_norm.weight")
        }),
        row("a router of experts", OTHER_NETWORK, &["blk.0.ffn_gate_inp.weight"], |at| {
            with_tensor(at, &llama(), "blk.0.ffn_gate_inp.weight")
        }),
        row("Q, K, V both fused and separate", OTHER_NETWORK, &["attn_qkv", "attn_q"], |at| {
            gguf(at, &llama(), |_, tensors| {
                let values = vec![0.1; 512 * 256];
                let joined = StoredTensor::floats(&values, 512, 256, false, GgmlType::F32);
                tensors.insert("blk.0.attn_qkv.weight".into(), joined);
            })
        }),
        row("a tensor of another shape", OTHER_NETWORK, &["blk.0.attn_k.weight", "×"], |at| {
            gguf(at, &llama(), |_, tensors| {
                let other = tensors["blk.0.attn_q.weight"].clone();
                tensors.insert("blk.0.attn_k.weight".into(), other);
            })
        }),
        row("a mixture of experts", NO_CODE, &["mixture of experts"], |at| {
            with_key(at, &llama(), "expert_count", Meta::U32(8))
        }),
        row("an unsupported architecture", NO_CODE, &["\"mamba\"", "llama"], |at| {
            with_key(at, &llama(), "general.architecture", Meta::Text("mamba".into()))
        }),
        row("a LoRA adapter", NOT_THE_FILE, &["LoRA adapter"], |at| {
            with_key(at, &llama(), "general.type", Meta::Text("adapter".into()))
        }),
        row("an image projector", NOT_THE_FILE, &["projector (mmproj)"], |at| {
            with_key(at, &llama(), "general.type", Meta::Text("mmproj".into()))
        }),
        row("an importance matrix", NOT_THE_FILE, &["importance matrix"], |at| {
            with_key(at, &llama(), "general.type", Meta::Text("imatrix".into()))
        }),
        row("bidirectional attention", NO_CODE, &["attention.causal"], |at| {
            with_key(at, &llama(), "attention.causal", Meta::Flag(false))
        }),
        row("clamped attention", NO_CODE, &["attention.clamp_kqv"], |at| {
            with_key(at, &llama(), "attention.clamp_kqv", Meta::F32(8.0))
        }),
        row("ALiBi positions", NO_CODE, &["max_alibi_bias"], |at| {
            with_key(at, &llama(), "attention.max_alibi_bias", Meta::F32(8.0))
        }),
        row("an attention temperature", NO_CODE, &["temperature_scale"], |at| {
            with_key(at, &llama(), "attention.temperature_scale", Meta::F32(0.1))
        }),
        row("scaled logits", NO_CODE, &["logit_scale"], |at| with_key(at, &llama(), "logit_scale", Meta::F32(0.5))),
        row("scaled residuals", NO_CODE, &["residual_scale"], |at| {
            with_key(at, &llama(), "residual_scale", Meta::F32(0.5))
        }),
        row("scaled embeddings", NO_CODE, &["embedding_scale"], |at| {
            with_key(at, &llama(), "embedding_scale", Meta::F32(12.0))
        }),
        row("an unknown rope scaling type", NO_CODE, &["rope.scaling.type", "\"ntk\""], |at| {
            with_key(at, &llama(), "rope.scaling.type", Meta::Text("ntk".into()))
        }),
        row("a negative rope scaling factor", OTHER_NETWORK, &["rope.scaling.factor is -2"], |at| {
            with_key(at, &llama(), "rope.scaling.factor", Meta::F32(-2.0))
        }),
        row("a number that is text", OTHER_NETWORK, &["rope.freq_base is not a number"], |at| {
            with_key(at, &llama(), "rope.freq_base", Meta::Text("10000".into()))
        }),
        row("YaRN and divisors at once", NO_CODE, &["yarn", "rope_freqs.weight"], |at| {
            let spec = Spec { scaling: Scaling::Llama3 { factor: 8.0, original: 64 }, ..llama() };
            gguf(at, &spec, |writer, _| {
                writer.pairs.push(("llama.rope.scaling.type".into(), Meta::Text("yarn".into())));
                writer.pairs.push(("llama.rope.scaling.factor".into(), Meta::F32(4.0)));
            })
        }),
        row("partly rotated heads", OTHER_NETWORK, &["rope.dimension_count is 32"], |at| {
            with_key(at, &llama(), "rope.dimension_count", Meta::U32(32))
        }),
        row("keys and values of different width", NO_CODE, &["keys and values differ"], |at| {
            with_key(at, &llama(), "attention.value_length", Meta::U32(32))
        }),
        row("layers with a window of another width", NO_CODE, &["key_length_swa"], |at| {
            with_key(at, &Spec::new("gemma3"), "attention.key_length_swa", Meta::U32(32))
        }),
        row("head counts that differ by layer", NO_CODE, &["layer to layer"], |at| {
            with_key(at, &llama(), "attention.head_count_kv", Meta::Numbers(vec![2, 4]))
        }),
        row("key heads that do not divide the heads", OTHER_NETWORK, &["not a multiple"], |at| {
            with_key(at, &llama(), "attention.head_count_kv", Meta::U32(3))
        }),
        row("a window pattern that is too short", OTHER_NETWORK, &["sliding_window_pattern has 3"], |at| {
            with_key(at, &Spec::new("gemma3"), "attention.sliding_window_pattern", Meta::Numbers(vec![1, 1, 0]))
        }),
        row("no norm epsilon", OTHER_NETWORK, &["layer_norm_rms_epsilon is missing"], |at| {
            gguf(at, &llama(), |writer, _| writer.pairs.retain(|(key, _)| !key.contains("epsilon")))
        }),
        row("no embedding_length", OTHER_NETWORK, &["embedding_length is missing"], |at| {
            gguf(at, &llama(), |writer, _| writer.pairs.retain(|(key, _)| !key.contains("embedding_length")))
        }),
        row("different numbers of tokens and rows", OTHER_NETWORK, &["2 tokens", "300 rows"], |at| {
            gguf(at, &llama(), |writer, _| {
                let tokens = Meta::Texts(vec!["a".into(), "b".into()]);
                writer.pairs.push(("tokenizer.ggml.tokens".into(), tokens));
            })
        }),
        row("a vocabulary without tensors", NOT_THE_FILE, &["a vocabulary without a model"], |at| {
            gguf(at, &llama(), |_, tensors| tensors.clear())
        }),
        row("a duplicate key", OTHER_NETWORK, &["comes twice"], |at| {
            gguf(at, &llama(), |writer, _| writer.pairs.push(("llama.block_count".into(), Meta::U32(1))))
        }),
        row("a renamed part of a split model", OTHER_NETWORK, &["split into 3 files", "1 of them"], |at| {
            gguf(at, &llama(), |writer, _| writer.pairs.push(("split.count".into(), Meta::U32(3))))
        }),
        row("a folder", NOT_THE_FILE, &["not a plain file"], |at| ModelFiles::Gguf(vec![at.to_path_buf()])),
    ]
}

fn folder_refusals() -> Vec<Refusal> {
    let row = |what, reason, says, make| Refusal { what, reason, says, make };
    vec![
        row("a Git LFS pointer as weights", NOT_THE_FILE, &["model.safetensors", "Git LFS pointer"], |at| {
            with_file(at, "model.safetensors", POINTER)
        }),
        row("a web page as weights", NOT_THE_FILE, &["model.safetensors", "web page"], |at| {
            with_file(at, "model.safetensors", PAGE)
        }),
        row("a pickle as weights", NOT_THE_FILE, &["model.safetensors", "zip archive"], |at| {
            with_file(at, "model.safetensors", b"PK\x03\x04rest of an archive")
        }),
        row("an empty weights file", NOT_THE_FILE, &["model.safetensors", "empty"], |at| {
            with_file(at, "model.safetensors", b"")
        }),
        row("a Git LFS pointer as configuration", NOT_THE_FILE, &["config.json", "Git LFS pointer"], |at| {
            with_file(at, "config.json", POINTER)
        }),
        row("a web page as configuration", NOT_THE_FILE, &["config.json", "web page"], |at| {
            with_file(at, "config.json", PAGE)
        }),
        row("an empty configuration", NOT_THE_FILE, &["config.json", "empty"], |at| with_file(at, "config.json", b"")),
        row("a configuration that is not an object", NOT_THE_FILE, &["config.json", "not an object"], |at| {
            with_file(at, "config.json", b"[]")
        }),
        row("a Git LFS pointer as index", NOT_THE_FILE, &["index.json", "Git LFS pointer"], |at| {
            with_file(at, "model.safetensors.index.json", POINTER)
        }),
        row("an index without weight_map", NOT_THE_FILE, &["index.json", "weight_map"], |at| {
            with_file(at, "model.safetensors.index.json", b"{\"error\": \"not found\"}")
        }),
        row(
            "an index of files outside of the folder",
            "it would read files outside of the folder",
            &["not a file of the folder"],
            |at| with_file(at, "model.safetensors.index.json", br#"{"weight_map": {"a": "../b.safetensors"}}"#),
        ),
        row("an index of a missing file", NOT_THE_FILE, &["is missing"], |at| {
            with_file(at, "model.safetensors.index.json", br#"{"weight_map": {"a": "b.safetensors"}}"#)
        }),
        row("weights only as a pickle", NO_READER, &["pytorch_model.bin", "pickle"], |at| {
            let files = with_file(at, "pytorch_model.bin", b"PK\x03\x04");
            std::fs::remove_file(at.join("model.safetensors")).unwrap();
            files
        }),
        row("F64", NO_READER, &["token_embd.weight", "F64"], |at| with_type(at, "model.embed_tokens.weight", "F64")),
        row("F8", NO_READER, &["blk.0.attn_q.weight", "F8_E4M3"], |at| {
            with_type(at, "model.layers.0.self_attn.q_proj.weight", "F8_E4M3")
        }),
        row("I8", NO_READER, &["blk.1.ffn_up.weight", "I8"], |at| {
            with_type(at, "model.layers.1.mlp.up_proj.weight", "I8")
        }),
        row("unannounced GPTQ", NO_READER, &["GPTQ", "qweight"], |at| {
            with_foreign_tensor(at, "model.layers.0.self_attn.q_proj.qweight", "I32", 64)
        }),
        row("unannounced FP8", NO_READER, &["FP8", "weight_scale_inv"], |at| {
            with_foreign_tensor(at, "model.layers.0.self_attn.q_proj.weight_scale_inv", "F32", 64)
        }),
        row("quantised weights", NO_READER, &["quantised"], |at| {
            with_config(at, "quantization_config", json!({"quant_method": "gptq"}))
        }),
        row("compressed weights", NO_READER, &["quantised"], |at| {
            with_config(at, "compression_config", json!({"format": "pack-quantized"}))
        }),
        row("more layers than num_hidden_layers", OTHER_NETWORK, &["blk.1.", "num_hidden_layers is 1"], |at| {
            with_config(at, "num_hidden_layers", json!(1))
        }),
        row("an unknown tensor of a layer", OTHER_NETWORK, &["layers.0.mlp.router.weight"], |at| {
            with_foreign_tensor(at, "model.layers.0.mlp.router.weight", "F32", 64)
        }),
        row("a bias of a norm", OTHER_NETWORK, &["output_norm.bias"], |at| {
            with_foreign_tensor(at, "model.norm.bias", "F32", 1024)
        }),
        row("an unannounced bias", OTHER_NETWORK, &["blk.0.attn_q.bias", "attention_bias"], |at| {
            with_foreign_tensor(at, "model.layers.0.self_attn.q_proj.bias", "F32", 1024)
        }),
        row("a vocab_size other than the rows", OTHER_NETWORK, &["vocab_size is 299", "300 rows"], |at| {
            with_config(at, "vocab_size", json!(299))
        }),
        row("no model_type", NO_CODE, &["model_type"], |at| with_config(at, "model_type", json!(null))),
        row("another family", NO_CODE, &["\"mamba\""], |at| with_config(at, "model_type", json!("mamba"))),
        row("a classifier", NO_CODE, &["LlamaForSequenceClassification"], |at| {
            with_config(at, "architectures", json!(["LlamaForSequenceClassification"]))
        }),
        row("bidirectional attention", NO_CODE, &["bidirectional attention"], |at| {
            with_config(at, "is_causal", json!(false))
        }),
        row("another activation", NO_CODE, &["\"relu\""], |at| with_config(at, "hidden_act", json!("relu"))),
        row("an unknown rope scaling type", NO_CODE, &["\"ntk\""], |at| {
            with_config(at, "rope_scaling", json!({"rope_type": "ntk", "factor": 2.0}))
        }),
        row("linear rope scaling without a factor", OTHER_NETWORK, &["\"factor\""], |at| {
            with_config(at, "rope_scaling", json!({"type": "linear"}))
        }),
        row("a rope scaling factor that is not a number", OTHER_NETWORK, &["factor", "not a number"], |at| {
            with_config(at, "rope_scaling", json!({"type": "linear", "factor": "NaN"}))
        }),
        row("attention scaling by length", NO_CODE, &["llama_4_scaling_beta"], |at| {
            with_config(at, "rope_parameters", json!({"rope_type": "default", "llama_4_scaling_beta": 0.1}))
        }),
        row("partly rotated heads", OTHER_NETWORK, &["partial_rotary_factor"], |at| {
            with_config(at, "partial_rotary_factor", json!(0.5))
        }),
        row("an epsilon that is not a number", OTHER_NETWORK, &["config.json"], |at| {
            let files = with_config(at, "rms_norm_eps", json!(0.25));
            let path = at.join("config.json");
            let text = std::fs::read_to_string(&path).unwrap().replace("0.25", "NaN");
            std::fs::write(path, text).unwrap();
            files
        }),
        row("layer_types of another length", OTHER_NETWORK, &["layer_types has 1"], |at| {
            let spec = Spec { kind: GgmlType::BF16, ..Spec::new("qwen3") };
            folder(at, &spec, |config| drop(config.insert("layer_types".into(), json!(["full_attention"]))))
        }),
        row("an unknown layer type", NO_CODE, &["linear_attention"], |at| {
            let spec = Spec { kind: GgmlType::BF16, ..Spec::new("qwen3") };
            let kinds = json!(["full_attention", "linear_attention"]);
            folder(at, &spec, |config| drop(config.insert("layer_types".into(), kinds)))
        }),
    ]
}

#[test]
fn each_refusal_names_the_file_and_the_reason() {
    let mut wrong = Vec::new();
    for refusal in gguf_refusals().into_iter().chain(folder_refusals()) {
        let place = tempfile::tempdir().unwrap();
        let files = (refusal.make)(place.path());
        let said = match ModelParts::open(&files, None) {
            Ok(_) => {
                wrong.push(format!("{} is accepted, though {}", refusal.what, refusal.reason));
                continue;
            }
            Err(error) => error.to_string(),
        };
        // The error for an unknown architecture does not contain the file name.
        let named = said.contains(&*place.path().to_string_lossy()) || said.contains("the architecture");
        if !named || refusal.says.iter().any(|part| !said.contains(part)) {
            wrong.push(format!("{}: {:?} expected in {said:?}", refusal.what, refusal.says));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Label, substring of the warning (empty: no warning), and input of an accepted model.
type Accepted = (&'static str, &'static str, fn(&Path) -> ModelFiles);

fn accepted() -> Vec<Accepted> {
    vec![
        ("a sound GGUF file", "", |at| gguf(at, &llama(), |_, _| {})),
        ("a sound folder", "", |at| folder(at, &llama(), |_| {})),
        ("linear rope scaling without a factor", "", |at| {
            with_key(at, &llama(), "rope.scaling.type", Meta::Text("linear".into()))
        }),
        ("a rope scaling factor of 0", "", |at| with_key(at, &llama(), "rope.scaling.factor", Meta::F32(0.0))),
        ("YaRN without a factor", "", |at| with_key(at, &llama(), "rope.scaling.type", Meta::Text("yarn".into()))),
        ("unknown attention keys", "llama.attention.something", |at| {
            with_key(at, &llama(), "attention.something", Meta::F32(1.0))
        }),
        ("unknown rope keys", "llama.rope.something", |at| with_key(at, &llama(), "rope.something", Meta::F32(1.0))),
        ("a neutral value", "", |at| with_key(at, &llama(), "logit_scale", Meta::F32(1.0))),
        ("an image encoder", "\"v.blk.0.attn_q.weight\"", |at| with_tensor(at, &llama(), "v.blk.0.attn_q.weight")),
        ("Infinity under an unused key", "", |at| {
            let files = with_config(at, "time_step_limit", json!([0.0, 0.25]));
            let path = at.join("config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("0.25", "Infinity, -Infinity, NaN, 1e999")).unwrap();
            files
        }),
        ("both names of the window pattern", "", |at| {
            let spec = Spec { kind: GgmlType::BF16, ..Spec::new("gemma3") };
            folder(at, &spec, |config| {
                config.insert("sliding_window_pattern".into(), json!(6));
                config.insert("_sliding_window_pattern".into(), json!(6));
            })
        }),
        ("an integer written as a float", "", |at| with_config(at, "max_position_embeddings", json!(512.0))),
        ("unknown rope keys in a folder", "rope_scaling.something", |at| {
            with_config(at, "rope_scaling", json!({"rope_type": "default", "something": 3}))
        }),
        ("stored rope frequencies", "", |at| {
            with_foreign_tensor(at, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 128)
        }),
        ("an image encoder in a folder", "vision_tower.x.weight", |at| {
            with_foreign_tensor(at, "vision_tower.x.weight", "F32", 64)
        }),
        ("an announced bias without a tensor", "counts as 0", |at| with_config(at, "attention_bias", json!(true))),
        ("a tied model with another output matrix", "lm_head.weight", |at| {
            with_config(at, "tie_word_embeddings", json!(true))
        }),
        ("an untied model without an output matrix", "the embedding is used", |at| {
            let spec = Spec { tied: true, ..llama() };
            folder(at, &spec, |config| drop(config.insert("tie_word_embeddings".into(), json!(false))))
        }),
    ]
}

#[test]
fn harmless_oddities_load_with_at_most_a_warning() {
    let mut wrong = Vec::new();
    for (what, warning, make) in accepted() {
        let place = tempfile::tempdir().unwrap();
        match ModelParts::open(&make(place.path()), None) {
            Err(error) => wrong.push(format!("{what}: {error}")),
            Ok(parts) => {
                let told = parts.plan.warnings.join("\n");
                if warning.is_empty() != told.is_empty() || !told.contains(warning) {
                    wrong.push(format!("{what}: {warning:?} expected, {told:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rope_scaling_factor_and_divisors_are_multiplied() {
    let spec = Spec { scaling: Scaling::Llama3 { factor: 8.0, original: 64 }, ..llama() };
    let rope = |factor: Option<f32>| {
        let place = tempfile::tempdir().unwrap();
        let files = gguf(place.path(), &spec, |writer, _| {
            writer.pairs.extend(factor.map(|factor| ("llama.rope.scaling.factor".to_owned(), Meta::F32(factor))));
        });
        ModelParts::open(&files, None).unwrap().config.rope
    };
    let (plain, stretched) = (rope(None), rope(Some(2.0)));
    for (one, other) in plain.frequencies.iter().zip(&stretched.frequencies) {
        assert!((one / other - 2.0).abs() < 1e-9, "{one} {other}");
    }
}

#[test]
fn foreign_tokenizer_files_are_named_in_the_error() {
    for (name, bytes, says) in [
        ("tokenizer.json", POINTER, "Git LFS pointer"),
        ("tokenizer.json", PAGE, "web page"),
        ("tokenizer.json", b"", "empty"),
        ("tokenizer_config.json", POINTER, "Git LFS pointer"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let files = with_file(
            place.path(),
            "tokenizer.json",
            br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#,
        );
        std::fs::write(place.path().join(name), bytes).unwrap();
        let parts = ModelParts::open(&files, None).unwrap();
        let said = parts.read_text(None).err().unwrap().to_string();
        let file = place.path().join(name).display().to_string();
        assert!(said.starts_with(&file) && said.contains(says), "{said}");
    }
    let place = tempfile::tempdir().unwrap();
    let files = with_file(place.path(), "tokenizer.model", b"\n\x0E");
    let parts = ModelParts::open(&files, None).unwrap();
    let said = parts.read_text(None).err().unwrap().to_string();
    assert!(said.contains("no tokenizer.json") && said.contains("tokenizer.model"), "{said}");
}
