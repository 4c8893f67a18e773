//! Loads a model onto a GPU: context, capacity check, layout, upload. `model::parts` reads headers and text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::driver::context_lock::ContextLock;
use super::driver::{DeviceBuffer, Gpu, GpuProperties};
use super::exchange::{Exchange, Places};
use super::exchange_test;
use super::images;
use super::kernels::Kernels;
use super::matmul::{Gemm, SCRATCH};
use super::model::CudaModel;
use super::params::Epilogue;
use super::prefill_chunk::ChunkSizer;
use super::rank::{self, Parts, Plan, Rank};
use super::select::{choose_for, suggestions};
use super::split::{Share, Split};
use super::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::engine::model::LoadOptions;
use crate::engine::model::parts::ModelParts;
use crate::engine::source::CancelFlag;
use crate::protocol::{DevicePreference, LoadProgress};

pub(super) mod capacity;
pub(super) mod timeline;
pub(super) mod upload;
pub(super) mod weights;

/// GPUs with contexts of this process, by rank.
pub struct Opened(Cards);

/// A GPU with the kernels, and host memory for the upload ring.
pub(super) struct Card {
    pub kernels: Kernels,
    memory: upload::RingMemory,
    pub gpu: Gpu,
}

/// Drops the last card first: it may use the context of an earlier one.
pub(super) struct Cards(Vec<Card>);

impl Cards {
    pub fn gpus(&self) -> Vec<&Gpu> {
        self.0.iter().map(|card| &card.gpu).collect()
    }

    pub fn with_kernels(&self) -> Vec<(&Gpu, &Kernels)> {
        self.0.iter().map(|card| (&card.gpu, &card.kernels)).collect()
    }

    pub fn take_last(&mut self) -> Option<Card> {
        self.0.pop()
    }
}

impl Drop for Cards {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

impl Card {
    /// `ranks`: the number of cards of the model; `borrowed`: an earlier one has the same context.
    fn open(
        properties: GpuProperties,
        lock: Arc<ContextLock>,
        ranks: usize,
        borrowed: bool,
    ) -> Result<Self, ModelError> {
        let readers = Tuning::for_capability(properties.compute_capability).readers_of(ranks);
        // An error before the context is created, which takes 0.2 s.
        let images = images::for_gpu(properties.compute_capability)?;
        std::thread::scope(|scope| {
            let memory = scope.spawn(move || upload::RingMemory::new(readers));
            let images = scope.spawn(|| images.unpack());
            let mut gpu = Gpu::open_under(lock, properties, borrowed)?;
            timeline::mark("context");
            let images = images.join().map_err(|_| ModelError::Invalid("the kernels cannot be unpacked".into()))??;
            let mut kernels = Kernels::load_images(&mut gpu, &images)?;
            if ranks > 1 {
                kernels.load_parallel(&mut gpu, &images)?;
            }
            timeline::mark("kernels");
            let memory = memory.join().map_err(|_| ModelError::Io("no memory to read weights into".into()))?;
            Ok(Self { kernels, memory, gpu })
        })
    }
}

impl Opened {
    pub(super) fn into_cards(self) -> Cards {
        self.0
    }

    /// Makes all contexts side by side.
    pub(super) fn new(chosen: Vec<GpuProperties>) -> Result<Self, ModelError> {
        let lock = Arc::new(ContextLock::take());
        let ordinals: Vec<usize> = chosen.iter().map(|properties| properties.ordinal).collect();
        let ranks = chosen.len();
        let open = |(rank, properties): (usize, GpuProperties)| {
            let borrowed = ordinals[..rank].contains(&properties.ordinal);
            Card::open(properties, Arc::clone(&lock), ranks, borrowed)
        };
        let opened: Vec<_> = std::thread::scope(|scope| {
            let mut chosen = chosen.into_iter().enumerate();
            let first = chosen.next();
            let others: Vec<_> = chosen.map(|card| scope.spawn(move || open(card))).collect();
            let failed = |_| Err(ModelError::Invalid("a GPU could not be opened".into()));
            first
                .map(open)
                .into_iter()
                .chain(others.into_iter().map(|card| card.join().unwrap_or_else(failed)))
                .collect()
        });
        let (mut cards, mut failure) = (Cards(Vec::new()), None);
        for card in opened {
            match card {
                Ok(card) => cards.0.push(card),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Self(cards)), Err)
    }

