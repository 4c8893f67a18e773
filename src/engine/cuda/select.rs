//! Selects the GPUs for a `DevicePreference`.

use std::sync::{Mutex, PoisonError};

use super::driver::nvml::Management;
use super::driver::{self, GpuProperties};
use super::load::capacity::budget;
use super::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::protocol::{DevicePreference, GpuList};

mod pick;

use pick::Card;

/// The error message if the driver works and reports no GPU.
pub const NO_CARD: &str = "CUDA shows no GPU (CUDA_VISIBLE_DEVICES may hide it)";

/// The GPUs that the last load with `DevicePreference::Auto` was to open; empty before the first.
static TAKEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Whether a load for `device` would try a GPU first. Queries the driver without creating a context.
pub fn expected(device: DevicePreference) -> bool {
    device != DevicePreference::Cpu && choose(device).is_ok()
}

/// GPUs for a model, and their memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable {
    /// In order, at least one.
    pub gpus: Vec<GpuProperties>,
    /// Bytes of their memory that this process may use, including what it uses already. As each GPU takes an equal share:
    /// the smallest one's, times their number.
    pub bytes: u64,
}

/// The GPUs that the largest model for `device` would take, and their usable memory; `None` without a GPU. Creates no
/// context. Without NVML, memory that other processes use is not subtracted.
pub fn usable(device: DevicePreference, utilization: f32) -> Option<Usable> {
    let management = Management::open();
    match device {
        DevicePreference::Cuda(_) => {
            let gpus = choose(device).ok()?;
            let least = gpus.iter().map(|gpu| usable_on(gpu, management.as_ref(), utilization)).min()?;
            Some(Usable { bytes: least.saturating_mul(gpus.len() as u64), gpus })
        }
        DevicePreference::Auto | DevicePreference::Cpu => {
            let gpus = driver::list_gpus().ok().filter(|gpus| !gpus.is_empty())?;
            let (set, bytes) = pick::largest(&cards(&gpus, management.as_ref(), utilization));
            Some(Usable { gpus: taken_from(&gpus, &set), bytes })
        }
    }
}

/// The GPUs that `device` names, in its order and at least one; for `Auto` the first one. `Unsupported` without a driver,
/// for a GPU that does not exist, and for GPUs of different compute capabilities.
pub fn choose(device: DevicePreference) -> Result<Vec<GpuProperties>, ModelError> {
    named(&driver::list_gpus()?, device)
}

/// The first of the GPUs that `choose` returns.
pub fn choose_first(device: DevicePreference) -> Result<GpuProperties, ModelError> {
    choose(device)?.into_iter().next().ok_or_else(|| ModelError::Unsupported(NO_CARD.into()))
}

/// The GPUs, at least one, that a load of files of `weights` bytes opens: those that `device` names; for `Auto` the first
/// GPU that holds the weights alone, else the fewest that hold them together, with the same compute capability and direct
/// access to each other, else the first GPU: `capacity::check` then reports it. Errors as of [`choose`].
pub fn choose_for(device: DevicePreference, weights: u64, utilization: f32) -> Result<Vec<GpuProperties>, ModelError> {
    if device != DevicePreference::Auto {
        return choose(device);
    }
    let gpus = driver::list_gpus()?;
    let set = match gpus.len() {
        // Without a choice, NVML need not be asked, which takes some milliseconds.
        0 | 1 => vec![0],
        _ => pick::pick(&cards(&gpus, Management::open().as_ref(), utilization), weights),
    };
    let chosen = taken_from(&gpus, &set);
    if chosen.is_empty() {
        return Err(ModelError::Unsupported(NO_CARD.into()));
    }
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = chosen.iter().map(|gpu| gpu.ordinal).collect();
    Ok(chosen)
}

/// The GPUs of the last load for `device`: as [`choose`], and for `Auto` what `choose_for` chose last.
pub fn opened(device: DevicePreference) -> Result<Vec<GpuProperties>, ModelError> {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    choose(as_taken(device, &taken))
}

fn as_taken(device: DevicePreference, taken: &[usize]) -> DevicePreference {
    match GpuList::new(taken) {
        Some(list) if device == DevicePreference::Auto => DevicePreference::Cuda(list),
        _ => device,
    }
}

/// Arguments, as `--device cuda:0,1`, with which `needed` bytes would fit where the one GPU of the last load for `device`
/// is too small: another GPU, and the fewest GPUs together. Empty if there are none, or the load was for several.
pub fn suggestions(device: DevicePreference, needed: u64, utilization: f32) -> Vec<String> {
    let (Ok(gpus), Ok(tried)) = (driver::list_gpus(), opened(device)) else { return Vec::new() };
    let [tried] = &tried[..] else { return Vec::new() };
    let found = pick::others(&cards(&gpus, Management::open().as_ref(), utilization), tried.ordinal, needed);
    let lists = found.into_iter().filter_map(|set| GpuList::new(&set));
    lists.map(|list| format!("--device {list}")).collect()
}

