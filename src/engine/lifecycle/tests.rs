//! Sequences of lifecycle events in virtual time, with the expected effects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const WINDOW: Duration = Duration::from_secs(120);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_origin(Duration::from_millis(milliseconds))
}

/// A state machine with its clock, in milliseconds.
struct Story {
    state: State,
    now: u64,
}

impl Story {
    fn new(window: IdleWindow) -> Self {
        Self { state: State::new(window), now: 0 }
    }

    fn warm() -> Self {
        let mut story = Self::new(IdleWindow::After(WINDOW));
        story.then(Event::Load);
        story.then(Event::Loaded);
        story
    }

    fn then(&mut self, event: Event) -> Vec<Effect> {
        let (state, effects) = step(self.state.clone(), event, at(self.now));
        self.state = state;
        effects
    }

    fn answered(&mut self, id: u64, health: ModelHealth) -> Vec<Effect> {
        self.then(Event::Answered { id: RequestId(id), health })
    }
}

fn submit(id: u64) -> Event {
    Event::Submit(RequestId(id))
}

#[test]
fn request_loads_a_cold_engine_and_the_end_of_the_idle_window_releases_it() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    assert_eq!(story.then(submit(1)), [Effect::StartLoad]);
    assert_eq!(story.then(submit(2)), []);
    assert_eq!(story.then(Event::Loaded), [Effect::Generate(RequestId(1))]);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Generate(RequestId(2))]);
    story.now = 1000;
    assert_eq!(story.answered(2, ModelHealth::Ok), [Effect::AnnounceIdle(Some(at(121_000)))]);
    let epoch = story.state.epoch();
    story.now = 120_999;
    assert_eq!(story.then(Event::Deadline { epoch }), []);
    story.now = 121_000;
    assert_eq!(story.then(Event::Deadline { epoch }), [Effect::Release]);
    assert_eq!(story.then(submit(3)), [], "a request during a release waits");
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
}

#[test]
fn timer_of_an_earlier_idle_period_is_ignored() {
    let mut story = Story::warm();
    let old = story.state.epoch();
    story.now = 60_000;
    story.then(submit(1));
    story.answered(1, ModelHealth::Ok);
    story.now = 300_000;
    assert_eq!(story.then(Event::Deadline { epoch: old }), []);
    let epoch = story.state.epoch();
    assert_eq!(story.then(Event::Deadline { epoch }), [Effect::Release]);
}

#[test]
fn idle_windows_of_zero_and_never() {
    let mut story = Story::new(IdleWindow::After(Duration::ZERO));
    story.then(Event::Load);
    let unused = Some(Timestamp::from_origin(UNUSED_WINDOW));
    assert_eq!(story.then(Event::Loaded), [Effect::AnnounceIdle(unused)]);
    story.then(submit(1));
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Release]);
    let mut story = Story::new(IdleWindow::Never);
    story.then(submit(1));
    story.then(Event::Loaded);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::AnnounceIdle(None)]);
    assert_eq!(story.state.release_at(), None);
}

#[test]
fn cancelling_the_last_queued_request_aborts_the_load() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    story.then(submit(1));
    story.then(submit(2));
    let cancelled = |id| Effect::FinishCancelled(RequestId(id));
    assert_eq!(story.then(Event::Cancel(RequestId(1))), [cancelled(1)]);
    assert_eq!(story.then(Event::Cancel(RequestId(2))), [cancelled(2), Effect::AbortLoad]);
    assert_eq!(story.then(Event::LoadFailed), [Effect::Release]);
    assert_eq!(story.then(Event::Released), []);
    assert_eq!(story.state.phase(), Phase::Cold);
}

#[test]
fn requested_load_continues_without_a_request_until_a_release() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    story.then(Event::Load);
    story.then(submit(1));
    assert_eq!(story.then(Event::Cancel(RequestId(1))), [Effect::FinishCancelled(RequestId(1))]);
    assert_eq!(story.then(Event::Release), [Effect::AbortLoad]);
    assert_eq!(story.then(submit(2)), [], "a request during an aborted load waits");
    assert_eq!(story.then(Event::LoadFailed), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
}

#[test]
fn failed_load_fails_the_queued_requests_once_and_the_next_request_loads_again() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    story.then(submit(1));
    story.then(submit(2));
    let fail = |id| Effect::Fail(RequestId(id), Cause::LoadFailed);
    assert_eq!(story.then(Event::LoadFailed), [fail(1), fail(2)]);
    assert_eq!(story.then(submit(3)), [Effect::StartLoad]);
}

