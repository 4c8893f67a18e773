//! The engine's life as a pure state machine: Cold → Loading → Generating → Idle → Releasing → Cold, and Failed.
//!
//! [`step`] does no I/O, reads no clock and spawns nothing: time and the device's answers arrive as [`Event`]s, what has
//! to be done leaves as [`Effect`]s. It knows requests by their number alone.
//!
//! Its promises, shown by the tests:
//! 1. Each submitted request gets exactly one terminal event.
//! 2. Nothing is released while a request is in flight or queued in front of the release.
//! 3. An idle engine is released when its window ends.
//! 4. At most one model is loaded at a time.
//! 5. A deadline of an earlier idle time releases nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{IdleWindow, RequestId};

/// With a window of zero there is no answer yet to release after when a model was loaded ahead of its first request;
/// it then stays this long, so that the load is not thrown away while the user types.
pub const UNUSED_WINDOW: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A request was accepted.
    Submit(RequestId),
    /// Somebody no longer wants a request's answer.
    Cancel(RequestId),
    /// The model will be needed soon.
    Load,
    /// The memory is wanted back.
    Release,
    /// The requests that follow want other options; this is their window.
    Switch(IdleWindow),
    /// The model is loaded.
    Loaded,
    /// Loading ended without a model, and nothing is held.
    LoadFailed,
    /// The running request ended; its terminal event is out.
    Answered {
        /// Which.
        id: RequestId,
        /// What became of the model.
        health: ModelHealth,
    },
    /// The deadline of this idle time may have come.
    Deadline {
        /// [`State::epoch`] when the timer was set.
        epoch: u64,
    },
    /// Everything is given back.
    Released,
    /// The program ends.
    Shutdown,
}

/// What an answer left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelHealth {
    /// The model can answer more.
    Ok,
    /// The model must be loaded anew: memory ran out, or it panicked.
    Reload,
    /// The device must be started anew; lost for this process where that happens twice in a row.
    DeviceLost,
}

/// What has to be done.
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
    /// Tell that a request was cancelled before it ran.
    FinishCancelled(RequestId),
    /// Tell that a request failed before it ran.
    Fail(RequestId, Cause),
    /// Tell that there is nothing to do, and until when the weights stay.
    AnnounceIdle(Option<Timestamp>),
    /// Give everything back; `Released` follows.
    Release,
    /// The next of the options that `Switch` brought are in force.
    ApplyOptions,
    /// The end.
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

/// Where the engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing is loaded.
    Cold,
    /// A load is running.
    Loading {
        /// Somebody asked for the load itself, so it goes on without a request.
        wanted: bool,
        /// It was told to stop.
        aborting: bool,
    },
    /// A request is being answered.
    Generating {
        /// Which.
        id: RequestId,
        /// It was told to stop.
        stopping: bool,
    },
    /// Loaded, with nothing to do.
    Idle {
        /// When to release; `None` never.
        release_at: Option<Timestamp>,
    },
    /// The memory is on its way back.
    Releasing,
    /// The last load failed, and the next request tries again; not so where the device is `lost`.
    Failed {
        /// For good, as long as the options stay.
        lost: bool,
    },
    /// The worker has ended.
    Closed,
}

/// What waits for its turn, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waiting {
    Request(RequestId),
    Switch(IdleWindow),
}

/// The engine's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    phase: Phase,
    queue: VecDeque<Waiting>,
    window: IdleWindow,
    /// Counts idle times, so that an old timer is known as such.
    epoch: u64,
    /// Release when the queue is empty.
    release_wanted: bool,
    /// Load again after the release that is running.
    load_wanted: bool,
    /// The last answer lost the device.
    doubtful: bool,
    /// The device is lost for this process, as long as the options stay.
    lost: bool,
    closing: bool,
}

/// The state after `event`, which came at `now`, and what it asks for, in order.
pub fn step(mut state: State, event: Event, now: Timestamp) -> (State, Vec<Effect>) {
    let mut effects = Vec::new();
    match event {
        Event::Submit(id) => state.submit(id, &mut effects),
        Event::Cancel(id) => state.cancel(id, &mut effects),
        Event::Load => state.load(&mut effects),
        Event::Release => state.release(&mut effects),
        Event::Switch(window) => state.switch(window, &mut effects),
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
    /// A cold engine.
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

    /// Where the engine stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of this idle time; goes into [`Event::Deadline`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When an idle engine wants its [`Event::Deadline`].
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
            // A model is loaded; only one that will be switched for another has to be loaded again.
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
        // A fresh context mends most faults of a device; one that comes back at once is for good.
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

    /// A model is loaded and nothing runs.
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

    /// Nothing is loaded and nothing runs.
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

    /// Stops a load that no request and nobody else waits for.
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

    /// Fails the requests that wait for the options in force.
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
