//! Memory that loads held: how often, how long, how much, and the energy where it was measured.

use std::time::Duration;

use super::{Load, Period};

/// Memory held by some loads in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Loads that began in the period and succeeded.
    pub loads: usize,
    /// Releases in the period.
    pub releases: usize,
    /// Loads whose end is not known: they count up to the last time that they were seen, so that `time` is a lower bound.
    pub open: usize,
    /// From the end of each load to its release, within the period.
    pub time: Duration,
    /// Bytes times seconds; `None` if no load recorded its bytes.
    pub byte_seconds: Option<f64>,
    /// Energy in millijoules of the loads that recorded it, each counted as a whole; `None` if none did.
    pub energy_mj: Option<u64>,
}

impl Held {
    /// What one load held within `period`; nothing for a load that failed or does not touch it.
    pub(super) fn of(load: &Load, period: Period) -> Self {
        let Some((from, end, open)) = load.held() else { return Self::default() };
        if from >= period.to_ms || end < period.from_ms {
            return Self::default();
        }
        let held = Duration::from_millis(end.min(period.to_ms).saturating_sub(from.max(period.from_ms)));
        Self {
            loads: usize::from(period.has(load.asked_ms)),
            releases: usize::from(!open && period.has(end)),
            open: usize::from(open),
            time: held,
            byte_seconds: load.bytes.map(|bytes| bytes as f64 * held.as_secs_f64()),
            energy_mj: load.energy_mj,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.loads += other.loads;
        self.releases += other.releases;
        self.open += other.open;
        self.time += other.time;
        self.byte_seconds = sum(self.byte_seconds, other.byte_seconds);
        self.energy_mj = sum(self.energy_mj, other.energy_mj);
    }
}

fn sum<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}
