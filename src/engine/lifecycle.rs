//! The engine's lifecycle as a pure state machine: Cold → Loading → Generating → Idle → Releasing → Cold, and Failed.
//!
//! [`step`] does no I/O, reads no clock and spawns nothing: commands, reports of the device and timers arrive as
//! [`Event`]s, and it returns the actions as [`Effect`]s. It identifies requests by their id.
//!
//! Invariants, checked by the tests:
//! 1. Each submitted request gets exactly one terminal event.
//! 2. Nothing is released while a request is in flight or queued in front of the release.
//! 3. An idle engine is released when its window ends.
//! 4. At most one model is loaded at a time.
//! 5. A deadline of an earlier idle time releases nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{IdleWindow, RequestId};

/// With an idle window of zero, a model that was loaded before its first request is released after this time. Otherwise
/// it would be released at once, before the user has written the request.
pub const UNUSED_WINDOW: Duration = Duration::from_secs(30);

/// An input of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A request was accepted.
    Submit(RequestId),
    /// A request was cancelled.
    Cancel(RequestId),
    /// Load the model before the first request.
    Load,
    /// Release the memory.
    Release,
    /// The requests that follow use other options, with this idle window.
    Switch(IdleWindow),
    /// Requests keep their options, with this idle window from now on.
    SetWindow(IdleWindow),
    /// The model is loaded.
    Loaded,
    /// The load failed or was aborted, and all its memory is released.
    LoadFailed,
    /// The running request ended; its terminal event has been sent.
    Answered {
        /// The request.
        id: RequestId,
        /// The model's state after it.
        health: ModelHealth,
    },
    /// The timer of an idle period fired; the deadline may still be ahead.
    Deadline {
        /// [`State::epoch`] when the timer was set.
        epoch: u64,
    },
    /// All memory of the model is released.
    Released,
    /// The program ends.
    Shutdown,
}

/// The model's state after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelHealth {
    /// The model can answer the next request.
    Ok,
    /// The model must be loaded again: memory ran out, or it panicked.
    Reload,
    /// The device context must be created again; if this happens twice in a row, the device is lost for this process.
    DeviceLost,
}

/// An action for the worker to execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Load the model; `Loaded` or `LoadFailed` follows.
    StartLoad,
    /// Stop the load that is running.
    AbortLoad,
    /// Answer a request; `Answered` follows.
    Generate(RequestId),
    /// Stop the answer that is running.
    Stop(RequestId),
    /// Send the terminal event of a request that was cancelled before it ran.
    FinishCancelled(RequestId),
    /// Send the terminal event of a request that failed before it ran.
    Fail(RequestId, Cause),
    /// Report that the engine is idle, and when it will release the weights (`None`: never).
    AnnounceIdle(Option<Timestamp>),
    /// Release all memory; `Released` follows.
    Release,
    /// Use the options of the oldest pending `Switch` from now on.
    ApplyOptions,
    /// End the worker thread.
    Exit,
}

/// Why a request failed before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The load that it waited for failed.
    LoadFailed,
    /// The device is lost for this process.
    DeviceLost,
}

/// The phase of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing is loaded.
    Cold,
    /// A load is running.
    Loading {
        /// Requested by `Event::Load`, so it continues without a request.
        wanted: bool,
        /// `Effect::AbortLoad` was returned.
        aborting: bool,
    },
    /// A request is being answered.
    Generating {
        /// The request.
        id: RequestId,
        /// `Effect::Stop` was returned.
        stopping: bool,
    },
    /// Loaded, and no request is in flight.
    Idle {
        /// When to release; `None`: never.
        release_at: Option<Timestamp>,
    },
    /// The memory is being released.
    Releasing,
    /// The last load failed, or the device is lost. The next request loads again, unless the device is `lost`.
    Failed {
        /// The device is lost; every request fails until a `Switch`.
        lost: bool,
    },
    /// The worker has ended.
    Closed,
}

