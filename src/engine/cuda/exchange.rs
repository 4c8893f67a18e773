//! What the GPUs of one model share: memory for the exchange, the abort word, and how their host threads meet.
//!
//! A decode step exchanges inside its kernels (`kernels/exchange.cuh`). A prompt exchanges whole products: each rank
//! writes its part into its exchange memory and records an event, the host threads meet, and every stream waits for the
//! events of the others before it adds their parts; no kernel of a prompt waits.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::driver::peers::peers;
use super::driver::shared::{Home, SharedMemory};
use super::driver::{DeviceBuffer, Event, Gpu, PinnedBuffer, Stream};
use super::params::{Link, MOST_RANKS};
use super::split::Share;
use super::tuning::Tuning;
use crate::engine::error::ModelError;

/// Bytes before the inboxes (`CONTROL_BYTES`).
const CONTROL: usize = 4096;
/// Parts of a long prompt: the products of the second run while the first is exchanged.
pub const HALVES: usize = 2;
/// The fewest tokens that are exchanged in two parts.
const LONG: usize = 1024;
/// The first part ends at a multiple of this many tokens, the tile of the matrix products.
const TILE: usize = 128;
/// How long a host thread waits for the others: longer than any launch of a layer takes.
const MEETING: Duration = Duration::from_secs(20);

/// Offsets in a rank's exchange memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The logits of all ranks; used on rank 0.
    pub logits: usize,
    /// Two buffers for the parts of a prompt's products, `part` bytes each.
    pub parts: usize,
    pub part: usize,
    pub total: usize,
}

impl Places {
    /// `chunk`: maximum tokens of a prefill chunk.
    pub fn new(ranks: usize, hidden: usize, vocabulary: usize, chunk: usize) -> Self {
        let logits = CONTROL + 2 * ranks * hidden * 8;
        let parts = (logits + vocabulary * 4).next_multiple_of(4096);
        let part = chunk * hidden * 2;
        Self { logits, parts, part, total: parts + 2 * part }
    }
}

/// Events of a rank, by buffer and half.
type Events = [[Event; HALVES]; 2];

/// Shared by the ranks of a model. Must be dropped before their contexts, after all work has ended.
pub struct Exchange {
    /// By rank.
    memory: Vec<SharedMemory>,
    abort: PinnedBuffer,
    /// By rank, then by buffer and half: the part of a product is complete. `None` when the rank's context ends.
    events: Vec<Mutex<Option<Events>>>,
    meeting: Meeting,
    pub places: Places,
    direct: bool,
    patience: Duration,
    /// `cuda:0`, by rank.
    labels: Vec<String>,
}

// SAFETY: the memory is written by kernels and, at `abort`, by volatile stores; all other fields are shared safely.
unsafe impl Sync for Exchange {}

impl Exchange {
    /// Allocates the memory of every rank, on the GPUs if they have access to each other and `works` holds, else in the
    /// host's memory. `gpus` by rank.
    pub fn new(
        gpus: &[&Gpu],
        places: Places,
        tuning: Tuning,
        works: impl FnOnce(&Arc<Self>) -> Result<bool, ModelError>,
    ) -> Result<Arc<Self>, ModelError> {
        let ordinals: Vec<usize> = gpus.iter().map(|gpu| gpu.properties.ordinal).collect();
        let linked = ordinals.iter().all(|a| ordinals.iter().all(|b| a == b || peers(*a, *b)));
        if linked && !tuning.through_host {
            match Self::at(gpus, &ordinals, places, tuning, true) {
                Ok(made) if works(&made)? => return Ok(made),
                Ok(made) => {
                    tracing::warn!("the GPUs cannot use each other's memory; they exchange through the host's");
                    (0..gpus.len()).try_for_each(|rank| gpus[rank].activate().map(|()| made.leave(rank)))?;
                }
                Err(error) => tracing::warn!(%error, "the GPUs exchange through the host's memory"),
            }
        }
        Self::at(gpus, &ordinals, places, tuning, false)
    }

