//! Tests an exchange before a model relies on it: some machines report that GPUs can access each other's memory, and then
//! writes do not arrive or other data are read (virtual machines and some settings of the IOMMU).

use std::sync::Arc;
use std::time::Duration;

use super::driver::{DeviceBuffer, Gpu, LaunchConfig};
use super::exchange::{Exchange, Peers};
use super::kernels::Kernels;
use super::params::{CombineArgs, MOST_RANKS, ProbeArgs, StepArgs};
use super::split::Share;
use crate::engine::error::ModelError;

/// Numbers that are exchanged.
const WIDTH: usize = 64;
/// Longest wait of a kernel.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether all ranks read each other's parts and receive each other's words. Leaves the exchange as it was made.
pub fn works(cards: &[(&Gpu, &Kernels)], exchange: &Arc<Exchange>) -> Result<bool, ModelError> {
    let ranks = cards.len();
    let mut tested = Vec::new();
    for (rank, (gpu, kernels)) in cards.iter().enumerate() {
        gpu.activate()?;
        let peers = Peers::new(gpu, Arc::clone(exchange), Share { rank, ranks })?;
        let sums = DeviceBuffer::<f32>::new(WIDTH)?;
        sums.fill(gpu, 0)?;
        peers.fill_part(gpu, bf16(rank), WIDTH)?;
        gpu.synchronize()?;
        tested.push((*gpu, *kernels, peers, sums));
    }
    // Only launches until all ranks run: an allocation or a copy could wait for a kernel that waits for another rank.
    for (gpu, kernels, peers, sums) in &tested {
        gpu.activate()?;
        launch(gpu, kernels, peers, sums)?;
    }
    // Each rank sent half of the sum of all parts.
    let sum: f32 = (0..ranks).map(value).sum();
    let wanted = [sum * 0.5 * ranks as f32; WIDTH];
    let mut right = true;
    for (gpu, _, _, sums) in &tested {
        gpu.activate()?;
        let mut got = [0.0; WIDTH];
        sums.read(gpu, 0, &mut got)?;
        right &= got == wanted;
    }
    right &= !exchange.is_stopped();
    for (gpu, _, mut peers, sums) in tested {
        gpu.activate()?;
        peers.reset(gpu)?;
        drop((peers, sums));
    }
    exchange.reset();
    Ok(right)
}

/// What a rank writes to its part.
fn value(rank: usize) -> f32 {
    rank as f32 + 1.0
}

fn bf16(rank: usize) -> u16 {
    half::bf16::from_f32(value(rank)).to_bits()
}

/// Adds the parts of all ranks, then exchanges the sums.
fn launch(gpu: &Gpu, kernels: &Kernels, peers: &Peers, sums: &DeviceBuffer<f32>) -> Result<(), ModelError> {
    let Some(kernels) = &kernels.parallel else { return Ok(()) };
    let (stream, ranks, x) = (gpu.stream, peers.share.ranks, sums.pointer());
    let mut parts = [0; MOST_RANKS];
    (0..ranks).for_each(|rank| parts[rank] = peers.part_of(rank, 0));
    let combine = CombineArgs { parts, x, octets: WIDTH as u64 / 8, ranks: ranks as i32, ..CombineArgs::default() };
    let mut link = peers.link();
    link.limit_us = LIMIT.as_micros() as u32;
    let step = StepArgs { link, index: 2, ..StepArgs::default() };
    let probe = ProbeArgs { link, x, width: WIDTH as i32, index: 1, ..ProbeArgs::default() };
    let one = LaunchConfig::linear(1, 32);
    // SAFETY: the parts and inboxes of all ranks have room for WIDTH numbers, as have the sums; all live until they are read.
    unsafe {
        kernels.combine_rows.launch(stream, one, &combine)?;
        kernels.advance_epoch.launch(stream, one, &step)?;
        kernels.probe_exchange.launch(stream, one, &probe)
    }
}