/// An entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waiting {
    Request(RequestId),
    Switch(IdleWindow),
}

/// The state of the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    phase: Phase,
    queue: VecDeque<Waiting>,
    window: IdleWindow,
    /// Incremented at each phase change of a loaded model, so that a timer of an earlier idle period is ignored.
    epoch: u64,
    /// Release when the queue is empty.
    release_wanted: bool,
    /// Load again after the release that is running.
    load_wanted: bool,
    /// The last answer ended with `DeviceLost`.
    doubtful: bool,
    /// The device is lost for this process, until a `Switch`.
    lost: bool,
    closing: bool,
}

/// The state after `event`, which arrived at `now`, and the effects to execute, in order.
pub fn step(mut state: State, event: Event, now: Timestamp) -> (State, Vec<Effect>) {
    let mut effects = Vec::new();
    match event {
        Event::Submit(id) => state.submit(id, &mut effects),
        Event::Cancel(id) => state.cancel(id, &mut effects),
        Event::Load => state.load(&mut effects),
        Event::Release => state.release(&mut effects),
        Event::Switch(window) => state.switch(window, &mut effects),
        Event::SetWindow(window) => state.set_window(window, now, &mut effects),
        Event::Loaded => state.loaded(now, &mut effects),
        Event::LoadFailed => state.load_failed(&mut effects),
        Event::Answered { id, health } => state.answered(id, health, now, &mut effects),
        Event::Deadline { epoch } => state.deadline(epoch, now, &mut effects),
        Event::Released => state.released(&mut effects),
        Event::Shutdown => state.shutdown(&mut effects),
    }
    (state, effects)
}

impl State {
    /// A cold engine with an idle window of `window`.
    pub fn new(window: IdleWindow) -> Self {
        Self {
            phase: Phase::Cold,
            queue: VecDeque::new(),
            window,
            epoch: 0,
            release_wanted: false,
            load_wanted: false,
            doubtful: false,
            lost: false,
            closing: false,
        }
    }

