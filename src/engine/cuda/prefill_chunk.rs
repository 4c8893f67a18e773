//! How many tokens of a prompt go to the card at once: as many as it can take while a cancel is still heard in time. Pure.

use std::time::Duration;

/// What one chunk may take; a cancel is heard between two of them, and shall be within 100 ms.
const CHUNK_TIME: Duration = Duration::from_millis(70);
/// Chunks are whole tiles of the attention kernel.
const TILE: usize = 64;
/// Multiplications and additions a second of one multiprocessor, about what matrix products reach on recent cards; a first
/// guess, corrected by the first chunk.
const PER_MULTIPROCESSOR: f64 = 5e12;

/// The size of the next chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkSizer {
    most: usize,
    chunk: usize,
    /// Tokens after which attention takes longer by a step, 0 where nobody knows.
    wave: usize,
}

impl ChunkSizer {
    /// For a model of so many weights on a card with so many multiprocessors; `most`: what its buffers hold.
    pub fn new(most: usize, weights: u64, multiprocessors: i32) -> Self {
        let speed = PER_MULTIPROCESSOR * f64::from(multiprocessors.max(1));
        let tokens = CHUNK_TIME.as_secs_f64() * speed / (2.0 * weights.max(1) as f64);
        let mut pace = Self { most, chunk: most, wave: 0 };
        pace.chunk = pace.tiles(tokens);
        pace
    }

    /// The same, in whole waves of `tokens` where they are not too long.
    pub fn in_waves(mut self, tokens: usize) -> Self {
        self.wave = tokens;
        self.chunk = self.tiles(self.chunk as f64);
        self
    }

    /// Tokens of the next chunk; half as many where the matrix products are not at full speed yet.
    pub fn chunk(self, full_speed: bool) -> usize {
        if full_speed { self.chunk } else { (self.chunk / 2 / TILE * TILE).max(TILE) }
    }

    /// A chunk of `tokens` took so long. Deeper in the context the next one takes longer, so slower is believed at once and
    /// faster by and by, and only where there is much room: attention's time comes in waves of blocks, and on an H100 640
    /// tokens deep in the context took 1.8 times as long as 512. ShortPromptLimits tokens say nothing.
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

    /// So many tokens or a little fewer: of each size there is, the matrix products have to be prepared once.
    fn tiles(self, tokens: f64) -> usize {
        // A float that is too large becomes the largest integer.
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
    fn the_first_guess_follows_from_model_and_card() {
        assert_eq!(ChunkSizer::new(2048, 8_000_000_000, 132).chunk(true), 2048);
        let large = ChunkSizer::new(2048, 70_000_000_000, 132).chunk(true);
        assert!((256..512).contains(&large) && large.is_multiple_of(64), "{large}");
        assert_eq!(ChunkSizer::new(512, u64::MAX, 20).chunk(true), 64);
        assert_eq!(ChunkSizer::new(64, 0, 0).chunk(true), 64);
    }

    #[test]
    fn where_waves_are_known_chunks_are_whole_ones() {
        let mut pace = ChunkSizer::new(2048, 8_000_000_000, 132).in_waves(640);
        assert_eq!(pace.chunk(true), 1920);
        pace.learn(1920, Duration::from_millis(75));
        assert_eq!(pace.chunk(true), 1280);
        pace.learn(1280, Duration::from_millis(141));
        assert_eq!(pace.chunk(true), 512, "less than one");
        pace.learn(512, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 640);
        pace.learn(640, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 640, "two would take too long");
        pace.learn(640, Duration::from_millis(30));
        assert_eq!(pace.chunk(true), 1280);
    }

    #[test]
    fn a_slow_chunk_makes_the_next_one_short_enough_and_fast_ones_bring_it_back() {
        let mut pace = ChunkSizer::new(2048, 8_000_000_000, 132);
        pace.learn(2048, Duration::from_millis(50));
        assert_eq!(pace.chunk(true), 2048, "within the time");
        pace.learn(2048, Duration::from_millis(400));
        assert_eq!(pace.chunk(true), 256, "358 tokens in 70 ms, and few sizes");
        pace.learn(256, Duration::from_millis(40));
        assert_eq!(pace.chunk(true), 384);
        pace.learn(384, Duration::from_millis(50));
        assert_eq!(pace.chunk(true), 384, "the next step might take two waves");
        pace.learn(100, Duration::from_secs(1));
        assert_eq!(pace.chunk(true), 384, "too few to tell");
        (0..20).for_each(|_| pace.learn(pace.chunk(true), Duration::from_millis(10)));
        assert_eq!(pace.chunk(true), 2048);
        assert_eq!(pace.chunk(false), 1024, "until the library is there");
        pace.learn(2048, Duration::ZERO);
        assert_eq!(pace.chunk(true), 2048);
    }
}
