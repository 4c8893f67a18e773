//! Hand-computed cases of usage, money and idle windows, and what holds for all timelines.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::protocol::IdleWindow;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn device(kind: DeviceKind) -> Option<DeviceInfo> {
    let name = if kind == DeviceKind::Cpu { "a CPU" } else { "a GPU" };
    Some(DeviceInfo { kind, name: name.into() })
}

/// Asked `at` seconds, with `load` and `work` seconds.
fn answer(model: &str, at: u64, load: u64, work: u64) -> Answered {
    let (total, prefill) = (seconds(load + work), Duration::from_millis(1));
    let timing = Timing { load: seconds(load), total, prefill, ..Timing::default() };
    let usage = Usage { prompt_tokens: 100, cached_tokens: 40, completion_tokens: 20, ..Usage::default() };
    Answered {
        asked_ms: at * 1000,
        model: model.into(),
        device: device(DeviceKind::Cuda),
        usage: Some(usage),
        timing: Some(timing),
    }
}

/// Begun at `asked`, ready at `loaded`, seen at `seen`; seconds.
fn load(model: &str, asked: u64, loaded: u64, seen: u64, released: Option<u64>) -> Load {
    Load {
        model: model.into(),
        device: device(DeviceKind::Cuda),
        asked_ms: asked * 1000,
        loaded_ms: Some(loaded * 1000),
        seen_ms: Some(seen * 1000),
        released_ms: released.map(|end| end * 1000),
        bytes: Some(2_000_000_000),
        energy_mj: None,
    }
}

fn period(from: u64, to: u64) -> Period {
    Period { from_ms: from * 1000, to_ms: to * 1000 }
}

#[test]
fn sums_are_by_model_and_device_and_unknown_is_not_zero() {
    let unfinished = Answered { asked_ms: 50_000, model: "b".into(), ..Answered::default() };
    let answers = [answer("a", 10, 5, 2), answer("a", 40, 0, 2), unfinished, answer("late", 900, 0, 1)];
    let on_cpu = Load { device: device(DeviceKind::Cpu), energy_mj: Some(7), ..load("b", 50, 51, 61, Some(71)) };
    let loads = [load("a", 10, 15, 42, Some(162)), on_cpu];
    let used = Used::of(period(0, 300), &answers, &loads);
    let names: Vec<_> = used.models.iter().map(|entry| (entry.model.as_str(), entry.answers)).collect();
    assert_eq!(names, [("a", 2), ("b", 1), ("b", 0)]);
    assert_eq!((used.total.answers, used.total.counted), (3, 2));
    assert_eq!(
        used.total.tokens,
        Usage { prompt_tokens: 200, cached_tokens: 80, completion_tokens: 40, ..Usage::default() }
    );
    assert_eq!((used.gpu.loads, used.gpu.releases, used.gpu.open), (1, 1, 0));
    assert_eq!((used.gpu.time, used.cpu.time), (seconds(147), seconds(20)));
    assert_eq!((used.gpu.energy_mj, used.cpu.energy_mj), (None, Some(7)));
    assert_eq!(used.cpu.byte_seconds, Some(4e10));
}

#[test]
fn stored_answer_that_was_printed_again_used_no_tokens_and_no_memory() {
    let timing = Timing { ttft: seconds(1), total: seconds(1), ..Timing::default() };
    let again = Answered { timing: Some(timing), ..answer("a", 500, 0, 0) };
    let answers = [answer("a", 10, 5, 2), again];
    let used = Used::of(period(0, 1000), &answers, &[]);
    assert_eq!((used.total.answers, used.total.repeated, used.total.counted), (2, 1, 1));
    assert_eq!(used.total.tokens.prompt_tokens, 100);
    let advice = advise(period(0, 1000), &answers, &[], &Prices::default(), 1.0).unwrap();
    assert_eq!(advice.windows[0].loads, 1);
}

