//! Measures the memory read bandwidth, which limits the decode speed.

use std::hint::black_box;
use std::time::Instant;

use super::isa::for_each_isa;
use super::{AlignedBytes, Isa, Threads};
use crate::engine::error::ModelError;

/// Buffer size: larger than the caches of current CPUs.
const BYTES: usize = 512 << 20;
/// Bytes per unit of work for a thread.
const PIECE: usize = 1 << 20;
const ROUNDS: usize = 5;

/// Bytes per second that all threads together read from main memory: the best of `ROUNDS` passes over 512 MiB.
/// `OutOfMemory` if that buffer cannot be allocated.
pub fn read_bandwidth(pool: &Threads) -> Result<f64, ModelError> {
    let mut buffer = AlignedBytes::zeroed(BYTES)?;
    // Pages that were never written all map to the shared zero page, which stays in the cache.
    buffer.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        pool.run(BYTES / PIECE, &|piece| read(pool.isa(), &buffer[piece * PIECE..(piece + 1) * PIECE]));
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(BYTES as f64 / best.max(f64::MIN_POSITIVE))
}

for_each_isa! {
    fn read(isa, bytes: &[u8]) = read_all
}

#[inline(always)]
fn read_all(bytes: &[u8]) {
    let mut lanes = [0u8; 256];
    for chunk in bytes.as_chunks::<256>().0 {
        for (lane, byte) in lanes.iter_mut().zip(chunk) {
            *lane ^= byte;
        }
    }
    black_box(lanes);
}

/// The instruction set that a new pool uses, as a display name.
pub fn instruction_set() -> &'static str {
    Isa::detect().name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_bandwidth_is_in_a_plausible_range() {
        let speed = read_bandwidth(&Threads::new(None)).unwrap_or_default();
        // Under load the result can be arbitrarily low; 1e14 B/s is above any memory.
        assert!(speed > 0.0 && speed < 1e14, "{speed}");
    }
}
