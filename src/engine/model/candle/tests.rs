//! Each candle family against logits that transformers computed in double precision for the same tiny model
//! (`tests/fixtures/reference/candle_families.py`), and the limits of candle's caches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::engine::load::load;
use crate::engine::model::LoadOptions;
use crate::engine::model::config::read_folder_config;
use crate::engine::source::ModelFiles;
use crate::protocol::{DeviceKind, DevicePreference, GpuList, LoadPhase};

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    families: BTreeMap<String, Family>,
}

#[derive(Deserialize)]
struct Family {
    config: Value,
    tensors: BTreeMap<String, Rule>,
    logits: BTreeMap<usize, Vec<f64>>,
}

/// How to generate a tensor.
#[derive(Deserialize)]
struct Rule {
    shape: Vec<usize>,
    kind: String,
    exponent: i32,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../../tests/fixtures/reference/candle_families.json")).unwrap()
}

/// SplitMix64 seeded by FNV-1a of the name: the same bytes as in the script.
fn random_bytes(name: &str) -> impl Iterator<Item = u8> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let mut state = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 56) as u8
    })
}

impl Rule {
    fn values(&self, name: &str) -> Vec<f32> {
        let value = |byte: u8| match self.kind.as_str() {
            "centred" => (f32::from(byte) - 128.0) / 128.0 * 2_f32.powi(self.exponent),
            "norm" => f32::from(byte / 4) / 128.0 + 1.0,
            "less-one norm" => f32::from(byte / 4) / 128.0,
            other => panic!("unknown kind of tensor: {other}"),
        };
        random_bytes(name).take(self.shape.iter().product()).map(value).collect()
    }
}

impl Family {
    /// Writes the checkpoint with its weights as `dtype` (each value is exact in every one).
    fn write(&self, folder: &Path, dtype: &str) {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, rule) in &self.tensors {
            let start = data.len();
            for value in rule.values(name) {
                match dtype {
                    "F32" => data.extend(value.to_le_bytes()),
                    "F16" => data.extend(half::f16::from_f32(value).to_le_bytes()),
                    _ => data.extend(half::bf16::from_f32(value).to_le_bytes()),
                }
            }
            let entry = json!({"dtype": dtype, "shape": rule.shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(data);
        std::fs::write(folder.join("model.safetensors"), file).unwrap();
    }

    fn open(&self, dtype: &str, context_length: Option<usize>) -> Result<CandleModel, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path(), dtype);
        open(folder.path().to_path_buf(), context_length, &mut |_| {})
    }

    fn changed(&self, key: &str, value: Value) -> Result<CandleModel, ModelError> {
        let mut config = self.config.clone();
        config[key] = value;
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path(), "F32");
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        open(folder.path().to_path_buf(), None, &mut |_| {})
    }
}

