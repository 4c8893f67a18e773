//! Advice on the idle window: replays the questions of a period for several windows.
//!
//! The replay takes all answers as those of one running program. A load is waited for where the memory had been given back,
//! or another model was asked. Waiting moves no later question, so that the windows are compared on the same timeline.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Answered, Load, Period, Prices};
use crate::protocol::IdleWindow;
use crate::stats::percentile;

/// The windows that are compared, from the shortest on.
pub const WINDOWS: [IdleWindow; 6] = [
    IdleWindow::After(Duration::ZERO),
    IdleWindow::After(Duration::from_secs(60)),
    IdleWindow::After(Duration::from_secs(120)),
    IdleWindow::After(Duration::from_secs(300)),
    IdleWindow::After(Duration::from_secs(600)),
    IdleWindow::Never,
];

/// What one window would have meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replayed {
    /// The window.
    pub window: IdleWindow,
    /// Loads, the first included.
    pub loads: usize,
    /// Time for which the user would have waited for loads.
    pub waited: Duration,
    /// Time for which memory would have been held: work, and idle time up to the window.
    pub held: Duration,
    /// The held time at the price of the device, and the waited time at the user's price.
    pub cost: f64,
}

/// The windows, and the cheapest of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// One entry for each of [`WINDOWS`].
    pub windows: Vec<Replayed>,
    /// The window with the lowest cost; the shorter one of two that cost the same.
    pub cheapest: Replayed,
}

/// Replays the answers of the period. `hour`: the price of an hour of held memory; 0 on a CPU. `None` if there is no answer,
/// or how long a load takes is not known.
pub fn advise(period: Period, answers: &[Answered], loads: &[Load], prices: &Prices, hour: f64) -> Option<Advice> {
    // A server holds no memory here.
    let own: Vec<_> = answers.iter().filter(|answer| !answer.is_of_server()).cloned().collect();
    let needs_model = |answer: &&Answered| period.has(answer.asked_ms) && !answer.is_repeated();
    let mut asked: Vec<_> = own.iter().filter(needs_model).cloned().collect();
    asked.sort_by_key(|answer| answer.asked_ms);
    if asked.is_empty() {
        return None;
    }
    let mut known = BTreeMap::new();
    for answer in &asked {
        if !known.contains_key(answer.model.as_str()) {
            known.insert(answer.model.as_str(), load_time(&answer.model, &own, loads)?);
        }
    }
    let cost = |replayed: &Replayed| {
        (replayed.held.as_secs_f64() * hour + replayed.waited.as_secs_f64() * prices.waiting_hour) / 3600.0
    };
    let replays = WINDOWS.iter().map(|&window| {
        let replayed = replay(&asked, period.to_ms, window, &|model| known.get(model).copied().unwrap_or_default());
        Replayed { cost: cost(&replayed), ..replayed }
    });
    let windows: Vec<_> = replays.collect();
    let cheapest = windows.iter().copied().reduce(|best, next| if next.cost < best.cost { next } else { best })?;
    Some(Advice { windows, cheapest })
}

/// Replays `asked`, in order of their times, with one window. The cost is left at 0.
pub fn replay(asked: &[Answered], end_ms: u64, window: IdleWindow, load: &dyn Fn(&str) -> Duration) -> Replayed {
    let mut replayed = Replayed { window, loads: 0, waited: Duration::ZERO, held: Duration::ZERO, cost: 0.0 };
    // The model in memory, and the end of its last answer.
    let mut last: Option<(&str, u64)> = None;
    for answer in asked {
        let work = work_ms(answer);
        let (begin, is_warm) = match last {
            None => (answer.asked_ms, false),
            Some((model, end)) => {
                let idle = Duration::from_millis(answer.asked_ms.saturating_sub(end));
                replayed.held += within(idle, window);
                (answer.asked_ms.max(end), model == answer.model && !is_over(idle, window))
            }
        };
        if !is_warm {
            replayed.loads += 1;
            replayed.waited += load(&answer.model);
        }
        replayed.held += Duration::from_millis(work);
        last = Some((&answer.model, begin.saturating_add(work)));
    }
    if let Some((_, end)) = last {
        replayed.held += within(Duration::from_millis(end_ms.saturating_sub(end)), window);
    }
    replayed
}

/// Time of the answer itself, without the load; milliseconds.
fn work_ms(answer: &Answered) -> u64 {
    let work = answer.timing.as_ref().map(|timing| timing.total.saturating_sub(timing.load)).unwrap_or_default();
    u64::try_from(work.as_millis()).unwrap_or(u64::MAX)
}

fn within(idle: Duration, window: IdleWindow) -> Duration {
    match window {
        IdleWindow::After(window) => idle.min(window),
        IdleWindow::Never => idle,
    }
}

/// A question that comes at the very end of the window finds the model in memory, except for a window of 0.
fn is_over(idle: Duration, window: IdleWindow) -> bool {
    match window {
        IdleWindow::After(Duration::ZERO) => true,
        IdleWindow::After(window) => idle > window,
        IdleWindow::Never => false,
    }
}

/// How long a load of `model` takes: the median of its recorded loads, else of the waits of its answers; else the same of all
/// models.
pub fn load_time(model: &str, answers: &[Answered], loads: &[Load]) -> Option<Duration> {
    let is = |name: &str| name == model;
    let recorded = |wanted: &dyn Fn(&str) -> bool| {
        let took: Vec<_> = loads.iter().filter(|load| wanted(&load.model)).filter_map(Load::took).collect();
        percentile(&took, 50.0)
    };
    let waited = |wanted: &dyn Fn(&str) -> bool| {
        let timings = answers.iter().filter(|answer| wanted(&answer.model)).filter_map(|answer| answer.timing.as_ref());
        let took: Vec<_> = timings.map(|timing| timing.load).filter(|load| !load.is_zero()).collect();
        percentile(&took, 50.0)
    };
    recorded(&is).or_else(|| waited(&is)).or_else(|| recorded(&|_| true)).or_else(|| waited(&|_| true))
}
