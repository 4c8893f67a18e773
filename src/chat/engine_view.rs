//! The engine's state as derived from its events: progress, memory, context, countdown.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::*;

/// Time over which the transfer speed is measured.
const SPEED_WINDOW: Duration = Duration::from_secs(3);

/// State of the engine, as derived from its events.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineState {
    /// No model in memory.
    Cold,
    /// Loading the model.
    Loading(Loading),
    /// Loaded, and busy or about to be busy.
    Warm,
    /// Loaded and idle.
    Idle {
        /// When the model is released; `None`: never.
        release_at: Option<Timestamp>,
    },
    /// Releasing the memory.
    Releasing,
    /// The last load failed.
    Failed,
}

/// A load in progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loading {
    /// The last progress report.
    pub progress: Option<LoadProgress>,
    /// The share of the whole load before the current phase, and the share by now.
    before: f64,
    done: f64,
    samples: VecDeque<(Timestamp, u64)>,
}

/// Speed and remaining time of a transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Transfer speed in bytes per second.
    pub bytes_per_second: f64,
    /// Time to the end of this phase; `None` if the total is unknown.
    pub remaining: Option<Duration>,
}

impl Loading {
    pub(super) fn progress(&mut self, progress: LoadProgress, now: Timestamp) {
        if self.progress.as_ref().is_some_and(|last| last.phase != progress.phase || last.done > progress.done) {
            self.samples.clear();
        }
        self.samples.push_back((now, progress.done));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| now.since(*at) > SPEED_WINDOW) {
            self.samples.pop_front();
        }
        self.advance(&progress);
        self.progress = Some(progress);
    }

    /// Updates the share of the whole load, which never decreases: each phase takes what the phases before left, up to
    /// its own end. Which phases follow is not known in advance.
    fn advance(&mut self, progress: &LoadProgress) {
        if self.progress.as_ref().is_none_or(|last| last.phase != progress.phase) {
            self.before = self.done;
        }
        let Some(total) = progress.total.filter(|total| *total > 0) else { return };
        let end: f64 = match progress.phase {
            LoadPhase::Download => 0.9,
            LoadPhase::Verify => 0.95,
            LoadPhase::Read | LoadPhase::Upload => 1.0,
        };
        let share = (progress.done as f64 / total as f64).clamp(0.0, 1.0);
        self.done = self.done.max(self.before + (end - self.before) * share);
    }

    /// The speed over `SPEED_WINDOW`; `None` with samples of less than 0.2 s or without new bytes.
    pub fn transfer(&self) -> Option<Transfer> {
        let ((from, before), (to, after)) = (*self.samples.front()?, *self.samples.back()?);
        let seconds = to.since(from).as_secs_f64();
        if seconds < 0.2 || after <= before {
            return None;
        }
        let bytes_per_second = (after - before) as f64 / seconds;
        let left = self.progress.as_ref()?.total.map(|total| total.saturating_sub(after) as f64);
        // The conversion fails for a stalled transfer: its remaining time exceeds `Duration::MAX`.
        let remaining = left.and_then(|left| Duration::try_from_secs_f64(left / bytes_per_second).ok());
        Some(Transfer { bytes_per_second, remaining })
    }

    /// Completed share of the whole load, 0 to 1, over all phases; `None` if the phase's total is unknown.
    pub fn fraction(&self) -> Option<f64> {
        self.progress.as_ref()?.total.filter(|total| *total > 0)?;
        Some(self.done)
    }
}

/// The engine, as derived from its events.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineView {
    /// Current state.
    pub state: EngineState,
    /// The model's name: as the user gave it before the load, its own afterwards.
    pub model: String,
    /// The model that was loaded last; kept after a release, for name and device.
    pub info: Option<ModelInfo>,
    /// Measured host memory of the loaded model, in bytes; `None`: not measured, or on a GPU.
    resident: Option<u64>,
    /// Bytes that the last release freed, until the next load.
    pub freed: Option<u64>,
    /// Context positions that the last prompt and answer take.
    pub context_used: usize,
    /// How long a server is awaited by now, and why; `None`: none is.
    pub waiting: Option<(Duration, String)>,
    /// Whether an idle server sleeps, as far as it tells.
    pub is_asleep: bool,
    load_asked: bool,
}

impl EngineView {
    pub(super) fn new(model: String) -> Self {
        Self {
            state: EngineState::Cold,
            model,
            info: None,
            resident: None,
            freed: None,
            context_used: 0,
            waiting: None,
            is_asleep: false,
            load_asked: false,
        }
    }

    /// The sampling values that the model recommends, as far as it is known: none before its first load.
    pub fn recommended(&self) -> Recommended {
        self.info.as_ref().map(|info| info.sampling.clone()).unwrap_or_default()
    }

    /// Whether the weights are in memory.
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, EngineState::Warm | EngineState::Idle { .. })
    }

    /// Memory of the loaded model on its device, in bytes, as a release will give it back; `None`: no model is loaded,
    /// or it takes none.
    pub fn memory(&self) -> Option<u64> {
        let memory = &self.info.as_ref().filter(|_| self.is_loaded())?.memory;
        let on_cpu = self.info.as_ref().is_some_and(|info| info.device.kind == DeviceKind::Cpu);
        // On the CPU, a KV cache takes memory only as far as it is used.
        let expected = if on_cpu { memory.weights + memory.workspace } else { memory.total() };
        Some(self.resident.filter(|_| on_cpu).unwrap_or(expected)).filter(|_| memory.total() > 0)
    }

    pub(super) fn measured(&mut self, bytes: u64) {
        self.resident = Some(bytes).filter(|bytes| *bytes > 0);
    }

    /// Whether the spinner must be animated.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.state, EngineState::Loading(_) | EngineState::Releasing)
    }

    /// Time until the release; `None` if none is scheduled.
    pub fn releases_in(&self, now: Timestamp) -> Option<Duration> {
        match self.state {
            EngineState::Idle { release_at: Some(at) } => Some(at.since(now)),
            _ => None,
        }
    }

    /// When the displayed second of the countdown changes.
    pub(super) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let left = self.releases_in(now).filter(|left| !left.is_zero())?;
        let part = Duration::from_nanos(u64::from(left.subsec_nanos()));
        Some(now + if part.is_zero() { Duration::from_secs(1) } else { part })
    }

    /// True once in each cold state. Typing does not retry a failed load; sending does.
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
        self.resident = None;
        self.model = info.name.clone();
        self.info = Some(info);
    }

    pub(super) fn load_failed(&mut self, kind: ErrorKind) {
        self.load_asked = false;
        self.state = if kind == ErrorKind::Cancelled { EngineState::Cold } else { EngineState::Failed };
    }

    pub(super) fn released(&mut self, freed: u64) {
        // A failed or cancelled load is followed by a release too, which frees nothing: do not show 0 bytes.
        // The same for a model that takes no memory, whose figure is noise.
        let takes = self.info.as_ref().is_none_or(|info| info.memory.total() > 0);
        self.freed = (freed > 0 && takes).then_some(freed);
        self.load_asked = false;
        if self.state != EngineState::Failed {
            self.state = EngineState::Cold;
        }
    }

    pub(super) fn switched(&mut self, model: String) {
        let state = std::mem::replace(&mut self.state, EngineState::Cold);
        *self = Self { context_used: self.context_used, ..Self::new(model) };
        // The old weights may still be in memory; `Released` follows when they are freed.
        if matches!(state, EngineState::Releasing) {
            self.state = state;
        }
    }
}
