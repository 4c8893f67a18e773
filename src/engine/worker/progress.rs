//! Rate limit for load progress: at most 30 reports a second in each phase, and always the last one of a phase.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::protocol::{LoadPhase, LoadProgress};

const INTERVAL: Duration = Duration::from_millis(34);

/// The last report that was sent, and the latest one that was held back.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    told: Option<(LoadPhase, Timestamp)>,
    held: Option<LoadProgress>,
}

impl Throttle {
    /// The reports to send after `progress` arrived at `now`.
    pub fn push(&mut self, progress: LoadProgress, now: Timestamp) -> Vec<LoadProgress> {
        let fresh = self.told.filter(|(phase, _)| *phase == progress.phase);
        let complete = progress.total == Some(progress.done);
        if !complete && fresh.is_some_and(|(_, told)| now.since(told) < INTERVAL) {
            self.held = Some(progress);
            return Vec::new();
        }
        // The last report of the previous phase.
        let before = self.held.take().filter(|held| held.phase != progress.phase);
        self.told = Some((progress.phase, now));
        before.into_iter().chain([progress]).collect()
    }

    /// The report that is still held back when the load ends.
    pub fn finish(&mut self) -> Option<LoadProgress> {
        std::mem::take(self).held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(phase: LoadPhase, done: u64) -> LoadProgress {
        LoadProgress { phase, done, total: Some(1000), detail: None }
    }

    #[test]
    fn progress_is_rate_limited_and_the_last_report_of_a_phase_is_kept() {
        let mut throttle = Throttle::default();
        let mut told = Vec::new();
        for done in 0..1000 {
            let now = Timestamp::from_origin(Duration::from_millis(done));
            told.extend(throttle.push(report(LoadPhase::Download, done), now));
        }
        assert_eq!(told.first(), Some(&report(LoadPhase::Download, 0)));
        assert!((25..=31).contains(&told.len()), "{}", told.len());
        let at = Timestamp::from_origin(Duration::from_millis(1000));
        let next = throttle.push(report(LoadPhase::Read, 0), at);
        assert_eq!(next, [report(LoadPhase::Download, 999), report(LoadPhase::Read, 0)]);
        assert!(throttle.push(report(LoadPhase::Read, 1), at).is_empty());
        assert_eq!(throttle.push(report(LoadPhase::Read, 1000), at), [report(LoadPhase::Read, 1000)]);
        assert_eq!(throttle.finish(), None);
    }
}
