//! Writes a `Spec` as transformers does: `config.json` and one `model.safetensors`, or shards with an index.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Scaling, Spec, StoredTensor, Tensors};

impl Spec {
    /// Writes the folder; `tensors` are unquantised and have GGUF's names and row order.
    pub fn write_folder(&self, folder: &Path, tensors: &Tensors, shards: usize) {
        std::fs::write(folder.join("config.json"), self.config_json().to_string()).unwrap();
        let named: Vec<_> = tensors
            .iter()
            .filter(|(name, _)| *name != "rope_freqs.weight")
            .map(|(name, tensor)| (foreign_name(name, self.gemma()), self.foreign_tensor(name, tensor)))
            .collect();
        if shards == 1 {
            return std::fs::write(folder.join("model.safetensors"), file(&named)).unwrap();
        }
        let mut map = Map::new();
        for (index, part) in named.chunks(named.len().div_ceil(shards)).enumerate() {
            let name = format!("model-{:05}-of-{shards:05}.safetensors", index + 1);
            std::fs::write(folder.join(&name), file(part)).unwrap();
            part.iter().for_each(|(tensor, _)| drop(map.insert(tensor.clone(), json!(name))));
        }
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    }

    fn config_json(&self) -> Value {
        let scaling = match self.scaling {
            Scaling::None => Value::Null,
            Scaling::Linear(factor) => json!({"type": "linear", "factor": factor}),
            Scaling::Llama3 { factor, original } => json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }),
            Scaling::Yarn { factor, original } => {
                json!({"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original})
            }
        };
        json!({
            "model_type": if self.gemma() { "gemma3_text" } else { self.architecture },
            "hidden_size": self.hidden, "intermediate_size": self.ff, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv, "head_dim": self.dim,
            "max_position_embeddings": self.context, "rms_norm_eps": self.eps, "rope_theta": self.theta,
            "rope_scaling": scaling, "tie_word_embeddings": self.tied, "sliding_window": self.window,
            "query_pre_attn_scalar": self.dim,
        })
    }

    /// Inverts GGUF's converter, which interleaves Llama's rotary halves and adds 1 to Gemma's norms.
    fn foreign_tensor(&self, name: &str, tensor: &StoredTensor) -> StoredTensor {
        let mut out = tensor.clone();
        if matches!(self.architecture, "llama" | "mistral") && (name.contains("attn_q.") || name.contains("attn_k.")) {
            let row = tensor.bytes.len() / tensor.rows;
            for r in 0..tensor.rows {
                let (head, within) = (r / self.dim, r % self.dim);
                let theirs = head * self.dim + within % 2 * (self.dim / 2) + within / 2;
                out.bytes[theirs * row..(theirs + 1) * row].copy_from_slice(&tensor.bytes[r * row..(r + 1) * row]);
            }
        }
        if self.gemma() && name.ends_with("norm.weight") {
            let less: Vec<_> = tensor.values().iter().map(|v| (*v - 1.0) as f32).collect();
            return StoredTensor::floats(&less, 1, less.len(), true, tensor.kind);
        }
        out
    }
}

fn foreign_name(name: &str, gemma: bool) -> String {
    let (module, part) = name.rsplit_once('.').unwrap();
    let module = match module {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        _ => {
            let (layer, module) = module.strip_prefix("blk.").unwrap().split_once('.').unwrap();
            let module = match module {
                "attn_norm" => "input_layernorm",
                "ffn_norm" if gemma => "pre_feedforward_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "post_attention_norm" => "post_attention_layernorm",
                "post_ffw_norm" => "post_feedforward_layernorm",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_qkv" => "self_attn.qkv_proj",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("no foreign name for {other}"),
            };
            format!("model.layers.{layer}.{module}")
        }
    };
    format!("{module}.{part}")
}

/// The bytes of a safetensors file.
fn file(tensors: &[(String, StoredTensor)]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, tensor) in tensors {
        let shape = if tensor.vector { vec![tensor.cols] } else { vec![tensor.rows, tensor.cols] };
        let end = offset + tensor.bytes.len();
        header
            .insert(name.clone(), json!({"dtype": tensor.kind.name(), "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let header = Value::Object(header).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    tensors.iter().for_each(|(_, tensor)| out.extend(&tensor.bytes));
    out
}
