//! The Llama family on one or several GPUs: the `Model` implementation. Each GPU holds a part of the model (`rank.rs`).
//!
//! The first rank runs on the caller's thread, each other one on a thread of its own; all do the same steps.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::decode::Start;
use super::driver::Gpu;
use super::exchange::{Exchange, is_of_another};
use super::matmul::Gemm;
use super::rank::Rank;
use super::tuning::ShortPromptLimits;
use crate::engine::error::ModelError;
use crate::engine::model::{DeviceDecoder, Model, check_tokens};
use crate::protocol::{Freed, Kernels as Evaluated, MemoryUse, SamplingParams};

/// The longest prompt that a freshly loaded model prefills with the portable matrix product instead of waiting for
/// cuBLASLt. (H100 without the Hopper kernels: 2048 tokens took 0.05 s longer that way, and waiting took 0.2 s.)
const FRESH_PROMPT: usize = 2048;

/// A step of a rank, on its thread.
type Work = Box<dyn FnOnce(&mut Rank) + Send>;

/// The thread of a rank besides the first. Its end drops the rank.
struct RankThread {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl RankThread {
    fn start(mut rank: Rank) -> Result<Self, ModelError> {
        let (work, works) = channel::<Work>();
        let run = move || {
            for work in works {
                work(&mut rank);
            }
            // For the drop: an error means that the context is lost, and then nothing can be freed in it.
            let _ = rank.gpu.activate();
        };
        let thread = std::thread::Builder::new().name("chatnap-gpu".into()).spawn(run);
        let thread = thread.map_err(|error| ModelError::Io(format!("no thread for a GPU: {error}")))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    /// Starts `work`; the result arrives at the receiver.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Rank) -> Result<T, ModelError> + Send + 'static,
    ) -> Receiver<Result<T, ModelError>> {
        let (sender, receiver) = channel();
        // If the thread is gone, the receiver is disconnected; if the receiver is gone, nobody wants the result.
        let _ = self.work.as_ref().map(|to| to.send(Box::new(move |rank| drop(sender.send(work(rank))))));
        receiver
    }
}

impl Drop for RankThread {
    fn drop(&mut self) {
        self.work = None;
        // An error is a panic of the thread, which was reported when its result was awaited.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Waits for the result of a rank's work.
fn result<T>(receiver: &Receiver<Result<T, ModelError>>) -> Result<T, ModelError> {
    let lost = || ModelError::Device { message: "the thread of a GPU has ended".into(), sticky: true };
    receiver.recv().unwrap_or_else(|_| Err(lost()))
}

/// The result of a rank's work. After an error no rank waits for this one any more.
fn or_stop<T>(exchange: Option<&Exchange>, done: Result<T, ModelError>) -> Result<T, ModelError> {
    done.inspect_err(|_| exchange.iter().for_each(|exchange| exchange.stop()))
}

/// A model on one or several GPUs.
pub struct CudaModel {
    first: Rank,
    others: Vec<RankThread>,
    /// Launches of the other ranks whose results were not read yet.
    pending: Vec<Receiver<Result<(), ModelError>>>,
    /// `None` if there is one GPU.
    exchange: Option<Arc<Exchange>>,
    /// Of the other ranks.
    memory: MemoryUse,
    freed: Vec<Arc<std::sync::OnceLock<Freed>>>,
    /// Another rank uses the first one's context, which must be destroyed last.
    shared_context: bool,
    /// Bytes that a step reads with 0 and with 1 position in the cache, on the rank that reads the most.
    step_bytes: (u64, u64),
}

impl CudaModel {
    /// A model whose ranks are loaded. `exchange`: the one that they have, if there are several.
    pub fn new(ranks: Vec<Rank>, exchange: Option<Arc<Exchange>>) -> Result<Self, ModelError> {
        let freed = ranks.iter().map(|rank| rank.gpu.freed()).collect();
        let most = |positions: usize| ranks.iter().map(|rank| rank.bytes_a_token(positions)).max().unwrap_or(0);
        let step_bytes = (most(0), most(1));
        let mut ranks = ranks.into_iter();
        let Some(first) = ranks.next() else { return Err(ModelError::Invalid("a model without a GPU".into())) };
        let mut model = Self {
            first,
            others: Vec::new(),
            pending: Vec::new(),
            exchange,
            memory: MemoryUse::default(),
            freed,
            shared_context: false,
            step_bytes,
        };
        for rank in ranks {
            let memory = rank.memory();
            model.memory.weights += memory.weights;
            model.memory.kv_cache += memory.kv_cache;
            model.memory.workspace += memory.workspace;
            model.shared_context |= rank.gpu.properties.ordinal == model.first.gpu.properties.ordinal;
            model.others.push(RankThread::start(rank)?);
        }
        if model.exchange.is_some() {
            model.each(Rank::prepare)?;
        }
        Ok(model)
    }

    /// Number of GPUs.
    pub fn ranks(&self) -> usize {
        1 + self.others.len()
    }

    /// Does the same on all ranks at the same time; results by rank.
    fn each<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Rank) -> Result<T, ModelError> + Clone + Send + 'static,
    ) -> Result<Vec<T>, ModelError> {
        let exchange = self.exchange.clone();
        let work = move |rank: &mut Rank| or_stop(exchange.as_deref(), work(rank));
        let others: Vec<_> = self.others.iter().map(|other| other.run(work.clone())).collect();
        let first = work(&mut self.first);
        let others = others.iter().map(result);
        let (mut done, mut failure) = (Vec::new(), None);
        for result in std::iter::once(first).chain(others) {
            match result {
                Ok(result) => done.push(result),
                Err(error) if failure.as_ref().is_none_or(is_of_another) => failure = Some(error),
                Err(_) => {}
            }
        }
        failure.map_or(Ok(done), Err)
    }