#[test]
fn held_time_is_cut_at_the_period_and_a_lower_bound_without_a_release() {
    let loads = [load("a", 10, 20, 100, Some(200)), load("a", 250, 260, 290, None), load("a", 400, 410, 420, None)];
    let held = |from, to| Used::of(period(from, to), &[], &loads).gpu;
    let all = held(0, 1000);
    assert_eq!((all.loads, all.releases, all.open, all.time), (3, 1, 2, seconds(180 + 30 + 10)));
    let part = held(150, 280);
    assert_eq!((part.loads, part.releases, part.open, part.time), (1, 1, 1, seconds(50 + 20)));
    let failed = Load { loaded_ms: None, ..load("a", 10, 20, 30, None) };
    assert_eq!(Used::of(period(0, 100), &[], &[failed]), Used { period: period(0, 100), ..Used::default() });
}

#[test]
fn costs_are_hours_and_millions_of_tokens() {
    // One of 720 hours held: the month of the hosted reference.
    let hour = 3600;
    let used = Used::of(period(0, 720 * hour), &[answer("a", 10, 0, 1)], &[load("a", 0, 5, 5, Some(5 + hour))]);
    let money = Money::of(&used, &Prices::default());
    assert!((money.held - 1.10).abs() < 1e-9 && (money.always_on - 792.0).abs() < 1e-9, "{money:?}");
    assert!((money.tokens - (100.0 * 0.10 + 20.0 * 0.40) / 1e6).abs() < 1e-12, "{money:?}");
}

#[test]
fn spans_have_two_units() {
    let texts = [0, 59, 60, 3661, 90_000].map(|time| span(seconds(time)));
    assert_eq!(texts, ["0.0 s", "59.0 s", "1 min 00 s", "1 h 01 min", "1 d 01 h"]);
}

#[test]
fn summary_says_what_is_a_lower_bound_and_names_the_cheapest_window() {
    let answers = [answer("a", 10, 5, 2), answer("a", 40, 0, 2)];
    let summary = |loads: &[Load]| {
        Figures::of(period(0, 300), &answers, loads, &Prices::default()).summary(|window| format!("{window:?}"))
    };
    let open = summary(&[load("a", 10, 15, 42, None)]);
    assert!(open.contains("2 answers; 200 prompt tokens, 80 of them cached; 40 completion tokens"), "{open}");
    assert!(open.contains("GPU: 1 load, 0 releases, held at least 27.0 s of 5 min 00 s"), "{open}");
    assert!(open.contains("idle_window = \"After(60s)\""), "{open}");
    let closed = summary(&[load("a", 10, 15, 42, Some(162))]);
    assert!(closed.contains("1 release, held 2 min 27 s of"), "{closed}");
    let late = summary(&[load("a", 40, 42, 44, Some(50))]);
    assert!(late.contains("held at least 8.0 s"), "{late}");
    let none = Figures::of(period(0, 300), &[], &[], &Prices::default()).summary(|_| String::new());
    assert!(none.starts_with("No answer is stored yet"), "{none}");
}

#[test]
fn prices_are_stale_after_180_days() {
    let day = |days: u64| (20_758 + days) * 24 * 3600 * 1000;
    let prices = Prices { date: Some("2026-11-01".into()), ..Prices::default() };
    assert_eq!(prices.age_days(day(0)), Some(0));
    assert!(!prices.is_stale(day(180)) && prices.is_stale(day(181)));
    let undated = Prices { date: None, ..prices };
    assert_eq!((undated.age_days(day(0)), undated.is_stale(day(900))), (None, false));
}

