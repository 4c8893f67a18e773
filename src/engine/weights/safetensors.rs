//! Safetensors headers, sharded folders, `config.json`.