fn open(
    folder: PathBuf,
    context_length: Option<usize>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<CandleModel, ModelError> {
    let json = read_folder_config(&folder)?;
    let family = CandleParts::family(&json).expect("a candle family");
    let parts = CandleParts::open(&folder, json, family, context_length)?;
    CandleModel::load(&parts.config, &parts.plan, Some(2), &CancelFlag::default(), progress)
}

fn failure(result: Result<CandleModel, ModelError>) -> String {
    match result {
        Ok(_) => panic!("this should not have loaded"),
        Err(error) => error.to_string(),
    }
}

/// |a - b| / |b|.
fn difference(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let apart: f64 = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (apart / theirs.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

/// Error of single precision in models of a few layers; a structural error gives about 1.
const EXACT: f64 = 2e-5;

#[test]
fn every_family_agrees_with_transformers() {
    let reference = reference();
    assert_eq!(reference.families.keys().map(String::as_str).collect::<Vec<_>>(), CANDLE_FAMILIES);
    let dtypes = ["F32", "BF16", "F16"].into_iter().cycle();
    for ((name, family), dtype) in reference.families.iter().zip(dtypes) {
        let mut model = family.open(dtype, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let vocab = model.vocab_size();
        let check = |label: &str, row: usize, logits: &[f32]| {
            if let Some(expected) = family.logits.get(&row) {
                let apart = difference(logits, expected);
                assert!(apart < EXACT, "{name} ({dtype}), {label}, position {row}: {apart}");
            }
        };
        let (tokens, mut logits) = (&reference.tokens, Vec::new());
        // Token by token.
        for (row, token) in tokens.iter().enumerate() {
            model.forward(&[*token], row, &mut logits).unwrap();
            check("one by one", row, &logits);
        }
        // In several calls, after the cache was cleared.
        assert_eq!(model.truncate_cache(0), 0);
        for range in [0..1, 1..8, 8..13, 13..24] {
            model.forward(&tokens[range.clone()], range.start, &mut logits).unwrap();
            check("in parts", range.end - 1, &logits);
        }
        // From the middle of the cached tokens, with the logits of several rows.
        model.forward_rows(&tokens[5..], 5, 19, &mut logits).unwrap();
        for (row, logits) in logits.chunks(vocab).enumerate() {
            check("rows", 5 + row, logits);
        }
    }
}

#[test]
fn num_hidden_layers_below_the_stored_layers_is_rejected() {
    for (name, family) in reference().families {
        let layers = family.config["num_hidden_layers"].as_u64().unwrap();
        let said = failure(family.changed("num_hidden_layers", json!(layers - 1)));
        let key = format!("num_hidden_layers is {}", layers - 1);
        assert!(said.contains(&key) && said.contains(&format!("layers.{}.", layers - 1)), "{name}: {said}");
    }
}

#[test]
fn non_numeric_config_values_are_rejected() {
    let reference = reference();
    for key in ["rope_theta", "rms_norm_eps", "final_logit_softcapping"] {
        let said = failure(reference.families["gemma2"].changed(key, json!("NaN")));
        assert!(said.contains(key) && said.contains("config.json"), "{said}");
    }
}

#[test]
fn truncate_cache_keeps_all_or_nothing() {
    let reference = reference();
    let mut logits = Vec::new();
    for name in ["gemma", "granite", "stablelm"] {
        let mut model = reference.families[name].open("F32", None).unwrap();
        model.forward(&reference.tokens[..10], 0, &mut logits).unwrap();
        assert_eq!(model.truncate_cache(10), 10, "{name}");
        assert_eq!(model.truncate_cache(9), 0, "{name}: a part cannot be kept");
        assert_eq!(model.truncate_cache(5), 0);
        assert!(model.forward(&[1], 1, &mut logits).is_err(), "{name}: nothing lies before position 1");
        model.forward(&reference.tokens, 0, &mut logits).unwrap();
        assert!(difference(&logits, &reference.families[name].logits[&23]) < EXACT);
    }
}

#[test]
fn context_length_is_capped_at_the_sliding_window() {
    let reference = reference();
    // Sliding windows of 32 and 40 in models with a trained context of 64 positions.
    for (name, most) in [("gemma2", 32), ("starcoder2", 40), ("olmo2", 64)] {
        let family = &reference.families[name];
        assert_eq!(family.open("F32", None).unwrap().context_length(), most);
        let error = failure(family.open("F32", Some(most + 1)));
        assert!(error.contains(&format!("--context-length {most} or less")), "{error}");
        let mut model = family.open("F32", Some(16)).unwrap();
        let mut logits = Vec::new();
        assert!(model.forward(&[3; 17], 0, &mut logits).is_err());
        model.forward(&[3; 16], 0, &mut logits).unwrap();
        assert!(model.forward(&[3], 16, &mut logits).is_err(), "{name} has no position 16");
        assert!(model.forward(&[67], 0, &mut logits).is_err(), "{name} has no token 67");
    }
}

#[test]
fn memory_and_progress_match_the_weight_sizes() {
    let reference = reference();
    let family = &reference.families["granite"];
    let folder = tempfile::tempdir().unwrap();
    family.write(folder.path(), "BF16");
    let mut seen = Vec::new();
    let model = open(folder.path().to_path_buf(), Some(20), &mut |progress| seen.push(progress)).unwrap();
    let numbers: u64 = family.tensors.values().map(|rule| rule.shape.iter().product::<usize>() as u64).sum();
    assert_eq!(model.memory().weights, 4 * numbers);
    // Three layers, two heads of 12 elements, keys and values, four bytes each.
    assert_eq!(model.memory().kv_cache, 20 * 3 * 2 * 12 * 2 * 4);
    let last = seen.last().unwrap();
    assert_eq!((last.phase, last.done, last.total), (LoadPhase::Read, 2 * numbers, Some(2 * numbers)));
}

#[test]
fn options_that_candle_does_not_implement_are_rejected() {
    let families = reference().families;
    let scaled = json!({"rope_type": "yarn", "factor": 4.0});
    let cases = [
        ("olmo2", "rope_scaling", scaled, "rope scaling \"yarn\" is not supported for olmo2"),
        ("gemma2", "query_pre_attn_scalar", json!(24), "query_pre_attn_scalar"),
        ("stablelm", "qk_layernorm", json!(true), "qk_layernorm"),
        ("stablelm", "use_parallel_residual", json!(true), "use_parallel_residual"),
        ("granite", "attention_bias", json!(true), "attention_bias"),
        ("granite", "tie_word_embeddings", json!(false), "tie_word_embeddings"),
        ("granitemoehybrid", "num_local_experts", json!(4), "mixture of experts"),
        ("granitemoehybrid", "layer_types", json!(["attention", "mamba", "attention"]), "Mamba"),
        ("granitemoehybrid", "position_embedding_type", json!("nope"), "rotary"),
        ("gemma", "hidden_act", json!("relu"), "activation \"relu\""),
        ("glm4", "quantization_config", json!({"bits": 4}), "quantised safetensors"),
        ("olmo", "num_attention_heads", json!(0), "num_attention_heads is 0"),
        ("olmo", "num_attention_heads", json!(5), "heads of"),
        ("olmo", "num_hidden_layers", json!(4_000_000_000_u64), "num_hidden_layers"),
        ("olmo", "num_hidden_layers", json!(4), "model.layers.3"),
        ("olmo", "intermediate_size", json!(96), "tensor"),
        ("starcoder2", "rope_theta", json!("x"), ""),
    ];
    for (name, key, value, told) in cases {
        let result = families[name].changed(key, value.clone());
        if told.is_empty() {
            continue;
        }
        let error = failure(result);
        assert!(error.contains(told), "{name} with {key} {value}: {error}");
    }
}

#[test]
fn truncated_files_and_missing_tensors_are_errors() {
    let families = reference().families;
    let folder = tempfile::tempdir().unwrap();
    families["granite"].write(folder.path(), "F32");
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let error = failure(open(folder.path().to_path_buf(), None, &mut |_| {}));
    assert!(error.contains("truncated"), "{error}");
    // The same length, but one tensor has another name.
    let name = b"model.layers.1.mlp.up_proj.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap();
    let mut renamed = whole.clone();
    renamed[at..at + 5].copy_from_slice(b"other");
    std::fs::write(&path, renamed).unwrap();
    let error = failure(open(folder.path().to_path_buf(), None, &mut |_| {}));
    assert!(error.contains("needs a tensor \"model.layers.1.mlp.up_proj.weight\""), "{error}");
}

/// A folder of a family with a character-level tokenizer.
fn chat_folder(family: &Family) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    family.write(folder.path(), "BF16");
    let special = ["<pad>", "<s>", "</s>"].map(str::to_owned);
    let letters = "ĠĊ:?.,abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345".chars().map(String::from);
    let vocabulary: Vec<_> = special.into_iter().chain(letters).collect();
    assert_eq!(vocabulary.len(), 67);
    let ids: Map<_, _> = vocabulary.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
    let added: Vec<_> = vocabulary[..3]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": ids, "merges": []},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}{{ m.role[0] + ':' + m.content + '\n' }}{% endfor %}\
                    {% if add_generation_prompt %}a:{% endif %}";
    let config = json!({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": false, "chat_template": template});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

/// A source whose folder is already on disk.
struct Here(PathBuf);

impl crate::engine::source::ModelSource for Here {
    fn name(&self) -> String {
        "tiny".into()
    }

    fn locate(
        &mut self,
        _: &mut dyn FnMut(LoadProgress),
        _: &CancelFlag,
    ) -> Result<ModelFiles, crate::protocol::EngineError> {
        Ok(ModelFiles::Safetensors(self.0.clone()))
    }
}

#[test]
fn a_continued_conversation_reuses_the_cache_and_reports_cached_tokens() {
    use crate::engine::{Engine, EngineOptions};
    use crate::protocol::*;
    let folder = chat_folder(&reference().families["olmo2"]);
    let options = EngineOptions {
        source: Box::new(Here(folder.path().to_path_buf())),
        idle_window: IdleWindow::Never,
        context_length: None,
        device: DevicePreference::Auto,
        gpu_memory_utilization: 0.9,
        threads: Some(2),
        chat_template: None,
    };
    let (sender, events) = std::sync::mpsc::channel();
    let engine = Engine::start(options, move |event| drop(sender.send(event))).unwrap();
    let ask = |messages: &[(Role, &str)]| {
        engine.generate(GenerationRequest {
            sampling: SamplingParams { temperature: 0.0, repeat_penalty: 1.0, ..SamplingParams::default() }.into(),
            max_tokens: Some(6),
            ..GenerationRequest::new(
                engine.next_id(),
                messages.iter().map(|(role, text)| ChatMessage::new(*role, *text)).collect(),
            )
        });
        let mut answer = String::new();
        loop {
            match events.recv_timeout(Duration::from_secs(60)).unwrap() {
                EngineEvent::Token { text, .. } => answer.push_str(&text),
                EngineEvent::Finished { usage, .. } => return (answer, usage),
                EngineEvent::Failed { error, .. } | EngineEvent::LoadFailed { error } => panic!("{error:?}"),
                _ => {}
            }
        }
    };
    let (answer, first) = ask(&[(Role::User, "hi")]);
    assert_eq!((first.cached_tokens, first.completion_tokens), (0, 6), "{answer:?}");
    let (_, second) = ask(&[(Role::User, "hi"), (Role::Assistant, &answer), (Role::User, "so")]);
    // The last token of an answer is not evaluated.
    assert_eq!(second.cached_tokens, first.prompt_tokens + 5, "{answer:?} {second:?}");
    let (_, edited) = ask(&[(Role::User, "ha")]);
    assert_eq!(edited.cached_tokens, 0);
    let (again, same) = ask(&[(Role::User, "hi")]);
    assert_eq!((again, same.cached_tokens), (answer, 0));
}

#[test]
fn cuda_device_is_rejected_for_candle_families_with_the_reason() {
    let folder = chat_folder(&reference().families["gemma"]);
    let files = ModelFiles::Safetensors(folder.path().to_path_buf());
    let options = LoadOptions {
        name: "tiny",
        files: &files,
        context_length: None,
        device: DevicePreference::Cuda(GpuList::one(0)),
        gpu_memory_utilization: 0.9,
        threads: None,
        smaller: &[],
        chat_template: None,
        cancel: &CancelFlag::default(),
    };
    let error = load(&options, &mut |_| {}).err().unwrap();
    assert!(
        matches!(&error, ModelError::Unsupported(why) if why.contains("gemma models run on the CPU only")),
        "{error}"
    );
    let loaded = load(&LoadOptions { device: DevicePreference::Cpu, ..options }, &mut |_| {}).unwrap();
    assert_eq!((loaded.info.architecture.as_str(), loaded.info.quantization.as_str()), ("gemma", "BF16"));
    assert_eq!((loaded.info.context_length, loaded.info.device.kind), (64, DeviceKind::Cpu));
}
