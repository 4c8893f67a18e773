//! `config.json`, `generation_config.json` and `tokenizer_config.json` of a folder with valid weights.
//!
//! Input: a byte that selects the checkpoint of the test data whose weights are used, then the three files, separated.
//! A model that loads evaluates a few tokens.

use std::sync::OnceLock;
use std::time::Duration;

use chatnap::engine::chat_template::ChatTemplate;
use chatnap::engine::load::{load, trained_context_length};
use chatnap::engine::model::LoadOptions;
use chatnap::engine::model::config::{ModelConfig, read_folder_config};
use chatnap::engine::source::{CancelFlag, ModelFiles};
use chatnap::engine::tokenizer::Tokenizer;
use chatnap::protocol::DevicePreference;

use super::gguf::check_config;
use super::{SEPARATOR, Target, fixtures, folder, parts, references, safetensors, take, tokenizer, write_padded};

pub const TARGET: Target = Target {
    name: "config",
    cases: 500,
    time: Duration::from_secs(2),
    memory: 128 << 20,
    words: &[
        "model_type",
        "llama",
        "mistral",
        "mistral3",
        "qwen2",
        "qwen3",
        "gemma3",
        "gemma3_text",
        "phi3",
        "gemma",
        "gemma2",
        "glm4",
        "granite",
        "granitemoehybrid",
        "olmo",
        "olmo2",
        "smollm3",
        "stablelm",
        "starcoder2",
        "text_config",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "rope_local_base_freq",
        "rope_scaling",
        "rope_parameters",
        "rope_type",
        "linear",
        "dynamic",
        "yarn",
        "llama3",
        "longrope",
        "default",
        "factor",
        "long_factor",
        "short_factor",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "low_freq_factor",
        "high_freq_factor",
        "truncate",
        "partial_rotary_factor",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "sliding_window_pattern",
        "layer_types",
        "full_attention",
        "sliding_attention",
        "query_pre_attn_scalar",
        "tie_word_embeddings",
        "hidden_act",
        "silu",
        "gelu_pytorch_tanh",
        "final_logit_softcapping",
        "attn_logit_softcapping",
        "use_bidirectional_attention",
        "quantization_config",
        "eos_token_id",
        "bos_token_id",
        "bos_token",
        "chat_template",
    ],
    seeds,
    run,
};

/// Header and length of the data in bytes, for each checkpoint with a single file.
fn weights() -> &'static Vec<(Vec<u8>, u32)> {
    static WEIGHTS: OnceLock<Vec<(Vec<u8>, u32)>> = OnceLock::new();
    WEIGHTS.get_or_init(|| {
        let files = references("model.safetensors").into_iter().map(|folder| folder.join("model.safetensors"));
        files.map(|file| safetensors::header_of(&file)).collect()
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |which: usize, config: &[u8], generation: &[u8]| {
        let tokenizer = br#"{"bos_token":{"content":"<s>"},"add_bos_token":true,"chat_template":[{"name":"default","template":"{{ 1 }}"}]}"#;
        seeds.push([&[which as u8], config, &[SEPARATOR], generation, &[SEPARATOR], &tokenizer[..]].concat());
    };
    for (which, folder) in references("model.safetensors").iter().enumerate() {
        let generation = std::fs::read(folder.join("generation_config.json")).unwrap_or_default();
        for name in ["config.json", "config-4.json"] {
            if let Ok(config) = std::fs::read(folder.join(name)) {
                add(which, &config, &generation);
            }
        }
    }
    let families = std::fs::read(fixtures().join("reference/candle_families.json")).unwrap();
    let families: serde_json::Value = serde_json::from_slice(&families).unwrap();
    let mut configs = Vec::new();
    find_configs(&families, &mut configs);
    assert!(!configs.is_empty());
    configs.iter().for_each(|config| add(0, config.to_string().as_bytes(), b"{\"eos_token_id\":[2,7]}"));
    seeds
}

/// Collects the objects in `json` that have a `model_type`.
fn find_configs<'a>(json: &'a serde_json::Value, found: &mut Vec<&'a serde_json::Value>) {
    if json.get("model_type").is_some() {
        return found.push(json);
    }
    json.as_object().into_iter().flat_map(|map| map.values()).for_each(|inner| find_configs(inner, found));
    json.as_array().into_iter().flatten().for_each(|inner| find_configs(inner, found));
}

fn run(input: &[u8]) -> bool {
    let ([which], files) = take(input);
    let [config, generation, tokenizer_config] = parts(files);
    let vocabulary = tokenizer::small();
    let folder = folder(&[
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
        ("tokenizer.json", vocabulary.as_bytes()),
    ]);
    let path = folder.path();
    let (header, data) = &weights()[usize::from(which) % weights().len()];
    let bytes = [&(header.len() as u64).to_le_bytes(), &header[..]].concat();
    write_padded(&path.join("model.safetensors"), &bytes, (*data).into());

    let files = ModelFiles::Safetensors(path.to_owned());
    let trained = trained_context_length(&files);
    let asked = Some(trained.unwrap_or(16).min(16));
    if let Ok((config, _)) = read_folder_config(path).and_then(|json| ModelConfig::from_folder(path, json, None)) {
        check_config(&config);
    }
    if let Ok(tokenizer) = Tokenizer::from_folder(path) {
        tokenizer::check(&tokenizer, "hello <s>");
        let _ = ChatTemplate::from_folder(path, &tokenizer, None);
    }
    let options = LoadOptions {
        name: "fuzz",
        files: &files,
        chat_template: None,
        context_length: asked,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.5,
        threads: Some(1),
        smaller: &[],
        cancel: &CancelFlag::default(),
    };
    let Ok(mut loaded) = load(&options, &mut |_| {}) else { return false };
    let mut logits = Vec::new();
    let tokens: Vec<u32> = (0..loaded.model.context_length().min(5) as u32).collect();
    let evaluated = loaded.model.forward(&tokens, 0, &mut logits).is_ok();
    assert!(!evaluated || logits.len() == loaded.model.vocab_size());
    evaluated
}
