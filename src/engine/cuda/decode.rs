//! Decoding with the sampler on the card: one graph a token, the token fed back on the card, the host one step behind.

use super::driver::Event;
use super::model::{CudaModel, HISTORY, OUT_RING};
use super::params::State;
use crate::engine::error::ModelError;
use crate::engine::model::DeviceDecoder;
use crate::protocol::SamplingParams;

/// Marks in flight: the host is at most one step behind, so two would do.
const MARKS: usize = 4;

/// A decode loop under way.
pub(super) struct Decoding {
    /// Positions whose keys and values were there when the loop began.
    base: usize,
    /// Steps whose token was asked for; the first needs no evaluation.
    launched: usize,
    /// Tokens handed out.
    read: usize,
    marks: Vec<Event>,
}

/// What the card says instead of a token where no logit is a number (`sample.cu`).
pub(super) const NOTHING: u32 = u32::MAX;

impl CudaModel {
    /// The card's state when sampling starts after `last` was evaluated (or will be, by a step) at `pos`.
    fn start_state(
        &self,
        pos: usize,
        token: u32,
        recent: &[u32],
        sampling: &SamplingParams,
        seed: u64,
    ) -> Result<(), ModelError> {
        let window = sampling.repeat_last_n.min(HISTORY);
        let kept: Vec<i32> = recent[recent.len().saturating_sub(window)..].iter().map(|t| *t as i32).collect();
        self.buffers.history.write(&self.gpu, 0, &kept)?;
        let state = State {
            pos: pos as i32,
            token: token as i32,
            history_len: kept.len() as i32,
            step: 0,
            best: 0,
            seed,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            frequency_penalty: sampling.frequency_penalty,
            presence_penalty: sampling.presence_penalty,
            top_k: i32::try_from(sampling.top_k).unwrap_or(i32::MAX),
            repeat_last_n: window as i32,
        };
        self.buffers.state.write(&self.gpu, 0, &[state])
    }

    /// Starts one step: the token of the step before is evaluated, the next one drawn.
    fn launch_decode(&mut self) -> Result<(), ModelError> {
        if !self.tuning.graph {
            return self.launch_step(true);
        }
        if self.graph.is_none() {
            self.graph = Some(self.gpu.capture(|| self.launch_step(true))?);
        }
        match &self.graph {
            Some(graph) => graph.launch(&self.gpu),
            None => Ok(()),
        }
    }

    fn advance(&mut self, decoding: &mut Decoding) -> Result<(), ModelError> {
        self.launch_decode()?;
        decoding.marks[decoding.launched % MARKS].record(self.gpu.stream)?;
        decoding.launched += 1;
        Ok(())
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
        self.check(tokens, position)?;
        self.gpu.activate()?;
        self.gpu.synchronize()?;
        self.gemm.cublaslt().busy();
        let marks = (0..MARKS).map(|_| Event::new(false)).collect::<Result<Vec<_>, _>>()?;
        let base = position + tokens.len();
        let (rest, position) = self.prefill_most(tokens, position)?;
        let last = rest.last().copied().unwrap_or(0);
        self.start_state(base - 1, last, recent, sampling, seed)?;
        if rest.len() == 1 {
            self.launch_decode()?;
        } else {
            self.prefill(rest, position)?;
            self.launch_head(self.buffers.x.at((rest.len() - 1) * self.config.hidden))?;
            self.launch_sample()?;
        }
        marks[0].record(self.gpu.stream)?;
        self.decoding = Some(Decoding { base, launched: 1, read: 0, marks });
        Ok(())
    }

    fn next_token(&mut self) -> Result<u32, ModelError> {
        self.gpu.activate()?;
        let Some(mut decoding) = self.decoding.take() else {
            return Err(ModelError::Invalid("decoding has not begun".into()));
        };
        // The step after the one that is waited for runs already, so the card never waits for the host.
        while decoding.launched < decoding.read + 2 && decoding.base + decoding.launched <= self.config.context_length {
            self.advance(&mut decoding)?;
        }
        if decoding.launched == decoding.read {
            return Err(ModelError::Unsupported("the context is full".into()));
        }
        decoding.marks[decoding.read % MARKS].wait()?;
        let cell = self.buffers.out.pointer().cast::<u32>();
        // SAFETY: the ring has OUT_RING cells, and the card has written this one (the mark has passed).
        let token = unsafe { cell.add(decoding.read % OUT_RING).read_volatile() };
        decoding.read += 1;
        self.decoding = Some(decoding);
        if token == NOTHING { Err(ModelError::NotFinite) } else { Ok(token) }
    }

    fn end(&mut self) -> Result<usize, ModelError> {
        self.gpu.activate()?;
        self.gpu.synchronize()?;
        self.gemm.cublaslt().idle();
        let Some(decoding) = self.decoding.take() else { return Ok(0) };
        // Tokens that were drawn ahead and never handed out do not count.
        Ok(decoding.base + decoding.launched.saturating_sub(1).min(decoding.read))
    }
}