    /// The error if a rank waited for another in vain. Call it before results are used.
    fn check(&self) -> Result<(), ModelError> {
        self.exchange.as_ref().map_or(Ok(()), |exchange| exchange.check())
    }

    /// Before a step: makes the exchange usable again if an earlier one failed.
    fn recover(&mut self) -> Result<(), ModelError> {
        self.pending.clear();
        let Some(exchange) = self.exchange.clone().filter(|exchange| exchange.is_stopped()) else { return Ok(()) };
        self.each(Rank::recover)?;
        exchange.reset();
        Ok(())
    }

    /// The results of the other ranks' launches.
    fn settle_pending(&mut self) -> Result<(), ModelError> {
        self.pending.drain(..).try_for_each(|pending| result(&pending))
    }

    /// The GPU that the model is loaded on; the first, if there are several.
    pub fn gpu(&self) -> &Gpu {
        &self.first.gpu
    }

    /// Bytes that a decode step reads with `positions` in the KV cache, on the GPU that reads the most.
    pub fn bytes_a_token(&self, positions: usize) -> u64 {
        self.step_bytes.0 + (self.step_bytes.1 - self.step_bytes.0) * positions as u64
    }

    /// The implementation of long prompts' matrix products, for reports. Waits until cuBLASLt is loaded or unavailable.
    pub fn gemm_backend(&mut self) -> &'static str {
        // Without an error there is a result.
        self.of_gemm(|gemm| gemm.backend()).unwrap_or_default()
    }

    /// Replaces cuBLASLt by a kernel of this program, or (`portable`) by the one for all GPUs; for comparisons.
    pub fn use_own_gemm(&mut self, portable: bool) {
        self.of_gemm(move |gemm| gemm.use_own(portable));
    }

    /// Sends prompts of up to `tokens` tokens through the skinny kernels; for comparisons.
    pub fn take_as_short(&mut self, tokens: usize) {
        self.of_gemm(move |gemm| {
            gemm.set_few(ShortPromptLimits { plain: tokens, quantised: tokens, hopper: tokens });
        });
    }

    /// Prints the time of each product of a layer, on the first rank.
    pub fn time_tilings(&mut self, tokens: usize) -> Result<(), ModelError> {
        self.first.time_tilings(tokens)
    }

    /// Does the same with the products of all ranks; the first one's result. `None` if a rank's thread has ended.
    fn of_gemm<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Gemm) -> T + Clone + Send + 'static) -> Option<T> {
        let of_rank = move |rank: &mut Rank| {
            rank.gpu.activate()?;
            Ok(work(&mut rank.gemm))
        };
        self.each(of_rank).ok()?.into_iter().next()
    }
}

impl Drop for CudaModel {
    /// Ends all waits, gives up the exchange on all GPUs, then destroys their contexts side by side.
    fn drop(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        exchange.stop();
        let left: Vec<_> = self.others.iter().map(|other| other.run(Rank::leave)).collect();
        // An error means that a GPU or a rank's thread has failed; its context is destroyed all the same.
        drop(self.first.leave());
        left.iter().for_each(|left| drop(result(left)));
        // The last reference: unmaps the memory.
        drop(exchange);
        self.others.iter_mut().for_each(|other| other.work = None);
        if self.shared_context {
            self.others.clear();
        }
        // An error means that the context is lost, and then nothing can be freed in it.
        let _ = self.first.gpu.activate();
    }
}

impl Model for CudaModel {
    fn vocab_size(&self) -> usize {
        self.first.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.first.config.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.first.pace.chunk(self.first.gemm.is_fast())
    }

