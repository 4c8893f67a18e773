//! Model files: headers, checks, and reading tensors.

pub mod gguf;
pub mod plan;
pub mod reader;
pub mod safetensors;
/// For tests, and for the checks that a machine with a card runs.
#[cfg(any(test, feature = "cuda"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the checks of a card use a part of it"))]
pub(crate) mod testing;
