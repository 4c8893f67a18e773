//! Sizes prefill chunks: as many tokens as the GPU finishes before the next check of the cancel flag is due. No I/O.

use std::time::Duration;

/// Time budget of a chunk. The cancel flag is checked between chunks and must take effect within 100 ms.
const CHUNK_TIME: Duration = Duration::from_millis(70);
/// Chunks are whole tiles of the attention kernel.
const TILE: usize = 64;
/// Multiply and add operations per second of one multiprocessor, about the rate of matrix products on recent GPUs. Only
/// for the first chunk; its measured time replaces the estimate.
const PER_MULTIPROCESSOR: f64 = 5e12;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkSizer {
    most: usize,
    chunk: usize,
    /// Tokens per wave of attention blocks: its time grows in steps of one wave. 0 if unknown.
    wave: usize,
}

impl ChunkSizer {
    /// `most`: tokens that the buffers hold; `weights`: the model's parameter count.
    pub fn new(most: usize, weights: u64, multiprocessors: i32) -> Self {
        let speed = PER_MULTIPROCESSOR * f64::from(multiprocessors.max(1));
        let tokens = CHUNK_TIME.as_secs_f64() * speed / (2.0 * weights.max(1) as f64);
        let mut pace = Self { most, chunk: most, wave: 0 };
        pace.chunk = pace.tiles(tokens);
        pace
    }

    /// Rounds chunks down to whole waves of `tokens`, if one wave fits the time budget.
    pub fn in_waves(mut self, tokens: usize) -> Self {
        self.wave = tokens;
        self.chunk = self.tiles(self.chunk as f64);
        self
    }

    /// Tokens of the next chunk; half of that while the matrix products are not at full speed yet.
    pub fn chunk(self, full_speed: bool) -> usize {
        if full_speed { self.chunk } else { (self.chunk / 2 / TILE * TILE).max(TILE) }
    }

    /// Adapts the size to a measured chunk. A slow one shrinks it at once: deeper in the context the next takes longer.
    /// One below two thirds of the budget grows it by one step, as attention time grows in waves of blocks (H100, deep
    /// context: 640 tokens took 1.8 times as long as 512). Chunks under two tiles are ignored: their timing is noise.
    pub fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens < 2 * TILE {
            return;
        }
        let fitting = self.tiles(tokens as f64 * CHUNK_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6));
        self.chunk = match fitting {
            fewer if fewer < self.chunk => fewer,
            more if took * 3 <= CHUNK_TIME * 2 => {
                let step = if self.chunk < self.wave { 2 * TILE } else { self.wave.max(2 * TILE) };
                self.tiles(more.min(self.chunk + step) as f64)
            }
            _ => self.chunk,
        };
    }

    /// Rounds down to one of few sizes: the matrix products need a one-time setup for each size.
    fn tiles(self, tokens: f64) -> usize {
        // The cast saturates if the float is too large.
        let whole = (tokens as usize / TILE * TILE).min(self.most).max(TILE);
        match whole {
            few if few <= 4 * TILE => few,
            waves if self.wave > 0 && waves >= self.wave => waves / self.wave * self.wave,
            tokens => tokens / (2 * TILE) * (2 * TILE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_chunk_depends_on_parameters_and_multiprocessors() {
        assert_eq!(ChunkSizer::new(2048, 8_000_000_000, 132).chunk(true), 2048);
        let large = ChunkSizer::new(2048, 70_000_000_000, 132).chunk(true);
        assert!((256..512).contains(&large) && large.is_multiple_of(64), "{large}");
        assert_eq!(ChunkSizer::new(512, u64::MAX, 20).chunk(true), 64);
        assert_eq!(ChunkSizer::new(64, 0, 0).chunk(true), 64);
    }

    #[test]
    fn chunks_are_whole_waves_if_the_wave_size_is_known() {
        let mut pace = ChunkSizer::new(2048, 8_000_000_000, 132).in_waves(640);
        assert_eq!(pace.chunk(true), 1920);
        pace.learn(1920, Duration::from_millis(75));
        assert_eq!(pace.chunk(true), 1280);
        pace.learn(1280, Duration::from_millis(141));
        assert_eq!(pace.chunk(true), 512, "less than one wave");
        pace.learn(512, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 640);
        pace.learn(640, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 640, "two waves would take too long");
        pace.learn(640, Duration::from_millis(30));
        assert_eq!(pace.chunk(true), 1280);
    }

    #[test]
    fn slow_chunk_shrinks_the_size_at_once_and_fast_chunks_grow_it_in_steps() {
        let mut pace = ChunkSizer::new(2048, 8_000_000_000, 132);
        pace.learn(2048, Duration::from_millis(50));
        assert_eq!(pace.chunk(true), 2048, "within the budget");
        pace.learn(2048, Duration::from_millis(400));
        assert_eq!(pace.chunk(true), 256, "358 tokens in 70 ms, rounded down to one of few sizes");
        pace.learn(256, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 384);
        pace.learn(384, Duration::from_millis(50));
        assert_eq!(pace.chunk(true), 384, "the next step might take two waves");
        pace.learn(100, Duration::from_secs(1));
        assert_eq!(pace.chunk(true), 384, "too few tokens to measure");
        (0..20).for_each(|_| pace.learn(pace.chunk(true), Duration::from_millis(10)));
        assert_eq!(pace.chunk(true), 2048);
        assert_eq!(pace.chunk(false), 1024, "half until cuBLASLt is loaded");
        pace.learn(2048, Duration::ZERO);
        assert_eq!(pace.chunk(true), 2048);
    }
}
