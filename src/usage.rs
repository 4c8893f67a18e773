//! Usage of models over a period: answers, tokens, loads, how long memory was held, what that costs, and which idle window
//! would have been cheapest. Pure functions of stored rows; the caller gives the time and the prices.

mod figures;
mod held;
mod money;
mod prices;
mod windows;

pub use figures::{Figures, span};
pub use held::Held;
pub use money::Money;
pub use prices::{Prices, STALE_DAYS, TokenPrices};
pub use windows::{Advice, Replayed, WINDOWS, advise, load_time, replay};

use std::time::Duration;

use crate::protocol::{DeviceInfo, DeviceKind, Timing, Usage};

/// An answer, or the attempt at one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// When it was asked; milliseconds since 1970, UTC.
    pub asked_ms: u64,
    /// The model's name.
    pub model: String,
    /// What it ran on, if that was recorded.
    pub device: Option<DeviceInfo>,
    /// Token counts; `None` for an answer that did not finish.
    pub usage: Option<Usage>,
    /// Times, if they were recorded; without the gaps between tokens.
    pub timing: Option<Timing>,
}

/// A load of a model. All times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// The model's name.
    pub model: String,
    /// What it was loaded on, if that was recorded.
    pub device: Option<DeviceInfo>,
    /// When the load began.
    pub asked_ms: u64,
    /// When the model was ready; `None`: the load failed or did not end.
    pub loaded_ms: Option<u64>,
    /// The last time at which the process is known to have held it.
    pub seen_ms: Option<u64>,
    /// When its memory was given back; `None`: not known to be.
    pub released_ms: Option<u64>,
    /// Bytes that it held.
    pub bytes: Option<u64>,
    /// Energy that the device used while the model was held, in millijoules.
    pub energy_mj: Option<u64>,
}

impl Answered {
    /// Whether it is a stored answer that was printed again: then no model read a prompt or wrote tokens.
    pub fn is_repeated(&self) -> bool {
        // A server may hold an answer back until its end, which leaves no times either.
        if self.is_of_server() {
            return false;
        }
        let took_none = |timing: &Timing| timing.prefill.is_zero() && timing.decode.is_zero();
        let several = self.usage.is_some_and(|usage| usage.completion_tokens > 1);
        several && self.timing.as_ref().is_some_and(took_none)
    }

    /// Whether a server answered.
    pub fn is_of_server(&self) -> bool {
        is_server(self.device.as_ref())
    }

    /// When it ended, milliseconds since 1970; `None` if that is not known.
    fn ended_ms(&self) -> Option<u64> {
        let total = self.timing.as_ref()?.total.as_millis();
        Some(self.asked_ms.saturating_add(u64::try_from(total).ok()?))
    }
}

impl Load {
    /// Begin and end of the time for which memory was held, and whether it may have ended later.
    fn held(&self) -> Option<(u64, u64, bool)> {
        let from = self.loaded_ms?;
        let (end, open) = match self.released_ms {
            Some(end) => (end, false),
            None => (self.seen_ms.unwrap_or(from), true),
        };
        Some((from, end.max(from), open))
    }

    fn took(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.loaded_ms?.saturating_sub(self.asked_ms)))
    }
}

/// The time that is looked at; milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Its begin.
    pub from_ms: u64,
    /// Its end, which is not part of it.
    pub to_ms: u64,
}

impl Period {
    /// From the first of the rows to `to_ms`; empty without rows.
    pub fn of_all(answers: &[Answered], loads: &[Load], to_ms: u64) -> Self {
        let asked = answers.iter().map(|answer| answer.asked_ms).chain(loads.iter().map(|load| load.asked_ms));
        let from_ms = asked.min().unwrap_or(to_ms).min(to_ms);
        Self { from_ms, to_ms }
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.to_ms.saturating_sub(self.from_ms))
    }

    fn has(&self, ms: u64) -> bool {
        (self.from_ms..self.to_ms).contains(&ms)
    }
}