    /// As `new`, in memory of the GPUs, or of the host.
    fn at(
        gpus: &[&Gpu],
        ordinals: &[usize],
        places: Places,
        tuning: Tuning,
        direct: bool,
    ) -> Result<Arc<Self>, ModelError> {
        let mut distinct = ordinals.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let (mut memory, mut events) = (Vec::new(), Vec::new());
        for (gpu, ordinal) in gpus.iter().zip(ordinals) {
            gpu.activate()?;
            let home = if direct { Home::Gpu(*ordinal) } else { Home::Host };
            memory.push(SharedMemory::new(places.total, home, &distinct)?);
            let pair = || Ok::<_, ModelError>([Event::new(false)?, Event::new(false)?]);
            events.push(Mutex::new(Some([pair()?, pair()?])));
        }
        let exchange = Self {
            memory,
            abort: PinnedBuffer::new(64)?,
            events,
            meeting: Meeting::new(gpus.len()),
            places,
            direct,
            patience: Duration::from_millis(tuning.patience.into()),
            labels: ordinals.iter().map(|ordinal| format!("cuda:{ordinal}")).collect(),
        };
        exchange.set_abort(0);
        for (memory, gpu) in exchange.memory.iter().zip(gpus) {
            gpu.activate()?;
            memory.clear(places.logits, gpu.stream)?;
            gpu.synchronize()?;
        }
        let exchange = Arc::new(exchange);
        for (rank, gpu) in gpus.iter().enumerate() {
            let exchange = Arc::downgrade(&exchange);
            gpu.before_end(move || exchange.upgrade().iter().for_each(|exchange| exchange.leave(rank)));
        }
        Ok(exchange)
    }

    /// Destroys the rank's events, whose context must be current.
    pub fn leave(&self, rank: usize) {
        drop(self.events_of(rank).take());
    }

    fn events_of(&self, rank: usize) -> MutexGuard<'_, Option<Events>> {
        self.events[rank].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the GPUs write to each other's memory, rather than to the host's.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Bytes on each GPU; 0 if the memory is the host's.
    pub fn bytes(&self) -> u64 {
        if self.direct { self.places.total as u64 } else { 0 }
    }

    fn set_abort(&self, word: u32) {
        // SAFETY: the buffer is larger than the word; kernels only load and store it as a whole.
        unsafe { self.abort.pointer().cast::<u32>().write_volatile(word) };
    }

    /// Ends every wait of the ranks' kernels and host threads.
    pub fn stop(&self) {
        self.meeting.broken.store(true, Ordering::Release);
        if self.word() == 0 {
            self.set_abort(u32::MAX);
        }
    }

    fn word(&self) -> u32 {
        // SAFETY: as in `set_abort`.
        unsafe { self.abort.pointer().cast::<u32>().read_volatile() }
    }

    /// Whether a wait ended without its data. The results since then are wrong.
    pub fn is_stopped(&self) -> bool {
        self.word() != 0 || self.meeting.broken.load(Ordering::Acquire)
    }

    /// The error if [`Self::is_stopped`].
    pub fn check(&self) -> Result<(), ModelError> {
        if !self.is_stopped() {
            return Ok(());
        }
        let waited = (self.word() as usize).checked_sub(1).and_then(|rank| self.labels.get(rank));
        let what = match waited {
            Some(label) => format!("{label} waited {:.1?} for the other GPUs of the model in vain", self.patience),
            None => OTHER.to_owned(),
        };
        Err(ModelError::Device { message: what, sticky: false })
    }

    /// Makes the exchange usable again after [`Self::stop`]. No rank may be working.
    pub fn reset(&self) {
        self.meeting.arrived.store(0, Ordering::Release);
        self.meeting.broken.store(false, Ordering::Release);
        self.set_abort(0);
    }

    /// Waits until the host threads of all ranks are here.
    fn meet(&self) -> Result<(), ModelError> {
        if self.meeting.meet() { Ok(()) } else { self.check().and(Err(lost())) }
    }
}

