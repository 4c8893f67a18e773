//! Checks whether a model fits the GPU before loading it. Only arithmetic and the error message.

use crate::engine::error::ModelError;
use crate::engine::source::Alternative;
use crate::wording::bytes;

/// The shortest context length that the error suggests; suggestions are rounded down to a multiple of it.
const LEAST_CONTEXT: u64 = 256;

/// Memory that a load would take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Weights in the device layout.
    pub weights: u64,
    /// KV cache for the whole context.
    pub kv_cache: u64,
    /// Scratch buffers of prefill and decode, and the staging buffers of the upload.
    pub workspace: u64,
}

impl Needs {
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.workspace)
    }
}

/// Bytes that may be used: the free bytes, minus the share of `total` that `utilization` leaves to other processes.
pub fn budget(free: u64, total: u64, utilization: f32) -> u64 {
    let reserved = (total as f64 * f64::from(1.0 - utilization.clamp(0.0, 1.0))) as u64;
    free.saturating_sub(reserved)
}

/// A GPU's memory before a load, and the share of it that may be used.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Free bytes.
    pub free: u64,
    /// Total bytes.
    pub total: u64,
    /// Share of the total, 0 to 1.
    pub utilization: f32,
}

/// Returns `OutOfMemory` with the sizes and suggestions if `needs` exceeds the budget. `context`: the positions that
/// `needs.kv_cache` was computed for.
pub fn check(name: &str, needs: Needs, context: usize, room: Room, smaller: &[Alternative]) -> Result<(), ModelError> {
    let budget = budget(room.free, room.total, room.utilization);
    if needs.total() <= budget {
        return Ok(());
    }
    Err(ModelError::OutOfMemory(format!(
        "{name} needs {} of VRAM (weights {}, KV cache for {context} positions {}, workspace {}) and {} may be used \
         ({} free, utilization {:.0} %); what fits: {}",
        bytes(needs.total()),
        bytes(needs.weights),
        bytes(needs.kv_cache),
        bytes(needs.workspace),
        bytes(budget),
        bytes(room.free),
        room.utilization * 100.0,
        advice(needs, context, room, budget, smaller).join(", or "),
    )))
}

/// Options that would fit, those closest to the request first. `--device cpu` is always last: RAM is not checked here.
fn advice(needs: Needs, context: usize, room: Room, budget: u64, smaller: &[Alternative]) -> Vec<String> {
    let mut found = Vec::new();
    if needs.total() <= room.free {
        // Rounded up to a hundredth, so that the printed value suffices.
        let taken = room.total - room.free + needs.total();
        let share = (taken as f64 / room.total.max(1) as f64 * 100.0).ceil() / 100.0;
        found.extend((share <= 1.0).then(|| format!("--gpu-memory-utilization {share:.2}")));
    }
    let fixed = needs.weights.saturating_add(needs.workspace);
    let positions = budget.saturating_sub(fixed) / (needs.kv_cache / context.max(1) as u64).max(1);
    if positions >= LEAST_CONTEXT {
        found.push(format!("--context-length {}", positions / LEAST_CONTEXT * LEAST_CONTEXT));
    }
    let around = needs.kv_cache.saturating_add(needs.workspace);
    // `smaller` is sorted largest first. Planes with padding take slightly more than the file: 2 % is added.
    let fits = |other: &&Alternative| (other.bytes + other.bytes / 50).saturating_add(around) <= budget;
    if let Some(other) = smaller.iter().find(fits) {
        found.push(format!("-m {} ({})", other.name, bytes(other.bytes)));
    } else if found.is_empty() {
        found.push("a smaller model (`chatnap gpu` shows which fit)".to_owned());
    }
    found.push("--device cpu".to_owned());
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn llama() -> Needs {
        Needs { weights: 16 * GB, kv_cache: GB, workspace: GB / 2 }
    }

    #[test]
    fn budget_reserves_the_share_outside_the_utilization() {
        assert_eq!(budget(80 * GB, 80 * GB, 0.75), 60 * GB);
        assert_eq!(budget(10 * GB, 80 * GB, 0.75), 0);
        assert_eq!(budget(10 * GB, 80 * GB, 1.0), 10 * GB);
    }

    fn refusal(free: u64, total: u64, utilization: f32, smaller: &[Alternative]) -> String {
        match check("m", llama(), 8192, Room { free, total, utilization }, smaller) {
            Err(ModelError::OutOfMemory(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn other(name: &str, bytes: u64) -> Alternative {
        Alternative { name: name.into(), bytes }
    }

    #[test]
    fn oversized_model_is_refused_with_its_sizes_and_a_fitting_one_passes() {
        let room = Room { free: 80 * GB, total: 80 * GB, utilization: 0.9 };
        assert_eq!(check("m", llama(), 8192, room, &[]), Ok(()));
        let text = refusal(10 * GB, 24 * GB, 1.0, &[]);
        for part in ["17.5 GB", "16.0 GB", "1.0 GB", "500 MB", "10.0 GB", "`chatnap gpu`", ", or --device cpu"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("--context-length") && !text.contains("--gpu-memory-utilization"), "{text}");
    }

    #[test]
    fn shorter_context_is_suggested_if_it_fits() {
        let text = refusal(17 * GB, 24 * GB, 1.0, &[]);
        assert!(text.contains("what fits: --context-length 4096, or --device cpu"), "{text}");
    }

    #[test]
    fn largest_fitting_alternative_is_suggested_by_name() {
        let forms = [other("m:q8_0", 9 * GB), other("m:q4_k_m", 5 * GB), other("m:q2_k", 3 * GB)];
        let text = refusal(10 * GB, 24 * GB, 1.0, &forms);
        assert!(text.contains("what fits: -m m:q4_k_m (5.0 GB), or --device cpu"), "{text}");
        assert!(refusal(GB, 24 * GB, 1.0, &forms).contains("`chatnap gpu`"));
    }

    #[test]
    fn too_small_utilization_suggests_a_value_that_fits() {
        let text = refusal(79 * GB, 80 * GB, 0.05, &[]);
        assert!(text.contains("utilization 5 %") && text.contains("--gpu-memory-utilization 0.24"), "{text}");
        let room = Room { free: 79 * GB, total: 80 * GB, utilization: 0.24 };
        assert_eq!(check("m", llama(), 8192, room, &[]), Ok(()), "the advice holds");
    }
}