    /// The phase of the engine.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the idle period, for [`Event::Deadline`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When [`Event::Deadline`] is due; `None` if no timer is running.
    pub fn release_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Idle { release_at } => release_at,
            _ => None,
        }
    }

    fn submit(&mut self, id: RequestId, effects: &mut Vec<Effect>) {
        if self.closing {
            return effects.push(Effect::FinishCancelled(id));
        }
        if self.lost && !self.switch_waits() {
            return effects.push(Effect::Fail(id, Cause::DeviceLost));
        }
        match self.phase {
            Phase::Idle { .. } => self.generate(id, effects),
            Phase::Cold | Phase::Failed { .. } => {
                self.queue.push_back(Waiting::Request(id));
                self.go_on_cold(effects);
            }
            Phase::Loading { .. } | Phase::Generating { .. } | Phase::Releasing | Phase::Closed => {
                self.queue.push_back(Waiting::Request(id));
            }
        }
    }

    fn cancel(&mut self, id: RequestId, effects: &mut Vec<Effect>) {
        if let Phase::Generating { id: running, stopping: false } = self.phase
            && running == id
        {
            self.phase = Phase::Generating { id, stopping: true };
            return effects.push(Effect::Stop(id));
        }
        let before = self.queue.len();
        self.queue.retain(|waiting| *waiting != Waiting::Request(id));
        if self.queue.len() < before {
            effects.push(Effect::FinishCancelled(id));
            self.abort_unwanted_load(effects);
        }
    }

    fn load(&mut self, effects: &mut Vec<Effect>) {
        self.release_wanted = false;
        match &mut self.phase {
            _ if self.closing => {}
            Phase::Loading { wanted, .. } => *wanted = true,
            Phase::Cold | Phase::Failed { lost: false } => {
                self.load_wanted = true;
                self.go_on_cold(effects);
            }
            Phase::Releasing => self.load_wanted = true,
            // A model is loaded; another load is needed only if a `Switch` is queued.
            Phase::Generating { .. } | Phase::Idle { .. } => self.load_wanted = self.switch_waits(),
            Phase::Failed { lost: true } | Phase::Closed => {}
        }
    }

    fn release(&mut self, effects: &mut Vec<Effect>) {
        self.load_wanted = false;
        match &mut self.phase {
            Phase::Cold | Phase::Failed { .. } | Phase::Releasing | Phase::Closed => {}
            Phase::Generating { .. } => self.release_wanted = true,
            Phase::Idle { .. } => self.start_release(effects),
            Phase::Loading { wanted, .. } => {
                *wanted = false;
                self.release_wanted = true;
                self.abort_unwanted_load(effects);
            }
        }
    }

    fn switch(&mut self, window: IdleWindow, effects: &mut Vec<Effect>) {
        if self.closing {
            return;
        }
        self.queue.push_back(Waiting::Switch(window));
        match self.phase {
            Phase::Cold | Phase::Failed { .. } => self.go_on_cold(effects),
            Phase::Idle { .. } => self.start_release(effects),
            Phase::Loading { .. } => self.abort_unwanted_load(effects),
            Phase::Generating { .. } | Phase::Releasing | Phase::Closed => {}
        }
    }

    /// An idle period that is running begins again, with the new window.
    fn set_window(&mut self, window: IdleWindow, now: Timestamp, effects: &mut Vec<Effect>) {
        self.window = window;
        for waiting in &mut self.queue {
            if let Waiting::Switch(old) = waiting {
                *old = window;
            }
        }
        if matches!(self.phase, Phase::Idle { .. }) && !self.closing {
            self.rest(window, now, effects);
        }
    }

    fn loaded(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Phase::Loading { wanted, aborting } = self.phase else { return };
        let unused = self.queue.is_empty() && !wanted;
        if self.closing || unused && (aborting || self.release_wanted) {
            return self.start_release(effects);
        }
        let first_window = match self.window {
            IdleWindow::After(Duration::ZERO) => IdleWindow::After(UNUSED_WINDOW),
            window => window,
        };
        self.go_on_warm(first_window, now, effects);
    }

    fn load_failed(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Loading { wanted, aborting } = self.phase else { return };
        if aborting || self.closing {
            self.load_wanted |= wanted;
            return self.start_release(effects);
        }
        self.fail_queue(Cause::LoadFailed, effects);
        self.phase = Phase::Failed { lost: false };
        if !self.queue.is_empty() {
            self.go_on_cold(effects);
        }
    }

    fn answered(&mut self, id: RequestId, health: ModelHealth, now: Timestamp, effects: &mut Vec<Effect>) {
        let Phase::Generating { id: running, .. } = self.phase else { return };
        if running != id {
            return;
        }
        // A new device context clears most device errors; an error in two consecutive answers is permanent.
        let again = std::mem::replace(&mut self.doubtful, health == ModelHealth::DeviceLost);
        match health {
            ModelHealth::Ok => self.go_on_warm(self.window, now, effects),
            ModelHealth::DeviceLost if again => {
                self.lost = true;
                self.fail_queue(Cause::DeviceLost, effects);
                self.start_release(effects);
            }
            ModelHealth::Reload | ModelHealth::DeviceLost => self.start_release(effects),
        }
    }

    fn deadline(&mut self, epoch: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Phase::Idle { release_at: Some(release_at) } = self.phase
            && epoch == self.epoch
            && now >= release_at
        {
            self.start_release(effects);
        }
    }

    fn released(&mut self, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Releasing {
            self.go_on_cold(effects);
        }
    }

    fn shutdown(&mut self, effects: &mut Vec<Effect>) {
        self.closing = true;
        self.load_wanted = false;
        for waiting in std::mem::take(&mut self.queue) {
            if let Waiting::Request(id) = waiting {
                effects.push(Effect::FinishCancelled(id));
            }
        }
        match self.phase {
            Phase::Cold | Phase::Failed { .. } => self.go_on_cold(effects),
            Phase::Idle { .. } => self.start_release(effects),
            Phase::Generating { id, stopping: false } => {
                self.phase = Phase::Generating { id, stopping: true };
                effects.push(Effect::Stop(id));
            }
            Phase::Loading { .. } => {
                self.phase = Phase::Loading { wanted: false, aborting: true };
                effects.push(Effect::AbortLoad);
            }
            Phase::Generating { stopping: true, .. } | Phase::Releasing | Phase::Closed => {}
        }
    }

    /// Continues with a loaded model and no running request.
    fn go_on_warm(&mut self, window: IdleWindow, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.queue.front() {
            Some(&Waiting::Request(id)) => {
                self.queue.pop_front();
                self.generate(id, effects);
            }
            Some(Waiting::Switch(_)) => self.start_release(effects),
            None if self.closing || self.release_wanted => self.start_release(effects),
            None => self.rest(window, now, effects),
        }
    }

    fn rest(&mut self, window: IdleWindow, now: Timestamp, effects: &mut Vec<Effect>) {
        let release_at = match window {
            IdleWindow::After(Duration::ZERO) => return self.start_release(effects),
            IdleWindow::After(window) => Some(now + window),
            IdleWindow::Never => None,
        };
        self.epoch += 1;
        self.phase = Phase::Idle { release_at };
        effects.push(Effect::AnnounceIdle(release_at));
    }

    /// Continues with no loaded model and no running load.
    fn go_on_cold(&mut self, effects: &mut Vec<Effect>) {
        self.release_wanted = false;
        self.phase = Phase::Cold;
        while let Some(&Waiting::Switch(window)) = self.queue.front() {
            self.queue.pop_front();
            self.window = window;
            (self.lost, self.doubtful) = (false, false);
            effects.push(Effect::ApplyOptions);
        }
        if self.closing {
            self.phase = Phase::Closed;
            effects.push(Effect::Exit);
        } else if self.lost {
            self.phase = Phase::Failed { lost: true };
        } else if self.load_wanted || !self.queue.is_empty() {
            self.phase = Phase::Loading { wanted: std::mem::take(&mut self.load_wanted), aborting: false };
            effects.push(Effect::StartLoad);
        }
    }

    fn generate(&mut self, id: RequestId, effects: &mut Vec<Effect>) {
        self.epoch += 1;
        self.phase = Phase::Generating { id, stopping: false };
        effects.push(Effect::Generate(id));
    }

    fn start_release(&mut self, effects: &mut Vec<Effect>) {
        self.epoch += 1;
        self.release_wanted = false;
        self.phase = Phase::Releasing;
        effects.push(Effect::Release);
    }

    /// Aborts a load that neither a request nor `Event::Load` requires.
    fn abort_unwanted_load(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Loading { wanted, aborting: false } = self.phase else { return };
        let unwanted = match self.queue.front() {
            Some(Waiting::Request(_)) => false,
            Some(Waiting::Switch(_)) => true,
            None => !wanted,
        };
        if unwanted {
            self.phase = Phase::Loading { wanted, aborting: true };
            effects.push(Effect::AbortLoad);
        }
    }

    fn switch_waits(&self) -> bool {
        self.queue.iter().any(|waiting| matches!(waiting, Waiting::Switch(_)))
    }

    /// Fails the queued requests up to the next `Switch`.
    fn fail_queue(&mut self, cause: Cause, effects: &mut Vec<Effect>) {
        while let Some(&Waiting::Request(id)) = self.queue.front() {
            self.queue.pop_front();
            effects.push(Effect::Fail(id, cause));
        }
    }
}

#[cfg(test)]
mod model_check;
#[cfg(test)]
mod tests;