/// The message of a rank that stopped because another one failed.
const OTHER: &str = "another GPU of the model failed";

fn lost() -> ModelError {
    ModelError::Device { message: OTHER.into(), sticky: false }
}

/// Whether a rank only reports that another one failed.
pub fn is_of_another(error: &ModelError) -> bool {
    matches!(error, ModelError::Device { message, .. } if message == OTHER)
}

/// A barrier of the ranks' host threads that can be broken.
struct Meeting {
    ranks: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    broken: AtomicBool,
}

impl Meeting {
    fn new(ranks: usize) -> Self {
        Self { ranks, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0), broken: AtomicBool::new(false) }
    }

    /// False if it was broken, or if the others did not come in time.
    fn meet(&self) -> bool {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.ranks {
            self.arrived.store(0, Ordering::Release);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return !self.broken.load(Ordering::Acquire);
        }
        let (begun, mut polls) = (Instant::now(), 0_u32);
        while self.round.load(Ordering::Acquire) == round {
            if self.broken.load(Ordering::Acquire) {
                return false;
            }
            polls = polls.saturating_add(1);
            // The others come within microseconds: they launch the same kernels.
            if polls < 2000 {
                std::hint::spin_loop();
            } else if begun.elapsed() > MEETING {
                self.broken.store(true, Ordering::Release);
                return false;
            } else {
                std::thread::yield_now();
            }
        }
        true
    }
}

/// The parts in which `tokens` tokens are exchanged; the second is empty if they are few.
pub fn halves(tokens: usize) -> [Range<usize>; HALVES] {
    let middle = if tokens < LONG { tokens } else { (tokens / 2).next_multiple_of(TILE) };
    [0..middle, middle..tokens]
}

/// One rank's access to the exchange. Must be dropped before its context.
pub struct Peers {
    pub exchange: Arc<Exchange>,
    pub share: Share,
    /// Counts the epochs of all steps (`exchange.cuh`), on the GPU.
    epoch: DeviceBuffer<u32>,
    /// The stream on which parts of a prompt are added while the next ones are multiplied.
    pub side: Stream,
    /// The parts of all ranks are added.
    pub added: Event,
    /// Products exchanged so far, of prompts.
    pub turn: usize,
    /// The parts of this rank's products, if the exchange memory is the host's.
    local: Option<[DeviceBuffer<u8>; 2]>,
}

impl Peers {
    /// The context of the rank's GPU must be current.
    pub fn new(gpu: &Gpu, exchange: Arc<Exchange>, share: Share) -> Result<Self, ModelError> {
        let part = exchange.places.part;
        let local = match exchange.direct {
            true => None,
            false => Some([DeviceBuffer::new(part)?, DeviceBuffer::new(part)?]),
        };
        let epoch = DeviceBuffer::new(1)?;
        epoch.fill(gpu, 0)?;
        let added = Event::new(false)?;
        Ok(Self { exchange, share, epoch, side: Stream::new()?, added, turn: 0, local })
    }

    /// The exchange memory of a rank.
    fn memory(&self, rank: usize) -> u64 {
        self.exchange.memory[rank].pointer()
    }

    /// What kernels need to reach the other ranks.
    pub fn link(&self) -> Link {
        let mut memory = [0; MOST_RANKS];
        (0..self.share.ranks).for_each(|rank| memory[rank] = self.memory(rank));
        Link {
            memory,
            epoch: self.epoch.pointer(),
            abort: self.exchange.abort.pointer() as u64,
            rank: self.share.rank as i32,
            ranks: self.share.ranks as i32,
            limit_us: self.exchange.patience.as_micros() as u32,
            pad: 0,
        }
    }

    /// The address of the logits of all ranks.
    pub fn logits(&self) -> u64 {
        self.memory(0) + self.exchange.places.logits as u64
    }

    /// The address at which this rank writes its part of a product.
    pub fn own_part(&self, buffer: usize) -> u64 {
        match &self.local {
            Some(local) => local[buffer].pointer(),
            None => self.part(self.share.rank, buffer),
        }
    }