    fn truncate_cache(&mut self, positions: usize) -> usize {
        positions
    }

    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, 0)?;
        self.recover()?;
        let (started, count, tokens) = (Instant::now(), tokens.len(), tokens.to_vec());
        self.each(move |rank| rank.evaluate(&tokens, position))?;
        self.check()?;
        self.first.read_logits(logits)?;
        if self.first.gemm.is_fast() {
            self.first.pace.learn(count, started.elapsed());
        }
        Ok(())
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, 0)?;
        self.recover()?;
        let tokens = tokens.to_vec();
        let mut parts = self.each(move |rank| rank.evaluate_rows(&tokens, position, last))?;
        self.check()?;
        logits.clear();
        if let [only] = parts.as_mut_slice() {
            *logits = std::mem::take(only);
            return Ok(());
        }
        // Each rank has the logits of its part of the vocabulary.
        for row in 0..last {
            for part in &parts {
                let width = part.len() / last.max(1);
                logits.extend(&part[row * width..(row + 1) * width]);
            }
        }
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        let first = self.first.memory();
        MemoryUse {
            weights: first.weights + self.memory.weights,
            kv_cache: first.kv_cache + self.memory.kv_cache,
            workspace: first.workspace + self.memory.workspace,
        }
    }

    fn step_bytes(&self, positions: usize) -> Option<u64> {
        Some(self.bytes_a_token(positions) * self.ranks() as u64)
    }

    fn is_ready(&mut self, tokens: usize) -> bool {
        let mut ready = tokens <= FRESH_PROMPT || self.first.gemm.is_fast() || self.first.gemm.cublaslt().hurry();
        if tokens > FRESH_PROMPT && !self.others.is_empty() {
            let hurried = self.each(|rank| Ok(rank.gemm.is_fast() || rank.gemm.cublaslt().hurry()));
            // An error is reported by the step that follows.
            ready &= hurried.is_ok_and(|hurried| hurried.into_iter().all(|ready| ready));
        }
        ready
    }

    fn prompt_kernels(&mut self) -> Evaluated {
        self.first.gemm.evaluated()
    }

    fn set_prompt_kernels(&mut self, kernels: Option<Evaluated>) {
        self.of_gemm(move |gemm| gemm.assume(kernels));
    }

    fn variant(&self) -> String {
        let (major, minor) = self.first.gpu.properties.compute_capability;
        let hopper = if self.first.hopper.is_some() { ", Hopper kernels" } else { "" };
        let several = match (self.ranks(), &self.exchange) {
            (1, _) | (_, None) => String::new(),
            (ranks, Some(exchange)) if exchange.is_direct() => format!(", {ranks} GPUs"),
            (ranks, Some(_)) => format!(", {ranks} GPUs through the host's memory"),
        };
        format!("sm_{major}{minor}{hopper}{several}")
    }

    fn load_finished(&mut self) {
        self.of_gemm(|gemm| gemm.cublaslt().idle());
    }

    fn finish_warmup(&mut self) {
        self.of_gemm(|gemm| gemm.cublaslt().settle());
    }

    fn release(self: Box<Self>) -> Freed {
        let freed = self.freed.clone();
        drop(self);
        let each = || freed.iter().filter_map(|freed| freed.get());
        let sum = |of: fn(&Freed) -> Option<u64>| each().filter_map(of).reduce(|a, b| a + b);
        Freed { bytes: sum(|freed| freed.bytes), energy_mj: sum(|freed| freed.energy_mj) }
    }

    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        Some(self)
    }
}

impl DeviceDecoder for CudaModel {
    fn begin(
        &mut self,
        tokens: &[u32],
        position: usize,
        recent: &[u32],
        sampling: &SamplingParams,
        seed: u64,
    ) -> Result<(), ModelError> {
        check_tokens(self, tokens, position, 0)?;
        self.recover()?;
        let (tokens, recent, sampling) = (tokens.to_vec(), recent.to_vec(), sampling.clone());
        let start = Start { tokens, position, recent, sampling, seed };
        self.each(move |rank| rank.begin(&start)).map(drop)
    }

    fn next_token(&mut self) -> Result<u32, ModelError> {
        self.settle_pending()?;
        let exchange = self.exchange.clone();
        let launch = move |rank: &mut Rank| or_stop(exchange.as_deref(), rank.launch_ahead());
        self.pending = self.others.iter().map(|other| other.run(launch.clone())).collect();
        launch(&mut self.first)?;
        let token = self.first.read_token();
        self.check()?;
        token
    }

    fn end(&mut self) -> Result<usize, ModelError> {
        let launched = self.settle_pending();
        let ended = self.each(Rank::end)?;
        launched?;
        #[cfg(any(debug_assertions, feature = "gpu-checks"))]
        self.check_tokens_agree()?;
        Ok(ended.first().copied().unwrap_or(0))
    }
}

#[cfg(any(test, feature = "gpu-checks"))]
impl CudaModel {
    /// Counts steps as launched on one rank without launching them, as if the GPU had stopped.
    pub fn lose_step(&mut self, rank: usize) -> Result<(), ModelError> {
        self.settle_pending()?;
        match rank.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => result(&other.run(Rank::lose_step)),
            None => self.first.lose_step(),
        }
    }
}

#[cfg(any(debug_assertions, feature = "gpu-checks"))]
impl CudaModel {
    /// All ranks must have decoded the same token.
    fn check_tokens_agree(&mut self) -> Result<(), ModelError> {
        if self.first.tuning.alone || self.exchange.as_ref().is_none_or(|exchange| exchange.is_stopped()) {
            return Ok(());
        }
        let tokens = self.each(|rank| rank.token())?;
        match tokens.iter().all(|token| *token == tokens[0]) {
            true => Ok(()),
            false => Err(ModelError::Invalid(format!("the GPUs decoded different tokens: {tokens:?}"))),
        }
    }
}
