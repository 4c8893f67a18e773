//! CPU kernels: quantised matrix products, attention and norms, with run-time dispatch on the instruction set.
//!
//! Independent of the model family, of files and of tokens: callers compose [`matmul()`], [`attention()`] and the row
//! operations into a forward pass. The tests compare each SIMD kernel with its scalar reference. All parallelism goes
//! through [`Threads`].

#![allow(clippy::needless_range_loop, reason = "one index addresses the same lane or row of several arrays")]

mod activations;
mod aligned;
mod attention;
mod bandwidth;
mod dequantize;
#[cfg(target_arch = "x86_64")]
mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_float;
#[cfg(target_arch = "x86_64")]
mod gemv;
mod ggml;
mod half;
#[cfg(target_arch = "x86_64")]
mod interleave;
mod isa;
mod kv_cache;
mod matmul;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_gemm;
mod ops;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod panel;
mod scalar;
mod threads;
#[cfg(target_arch = "x86_64")]
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::Activations;
pub use aligned::{AlignedBytes, zeroed_vec};
pub use attention::{AttentionShape, attention};
pub use bandwidth::{instruction_set, read_bandwidth};
pub use ggml::GgmlType;
pub use isa::Isa;
pub use kv_cache::KvCache;
pub use matmul::{matmul, matmul_many};
pub use matrix::Matrix;
pub use ops::{RopeLayout, add, gelu_mul, rms_norm, rms_norm_heads, rope, silu_mul};
pub use threads::{Threads, default_threads};

/// The CPU's model name from `/proc/cpuinfo`, or the architecture if there is none.
pub fn name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests;
