//! `chatnap usage`: what models were used for, how long memory was held, what that costs, and which idle window to take.

use jiff::tz::TimeZone;

use crate::cli::args::{Since, UsageArgs, UsageFormat};
use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::settings::{Resolved, Settings};
use crate::store::{Store, now_ms};
use crate::usage::{Answered, Figures, Load, Period};

mod csv;
mod json;
mod table;

pub(super) fn run(resolved: &Resolved, args: &UsageArgs) -> Result<Reader, Failure> {
    let now_ms = u64::try_from(now_ms()).unwrap_or_default();
    let (answers, loads) = stored(&resolved.settings)?;
    let period = match args.since {
        Some(since) => Period { from_ms: begin(since, now_ms)?, to_ms: now_ms },
        None => Period::of_all(&answers, &loads, now_ms),
    };
    let figures = Figures::of(period, &answers, &loads, &resolved.prices);
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
