//! Decode loop on the GPU: one graph launch per token. The token stays on the GPU; the host reads it one step later.

use super::driver::Event;
use super::params::State;
use super::rank::{HISTORY, OUT_RING, Rank};
use crate::engine::error::ModelError;
use crate::protocol::SamplingParams;

/// Events in flight. The host is at most one step late, so two would suffice.
const MARKS: usize = 4;

/// A running decode loop.
pub(super) struct Decoding {
    /// Positions in the KV cache when the loop began.
    base: usize,
    /// Tokens whose sampling was launched; `begin` launches the first.
    launched: usize,
    /// Tokens returned by `next_token`.
    read: usize,
    marks: Vec<Event>,
}

/// The arguments of `DeviceDecoder::begin`, for the threads of all ranks.
#[derive(Clone)]
pub struct Start {
    pub tokens: Vec<u32>,
    pub position: usize,
    pub recent: Vec<u32>,
    pub sampling: SamplingParams,
    pub seed: u64,
}

/// What `sample.cu` writes instead of a token if every logit is NaN or -inf.
pub(super) const NOTHING: u32 = u32::MAX;

impl Rank {
    /// Writes the GPU's decode state for a loop whose last prompt token, `token`, is at position `pos`.
    fn start_state(&self, pos: usize, token: u32, start: &Start) -> Result<(), ModelError> {
        let Start { recent, sampling, seed, .. } = start;
        let window = sampling.repeat_last_n.min(HISTORY);
        let kept: Vec<i32> = recent[recent.len().saturating_sub(window)..].iter().map(|t| *t as i32).collect();
        self.buffers.history.write(&self.gpu, 0, &kept)?;
        let state = State {
            pos: pos as i32,
            token: token as i32,
            history_len: kept.len() as i32,
            step: 0,
            best: 0,
            seed: *seed,
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

    /// Launches one step: evaluates the last token and samples the next one.
    fn launch_decode(&mut self) -> Result<(), ModelError> {
        if !self.tuning.graph {
            return self.launch_step(true);
        }
        self.prepare()?;
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

impl Rank {
    /// As `DeviceDecoder::begin`.
    pub fn begin(&mut self, start: &Start) -> Result<(), ModelError> {
        let (tokens, position) = (start.tokens.as_slice(), start.position);
        self.gpu.activate()?;
        self.gpu.synchronize()?;
        self.gemm.cublaslt().busy();
        let marks = (0..MARKS).map(|_| Event::new(false)).collect::<Result<Vec<_>, _>>()?;
        let base = position + tokens.len();
        let (rest, position) = self.prefill_most(tokens, position)?;
        let last = rest.last().copied().unwrap_or(0);
        self.start_state(base - 1, last, start)?;
        if rest.len() == 1 {
            self.launch_decode()?;
        } else {
            self.prefill(rest, position)?;
            self.launch_head(self.buffers.x.at((rest.len() - 1) * self.config.hidden))?;
            self.launch_token()?;
        }
        marks[0].record(self.gpu.stream)?;
        self.decoding = Some(Decoding { base, launched: 1, read: 0, marks });
        Ok(())
    }

    /// Launches steps up to one ahead of the token to be read next, so that the GPU never waits for the host.
    pub fn launch_ahead(&mut self) -> Result<(), ModelError> {
        self.gpu.activate()?;
        let Some(mut decoding) = self.decoding.take() else {
            return Err(ModelError::Invalid("decoding has not begun".into()));
        };
        while decoding.launched < decoding.read + 2 && decoding.base + decoding.launched <= self.config.context_length {
            self.advance(&mut decoding)?;
        }
        decoding.read += 1;
        self.decoding = Some(decoding);
        Ok(())
    }

    /// Counts steps as launched without launching them, so that the next calls of [`Self::launch_ahead`] launch none.
    #[cfg(any(test, feature = "gpu-checks"))]
    pub fn lose_step(&mut self) -> Result<(), ModelError> {
        let Some(decoding) = &mut self.decoding else { return Ok(()) };
        decoding.marks.iter().try_for_each(|mark| mark.record(self.gpu.stream))?;
        decoding.launched += MARKS;
        Ok(())
    }

    /// The token that the last [`Self::launch_ahead`] made way for; for rank 0.
    pub fn read_token(&mut self) -> Result<u32, ModelError> {
        let Some(decoding) = &self.decoding else {
            return Err(ModelError::Invalid("decoding has not begun".into()));
        };
        let index = decoding.read - 1;
        if index >= decoding.launched {
            return Err(ModelError::Unsupported("the context is full".into()));
        }
        decoding.marks[index % MARKS].wait()?;
        let cell = self.buffers.out.pointer().cast::<u32>();
        // SAFETY: the ring has OUT_RING cells, and the GPU has written this one (its event has completed).
        let token = unsafe { cell.add(index % OUT_RING).read_volatile() };
        if token == NOTHING { Err(ModelError::NotFinite) } else { Ok(token) }
    }

    /// As `DeviceDecoder::end`.
    pub fn end(&mut self) -> Result<usize, ModelError> {
        self.gpu.activate()?;
        self.wait()?;
        self.gemm.cublaslt().idle();
        let Some(decoding) = self.decoding.take() else { return Ok(0) };
        // Tokens that were sampled ahead and never returned do not count.
        Ok(decoding.base + decoding.launched.saturating_sub(1).min(decoding.read))
    }
}
