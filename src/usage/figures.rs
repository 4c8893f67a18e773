//! All figures of a period, and a summary of them in a few lines.

use std::time::Duration;

use super::{Advice, Answered, Load, Money, Period, Prices, STALE_DAYS, Used, advise};
use crate::protocol::{DeviceKind, IdleWindow};
use crate::wording::{count, plural, utc};

/// Usage, costs and advice of a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// What was used.
    pub used: Used,
    /// What it costs.
    pub money: Money,
    /// `None`: no answer, or no load was measured.
    pub advice: Option<Advice>,
    /// Whether a GPU was used: the advice counts with its price.
    pub on_gpu: bool,
    /// Since when loads are stored, milliseconds since 1970; `None`: none is stored.
    pub loads_from_ms: Option<u64>,
    /// The prices that were counted with.
    pub prices: Prices,
    /// When the first answer of the period ended that a model gave; `None`: there is none.
    first_ended_ms: Option<u64>,
}

impl Figures {
    /// The figures of `period`, which ends now. `answers` and `loads` are all that are stored.
    pub fn of(period: Period, answers: &[Answered], loads: &[Load], prices: &Prices) -> Self {
        let used = Used::of(period, answers, loads);
        let is_gpu = |kind: DeviceKind| kind == DeviceKind::Cuda;
        let on_gpu = used.models.iter().any(|entry| entry.device.as_ref().is_some_and(|device| is_gpu(device.kind)));
        let given = answers
            .iter()
            .filter(|answer| answer.asked_ms >= period.from_ms && !answer.is_repeated() && !answer.is_of_server());
        Self {
            money: Money::of(&used, prices),
            advice: advise(period, answers, loads, prices, if on_gpu { prices.gpu_hour } else { 0.0 }),
            on_gpu,
            loads_from_ms: loads.iter().map(|load| load.asked_ms).min(),
            prices: prices.clone(),
            first_ended_ms: given.filter_map(Answered::ended_ms).min(),
            used,
        }
    }

    /// Whether it is known how long memory was held: answers of versions that stored no loads say nothing about it.
    pub fn knows_held(&self) -> bool {
        self.loads_from_ms.is_some() || self.used.total.answers == 0
    }

    /// Whether loads of some answers are missing, and the held time is a lower bound.
    pub fn lacks_loads(&self) -> bool {
        // A load begins after the question and is ready before the answer ends.
        self.loads_from_ms.zip(self.first_ended_ms).is_some_and(|(from, ended)| from > ended)
    }

    /// Source and date of the prices; a stale one is marked. Not sanitised.
    pub fn source(&self) -> String {
        let date = match &self.prices.date {
            None => ", no date".into(),
            Some(date) if self.prices.is_stale(self.used.period.to_ms) => {
                format!(", {date}: STALE, more than {STALE_DAYS} days old")
            }
            Some(date) => format!(", {date}"),
        };
        format!("{}{date}", self.prices.source)
    }

    /// A few lines; `window` formats an idle window. Not sanitised.
    pub fn summary(&self, window: impl Fn(IdleWindow) -> String) -> String {
        let total = &self.used.total;
        if total.answers == 0 {
            return "No answer is stored yet: usage counts from the next one on.".into();
        }
        let sums = total.sums().map(|sum| match sum {
            None => "unknown".to_owned(),
            Some((sum, false)) => count(sum),
            Some((sum, true)) => format!("at least {}", count(sum)),
        });
        let mut lines = vec![format!(
            "since {}: {} {}; {} prompt tokens, {} of them cached; {} completion tokens",
            utc(self.used.period.from_ms),
            count(total.answers),
            plural(total.answers, "answer"),
            sums[0],
            sums[1],
            sums[2],
        )];
        lines.extend(self.held_lines());
        let (money, currency) = (&self.money, &self.prices.currency);
        if self.on_gpu {
            let held = if self.knows_held() { format!("{:.4}", money.held) } else { "-".into() };
            lines.push(format!(
                "held GPU time {held} {currency}, always on {:.2}, the same tokens {:.4} ({})",
                money.always_on,
                money.tokens,
                self.source()
            ));
        }
        if let Some(took) = money.servers {
            lines.push(format!("servers took {took:.4} {currency}"));
        }
        if let Some(advice) = self.advice.as_ref().filter(|_| self.on_gpu) {
            let waiting = self.prices.waiting_hour;
            let setting = window(advice.cheapest.window);
            lines.push(format!("cheapest at {waiting} {currency} an hour of waiting: idle_window = \"{setting}\""));
        }
        lines.push("`chatnap usage` shows each model, device and idle window".into());
        lines.join("\n")
    }

    fn held_lines(&self) -> Vec<String> {
        let always_on = self.used.period.length();
        let devices = [("GPU", &self.used.gpu), ("CPU", &self.used.cpu)];
        let held = devices.iter().filter(|(_, held)| held.loads + held.open > 0 || !held.time.is_zero());
        let lines = held.map(|(name, held)| {
            let least = if held.open > 0 || self.lacks_loads() { "at least " } else { "" };
            format!(
                "{name}: {} {}, {} {}, held {least}{} of {}",
                count(held.loads),
                plural(held.loads, "load"),
                count(held.releases),
                plural(held.releases, "release"),
                span(held.time),
                span(always_on)
            )
        });
        lines.collect()
    }
}

/// `3.2 s`, `4 min 05 s`, `7 h 12 min`, `30 d 04 h`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86400, seconds / 3600 % 24),
    }
}
