//! GGUF: header, metadata, model configuration, vocabulary and template, compared with candle's reader.
//!
//! Input: a little-endian u32, the number of bytes after the header (its top byte is ignored), then the header.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use candle_core::quantized::gguf_file::{Content, Value as Theirs};
use chatnap::engine::chat_template::ChatTemplate;
use chatnap::engine::cpu::GgmlType;
use chatnap::engine::model::config::ModelConfig;
use chatnap::engine::model::parts::ModelParts;
use chatnap::engine::source::ModelFiles;
use chatnap::engine::tokenizer::Tokenizer;
use chatnap::engine::weights::gguf::{Header, TensorInfo, Value as Ours, read_header};

use super::gguf_writer::{Value, header};
use super::{Target, folder, references, take, template, write_padded};

pub const TARGET: Target = Target {
    name: "gguf",
    cases: 700,
    time: Duration::from_secs(2),
    // A file has up to 16 MiB; its parsed lists take a few times as much.
    memory: 512 << 20,
    words: &[
        "GGUF",
        "general.architecture",
        "general.alignment",
        "general.file_type",
        "general.name",
        "llama",
        "qwen2",
        "qwen3",
        "gemma3",
        "phi3",
        "mistral3",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.sliding_window",
        "llama.attention.scale",
        "llama.expert_count",
        "llama.rope.dimension_count",
        "llama.rope.freq_base",
        "llama.rope.scaling.type",
        "llama.rope.scaling.factor",
        "llama.rope.scaling.original_context_length",
        "llama.rope.scaling.attn_factor",
        "llama.rope.scaling.yarn_beta_fast",
        "linear",
        "yarn",
        "longrope",
        "rope_freqs.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
        "token_embd.weight",
        "output.weight",
        "output_norm.weight",
        "blk.0.attn_qkv.weight",
        "blk.0.ffn_up.weight",
        "tokenizer.chat_template",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.fim_pad_token_id",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_space_prefix",
        "gpt2",
        "gemma4",
        "llama-bpe",
        "split.no",
        "split.count",
        "<0x0A>",
        "▁",
        "<|im_end|>",
        "\0\0\0\0\0\0\0\0",
        "\u{1}\0\0\0\0\0\0\0",
        "\u{8}\0\0\0",
        "\u{9}\0\0\0\u{8}\0\0\0",
    ],
    seeds,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let converted = references("converted.gguf").into_iter().map(|folder| {
        let bytes = std::fs::read(folder.join("converted.gguf")).unwrap();
        let data = Content::read(&mut std::io::Cursor::new(&bytes)).unwrap().tensor_data_offset as usize;
        padded(&bytes[..data], bytes.len() - data)
    });
    let pieces = ["<unk>", "<s>", "</s>", "▁", "h", "e", "l", "o", "he", "ll", "hell", "▁h", "<|im_end|>", "<0x0A>"];
    let vocabulary = |model: &'static str, pre: &'static str| {
        let tokens: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let kinds = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 6].to_vec();
        let scores = (0..tokens.len()).map(|rank| -(rank as f32)).collect();
        let merges = ["h e", "l l", "he ll", "▁ h"].map(str::to_owned).to_vec();
        let pairs = [
            ("general.architecture", Value::Text("llama")),
            ("general.alignment", Value::U32(64)),
            ("tokenizer.ggml.model", Value::Text(model)),
            ("tokenizer.ggml.pre", Value::Text(pre)),
            ("tokenizer.ggml.tokens", Value::Texts(tokens)),
            ("tokenizer.ggml.token_type", Value::Ints(kinds)),
            ("tokenizer.ggml.scores", Value::Floats(scores)),
            ("tokenizer.ggml.merges", Value::Texts(merges)),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
            (
                "tokenizer.chat_template",
                Value::Text("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"),
            ),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ];
        padded(&header(&pairs, &[("token_embd.weight", &[32, 14], 0, 0), ("a", &[32], 8, 1792)]), 4096)
    };
    let models = [("llama", "default"), ("gpt2", "llama-bpe"), ("gpt2", "qwen2"), ("gemma4", "")];
    converted.chain(models.map(|(model, pre)| vocabulary(model, pre))).collect()
}

fn padded(header: &[u8], zeros: usize) -> Vec<u8> {
    [&(zeros as u32).to_le_bytes(), header].concat()
}

