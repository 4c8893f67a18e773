//! Checks of the CUDA engine against the CPU, and timings. For `benches/gpu.rs`; compiled with the feature `gpu-checks`.

pub mod kernels;
pub mod models;
pub mod timings;
