//! The engine on NVIDIA cards: memory, kernels, decode graphs.