    /// The GPUs' names, for example `NVIDIA H100 80GB HBM3` or `2 × NVIDIA H200`.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.0.0.iter().map(|card| card.gpu.properties.name.as_str()).collect();
        match names.as_slice() {
            [only] => (*only).to_owned(),
            [first, rest @ ..] if rest.iter().all(|name| name == first) => format!("{} × {first}", names.len()),
            names => names.join(" + "),
        }
    }
}

/// Interval for polling the cancel flag.
const CANCEL_POLL: Duration = Duration::from_millis(2);

/// One GPU in place of several, for checks: each rank has its share of the multiprocessors, half of which stay free, so
/// that a kernel of each rank and the one after it are on the GPU at the same time.
pub(super) fn parts_of_one(gpu: &GpuProperties, ranks: usize) -> Vec<GpuProperties> {
    let share = if ranks > 1 { 2 * ranks as i32 } else { 1 };
    let multiprocessors = (gpu.multiprocessors / share).max(1);
    (0..ranks.max(1)).map(|_| GpuProperties { multiprocessors, ..gpu.clone() }).collect()
}

/// A context that a background thread creates: one driver call that blocks for 0.2 s. A cancelled load does not wait
/// for it; the next load and the program's exit do (`wait_for_contexts`).
pub struct Opening(Receiver<Result<Opened, ModelError>>);

impl Opening {
    /// Starts on the GPUs that `device` selects for files of `weights` bytes. `Unsupported` if there is no driver or no such
    /// GPU.
    pub fn start(
        device: DevicePreference,
        weights: u64,
        utilization: f32,
        cancel: &CancelFlag,
    ) -> Result<Self, ModelError> {
        timeline::restart();
        let chosen = choose_for(device, weights, utilization)?;
        let ranks = chosen.first().map_or(1, |gpu| Tuning::for_capability(gpu.compute_capability).ranks as usize);
        match chosen.as_slice() {
            [only] if ranks > 1 => Self::on(parts_of_one(only, ranks), cancel),
            _ => Self::on(chosen, cancel),
        }
    }

    /// Starts on these GPUs, which become the ranks of a model.
    pub(super) fn on(chosen: Vec<GpuProperties>, cancel: &CancelFlag) -> Result<Self, ModelError> {
        timeline::mark("driver");
        if cancel.is_cancelled() {
            return Err(ModelError::Cancelled);
        }
        let (sender, receiver) = mpsc::channel();
        let opener = std::thread::Builder::new().name("chatnap-context".into()).spawn(move || {
            // If the receiver was dropped, `send` returns the result and the drop destroys the context.
            drop(sender.send(Opened::new(chosen)));
        });
        opener.map_err(|error| ModelError::Io(format!("no thread for the GPU: {error}")))?;
        Ok(Self(receiver))
    }

    /// Waits until the context exists or `cancel` is raised.
    pub fn finish(self, cancel: &CancelFlag) -> Result<Opened, ModelError> {
        timeline::mark("headers");
        loop {
            match self.0.recv_timeout(CANCEL_POLL) {
                Ok(opened) => return opened,
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err(ModelError::Cancelled),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ModelError::Invalid("the GPU could not be opened".into()));
                }
            }
        }
    }
}

