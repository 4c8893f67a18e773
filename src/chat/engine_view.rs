//! What the chat knows of the engine, from its events alone: state, progress, memory, context, countdown.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::*;

/// Speed is measured over this time.
const SPEED_WINDOW: Duration = Duration::from_secs(3);

/// What the engine is doing, as far as a front end can tell.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineState {
    /// No model in memory.
    Cold,
    /// On its way to ready.
    Loading(Loading),
    /// Loaded, and busy or about to be.
    Warm,
    /// Loaded with nothing to do; released then, `None`: never.
    Idle {
        /// When the weights go.
        release_at: Option<Timestamp>,
    },
    /// Giving the memory back.
    Releasing,
    /// It could not load.
    Failed,
}

/// A load under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loading {
    /// The last that was heard.
    pub progress: Option<LoadProgress>,
    samples: VecDeque<(Timestamp, u64)>,
}

/// How fast bytes move, and how long they still will.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes for each second.
    pub bytes_per_second: f64,
    /// Time to the end of this phase; `None` where the total is not known.
    pub remaining: Option<Duration>,
}

impl Loading {
    fn progress(&mut self, progress: LoadProgress, now: Timestamp) {
        if self.progress.as_ref().is_some_and(|last| last.phase != progress.phase || last.done > progress.done) {
            self.samples.clear();
        }
        self.samples.push_back((now, progress.done));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| now.since(*at) > SPEED_WINDOW) {
            self.samples.pop_front();
        }
        self.progress = Some(progress);
    }

    /// The speed of the last seconds; `None` before it can be known.
    pub fn transfer(&self) -> Option<Transfer> {
        let ((from, before), (to, after)) = (*self.samples.front()?, *self.samples.back()?);
        let seconds = to.since(from).as_secs_f64();
        if seconds < 0.2 || after <= before {
            return None;
        }
        let bytes_per_second = (after - before) as f64 / seconds;
        let left = self.progress.as_ref()?.total.map(|total| total.saturating_sub(after) as f64);
        // A stalled transfer's end is beyond any duration.
        let remaining = left.and_then(|left| Duration::try_from_secs_f64(left / bytes_per_second).ok());
        Some(Transfer { bytes_per_second, remaining })
    }

    /// Share of this phase that is done, 0 to 1; `None` where the total is not known.
    pub fn fraction(&self) -> Option<f64> {
        let progress = self.progress.as_ref()?;
        let total = progress.total.filter(|total| *total > 0)?;
        Some((progress.done as f64 / total as f64).clamp(0.0, 1.0))
    }
}

/// What is known of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineView {
    /// What it is doing.
    pub state: EngineState,
    /// The model's name: the user's before it is loaded, its own afterwards.
    pub model: String,
    /// What was loaded last; stays after a release, for name and device.
    pub info: Option<ModelInfo>,
    /// Bytes that the last release gave back, until the next load.
    pub freed: Option<u64>,
    /// Context positions that the last prompt and answer take.
    pub context_used: usize,
    load_asked: bool,
}

impl EngineView {
    pub(super) fn new(model: String) -> Self {
        Self { state: EngineState::Cold, model, info: None, freed: None, context_used: 0, load_asked: false }
    }

    /// Whether the weights are in memory.
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, EngineState::Warm | EngineState::Idle { .. })
    }

    /// Whether something is under way that deserves a moving sign.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.state, EngineState::Loading(_) | EngineState::Releasing)
    }

    /// Time until the weights go; `None` where nothing counts down.
    pub fn releases_in(&self, now: Timestamp) -> Option<Duration> {
        match self.state {
            EngineState::Idle { release_at: Some(at) } => Some(at.since(now)),
            _ => None,
        }
    }

    /// When the countdown shows another second.
    pub(super) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let left = self.releases_in(now).filter(|left| !left.is_zero())?;
        let part = Duration::from_nanos(u64::from(left.subsec_nanos()));
        Some(now + if part.is_zero() { Duration::from_secs(1) } else { part })
    }

    /// Says yes once for each cold spell: a failed load is not tried again by typing, only by sending.
    pub(super) fn wants_loading(&mut self) -> bool {
        let wants = self.state == EngineState::Cold && !self.load_asked;
        self.load_asked |= wants;
        wants
    }

    pub(super) fn loading(&mut self) {
        self.state = EngineState::Loading(Loading::default());
        self.freed = None;
    }

    pub(super) fn progress(&mut self, progress: LoadProgress, now: Timestamp) {
        if let EngineState::Loading(loading) = &mut self.state {
            loading.progress(progress, now);
        }
    }

    pub(super) fn loaded(&mut self, info: ModelInfo) {
        self.state = EngineState::Warm;
        self.model = info.name.clone();
        self.info = Some(info);
    }

    pub(super) fn load_failed(&mut self, kind: ErrorKind) {
        self.load_asked = false;
        self.state = if kind == ErrorKind::Cancelled { EngineState::Cold } else { EngineState::Failed };
    }

    pub(super) fn released(&mut self, freed: u64) {
        // A failed or stopped load is followed by a release, too, which gives nothing back worth telling.
        self.freed = (freed > 0).then_some(freed);
        self.load_asked = false;
        if self.state != EngineState::Failed {
            self.state = EngineState::Cold;
        }
    }

    pub(super) fn switched(&mut self, model: String) {
        let state = std::mem::replace(&mut self.state, EngineState::Cold);
        *self = Self::new(model);
        // The old weights may still be on their way out; the engine tells when they are gone.
        if matches!(state, EngineState::Releasing) {
            self.state = state;
        }
    }
}
