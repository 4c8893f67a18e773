//! Tuning parameters per GPU generation: kernel launches and weight reading.

use super::load::upload::MOST_READERS;
use super::params::MOST_RANKS;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Blocks per multiprocessor of the matrix-vector (GEMV) kernels.
    pub blocks: u32,
    /// Maximum bytes of a warp's weight ring.
    pub ring: u32,
    /// Minimum keys per split in decode attention.
    pub keys: u32,
    /// Key tiles in flight per warp in decode attention, if shared memory allows: 1 or 2.
    pub stages: u32,
    /// Programmatic dependent launch.
    pub overlap: bool,
    /// Capture the decode step as a CUDA graph.
    pub graph: bool,
    /// Use the Hopper kernels for prompts.
    pub hopper: bool,
    /// Maximum prompt lengths for the skinny kernels.
    pub few: ShortPromptLimits,
    /// Threads that read weights, for each GPU.
    pub readers: usize,
    /// Most bytes of shared memory that a block may take, to check the launches of GPUs that have less.
    pub shared: i32,
    /// Splits a model into this many parts on one GPU, to check the code for several GPUs.
    pub ranks: u32,
    /// Exchange through the host's memory also between GPUs that have access to each other.
    pub through_host: bool,
    /// Decode steps of several GPUs without the exchange, whose results are wrong: to measure what it costs.
    pub alone: bool,
    /// Milliseconds that a kernel waits for another GPU.
    pub patience: u32,
}

/// Maximum tokens of a product by a skinny kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortPromptLimits {
    /// If all weights are bf16.
    pub plain: usize,
    /// If some are not: the alternative is dequantising into scratch memory.
    pub quantised: usize,
    /// For the Hopper skinny kernel.
    pub hopper: usize,
}

impl ShortPromptLimits {
    /// The larger of both limits of the portable kernel; the Hopper limit stays.
    pub fn or(self, other: ShortPromptLimits) -> Self {
        Self { plain: self.plain.max(other.plain), quantised: self.quantised.max(other.quantised), ..self }
    }
}

/// Shared memory layout of a matrix-vector kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// Blocks per multiprocessor that fit.
    pub blocks: u32,
    /// Units of each warp's ring.
    pub depth: u32,
}

/// Ring depths that the kernels support (`weight_ring.cuh`).
const DEPTHS: [u32; 6] = [8, 6, 5, 4, 3, 2];
/// Upper bound for the bytes of a block's shared memory that CUDA and static arrays take.
const RESERVED: u32 = 2048;
/// Warps of a block.
const WARPS: u32 = 8;

impl Tuning {
    const DEFAULT: Self = Self {
        blocks: 2,
        ring: 11264,
        keys: 128,
        stages: 2,
        overlap: true,
        graph: true,
        hopper: true,
        few: ShortPromptLimits { plain: 0, quantised: 64, hopper: 256 },
        readers: MOST_READERS,
        shared: i32::MAX,
        ranks: 1,
        through_host: false,
        alone: false,
        patience: 5000,
    };

    /// Best values on an H100: two blocks beat one by 7 %, and beat three; rings of 8 to 11 KB beat shorter ones by
    /// 5 %; for quantised weights the skinny kernel takes 0.65 times as long as the path through bf16 for 32 tokens, as
    /// long for 64; bf16 always goes to cuBLASLt. `CHATNAP_CUDA_TUNING` overrides some of them: `name=number,…`.
    pub fn for_capability(compute_capability: (i32, i32)) -> Self {
        let hopper = compute_capability.0 >= 9;
        let readers = readers(cores(), 1);
        let mut tuning = Self { overlap: hopper, readers, ..Self::DEFAULT };
        if let Ok(text) = std::env::var("CHATNAP_CUDA_TUNING") {
            tuning.apply(&text);
        }
        tuning.overlap &= hopper;
        tuning
    }

    /// Threads that read weights for each of `gpus` GPUs at the same time.
    pub fn readers_of(&self, gpus: usize) -> usize {
        if gpus > 1 { self.readers.min(readers(cores(), gpus)) } else { self.readers }
    }