/// Loads the weights and allocates the caches of a model whose headers were read. An error frees all GPU memory before
/// it returns; a cancel frees it on a background thread.
pub fn load(
    parts: &ModelParts,
    opened: Opened,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<CudaModel, ModelError> {
    let mut cards = opened.0;
    let ranks = cards.0.len();
    let (mut rooms, mut shares) = (Vec::new(), Vec::new());
    for (rank, card) in cards.0.iter().enumerate() {
        card.gpu.activate()?;
        let split = Split::new(&parts.config, &parts.plan, Share { rank, ranks })?;
        let plan = rank::plan(&split, &parts.plan, card.gpu.properties.multiprocessors)?;
        let (free, total) = card.gpu.memory()?;
        let room = capacity::Room { free, total, utilization: options.gpu_memory_utilization };
        let label = format!("cuda:{}", card.gpu.properties.ordinal);
        shares.push(capacity::Share { label, needs: plan.needs, room });
        rooms.push((split, plan));
    }
    let needed: u64 = shares.iter().map(|share| share.needs.total()).sum();
    let fits = |others: &[String]| {
        capacity::check(options.name, &shares, parts.config.context_length, options.smaller, others)
    };
    // Other GPUs are looked for only if these are too small.
    if fits(&[]).is_err() {
        fits(&suggestions(options.device, needed, options.gpu_memory_utilization))?;
    }
    if options.cancel.is_cancelled() {
        let gpus = cards.0.drain(..).map(|card| (card.gpu, None));
        return Err(give_back(gpus.collect()));
    }
    let chunk = rooms.iter().map(|(_, plan)| plan.chunk).min().unwrap_or(0);
    let exchange = match ranks {
        1 => None,
        ranks => {
            let gpus = cards.gpus();
            let places = Places::new(ranks, parts.config.hidden, parts.config.vocab_size, chunk);
            let tuning = Tuning::for_capability(gpus[0].properties.compute_capability);
            Some(Exchange::new(&gpus, places, tuning, |exchange| {
                exchange_test::works(&cards.with_kernels(), exchange)
            })?)
        }
    };
    // If one GPU fails, the others stop reading.
    let loading =
        Loading { parts, chunk, exchange: exchange.clone(), cancel: options.cancel.child(), left: Mutex::default() };
    let amounts = Amounts::new(ranks);
    let mut others: Vec<(Card, Split, Plan)> =
        std::mem::take(&mut cards.0).into_iter().zip(rooms).map(|(card, (split, plan))| (card, split, plan)).collect();
    let first = others.remove(0);
    let ranks: Vec<Result<Rank, ModelError>> = std::thread::scope(|scope| {
        let (loading, amounts) = (&loading, &amounts);
        let others: Vec<_> = (1..)
            .zip(others)
            .map(|(rank, card)| scope.spawn(move || loading.run(card, &mut |news| amounts.set(rank, &news))))
            .collect();
        let first = loading.run(first, &mut |news| {
            amounts.set(0, &news);
            progress(amounts.sum(news));
        });
        // With one GPU `loading.run` has reported everything.
        while others.iter().any(|other| !other.is_finished()) {
            std::thread::sleep(PROGRESS_POLL);
            amounts.last().map(&mut *progress);
        }
        let failed = |_| Err(ModelError::Invalid("a GPU's part of the model could not be loaded".into()));
        [first].into_iter().chain(others.into_iter().map(|other| other.join().unwrap_or_else(failed))).collect()
    });
    let (mut loaded, mut failure) = (Vec::new(), None);
    for rank in ranks {
        match (rank, &failure) {
            (Ok(rank), _) => loaded.push(rank),
            (Err(error), None | Some(ModelError::Cancelled)) => failure = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    let left = std::mem::take(&mut *loading.left.lock().unwrap_or_else(PoisonError::into_inner));
    // The model must have the last reference to the exchange.
    drop(loading);
    let model = CudaModel::new(loaded, exchange);
    match failure {
        None => model,
        Some(error) => {
            drop(model);
            match error {
                ModelError::Cancelled => Err(give_back(left)),
                error => {
                    close(left);
                    Err(error)
                }
            }
        }
    }
}

/// Interval for reporting the progress of the GPUs that are still loading.
const PROGRESS_POLL: Duration = Duration::from_millis(10);

/// What the loads of all ranks have in common.
struct Loading<'a> {
    parts: &'a ModelParts,
    /// Maximum tokens of a prefill chunk, the same on all ranks.
    chunk: usize,
    exchange: Option<Arc<Exchange>>,
    cancel: CancelFlag,
    /// The GPUs whose load was cancelled, with the rings. They are given back together, when all have stopped.
    left: Mutex<Vec<(Gpu, Option<upload::Ring>)>>,
}

impl Loading<'_> {
    /// Loads the part of one GPU. After an error the others stop.
    fn run(
        &self,
        (card, split, plan): (Card, Split, Plan),
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Rank, ModelError> {
        self.load(card, split, plan, progress).inspect_err(|_| self.cancel.cancel())
    }

    fn load(
        &self,
        card: Card,
        split: Split,
        plan: Plan,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Rank, ModelError> {
        let Card { kernels, memory, gpu } = card;
        gpu.activate()?;
        let ring = memory.pin()?;
        timeline::mark("pinned ring");
        let tuning = Tuning::for_capability(kernels.architecture);
        let tensors = &self.parts.plan;
        let loaded = weights::load(&gpu, kernels.repack, &ring, &split, tensors, &self.cancel, progress);
        let (layout, arena) = match loaded {
            Err(ModelError::Cancelled) => {
                self.left.lock().unwrap_or_else(PoisonError::into_inner).push((gpu, Some(ring)));
                return Err(ModelError::Cancelled);
            }
            loaded => loaded?,
        };
        let scratch = if plan.scratch { Some(DeviceBuffer::new(SCRATCH)?) } else { None };
        let sum = if self.exchange.is_some() { Epilogue::StoreBf16 } else { Epilogue::AddF32 };
        let usual = layout.usual_products(scratch.as_ref().map(DeviceBuffer::pointer), sum);
        let gemm = Gemm::new(&gpu, &kernels, tuning, scratch, self.chunk, usual)?;
        let weights = tensors.parameters() / split.share.ranks as u64;
        let pace = ChunkSizer::new(self.chunk, weights, gpu.properties.multiprocessors);
        let exchange = self.exchange.clone();
        Rank::new(gpu, kernels, Parts { split, layout, arena, chunk: self.chunk, pace, gemm, ring, exchange })
    }
}

/// Progress of the ranks, in bytes.
struct Amounts {
    done: Vec<AtomicU64>,
    total: Vec<AtomicU64>,
    last: Mutex<Option<LoadProgress>>,
}

impl Amounts {
    fn new(ranks: usize) -> Self {
        let zeros = || (0..ranks).map(|_| AtomicU64::new(0)).collect();
        Self { done: zeros(), total: zeros(), last: Mutex::new(None) }
    }

    fn set(&self, rank: usize, news: &LoadProgress) {
        self.done[rank].store(news.done, Ordering::Relaxed);
        self.total[rank].store(news.total.unwrap_or(0), Ordering::Relaxed);
    }

    /// `news` of rank 0 with the amounts of all ranks. Their shares differ little, so the total of one that has not begun
    /// is taken to be that of rank 0.
    fn sum(&self, news: LoadProgress) -> LoadProgress {
        let own = news.total.unwrap_or(0);
        let total = self
            .total
            .iter()
            .map(|total| total.load(Ordering::Relaxed))
            .map(|total| if total == 0 { own } else { total });
        let done = self.done.iter().map(|done| done.load(Ordering::Relaxed)).sum();
        let sum = LoadProgress { done, total: news.total.map(|_| total.sum()), ..news };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(sum.clone());
        sum
    }

    /// The last sum with the amounts of now.
    fn last(&self) -> Option<LoadProgress> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let own = self.total.first().map_or(0, |total| total.load(Ordering::Relaxed));
        Some(self.sum(LoadProgress { total: Some(own), ..last }))
    }
}

/// Destroys the contexts, with the rings.
fn close(mut gpus: Vec<(Gpu, Option<upload::Ring>)>) {
    // A context that several of them use is destroyed with its owner, the last.
    gpus.sort_by_key(|(gpu, _)| !gpu.is_borrowed());
    for (gpu, ring) in gpus {
        let activated = gpu.activate();
        drop(ring);
        // If `activate` failed, freeing the ring fails too; dropping `gpu` still destroys the context.
        drop(activated);
        drop(gpu);
    }
}

/// As `close`, on a background thread: it takes 0.1 s, and a cancelled load must return at once.
fn give_back(gpus: Vec<(Gpu, Option<upload::Ring>)>) -> ModelError {
    // If the thread cannot be started, the contexts end without their rings' memory being freed first, which is harmless.
    drop(std::thread::Builder::new().name("give back".into()).spawn(move || close(gpus)));
    ModelError::Cancelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LoadPhase;

    #[test]
    fn progress_of_all_ranks_is_one_sum() {
        let news = |done, total| LoadProgress { phase: LoadPhase::Upload, done, total: Some(total), detail: None };
        let amounts = Amounts::new(2);
        assert!(amounts.last().is_none());
        amounts.set(0, &news(10, 100));
        let sum = amounts.sum(news(10, 100));
        assert_eq!((sum.done, sum.total), (10, Some(200)), "the other has not begun");
        amounts.set(1, &news(60, 120));
        let sum = amounts.last().map(|sum| (sum.done, sum.total));
        assert_eq!(sum, Some((70, Some(220))));
    }
}
