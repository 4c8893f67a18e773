//! Model checker of the lifecycle: visits every state reachable with three requests, a switch and a shutdown in any
//! order, and checks the invariants in each. Longer random sequences are checked against the same invariants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_secs(1);
const WINDOW: u64 = 2;

/// The state of a simulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Device {
    Empty,
    Loading,
    Loaded,
    Generating(RequestId),
    Releasing,
}

/// The engine's state, a simulated device that executes the effects, and the data that the invariants need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    state: State,
    device: Device,
    /// Accepted requests without a terminal event.
    open: BTreeSet<RequestId>,
    submitted: u64,
    switches: usize,
    now: u64,
    closing: bool,
    exited: bool,
}

impl World {
    fn new(window: IdleWindow) -> Self {
        Self {
            state: State::new(window),
            device: Device::Empty,
            open: BTreeSet::new(),
            submitted: 0,
            switches: 0,
            now: 0,
            closing: false,
            exited: false,
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_origin(TICK * self.now as u32)
    }

    /// The reports that the device can send now.
    fn reports(&self) -> Vec<Event> {
        let answered = |id, health| Event::Answered { id, health };
        match self.device {
            Device::Empty | Device::Loaded => vec![],
            Device::Loading => vec![Event::Loaded, Event::LoadFailed],
            Device::Generating(id) => [ModelHealth::Ok, ModelHealth::Reload, ModelHealth::DeviceLost]
                .map(|after| answered(id, after))
                .to_vec(),
            Device::Releasing => vec![Event::Released],
        }
    }

    /// All events that can arrive now: reports, commands and timers.
    fn events(&self, most_requests: u64, most_switches: usize) -> Vec<Event> {
        let mut events = self.reports();
        if !self.closing {
            events.extend([Event::Load, Event::Release, Event::Shutdown]);
            events.extend([IdleWindow::Never, IdleWindow::After(Duration::ZERO)].map(Event::SetWindow));
            if self.submitted < most_requests {
                events.push(Event::Submit(RequestId(self.submitted)));
            }
            if self.switches < most_switches {
                events.push(Event::Switch(IdleWindow::After(TICK)));
            }
        }
        events.extend((0..self.submitted).map(|id| Event::Cancel(RequestId(id))));
        events.extend([0, 1].map(|back| Event::Deadline { epoch: self.state.epoch - back }));
        events
    }

    /// The world after `event`; panics if an invariant is violated.
    fn after(&self, event: Event) -> Self {
        let mut world = self.clone();
        match event {
            Event::Submit(id) => {
                world.submitted += 1;
                assert!(world.open.insert(id));
            }
            Event::Switch(_) => world.switches += 1,
            Event::Shutdown => world.closing = true,
            Event::Loaded => world.device = Device::Loaded,
            Event::LoadFailed | Event::Released => world.device = Device::Empty,
            Event::Answered { id, .. } => {
                assert!(world.open.remove(&id), "a second terminal event for {id:?}");
                world.device = Device::Loaded;
            }
            Event::Cancel(_) | Event::Load | Event::Release | Event::SetWindow(_) | Event::Deadline { .. } => {}
        }
        let (state, effects) = step(self.state.clone(), event, self.time());
        world.state = state;
        effects.iter().for_each(|&effect| world.obey(event, effect));
        world.check(self, event, &effects);
        world.forget_what_does_not_matter();
        world
    }

    fn obey(&mut self, event: Event, effect: Effect) {
        match effect {
            Effect::StartLoad => {
                assert_eq!(self.device, Device::Empty, "a second model");
                self.device = Device::Loading;
            }
            Effect::AbortLoad => assert_eq!(self.device, Device::Loading),
            Effect::Generate(id) => {
                assert_eq!(self.device, Device::Loaded);
                assert!(self.open.contains(&id), "{id:?} has ended already");
                self.device = Device::Generating(id);
            }
            Effect::Stop(id) => assert_eq!(self.device, Device::Generating(id)),
            Effect::FinishCancelled(id) | Effect::Fail(id, _) => {
                assert_ne!(self.device, Device::Generating(id));
                assert!(self.open.remove(&id), "a second terminal event for {id:?}");
            }
            Effect::AnnounceIdle(_) => assert_eq!(self.device, Device::Loaded),
            Effect::Release => self.check_release(event),
            Effect::ApplyOptions => assert_eq!(self.device, Device::Empty),
            Effect::Exit => {
                assert!(self.open.is_empty() && self.device == Device::Empty);
                self.exited = true;
            }
        }
    }

    fn check_release(&mut self, event: Event) {
        assert!(matches!(self.device, Device::Loaded | Device::Empty), "released in flight: {:?}", self.device);
        let model_is_gone = self.device == Device::Empty
            || matches!(event, Event::Answered { health: ModelHealth::Reload | ModelHealth::DeviceLost, .. });
        let next = self.state.queue.front();
        assert!(model_is_gone || !matches!(next, Some(Waiting::Request(_))), "released with {next:?} waiting");
        self.device = Device::Releasing;
    }

    fn check(&self, before: &Self, event: Event, effects: &[Effect]) {
        let works = matches!(self.device, Device::Loading | Device::Generating(_) | Device::Releasing);
        assert!(works || self.open.is_empty(), "{:?} wait for nothing in {:?}", self.open, self.state);
        match self.state.phase {
            Phase::Idle { .. } => assert_eq!(self.device, Device::Loaded),
            Phase::Cold | Phase::Failed { .. } | Phase::Closed => assert_eq!(self.device, Device::Empty),
            Phase::Loading { .. } => assert_eq!(self.device, Device::Loading),
            Phase::Generating { id, .. } => assert_eq!(self.device, Device::Generating(id)),
            Phase::Releasing => assert_eq!(self.device, Device::Releasing),
        }
        assert_eq!(self.exited, self.state.phase == Phase::Closed);
        if let Event::Deadline { epoch } = event {
            let due = before.state.release_at().is_some_and(|release_at| before.time() >= release_at);
            let expected: &[Effect] = if due && epoch == before.state.epoch { &[Effect::Release] } else { &[] };
            assert_eq!(effects, expected);
        }
    }

    /// Normalises the world, so that equivalent worlds compare equal: of the epoch only whether it is the current one
    /// matters, and of the time only what is left until the release.
    fn forget_what_does_not_matter(&mut self) {
        self.state.epoch = 1;
        if let Phase::Idle { release_at: Some(release_at) } = &mut self.state.phase {
            let left = release_at.since(Timestamp::from_origin(TICK * self.now as u32));
            *release_at = Timestamp::from_origin(left);
        }
        self.now = 0;
    }

    /// The world one tick later; `None` unless a deadline is ahead.
    fn later(&self) -> Option<Self> {
        let due = self.state.release_at().map(|release_at| self.time() >= release_at);
        let mut world = self.clone();
        world.now += 1;
        world.forget_what_does_not_matter();
        (due == Some(false)).then_some(world)
    }

    /// Number of device reports from a shutdown to `Effect::Exit`.
    fn steps_to_exit(&self) -> usize {
        let mut world = self.clone();
        let mut steps = 0;
        while !world.exited {
            let report = world.reports().first().copied().expect("a closing engine waits for something");
            world = world.after(report);
            steps += 1;
        }
        steps
    }
}

fn explore(window: IdleWindow, most_requests: u64, most_switches: usize) -> usize {
    let mut first = World::new(window);
    first.forget_what_does_not_matter();
    let mut seen = HashSet::from([first.clone()]);
    let mut frontier = vec![first];
    while let Some(world) = frontier.pop() {
        if world.exited {
            continue;
        }
        if world.closing {
            assert!(world.steps_to_exit() <= 2, "{world:?}");
        }
        let next = world.events(most_requests, most_switches).into_iter().map(|event| world.after(event));
        for next in next.chain(world.later()) {
            if seen.insert(next.clone()) {
                frontier.push(next);
            }
        }
    }
    seen.len()
}

#[test]
fn every_reachable_state_keeps_the_invariants() {
    for window in [IdleWindow::After(Duration::ZERO), IdleWindow::After(TICK * WINDOW as u32), IdleWindow::Never] {
        let states = explore(window, 3, 1);
        assert!(states > 500, "only {states} states were visited");
    }
    assert!(explore(IdleWindow::After(TICK), 2, 2) > 500);
}

proptest! {
    #[test]
    fn long_random_event_sequences_keep_the_invariants(choices in proptest::collection::vec(any::<u16>(), 0..400)) {
        let mut world = World::new(IdleWindow::After(TICK * WINDOW as u32));
        world.forget_what_does_not_matter();
        for choice in choices {
            if world.exited {
                break;
            }
            // Shutdown is rare, so that sequences are long.
            let mut events = world.events(u64::MAX, usize::MAX);
            events.retain(|event| *event != Event::Shutdown || choice % 97 == 0);
            let later = world.later();
            let choice = usize::from(choice) % (events.len() + usize::from(later.is_some()));
            world = match events.get(choice) {
                Some(&event) => world.after(event),
                None => later.unwrap(),
            };
        }
        if !world.exited {
            let closing = if world.closing { world } else { world.after(Event::Shutdown) };
            prop_assert!(closing.steps_to_exit() <= 2);
        }
    }
}
