//! Measures the GPU's memory read bandwidth, which limits decoding.

use super::driver::{DeviceBuffer, Event, Gpu, LaunchConfig};
use super::kernels::Kernels;
use super::params::ReadArgs;
use super::select::{NO_CARD, opened};
use crate::engine::error::ModelError;
use crate::protocol::DevicePreference;

/// Bytes per second: the best of several reads of a buffer far larger than the L2.
pub fn measure(gpu: &Gpu, kernels: &Kernels) -> Result<f64, ModelError> {
    gpu.activate()?;
    let (free, _) = gpu.memory()?;
    let bytes = (free / 2).min(4 << 30) as usize / 4096 * 4096;
    let buffer = DeviceBuffer::<u8>::new(bytes)?;
    buffer.fill(gpu, 0x5a)?;
    let out = DeviceBuffer::<u32>::new(1)?;
    let args = ReadArgs { src: buffer.pointer(), out: out.pointer(), count: bytes as u64 / 16 };
    let (start, end) = (Event::new(true)?, Event::new(true)?);
    let mut best = f64::INFINITY;
    for blocks_per_gpu in [4, 8, 16] {
        for _ in 0..4 {
            start.record(gpu.stream)?;
            let shape = LaunchConfig::linear(u64::from(gpu.properties.multiprocessors as u32 * blocks_per_gpu), 256);
            // SAFETY: the kernel reads `count` words of the buffer.
            unsafe { kernels.read_bandwidth.launch(gpu.stream, shape, &args)? };
            end.record(gpu.stream)?;
            end.wait()?;
            best = best.min(f64::from(end.since(&start)?) / 1e3);
        }
    }
    Ok(bytes as f64 / best)
}

/// Measures the memory read bandwidth of the GPUs that the last load for `device` used, in bytes per second: that of the
/// slowest, times their number, as each reads an equal part of a model. Blocks while a model is loaded on a GPU: this needs
/// the process's only context, which it destroys at the end.
pub fn read_bandwidth(device: DevicePreference) -> Result<f64, ModelError> {
    let gpus = opened(device)?;
    let count = gpus.len() as f64;
    let rates = gpus.into_iter().map(|gpu| {
        let mut gpu = Gpu::open(gpu)?;
        let kernels = Kernels::load(&mut gpu)?;
        measure(&gpu, &kernels)
    });
    let slowest = rates.collect::<Result<Vec<_>, _>>()?.into_iter().min_by(f64::total_cmp);
    slowest.map(|rate| rate * count).ok_or_else(|| ModelError::Unsupported(NO_CARD.into()))
}
