//! Memory of the process and of the model's GPUs over the run.

use std::time::{Duration, Instant};

use super::data::{Memory, MemorySample, ms};
use crate::engine::gpu_meter::{GpuBytes, GpuMeter};
use crate::engine::memory::resident_bytes;
use crate::protocol::DevicePreference;

/// Time between two samples at the begin of a run.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);

/// Most samples that are kept: with one more, every second one is dropped and the interval doubles.
const MOST: usize = 512;

/// Measures memory, and keeps samples.
pub(super) struct MemoryMeter {
    gpu: Option<GpuMeter>,
    begun: Instant,
    thinned: Thinned,
}

impl MemoryMeter {
    /// `device`: where the model will run.
    pub(super) fn new(device: DevicePreference) -> Self {
        let gpu = if device == DevicePreference::Cpu { None } else { GpuMeter::open() };
        Self { gpu, begun: Instant::now(), thinned: Thinned::default() }
    }

    /// Call it after a load: from now on the GPUs of the model are measured.
    pub(super) fn loaded(&mut self, device: DevicePreference, on_gpu: bool) {
        match &mut self.gpu {
            Some(gpu) if on_gpu => gpu.select(device),
            _ => self.gpu = None,
        }
    }

    /// The memory now.
    pub(super) fn now(&self) -> Memory {
        memory(self.gpu.as_ref().map(GpuMeter::now))
    }

    /// `before`, the memory before the first load, with what the model's GPUs had in use then.
    pub(super) fn before(&self, before: Memory) -> Memory {
        let gpu = self.gpu.as_ref().map(GpuMeter::before).unwrap_or_default();
        Memory { gpu_own_bytes: gpu.own, gpu_used_bytes: gpu.used, ..before }
    }

    /// Takes a sample if one is due.
    pub(super) fn sample(&mut self) {
        let at = self.begun.elapsed();
        if self.thinned.is_due(at) {
            let memory = self.now();
            self.thinned.push(at, memory);
        }
    }

    /// The samples.
    pub(super) fn into_samples(self) -> Vec<MemorySample> {
        self.thinned.samples
    }
}

fn memory(gpu: Option<GpuBytes>) -> Memory {
    let gpu = gpu.unwrap_or_default();
    Memory { resident_bytes: resident_bytes(), gpu_own_bytes: gpu.own, gpu_used_bytes: gpu.used }
}

/// Samples whose number is bounded.
struct Thinned {
    samples: Vec<MemorySample>,
    interval: Duration,
    due: Duration,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { samples: Vec::new(), interval: FIRST_INTERVAL, due: Duration::ZERO }
    }
}

impl Thinned {
    fn is_due(&self, at: Duration) -> bool {
        at >= self.due
    }

    fn push(&mut self, at: Duration, memory: Memory) {
        self.samples.push(MemorySample { at_ms: ms(at), memory });
        if self.samples.len() > MOST {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.interval *= 2;
        }
        self.due = at + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_few_and_span_the_run() {
        let mut thinned = Thinned::default();
        let hour = Duration::from_secs(3600);
        let mut at = Duration::ZERO;
        while at < hour {
            if thinned.is_due(at) {
                thinned.push(at, Memory::default());
            }
            at += FIRST_INTERVAL;
        }
        let samples = &thinned.samples;
        assert!((MOST / 2..=MOST).contains(&samples.len()), "{}", samples.len());
        assert_eq!(samples[0].at_ms, 0.0);
        assert!(samples[samples.len() - 1].at_ms > 3_500_000.0);
        assert!(samples.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    }

    #[test]
    fn the_process_has_resident_memory_and_a_cpu_no_gpu_memory() {
        let memory = MemoryMeter::new(DevicePreference::Cpu).now();
        assert!(memory.resident_bytes.is_none_or(|bytes| bytes > 100_000));
        assert_eq!((memory.gpu_own_bytes, memory.gpu_used_bytes), (None, None));
    }
}
