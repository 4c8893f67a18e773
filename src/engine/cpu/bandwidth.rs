//! How fast this machine reads its memory: the limit of decoding.

use std::hint::black_box;
use std::time::Instant;

use super::isa::for_each_isa;
use super::{AlignedBytes, Isa, Threads};
use crate::engine::error::ModelError;

/// Larger than the caches of today's processors.
const BYTES: usize = 512 << 20;
/// Bytes that a thread takes at a time.
const PIECE: usize = 1 << 20;
const ROUNDS: usize = 5;

/// Bytes a second that the threads read from main memory together: the best of some rounds over half a gigabyte.
/// `OutOfMemory` where that cannot be had.
pub fn read_bandwidth(pool: &Threads) -> Result<f64, ModelError> {
    let mut buffer = AlignedBytes::zeroed(BYTES)?;
    // Pages that were never written are all one page of zeros.
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

/// What the kernels of a new pool would use: for people who read figures.
pub fn instruction_set() -> &'static str {
    Isa::detect().name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_at_a_speed_that_memory_has() {
        let speed = read_bandwidth(&Threads::new(None)).unwrap_or_default();
        // Beside other programs any speed is possible, but none that no memory has.
        assert!(speed > 0.0 && speed < 1e14, "{speed}");
    }
}