/// Bytes of a GPU's memory that this process may use, including what it uses already.
fn usable_on(gpu: &GpuProperties, management: Option<&Management>, utilization: f32) -> u64 {
    let usage = management.map(|management| management.usage(&gpu.bus_id)).unwrap_or_default();
    let others = usage.used.map_or(0, |used| used.saturating_sub(usage.own.unwrap_or(0)));
    budget(gpu.total.saturating_sub(others), gpu.total, utilization)
}

fn cards(gpus: &[GpuProperties], management: Option<&Management>, utilization: f32) -> Vec<Card> {
    let card = |gpu: &GpuProperties| Card {
        usable: usable_on(gpu, management, utilization),
        compute_capability: gpu.compute_capability,
        peers: gpus.iter().map(|other| driver::peers::peers(gpu.ordinal, other.ordinal)).collect(),
    };
    gpus.iter().map(card).collect()
}

/// The GPUs at these places, with the shared memory that the kernels may take.
fn taken_from(gpus: &[GpuProperties], places: &[usize]) -> Vec<GpuProperties> {
    let limited = |gpu: &GpuProperties| {
        let most = Tuning::for_capability(gpu.compute_capability).shared;
        GpuProperties { shared_limit: gpu.shared_limit.min(most), ..gpu.clone() }
    };
    places.iter().filter_map(|place| gpus.get(*place)).map(limited).collect()
}

fn named(gpus: &[GpuProperties], device: DevicePreference) -> Result<Vec<GpuProperties>, ModelError> {
    let places: Vec<_> = match device {
        DevicePreference::Cuda(list) => list.iter().collect(),
        DevicePreference::Auto | DevicePreference::Cpu => vec![0],
    };
    if let Some(missing) = places.iter().find(|place| **place >= gpus.len()) {
        return Err(ModelError::Unsupported(match gpus.len() {
            0 => NO_CARD.into(),
            1 => format!("there is no GPU {missing}; the only one is 0"),
            count => format!("there is no GPU {missing}; CUDA shows 0 to {}", count - 1),
        }));
    }
    let chosen = taken_from(gpus, &places);
    let capability = chosen.first().map(|gpu| gpu.compute_capability);
    let Some(other) = chosen.iter().find(|gpu| Some(gpu.compute_capability) != capability) else { return Ok(chosen) };
    let words = |gpu: &GpuProperties| {
        let (major, minor) = gpu.compute_capability;
        format!("cuda:{} ({}) has compute capability {major}.{minor}", gpu.ordinal, gpu.name)
    };
    let (first, other) = (words(&chosen[0]), words(other));
    Err(ModelError::Unsupported(format!("one model runs on GPUs of one kind only: {first}, {other}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn gpu(ordinal: usize, compute_capability: (i32, i32)) -> GpuProperties {
        GpuProperties {
            ordinal,
            name: format!("GPU of {compute_capability:?}"),
            compute_capability,
            total: 80 << 30,
            multiprocessors: 132,
            shared_limit: 232_448,
            bus_id: format!("0000:0{ordinal}:00.0"),
        }
    }

    fn told(gpus: &[GpuProperties], wanted: &[usize]) -> Result<Vec<usize>, String> {
        let found = named(gpus, DevicePreference::Cuda(GpuList::new(wanted).unwrap()));
        found.map(|gpus| gpus.into_iter().map(|gpu| gpu.ordinal).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn named_gpus_are_taken_in_their_order_and_missing_ones_are_an_error() {
        let two = [gpu(0, (9, 0)), gpu(1, (9, 0))];
        assert_eq!(told(&two, &[1, 0]), Ok(vec![1, 0]));
        assert_eq!(told(&two, &[1]), Ok(vec![1]));
        assert_eq!(named(&two, DevicePreference::Auto).unwrap()[..], taken_from(&two, &[0]));
        assert_eq!(told(&two, &[0, 7]).unwrap_err(), "there is no GPU 7; CUDA shows 0 to 1");
        assert_eq!(told(&two[..1], &[0, 1]).unwrap_err(), "there is no GPU 1; the only one is 0");
        assert_eq!(told(&[], &[0]).unwrap_err(), NO_CARD);
    }

    #[test]
    fn automatic_choice_of_the_last_load_is_remembered() {
        let list = DevicePreference::Cuda(GpuList::new(&[2, 3]).unwrap());
        assert_eq!(as_taken(DevicePreference::Auto, &[2, 3]), list);
        assert_eq!(as_taken(DevicePreference::Auto, &[]), DevicePreference::Auto);
        let named = DevicePreference::Cuda(GpuList::one(1));
        assert_eq!(as_taken(named, &[2, 3]), named);
    }

    #[test]
    fn gpus_of_different_kinds_do_not_run_one_model() {
        let mixed = [gpu(0, (8, 0)), gpu(1, (9, 0)), gpu(2, (9, 0))];
        let error = told(&mixed, &[0, 1]).unwrap_err();
        assert!(error.contains("cuda:0 (GPU of (8, 0)) has compute capability 8.0, cuda:1"), "{error}");
        assert!(error.ends_with("has compute capability 9.0"), "{error}");
        assert_eq!(told(&mixed, &[2, 1]), Ok(vec![2, 1]));
    }
}