#[test]
fn out_of_memory_reloads_the_model_and_a_device_lost_twice_in_a_row_stays_lost() {
    let mut story = Story::warm();
    story.then(submit(1));
    story.then(submit(2));
    assert_eq!(story.answered(1, ModelHealth::Reload), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
    assert_eq!(story.then(Event::Loaded), [Effect::Generate(RequestId(2))]);
    assert_eq!(story.answered(2, ModelHealth::DeviceLost), [Effect::Release]);
    assert_eq!(story.then(submit(3)), [], "a new context may clear the error");
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
    story.then(Event::Loaded);
    story.then(submit(4));
    assert_eq!(
        story.answered(3, ModelHealth::DeviceLost),
        [Effect::Fail(RequestId(4), Cause::DeviceLost), Effect::Release]
    );
    assert_eq!(story.then(submit(5)), [Effect::Fail(RequestId(5), Cause::DeviceLost)]);
    assert_eq!(story.then(Event::Released), []);
    assert_eq!(story.state.phase(), Phase::Failed { lost: true });
    assert_eq!(story.then(submit(6)), [Effect::Fail(RequestId(6), Cause::DeviceLost)]);
    story.then(Event::Switch(IdleWindow::Never));
    assert_eq!(story.then(submit(7)), [Effect::StartLoad], "other options may name another device");
}

#[test]
fn answer_between_two_device_errors_resets_the_count() {
    let mut story = Story::warm();
    for id in 0..6 {
        story.then(submit(id));
        if id % 2 == 1 {
            assert!(matches!(story.answered(id, ModelHealth::Ok)[..], [Effect::AnnounceIdle(_)]));
            continue;
        }
        assert_eq!(story.answered(id, ModelHealth::DeviceLost), [Effect::Release]);
        story.then(Event::Load);
        assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
        story.then(Event::Loaded);
    }
}

#[test]
fn switch_is_applied_in_queue_order() {
    let mut story = Story::warm();
    story.then(submit(1));
    story.then(submit(2));
    assert_eq!(story.then(Event::Switch(IdleWindow::Never)), []);
    story.then(submit(3));
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Generate(RequestId(2))]);
    assert_eq!(story.answered(2, ModelHealth::Ok), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::ApplyOptions, Effect::StartLoad]);
    story.then(Event::Loaded);
    assert_eq!(story.answered(3, ModelHealth::Ok), [Effect::AnnounceIdle(None)]);
}

#[test]
fn release_waits_for_the_running_answer() {
    let mut story = Story::warm();
    story.then(submit(1));
    assert_eq!(story.then(Event::Release), []);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Release]);
}

#[test]
fn shutdown_stops_the_running_request_and_ends_the_queued_ones() {
    let mut story = Story::warm();
    story.then(submit(1));
    story.then(submit(2));
    assert_eq!(story.then(Event::Shutdown), [Effect::FinishCancelled(RequestId(2)), Effect::Stop(RequestId(1))]);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::Exit]);
}

/// Requests 1 ms before, at, and 1 ms after the end of the idle window; at the end, request or timer may come first.
#[test]
fn requests_around_the_end_of_the_idle_window_are_all_answered() {
    let mut story = Story::warm();
    let (mut answers, mut releases, mut loads) = (0, 0, 0);
    for id in 0..10_000_u64 {
        let deadline = Event::Deadline { epoch: story.state.epoch() };
        let end = story.state.release_at().unwrap().since(at(0)).as_millis() as u64;
        let (offset, timer_first) = [(-1, true), (0, true), (0, false), (1, true)][(id % 4) as usize];
        story.now = end.saturating_add_signed(offset);
        let mut effects = Vec::new();
        if timer_first {
            effects.extend(story.then(deadline));
            effects.extend(story.then(submit(id)));
        } else {
            effects.extend(story.then(submit(id)));
            effects.extend(story.then(deadline));
        }
        if offset < 0 {
            assert_eq!(effects, [Effect::Generate(RequestId(id))]);
        }
        while let Some(effect) = effects.pop() {
            story.now += 1;
            match effect {
                Effect::Release => {
                    releases += 1;
                    effects.extend(story.then(Event::Released));
                }
                Effect::StartLoad => {
                    loads += 1;
                    effects.extend(story.then(Event::Loaded));
                }
                Effect::Generate(running) => {
                    assert_eq!(running, RequestId(id));
                    answers += 1;
                    effects.extend(story.answered(id, ModelHealth::Ok));
                }
                Effect::AnnounceIdle(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((answers, releases, loads), (10_000, 5_000, 5_000));
}

#[test]
fn a_new_idle_window_applies_to_the_running_idle_period() {
    let mut story = Story::warm();
    story.now = 1000;
    let minute = IdleWindow::After(Duration::from_secs(60));
    assert_eq!(story.then(Event::SetWindow(minute)), [Effect::AnnounceIdle(Some(at(61_000)))]);
    assert_eq!(story.then(Event::SetWindow(IdleWindow::Never)), [Effect::AnnounceIdle(None)]);
    assert_eq!(story.then(Event::SetWindow(IdleWindow::After(Duration::ZERO))), [Effect::Release]);
    assert_eq!(story.then(Event::Released), []);
    assert_eq!(story.then(Event::SetWindow(minute)), [], "a cold engine keeps it for the next model");
    story.then(submit(1));
    story.then(Event::Loaded);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::AnnounceIdle(Some(at(61_000)))]);
}