fn run(input: &[u8]) -> bool {
    let ([a, b, c, _], bytes) = take(input);
    let folder = folder(&[]);
    let path = folder.path().join("model.gguf");
    let size = write_padded(&path, bytes, u32::from_le_bytes([a, b, c, 0]).into());
    let Ok(header) = read_header(&path) else { return false };
    for (name, tensor) in &header.tensors {
        // The size of an unsupported type is unknown.
        assert_eq!(tensor.size > 0, read(tensor), "{name:?}");
        assert!(tensor.offset.checked_add(tensor.size).is_some_and(|end| end <= size), "{name:?}");
    }
    compare(&path, &header);
    let parts = ModelParts::open(&ModelFiles::Gguf(vec![path.clone()]), None);
    if let Ok(parts) = &parts {
        check_config(&parts.config);
        assert!(!parts.quantization().is_empty());
    }
    let Ok(tokenizer) = Tokenizer::from_gguf(&header.metadata) else { return parts.is_ok() };
    super::tokenizer::check(&tokenizer, "hello <|im_end|>\n Grüße 👩\u{200d}👧 1234567");
    if let Ok(chat) = ChatTemplate::from_gguf(&header.metadata, &tokenizer, None) {
        template::check(&chat, &tokenizer, "hello");
    }
    true
}

fn read(tensor: &TensorInfo) -> bool {
    GgmlType::from_ggml(tensor.ggml_type).is_some()
}

/// Asserts the invariants that users of a `ModelConfig` rely on.
pub fn check_config(config: &ModelConfig) {
    assert_eq!(config.windows.len(), config.layers);
    assert!(config.context_length > 0 && config.context_length <= config.trained_context_length);
    for layer in 0..config.layers {
        let rope = config.layer_rope(layer);
        assert!(rope.dims() > 0 && rope.dims() <= config.head_dim);
    }
    assert_eq!(config.group() * config.kv_heads, config.heads);
}

/// If both readers accept a file, their results must be equal.
fn compare(path: &Path, ours: &Header) {
    let Ok(theirs) = Content::read(&mut File::open(path).unwrap()) else { return };
    // candle strips trailing zero bytes, which can make two names equal.
    let bare = |text: &str| text.trim_end_matches('\0').to_owned();
    if ours.tensors.keys().chain(ours.metadata.values.keys()).any(|name| name.ends_with('\0')) {
        return;
    }
    assert_eq!(ours.tensors.len(), theirs.tensor_infos.len());
    for (name, tensor) in &ours.tensors {
        let other = &theirs.tensor_infos[name];
        assert_eq!(tensor.offset, theirs.tensor_data_offset + other.offset, "offset of {name:?}");
        let mut dimensions = other.shape.dims().to_vec();
        dimensions.reverse();
        assert_eq!(tensor.dimensions, dimensions, "shape of {name:?}");
        if !read(tensor) {
            continue;
        }
        let elements = other.shape.elem_count() / other.ggml_dtype.block_size() * other.ggml_dtype.type_size();
        assert_eq!(tensor.size, elements as u64, "size of {name:?}");
    }
    assert_eq!(ours.metadata.values.len(), theirs.metadata.len());
    for (key, value) in &ours.metadata.values {
        let other = &theirs.metadata[key];
        let same = match (value, other) {
            (Ours::String(text), Theirs::String(other)) => bare(text) == *other,
            (Ours::Bool(flag), Theirs::Bool(other)) => flag == other,
            (Ours::F64(number), Theirs::F32(other)) => {
                number.to_bits() == f64::from(*other).to_bits() || other.is_nan()
            }
            (Ours::F64(number), Theirs::F64(other)) => number.to_bits() == other.to_bits(),
            (Ours::Strings(all), Theirs::Array(others)) => {
                all.len() == others.len()
                    && all.iter().zip(others).all(|(text, other)| other.to_string().is_ok_and(|o| *o == bare(text)))
            }
            (Ours::Floats(all), Theirs::Array(others)) => all.len() == others.len(),
            (Ours::Ints(all), Theirs::Array(others)) => {
                all.len() == others.len()
                    && all.iter().zip(others).all(|(number, other)| integer(other) == Some(*number))
            }
            (Ours::U64(number), other) => other.to_u64().is_ok_and(|other| *number == other),
            (Ours::I64(number), other) => integer(other) == Some(*number),
            _ => false,
        };
        assert!(same, "{key:?} is {value:?} here and {other:?} there");
    }
}

/// Converts an integer as our reader does in lists.
fn integer(value: &Theirs) -> Option<i64> {
    Some(match *value {
        Theirs::U8(number) => number.into(),
        Theirs::I8(number) => number.into(),
        Theirs::U16(number) => number.into(),
        Theirs::I16(number) => number.into(),
        Theirs::U32(number) => number.into(),
        Theirs::I32(number) => number.into(),
        Theirs::U64(number) => i64::try_from(number).unwrap_or(i64::MAX),
        Theirs::I64(number) => number,
        Theirs::Bool(flag) => flag.into(),
        _ => return None,
    })
}
