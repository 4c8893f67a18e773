//! Whether a model fits the card, before a byte is loaded. Pure arithmetic and the message about it.

use crate::engine::model::ModelError;

/// What a load would take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Weights as they lie on the card.
    pub weights: u64,
    /// KV cache for the whole context.
    pub kv_cache: u64,
    /// Scratch buffers of prefill and decode, staging while loading.
    pub workspace: u64,
}

impl Needs {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.workspace)
    }
}

/// Bytes that may be taken: what is free, less the share of the card that `utilization` leaves to others.
pub fn budget(free: u64, total: u64, utilization: f32) -> u64 {
    let reserved = (total as f64 * f64::from(1.0 - utilization.clamp(0.0, 1.0))) as u64;
    free.saturating_sub(reserved)
}

/// An error that names the numbers and what would fit, or nothing where it fits. `context` positions are what
/// `needs.kv_cache` was computed for.
pub fn check(
    name: &str,
    needs: Needs,
    context: usize,
    free: u64,
    total: u64,
    utilization: f32,
) -> Result<(), ModelError> {
    let budget = budget(free, total, utilization);
    if needs.total() <= budget {
        return Ok(());
    }
    let fixed = needs.weights.saturating_add(needs.workspace);
    let positions = budget.saturating_sub(fixed) / (needs.kv_cache / context.max(1) as u64).max(1);
    let advice = if positions >= 256 {
        format!("--context-length {} would fit", positions / 256 * 256)
    } else {
        "take a smaller quantisation (chatnap gpu shows which models fit), --device cpu, or close what uses the card"
            .to_owned()
    };
    Err(ModelError::OutOfMemory(format!(
        "{name} needs {} of VRAM (weights {}, KV cache for {context} positions {}, workspace {}) and {} may be used \
         ({} free, utilization {:.0} %): {advice}",
        gigabytes(needs.total()),
        gigabytes(needs.weights),
        gigabytes(needs.kv_cache),
        gigabytes(needs.workspace),
        gigabytes(budget),
        gigabytes(free),
        utilization * 100.0,
    )))
}

/// `17.2 GB`.
pub fn gigabytes(bytes: u64) -> String {
    if bytes >= 1_000_000_000 {
        format!("{:.1} GB", bytes as f64 / 1e9)
    } else {
        format!("{:.0} MB", bytes as f64 / 1e6)
    }
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
    fn the_share_of_others_is_left_to_them() {
        assert_eq!(budget(80 * GB, 80 * GB, 0.75), 60 * GB);
        assert_eq!(budget(10 * GB, 80 * GB, 0.75), 0);
        assert_eq!(budget(10 * GB, 80 * GB, 1.0), 10 * GB);
    }

    #[test]
    fn what_fits_passes_and_what_does_not_names_its_numbers() {
        assert_eq!(check("m", llama(), 8192, 80 * GB, 80 * GB, 0.9), Ok(()));
        let Err(ModelError::OutOfMemory(text)) = check("m", llama(), 8192, 10 * GB, 24 * GB, 1.0) else {
            panic!("10 GB cannot hold 17.5 GB")
        };
        for number in ["17.5 GB", "16.0 GB", "1.0 GB", "500 MB", "10.0 GB", "--device cpu"] {
            assert!(text.contains(number), "{number} is missing in {text}");
        }
    }

    #[test]
    fn a_shorter_context_is_offered_where_it_helps() {
        let Err(ModelError::OutOfMemory(text)) = check("m", llama(), 8192, 17 * GB, 24 * GB, 1.0) else {
            panic!("17 GB cannot hold 17.5 GB")
        };
        assert!(text.contains("--context-length 4096 would fit"), "{text}");
    }
}
