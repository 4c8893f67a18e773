//! Numbers that can be tuned per card: how kernels are launched and weights are read.

use super::load::upload::MOST_READERS;

/// How kernels are launched and weights are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Blocks a multiprocessor of the matrix-vector kernels.
    pub blocks: u32,
    /// Most bytes of a warp's ring of weights.
    pub ring: u32,
    /// Fewest keys of a split in one-token attention.
    pub keys: u32,
    /// Tiles of keys of each warp in one-token attention, where there is room: 1 or 2.
    pub stages: u32,
    /// Programmatic dependent launch.
    pub overlap: bool,
    /// Record the step as a graph.
    pub graph: bool,
    /// Hopper's own attention for prompts.
    pub hopper: bool,
    /// What counts as a short prompt.
    pub few: ShortPromptLimits,
    /// Threads that read weights.
    pub readers: usize,
}

/// Tokens up to which a product is the skinny kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortPromptLimits {
    /// With all weights in bf16.
    pub plain: usize,
    /// With others, which would have to go through the scratch memory.
    pub quantised: usize,
    /// The same by Hopper's own skinny kernel.
    pub hopper: usize,
}

impl ShortPromptLimits {
    /// The larger of both, of what the kernels for all cards take.
    pub fn or(self, other: ShortPromptLimits) -> Self {
        Self { plain: self.plain.max(other.plain), quantised: self.quantised.max(other.quantised), ..self }
    }
}

/// What a matrix-vector kernel's shared memory is made to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// Blocks a multiprocessor that it leaves room for.
    pub blocks: u32,
    /// Units of each warp's ring.
    pub depth: u32,
}

/// Depths of a ring that the kernels know (`weight_ring.cuh`).
const DEPTHS: [u32; 6] = [8, 6, 5, 4, 3, 2];
/// Bytes of a block's shared memory that are not ours to fill, generously.
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
    };

    /// What was best where it was measured (an H100: two blocks beat one by 7 %, and three; rings of 8 to 11 KB beat
    /// shorter ones by 5 %; 32 tokens of quantised weights take 0.65 times as long as short prompts, 64 as long as through
    /// bf16, and bf16 is always cuBLASLt's); `CHATNAP_CUDA_TUNING` overrides some of it: `name=number`, with commas.
    pub fn for_card(compute_capability: (i32, i32)) -> Self {
        let hopper = compute_capability.0 >= 9;
        // One core in four is left to whoever draws and listens meanwhile.
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        let readers = (cores * 3 / 4).clamp(2, MOST_READERS);
        let mut tuning = Self { overlap: hopper, readers, ..Self::DEFAULT };
        if let Ok(text) = std::env::var("CHATNAP_CUDA_TUNING") {
            tuning.apply(&text);
        }
        tuning.overlap &= hopper;
        tuning
    }

    /// Takes over what `text` says; what it does not understand changes nothing.
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
                "readers" => self.readers = (value as usize).clamp(1, MOST_READERS),
                _ => {}
            }
        }
    }

    /// As many blocks as wished that still have room for a ring of three units of `unit` bytes beside `staged` bytes of
    /// activations, where a multiprocessor has `limit` bytes for all; at least one, with two units.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(blocks: u32, ring: u32) -> Tuning {
        Tuning { blocks, ring, ..Tuning::DEFAULT }
    }

    #[test]
    fn a_ring_takes_what_there_is_room_for() {
        let hopper = 227 << 10;
        assert_eq!(tuning(2, 11264).ring(2048, 28672, hopper), Ring { blocks: 2, depth: 5 });
        assert_eq!(tuning(2, 11264).ring(2208, 5120, hopper), Ring { blocks: 2, depth: 5 });
        // Wide activations shorten it.
        assert_eq!(tuning(2, 11264).ring(2048, 57344, hopper), Ring { blocks: 2, depth: 3 });
        // Where two blocks have no room for three units, one has all.
        assert_eq!(tuning(2, 11264).ring(2048, 28672, 99 << 10), Ring { blocks: 1, depth: 4 });
        assert_eq!(tuning(3, 0).ring(2048, 0, hopper), Ring { blocks: 1, depth: 2 });
    }

    #[test]
    fn names_in_the_environment_change_what_they_name() {
        let mut tuning = tuning(2, 9000);
        tuning.apply("blocks=0,graph=0,nonsense=7,ring=x,stages=9,few_plain=16,readers=7");
        let few = ShortPromptLimits { plain: 16, ..Tuning::DEFAULT.few };
        let wanted = Tuning { blocks: 1, ring: 9000, graph: false, few, readers: 7, ..Tuning::DEFAULT };
        assert_eq!(tuning, wanted);
    }
}
