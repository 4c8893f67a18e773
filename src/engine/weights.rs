//! Model files: headers, checks, and reading tensors.

pub mod gguf;
pub mod safetensors;
