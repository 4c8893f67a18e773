#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Stories of the engine's life, in virtual time.

use super::*;

const WINDOW: Duration = Duration::from_secs(120);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_origin(Duration::from_millis(milliseconds))
}

/// An engine's life, told event by event.
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
fn a_request_wakes_a_cold_engine_and_the_window_puts_it_to_sleep() {
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
fn a_timer_of_an_earlier_idle_time_releases_nothing() {
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
fn windows_of_zero_and_never() {
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
fn cancelling_the_last_one_that_waits_stops_the_load() {
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
fn a_load_that_was_asked_for_goes_on_without_a_request_until_a_release_is_asked_for() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    story.then(Event::Load);
    story.then(submit(1));
    assert_eq!(story.then(Event::Cancel(RequestId(1))), [Effect::FinishCancelled(RequestId(1))]);
    assert_eq!(story.then(Event::Release), [Effect::AbortLoad]);
    assert_eq!(story.then(submit(2)), [], "it came while the load was being stopped, and waits");
    assert_eq!(story.then(Event::LoadFailed), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
}

#[test]
fn a_failed_load_fails_all_that_wait_once_and_the_next_request_tries_again() {
    let mut story = Story::new(IdleWindow::After(WINDOW));
    story.then(submit(1));
    story.then(submit(2));
    let fail = |id| Effect::Fail(RequestId(id), Cause::LoadFailed);
    assert_eq!(story.then(Event::LoadFailed), [fail(1), fail(2)]);
    assert_eq!(story.then(submit(3)), [Effect::StartLoad]);
}

#[test]
fn memory_that_ran_out_means_a_new_load_and_a_device_lost_twice_in_a_row_means_no_more() {
    let mut story = Story::warm();
    story.then(submit(1));
    story.then(submit(2));
    assert_eq!(story.answered(1, ModelHealth::Reload), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::StartLoad]);
    assert_eq!(story.then(Event::Loaded), [Effect::Generate(RequestId(2))]);
    assert_eq!(story.answered(2, ModelHealth::DeviceLost), [Effect::Release]);
    assert_eq!(story.then(submit(3)), [], "a fresh context may mend it");
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
fn an_answer_between_two_faults_restores_the_trust_in_a_device() {
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
fn a_switch_waits_for_the_requests_before_it_and_comes_before_those_after_it() {
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
fn a_release_waits_for_the_answer() {
    let mut story = Story::warm();
    story.then(submit(1));
    assert_eq!(story.then(Event::Release), []);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Release]);
}

#[test]
fn shutdown_stops_what_runs_and_tells_all_that_wait() {
    let mut story = Story::warm();
    story.then(submit(1));
    story.then(submit(2));
    assert_eq!(story.then(Event::Shutdown), [Effect::FinishCancelled(RequestId(2)), Effect::Stop(RequestId(1))]);
    assert_eq!(story.answered(1, ModelHealth::Ok), [Effect::Release]);
    assert_eq!(story.then(Event::Released), [Effect::Exit]);
}

/// Requests that come a millisecond before the window's end, at it, and a millisecond after it; at the end itself the
/// request or the timer may be heard first.
#[test]
fn ten_thousand_requests_around_the_end_of_the_window() {
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
