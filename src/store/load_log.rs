//! Stores the loads and releases of an engine's models as its events tell them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{LoadKey, StoreHandle};
use crate::protocol::{DeviceKind, EngineEvent};

/// The load that is held now. Its store calls run on the store's thread, and errors are dropped: `usage` then counts less.
#[derive(Debug, Default)]
pub struct LoadLog {
    held: Arc<Mutex<Option<LoadKey>>>,
}

impl LoadLog {
    /// Notes an event of the engine; events that change nothing cost nothing.
    pub fn note(&self, store: &StoreHandle, event: &EngineEvent) {
        let held = Arc::clone(&self.held);
        match event {
            // A server's memory is not this machine's.
            EngineEvent::Loaded { info, took, .. } if info.device.kind != DeviceKind::Server => {
                let (model, device, bytes) = (info.name.clone(), info.device.clone(), info.memory.total());
                let took = took_ms(*took);
                store.run(move |store| {
                    let loaded = store.and_then(|store| store.loaded(&model, &device, took, bytes));
                    *held.lock().unwrap_or_else(PoisonError::into_inner) = loaded.ok();
                });
            }
            EngineEvent::Finished { .. } => store.run(move |store| {
                if let (Some(load), Ok(store)) = (*held.lock().unwrap_or_else(PoisonError::into_inner), store) {
                    let _ = store.held(load);
                }
            }),
            EngineEvent::Released { energy_mj, .. } => self.released(store, *energy_mj),
            _ => {}
        }
    }

    /// Notes that the memory is given back now: after a release, or at the end of the program.
    pub fn released(&self, store: &StoreHandle, energy_mj: Option<u64>) {
        let held = Arc::clone(&self.held);
        store.run(move |store| {
            if let (Some(load), Ok(store)) = (held.lock().unwrap_or_else(PoisonError::into_inner).take(), store) {
                let _ = store.released(load, energy_mj);
            }
        });
    }
}

fn took_ms(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