    /// Applies the overrides in `text`; unknown names and invalid numbers are ignored.
    fn apply(&mut self, text: &str) {
        for (name, value) in text.split(',').filter_map(|part| part.split_once('=')) {
            let Ok(value) = value.trim().parse::<u32>() else { continue };
            match name.trim() {
                "blocks" => self.blocks = value.max(1),
                "ring" => self.ring = value,
                "keys" => self.keys = value.max(1),
                "stages" => self.stages = value.clamp(1, 2),
                "overlap" => self.overlap = value != 0,
                "graph" => self.graph = value != 0,
                "hopper" => self.hopper = value != 0,
                "few_plain" => self.few.plain = value as usize,
                "few_quantised" => self.few.quantised = value as usize,
                "few_hopper" => self.few.hopper = value as usize,
                "shared" => self.shared = value as i32,
                "ranks" => self.ranks = value.clamp(1, MOST_RANKS as u32),
                "through_host" => self.through_host = value != 0,
                "alone" => self.alone = value != 0,
                "patience" => self.patience = value.clamp(1, 60_000),
                "readers" => self.readers = (value as usize).clamp(1, MOST_READERS),
                _ => {}
            }
        }
    }

    /// The most blocks, up to `self.blocks`, that each fit a ring of three units of `unit` bytes and `staged` bytes of
    /// activations into the multiprocessor's `limit` bytes of shared memory; at least one block with two units.
    pub fn ring(&self, unit: u32, staged: u32, limit: u32) -> Ring {
        let most = |blocks: u32| {
            let room = if blocks == 1 { limit } else { (limit / blocks).saturating_sub(RESERVED) };
            self.ring.min(room.saturating_sub(staged) / WARPS) / unit.max(1)
        };
        let blocks = (2..=self.blocks).rev().find(|blocks| most(*blocks) >= 3).unwrap_or(1);
        let depth = DEPTHS.into_iter().find(|depth| *depth <= most(blocks)).unwrap_or(2);
        Ring { blocks, depth }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(4, usize::from)
}

/// Threads that read weights for each of `gpus` GPUs. One core in four stays free for drawing and input.
fn readers(cores: usize, gpus: usize) -> usize {
    (cores * 3 / 4 / gpus.max(1)).clamp(2, MOST_READERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_share_the_cores_for_reading() {
        assert_eq!([readers(16, 1), readers(16, 2), readers(32, 2), readers(128, 2)], [12, 6, 12, 12]);
        assert_eq!([readers(2, 1), readers(4, 2), readers(8, 8)], [2, 2, 2]);
    }

    fn tuning(blocks: u32, ring: u32) -> Tuning {
        Tuning { blocks, ring, ..Tuning::DEFAULT }
    }

    #[test]
    fn ring_depth_and_blocks_follow_the_shared_memory_left() {
        let hopper = 227 << 10;
        assert_eq!(tuning(2, 11264).ring(2048, 28672, hopper), Ring { blocks: 2, depth: 5 });
        assert_eq!(tuning(2, 11264).ring(2208, 5120, hopper), Ring { blocks: 2, depth: 5 });
        // Wide activations make the ring shorter.
        assert_eq!(tuning(2, 11264).ring(2048, 57344, hopper), Ring { blocks: 2, depth: 3 });
        // If two blocks do not fit three units each, one block gets all of the memory.
        assert_eq!(tuning(2, 11264).ring(2048, 28672, 99 << 10), Ring { blocks: 1, depth: 4 });
        assert_eq!(tuning(3, 0).ring(2048, 0, hopper), Ring { blocks: 1, depth: 2 });
    }

    #[test]
    fn tuning_overrides_apply_known_names_and_ignore_invalid_ones() {
        let mut tuning = tuning(2, 9000);
        tuning.apply("blocks=0,graph=0,nonsense=7,ring=x,stages=9,few_plain=16,readers=7");
        let few = ShortPromptLimits { plain: 16, ..Tuning::DEFAULT.few };
        let wanted = Tuning { blocks: 1, ring: 9000, graph: false, few, readers: 7, ..Tuning::DEFAULT };
        assert_eq!(tuning, wanted);
    }
}
