//! Checks of the CUDA engine against the CPU, and timings, for `benches/gpu.rs` (feature `gpu-checks`).

pub mod kernels;
pub mod models;
pub mod parallel;
pub mod timings;