/// What one model on one device was used for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelUse {
    /// The model's name.
    pub model: String,
    /// The device, if it was recorded.
    pub device: Option<DeviceInfo>,
    /// Number of questions.
    pub answers: usize,
    /// Number of those that were stored answers, printed again without a model.
    pub repeated: usize,
    /// Number of the others whose tokens are known.
    pub counted: usize,
    /// Sums over the counted ones.
    pub tokens: Usage,
    /// Number of the counted ones whose prompt and answer are both in the sums.
    pub priced: usize,
    /// Its memory.
    pub held: Held,
}

/// What was used in a period.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// The period.
    pub period: Period,
    /// Each model on each device, the most used first.
    pub models: Vec<ModelUse>,
    /// All models.
    pub total: ModelUse,
    /// All models on GPUs.
    pub gpu: Held,
    /// All models on the CPU.
    pub cpu: Held,
}

impl Used {
    /// Sums the rows, of which those outside of the period do not count. A load that began before it counts for the time
    /// within the period only.
    pub fn of(period: Period, answers: &[Answered], loads: &[Load]) -> Self {
        let mut used = Self { period, ..Self::default() };
        for answer in answers.iter().filter(|answer| period.has(answer.asked_ms)) {
            used.entry(&answer.model, answer.device.as_ref()).answered(answer);
            used.total.answered(answer);
        }
        for load in loads {
            let held = Held::of(load, period);
            if held == Held::default() {
                continue;
            }
            used.entry(&load.model, load.device.as_ref()).held.add(&held);
            used.total.held.add(&held);
            match load.device.as_ref().map(|device| device.kind) {
                Some(DeviceKind::Cpu) => used.cpu.add(&held),
                Some(DeviceKind::Cuda) => used.gpu.add(&held),
                Some(DeviceKind::Server) | None => {}
            }
        }
        used.models.sort_by(|a, b| b.answers.cmp(&a.answers).then_with(|| a.model.cmp(&b.model)));
        used
    }

    fn entry(&mut self, model: &str, device: Option<&DeviceInfo>) -> &mut ModelUse {
        let place = self.models.iter().position(|entry| entry.model == model && entry.device.as_ref() == device);
        let place = place.unwrap_or_else(|| {
            self.models.push(ModelUse { model: model.to_owned(), device: device.cloned(), ..ModelUse::default() });
            self.models.len() - 1
        });
        &mut self.models[place]
    }
}

impl ModelUse {
    fn answered(&mut self, answer: &Answered) {
        self.answers += 1;
        if answer.is_repeated() {
            self.repeated += 1;
            return;
        }
        let Some(usage) = &answer.usage else { return };
        self.counted += 1;
        self.tokens.prompt_tokens += usage.prompt_tokens;
        self.tokens.cached_tokens += usage.cached_tokens;
        self.tokens.completion_tokens += usage.completion_tokens;
        self.tokens.unknown = self.tokens.unknown.or(usage.unknown);
        self.priced += usize::from(!usage.unknown.prompt && !usage.unknown.completion);
    }

    /// Whether a server answered.
    pub fn is_of_server(&self) -> bool {
        is_server(self.device.as_ref())
    }

    /// The name of the server, which the model's name ends with.
    pub fn server(&self) -> Option<&str> {
        self.model.rsplit_once('@').map(|(_, server)| server).filter(|_| self.is_of_server())
    }

    /// The sums of prompt, cached, completion and all tokens, and whether each is a lower bound because some answers do not
    /// tell theirs; `None`: no answer tells it.
    pub fn sums(&self) -> [Option<(usize, bool)>; 4] {
        let Usage { prompt_tokens, cached_tokens, completion_tokens, unknown } = self.tokens;
        let either = unknown.prompt || unknown.completion;
        [
            (prompt_tokens, unknown.prompt),
            (cached_tokens, unknown.cached),
            (completion_tokens, unknown.completion),
            (self.tokens.total_tokens(), either),
        ]
        .map(|(sum, is_least)| (self.counted > 0 && (sum > 0 || !is_least)).then_some((sum, is_least)))
    }
}

fn is_server(device: Option<&DeviceInfo>) -> bool {
    device.is_some_and(|device| device.kind == DeviceKind::Server)
}

#[cfg(test)]
mod tests;
