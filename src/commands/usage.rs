//! `chatnap usage`: what models were used for, how long memory was held, what that costs, and which idle window to take.

use jiff::tz::TimeZone;

use crate::cli::args::{Since, UsageArgs, UsageFormat};
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::protocol::DeviceKind;
use crate::settings::{Resolved, Settings};
use crate::store::{Store, now_ms};
use crate::usage::{Advice, Answered, Load, Money, Period, Prices, Used, advise};

mod csv;
mod json;
mod table;

/// Everything that the output shows.
struct Figures<'a> {
    used: Used,
    money: Money,
    advice: Option<Advice>,
    /// Whether the advice counts with the price of a GPU.
    on_gpu: bool,
    /// When the first answer of the period was asked.
    first_asked_ms: u64,
    /// Since when loads are stored, milliseconds since 1970; `None`: none is stored.
    loads_from_ms: Option<u64>,
    prices: &'a Prices,
    now_ms: u64,
}

impl Figures<'_> {
    /// Whether it is known how long memory was held: answers of versions that stored no loads say nothing about it.
    fn knows_held(&self) -> bool {
        self.loads_from_ms.is_some() || self.used.total.answers == 0
    }

    /// Whether loads of some answers are missing, and the held time is a lower bound.
    fn lacks_loads(&self) -> bool {
        self.loads_from_ms.is_some_and(|from| from > self.first_asked_ms)
    }
}

pub(super) fn run(resolved: &Resolved, args: &UsageArgs) -> Result<Reader, Failure> {
    let now_ms = u64::try_from(now_ms()).unwrap_or_default();
    let (answers, loads) = stored(&resolved.settings)?;
    let period = match args.since {
        Some(since) => Period { from_ms: begin(since, now_ms)?, to_ms: now_ms },
        None => Period::of_all(&answers, &loads, now_ms),
    };
    let figures = figures(period, &answers, &loads, &resolved.prices);
    match args.format {
        UsageFormat::Table => output::write(&table::render(&figures)),
        UsageFormat::Json => output::write_json_pretty(&json::object(&figures)),
        UsageFormat::Csv => output::write(&csv::render(&figures)),
    }
}

fn stored(settings: &Settings) -> Result<(Vec<Answered>, Vec<Load>), Failure> {
    match Store::open_to_read(&settings.data_dir)? {
        Some(store) => Ok(store.usage()?),
        None => Ok((Vec::new(), Vec::new())),
    }
}

/// Milliseconds since 1970.
fn begin(since: Since, now_ms: u64) -> Result<u64, Failure> {
    let begin = match since {
        Since::Ago(span) => now_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        Since::Day(day) => {
            let midnight = day.at(0, 0, 0, 0).to_zoned_datetime(TimeZone::system()).ok();
            let ms = midnight.and_then(|begin| u64::try_from(begin.timestamp().as_millisecond()).ok());
            ms.ok_or_else(|| Failure::usage(format!("--since {day}: a day after 1970 is wanted.")))?
        }
    };
    if begin > now_ms {
        return Err(Failure::usage("--since: this day has not begun yet."));
    }
    Ok(begin)
}

fn figures<'a>(period: Period, answers: &[Answered], loads: &[Load], prices: &'a Prices) -> Figures<'a> {
    let used = Used::of(period, answers, loads);
    let money = Money::of(&used, prices);
    let on_gpu = is_on_gpu(&used);
    let hour = if on_gpu { prices.gpu_hour } else { 0.0 };
    let advice = advise(period, answers, loads, prices, hour);
    let asked = answers.iter().map(|answer| answer.asked_ms).filter(|ms| *ms >= period.from_ms);
    let first_asked_ms = asked.min().unwrap_or(period.to_ms);
    let loads_from_ms = loads.iter().map(|load| load.asked_ms).min();
    Figures { used, money, advice, on_gpu, first_asked_ms, loads_from_ms, prices, now_ms: period.to_ms }
}

/// Whether a GPU gave at least one answer, or held a model.
fn is_on_gpu(used: &Used) -> bool {
    let cuda = |kind: DeviceKind| kind == DeviceKind::Cuda;
    used.models.iter().any(|entry| entry.device.as_ref().is_some_and(|device| cuda(device.kind)))
}