    /// The address at which this rank reads the part of `rank`.
    pub fn part_of(&self, rank: usize, buffer: usize) -> u64 {
        if rank == self.share.rank { self.own_part(buffer) } else { self.part(rank, buffer) }
    }

    fn part(&self, rank: usize, buffer: usize) -> u64 {
        self.memory(rank) + (self.exchange.places.parts + buffer * self.exchange.places.part) as u64
    }

    /// Sets the first `count` numbers of this rank's first part to the bf16 number with these bits.
    pub fn fill_part(&self, gpu: &Gpu, bits: u16, count: usize) -> Result<(), ModelError> {
        self.exchange.memory[self.share.rank].fill(self.exchange.places.parts, bits, count, gpu.stream)
    }

    /// Makes `bytes` bytes of this rank's part, from `first` on, readable for the others, in stream order.
    pub fn publish(&self, gpu: &Gpu, buffer: usize, half: usize, bytes: Range<usize>) -> Result<(), ModelError> {
        if let Some(local) = &self.local {
            let to = self.part(self.share.rank, buffer) + bytes.start as u64;
            local[buffer].copy_to(gpu, bytes, to)?;
        }
        match &*self.exchange.events_of(self.share.rank) {
            Some(events) => events[buffer][half].record(gpu.stream),
            None => Err(lost()),
        }
    }

    /// Waits until the host threads of all ranks have published.
    pub fn meet(&self) -> Result<(), ModelError> {
        self.exchange.meet()
    }

    /// Makes later work on `stream` wait for the parts of all ranks.
    pub fn await_parts(&self, stream: &Stream, buffer: usize, half: usize) -> Result<(), ModelError> {
        (0..self.share.ranks).try_for_each(|rank| match &*self.exchange.events_of(rank) {
            Some(events) => events[buffer][half].hold(stream.0),
            None => Err(lost()),
        })
    }

    /// Clears the rank's words and counts after a failed step, in which the ranks may have come to different exchanges; its
    /// stream must be idle.
    pub fn reset(&mut self, gpu: &Gpu) -> Result<(), ModelError> {
        self.turn = 0;
        self.epoch.fill(gpu, 0)?;
        self.exchange.memory[self.share.rank].clear(self.exchange.places.logits, gpu.stream)?;
        gpu.synchronize()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn long_prompts_are_exchanged_in_halves_of_whole_tiles() {
        assert_eq!(halves(1000), [0..1000, 1000..1000]);
        assert_eq!(halves(2048), [0..1024, 1024..2048]);
        assert_eq!(halves(1100), [0..640, 640..1100]);
    }

    #[test]
    fn places_do_not_overlap() {
        let places = Places::new(2, 8192, 128_256, 2048);
        assert_eq!(places.logits, 4096 + 2 * 2 * 8192 * 8);
        assert!(places.parts >= places.logits + 128_256 * 4 && places.parts.is_multiple_of(4096));
        assert_eq!(places.total, places.parts + 2 * 2048 * 8192 * 2);
    }

    #[test]
    fn host_threads_meet_every_round_and_a_broken_meeting_ends_at_once() {
        let meeting = Arc::new(Meeting::new(3));
        let count = Arc::new(AtomicUsize::new(0));
        let work = |meeting: Arc<Meeting>, count: Arc<AtomicUsize>| {
            move || {
                for round in 0..500 {
                    count.fetch_add(1, Ordering::AcqRel);
                    assert!(meeting.meet());
                    assert!(count.load(Ordering::Acquire) >= (round + 1) * 3, "one was ahead");
                    assert!(meeting.meet());
                }
            }
        };
        let threads: Vec<_> =
            (0..3).map(|_| std::thread::spawn(work(Arc::clone(&meeting), Arc::clone(&count)))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let waiting = {
            let meeting = Arc::clone(&meeting);
            std::thread::spawn(move || meeting.meet())
        };
        meeting.broken.store(true, Ordering::Release);
        assert!(!waiting.join().unwrap());
    }
}
