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

impl Room {
    /// Bytes that may be used.
    fn budget(self) -> u64 {
        budget(self.free, self.total, self.utilization)
    }
}

/// One GPU's part of a model.
#[derive(Clone, Debug)]
pub struct Share {
    /// `cuda:0`.
    pub label: String,
    pub needs: Needs,
    pub room: Room,
}

impl Share {
    /// Bytes that it needs beyond the budget.
    fn lack(&self) -> u64 {
        self.needs.total().saturating_sub(self.room.budget())
    }

    /// What it needs and what it may use.
    fn describe(&self, context: usize) -> String {
        let (needs, room) = (self.needs, self.room);
        format!(
            "needs {} of VRAM (weights {}, KV cache for {context} positions {}, workspace {}) and {} may be used \
             ({} free, utilization {:.0} %)",
            bytes(needs.total()),
            bytes(needs.weights),
            bytes(needs.kv_cache),
            bytes(needs.workspace),
            bytes(room.budget()),
            bytes(room.free),
            room.utilization * 100.0,
        )
    }
}

/// Returns `OutOfMemory` with the sizes and suggestions if a GPU's `needs` exceed its budget; one share for each GPU of the
/// model. `context`: the positions that `needs.kv_cache` was computed for. `others`: values of `--device`, with it, that
/// would hold the model.
pub fn check(
    name: &str,
    shares: &[Share],
    context: usize,
    smaller: &[Alternative],
    others: &[String],
) -> Result<(), ModelError> {
    if shares.iter().all(|share| share.lack() == 0) {
        return Ok(());
    }
    let fits = advice(shares, context, smaller, others).join(", or ");
    let told = match shares {
        [share] => share.describe(context),
        _ => {
            let part = |share: &Share| match share.lack() {
                0 => format!("{} {}", share.label, share.describe(context)),
                lack => format!("{} {}: {} too little", share.label, share.describe(context), bytes(lack)),
            };
            let parts: Vec<_> = shares.iter().map(part).collect();
            format!("does not fit on {} GPUs: {}", shares.len(), parts.join("; "))
        }
    };
    Err(ModelError::OutOfMemory(format!("{name} {told}; what fits: {fits}")))
}