#[test]
fn replay_by_hand() {
    // Ends: 12, 42, 202, 1202; idle before: -, 28, 158, 998; 98 to the end at 1300.
    let asked = [answer("a", 10, 0, 2), answer("a", 40, 0, 2), answer("a", 200, 0, 2), answer("a", 1200, 0, 2)];
    let of = |window| {
        let replayed = replay(&asked, 1_300_000, window, &|_| seconds(10));
        (replayed.loads, replayed.waited.as_secs(), replayed.held.as_secs())
    };
    let after = |window| of(IdleWindow::After(seconds(window)));
    assert_eq!(after(0), (4, 40, 8));
    assert_eq!(after(28), (3, 30, 8 + 28 * 4));
    assert_eq!(after(60), (3, 30, 8 + 28 + 60 + 60 + 60));
    assert_eq!(after(300), (2, 20, 8 + 28 + 158 + 300 + 98));
    assert_eq!(of(IdleWindow::Never), (1, 10, 1290));
}

#[test]
fn another_model_is_a_load_in_every_window_and_a_queued_question_none() {
    let asked = [answer("a", 0, 0, 50), answer("a", 20, 0, 50), answer("b", 110, 0, 5)];
    let never = replay(&asked, 115_000, IdleWindow::Never, &|model| seconds(if model == "a" { 3 } else { 7 }));
    assert_eq!((never.loads, never.waited, never.held), (2, seconds(10), seconds(115)));
}

#[test]
fn cheapest_window_weighs_held_time_against_waiting() {
    let asked: Vec<_> = (0..10).map(|index| answer("a", index * 100, 0, 0)).collect();
    let loads = [load("a", 0, 36, 36, None)];
    let cheapest = |gpu_hour: f64, waiting_hour: f64| {
        let prices = Prices { gpu_hour, waiting_hour, ..Prices::default() };
        let advice = advise(period(0, 7200), &asked, &loads, &prices, prices.gpu_hour).unwrap();
        (advice.cheapest.window, (advice.cheapest.cost * 1000.0).round())
    };
    // 10 loads of 36 s against 900 s held between the questions and 120 s after them with one load.
    assert_eq!(cheapest(100.0, 1.0), (IdleWindow::After(Duration::ZERO), 100.0));
    assert_eq!(cheapest(1.0, 20.0), (IdleWindow::After(seconds(120)), 200.0 + (1020.0_f64 / 3.6).round()));
    assert_eq!(cheapest(0.0, 20.0).0, IdleWindow::After(seconds(120)), "the shorter of two that cost the same");
    assert!(advise(period(0, 7200), &asked, &[], &Prices::default(), 1.0).is_none(), "no load is known");
    assert!(advise(period(0, 7200), &[], &loads, &Prices::default(), 1.0).is_none());
}

#[test]
fn load_time_is_the_median_of_the_model_then_of_all() {
    let loads = [load("a", 0, 4, 4, None), load("a", 10, 16, 16, None), load("a", 20, 29, 29, None)];
    let answers = [answer("b", 0, 30, 1), answer("b", 50, 0, 1)];
    assert_eq!(load_time("a", &answers, &loads), Some(seconds(6)));
    assert_eq!(load_time("b", &answers, &loads), Some(seconds(30)));
    assert_eq!(load_time("c", &answers, &loads), Some(seconds(6)));
    assert_eq!(load_time("c", &answers, &[]), Some(seconds(30)));
    assert_eq!(load_time("c", &[], &[]), None);
}

proptest! {
    #[test]
    fn longer_window_never_means_more_loads_nor_less_held_time(
        gaps in proptest::collection::vec((0..1000_u64, 0..90_u64, 0..2_usize), 1..40),
        tail in 0..2000_u64,
    ) {
        let mut at = 0;
        let mut asked = Vec::new();
        for (gap, work, model) in gaps {
            at += gap;
            asked.push(answer(["a", "b"][model], at, 0, work));
        }
        let replays: Vec<_> =
            WINDOWS.iter().map(|window| replay(&asked, (at + tail) * 1000, *window, &|_| seconds(9))).collect();
        for pair in replays.windows(2) {
            prop_assert!(pair[1].loads <= pair[0].loads, "{pair:?}");
            prop_assert!(pair[1].waited <= pair[0].waited, "{pair:?}");
            prop_assert!(pair[1].held >= pair[0].held, "{pair:?}");
        }
    }
}
