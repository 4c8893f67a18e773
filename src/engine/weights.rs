//! Model files: headers, checks, and reading tensors.
//!
//! # What the loaders reject
//!
//! Model files are untrusted input. The rule for all loaders (weights, configuration, tokenizer): **reject what could
//! make an answer wrong or the machine unsafe; warn about everything else and continue.** In detail:
//!
//! - The reference is the program that a format is made for: llama.cpp for GGUF, transformers for folders. What the
//!   reference loads and computes with is loaded and computed the same way.
//! - A tensor that belongs to the layers but would not be read is an error: the network is not the one that the
//!   hyperparameters describe. So are hyperparameters that change the arithmetic and are not implemented.
//! - What cannot affect an answer (the id of a token that does not exist, an infinite number under an unused key, the
//!   tensors of a vision encoder) is a warning, or ignored if the reference ignores it too.
//! - A length or a count is checked against the file size before anything of that size is allocated.
//! - An error names the file, the fault and the remedy ([`file_kind`] recognises other formats by their first bytes).
//!
//! Warnings from [`plan::TensorPlan::warnings`] and from the tokenizer end up in `ModelInfo::warnings`. The table in
//! `model/parts/refusals.rs` lists each rejection with its reason and a file that triggers it; a new one needs a row.

pub mod file;
pub mod file_kind;
pub mod gguf;
pub mod json;
pub mod origin;
pub mod plan;
pub mod reader;
pub mod safetensors;
/// Writers of small random models, for tests and for the GPU checks.
#[cfg(any(test, feature = "gpu-checks"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the GPU checks use a part of it"))]
pub(crate) mod testing;
pub mod unused_tensors;