/// Options that would fit on every GPU, those closest to the request first. `--device cpu` is always last: RAM is not
/// checked here.
fn advice(shares: &[Share], context: usize, smaller: &[Alternative], others: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if shares.iter().all(|share| share.needs.total() <= share.room.free) {
        // Rounded up to a hundredth, so that the printed value suffices.
        let utilization = |Share { needs, room, .. }: &Share| {
            let taken = room.total - room.free + needs.total();
            (taken as f64 / room.total.max(1) as f64 * 100.0).ceil() / 100.0
        };
        let most = shares.iter().map(utilization).fold(0.0, f64::max);
        found.extend((most <= 1.0).then(|| format!("--gpu-memory-utilization {most:.2}")));
    }
    let positions = |Share { needs, room, .. }: &Share| {
        let fixed = needs.weights.saturating_add(needs.workspace);
        room.budget().saturating_sub(fixed) / (needs.kv_cache / context.max(1) as u64).max(1)
    };
    let positions = shares.iter().map(positions).min().unwrap_or(0);
    if positions >= LEAST_CONTEXT {
        found.push(format!("--context-length {}", positions / LEAST_CONTEXT * LEAST_CONTEXT));
    }
    found.extend(others.iter().cloned());
    // `smaller` is sorted largest first. Planes with padding take slightly more than the file: 2 % is added.
    let fits = |other: &&Alternative| {
        let part = (other.bytes + other.bytes / 50) / shares.len().max(1) as u64;
        shares.iter().all(|Share { needs, room, .. }| {
            part.saturating_add(needs.kv_cache.saturating_add(needs.workspace)) <= room.budget()
        })
    };
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

    fn one(room: Room) -> [Share; 1] {
        [Share { label: "cuda:0".into(), needs: llama(), room }]
    }

    fn refusal(free: u64, total: u64, utilization: f32, smaller: &[Alternative]) -> String {
        match check("m", &one(Room { free, total, utilization }), 8192, smaller, &[]) {
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
        assert_eq!(check("m", &one(room), 8192, &[], &[]), Ok(()));
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
        assert_eq!(check("m", &one(room), 8192, &[], &[]), Ok(()), "the advice holds");
    }
    fn share(ordinal: usize, weights: u64, free: u64) -> Share {
        Share {
            label: format!("cuda:{ordinal}"),
            needs: Needs { weights: weights * GB, ..llama() },
            room: Room { free: free * GB, total: 24 * GB, utilization: 1.0 },
        }
    }

    fn group(shares: &[Share], smaller: &[Alternative]) -> String {
        match check("m", shares, 8192, smaller, &[]) {
            Err(ModelError::OutOfMemory(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_gpus_are_suggested_before_a_smaller_model() {
        let forms = [other("m:q4_k_m", 5 * GB)];
        let room = Room { free: 17 * GB, total: 24 * GB, utilization: 1.0 };
        let others = ["--device cuda:1".to_owned(), "--device cuda:0,1".to_owned()];
        let Err(ModelError::OutOfMemory(text)) = check("m", &one(room), 8192, &forms, &others) else { panic!() };
        let fits = "what fits: --context-length 4096, or --device cuda:1, or --device cuda:0,1, or -m m:q4_k_m (5.0 GB), \
                    or --device cpu";
        assert!(text.ends_with(fits), "{text}");
        let room = Room { free: 10 * GB, ..room };
        let Err(ModelError::OutOfMemory(text)) = check("m", &one(room), 8192, &[], &others) else { panic!() };
        assert!(text.ends_with("what fits: --device cuda:1, or --device cuda:0,1, or --device cpu"), "{text}");
    }

    #[test]
    fn group_of_one_is_told_as_one_gpu() {
        let forms = [other("m:q4_k_m", 5 * GB)];
        for free in [17, 10, 1] {
            assert_eq!(group(&[share(0, 16, free)], &forms), refusal(free * GB, 24 * GB, 1.0, &forms));
        }
        assert_eq!(check("m", &[share(0, 16, 18)], 8192, &[], &[]), Ok(()));
    }

    #[test]
    fn group_names_the_gpu_that_lacks_memory_and_how_much() {
        assert_eq!(check("m", &[share(0, 16, 18), share(1, 16, 18)], 8192, &[], &[]), Ok(()));
        let text = group(&[share(0, 16, 24), share(1, 16, 10)], &[]);
        assert_eq!(
            text,
            "m does not fit on 2 GPUs: \
             cuda:0 needs 17.5 GB of VRAM (weights 16.0 GB, KV cache for 8192 positions 1.0 GB, workspace 500 MB) and \
             24.0 GB may be used (24.0 GB free, utilization 100 %); \
             cuda:1 needs 17.5 GB of VRAM (weights 16.0 GB, KV cache for 8192 positions 1.0 GB, workspace 500 MB) and \
             10.0 GB may be used (10.0 GB free, utilization 100 %): 7.5 GB too little; \
             what fits: a smaller model (`chatnap gpu` shows which fit), or --device cpu"
        );
    }

    #[test]
    fn advice_for_a_group_suits_each_of_its_gpus() {
        let text = group(&[share(0, 16, 24), share(1, 16, 17)], &[]);
        assert!(text.ends_with("what fits: --context-length 4096, or --device cpu"), "{text}");
        // Half of the alternative's weights are on each GPU.
        let forms = [other("m:q8_0", 20 * GB), other("m:q4_k_m", 16 * GB)];
        let text = group(&[share(0, 16, 24), share(1, 16, 10)], &forms);
        assert!(text.ends_with("what fits: -m m:q4_k_m (16.0 GB), or --device cpu"), "{text}");
        let limited = |ordinal, free| {
            let share = share(ordinal, 16, free);
            Share { room: Room { utilization: 0.5, ..share.room }, ..share }
        };
        let text = group(&[limited(0, 24), limited(1, 20)], &[]);
        assert!(text.contains("what fits: --gpu-memory-utilization 0.90, or"), "{text}");
        let raised = [limited(0, 24), limited(1, 20)]
            .map(|share| Share { room: Room { utilization: 0.9, ..share.room }, ..share });
        assert_eq!(check("m", &raised, 8192, &[], &[]), Ok(()), "the advice holds");
    }
}
