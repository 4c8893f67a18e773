//! Model files: headers, checks, and reading tensors.
//!
//! # What is refused
//!
//! Files come from anywhere. The rule for all loaders (weights, configuration, tokenizer) is: **refuse what could make an
//! answer wrong or the machine unsafe; warn about everything else and go on.** What that means:
//!
//! - The reference is the program that a file is made for: llama.cpp for GGUF, transformers for folders. What the
//!   reference loads and computes from is loaded and computed the same.
//! - A tensor that would not be read, though it is a part of the layers, is refused: the file is of another network than
//!   its numbers say. So are numbers that change the arithmetic and that no code here follows.
//! - What cannot touch an answer (an id of a token that does not exist, an infinite number under a key that nobody reads,
//!   the tensors of a vision encoder) is a warning, or nothing where the reference says nothing either.
//! - A length or a count is compared with what the file holds before anything of that size is allocated.
//! - An error names the file, says what it is, and what to do ([`foreign`] knows what is often saved under a model's name).
//!
//! Warnings travel in [`plan::TensorPlan::warnings`] and in the tokenizer to `ModelInfo::warnings`. The table in
//! `model/parts/refusals.rs` names each refusal, its reason and a file that triggers it; a refusal without a row there is a
//! mistake.

pub mod file;
pub mod file_kind;
pub mod gguf;
pub mod json;
pub mod plan;
pub mod reader;
pub mod safetensors;
/// Writers of small random models, for tests and for the GPU checks.
#[cfg(any(test, feature = "gpu-checks"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the GPU checks use a part of it"))]
pub(crate) mod testing;
pub mod unused_tensors;
