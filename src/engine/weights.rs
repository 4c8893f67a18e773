//! Model files: headers, checks, and reading tensors.

pub mod gguf;
pub mod plan;
pub mod reader;
pub mod safetensors;
#[cfg(test)]
pub(crate) mod testing;
