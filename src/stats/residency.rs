//! The engine's memory over time: loads, releases, and how long weights were held.

use std::time::Duration;

use crate::clock::Timestamp;

/// Most changes that are kept; older ones are dropped, the sums stay.
const MOST_CHANGES: usize = 1000;

/// Memory of the engine since the program's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Residency {
    since: Timestamp,
    /// When the memory changed, and bytes from then on.
    changes: Vec<(Timestamp, u64)>,
    loads: usize,
    last_load: Option<Duration>,
    releases: usize,
    held: Duration,
    holding_since: Option<Timestamp>,
}

impl Residency {
    /// Nothing is held at `since`.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            changes: vec![(since, 0)],
            loads: 0,
            last_load: None,
            releases: 0,
            held: Duration::ZERO,
            holding_since: None,
        }
    }

    /// A model of `bytes` was loaded in `took`.
    pub fn loaded(&mut self, at: Timestamp, took: Duration, bytes: u64) {
        self.loads += 1;
        self.last_load = Some(took);
        self.holding_since.get_or_insert(at);
        self.change(at, bytes);
    }

    /// The memory was measured while a model is held.
    pub fn measured(&mut self, at: Timestamp, bytes: u64) {
        if self.holding_since.is_some() && bytes > 0 && bytes != self.bytes() {
            self.change(at, bytes);
        }
    }

    /// The memory was given back. Counts nothing if none was held: a cancelled load is followed by a release, too.
    pub fn released(&mut self, at: Timestamp) {
        let Some(since) = self.holding_since.take() else { return };
        self.releases += 1;
        self.held += at.since(since);
        self.change(at, 0);
    }

    fn change(&mut self, at: Timestamp, bytes: u64) {
        if self.changes.len() == MOST_CHANGES {
            self.changes.remove(0);
        }
        self.changes.push((at, bytes));
    }

    /// Number of loads.
    pub fn loads(&self) -> usize {
        self.loads
    }

    /// Duration of the last load.
    pub fn last_load(&self) -> Option<Duration> {
        self.last_load
    }

    /// Number of releases.
    pub fn releases(&self) -> usize {
        self.releases
    }

    /// Time since the program's start: what an engine that is always loaded would hold.
    pub fn always_on(&self, now: Timestamp) -> Duration {
        now.since(self.since)
    }

    /// Time for which weights were in memory, from the end of each load to its release.
    pub fn held(&self, now: Timestamp) -> Duration {
        self.held + self.holding_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> u64 {
        self.changes.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// The largest number of bytes in each of `slices` equal parts of the time from the first change that is kept to `now`.
    pub fn samples(&self, now: Timestamp, slices: usize) -> Vec<u64> {
        let Some((first, _)) = self.changes.first() else { return vec![0; slices] };
        let slice = now.since(*first).div_f64(slices.max(1) as f64);
        let end_of = |index: usize| if index + 1 == slices { now } else { *first + slice.mul_f64((index + 1) as f64) };
        let mut at_begin = 0;
        let mut changes = self.changes.iter().peekable();
        let samples = (0..slices).map(|index| {
            let mut highest = at_begin;
            while let Some((_, bytes)) = changes.next_if(|(at, _)| *at <= end_of(index)) {
                highest = highest.max(*bytes);
                at_begin = *bytes;
            }
            highest
        });
        samples.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn held_time_runs_from_load_to_release() {
        let mut memory = Residency::new(at(0));
        memory.released(at(1));
        memory.loaded(at(10), Duration::from_secs(2), 7);
        assert_eq!((memory.held(at(15)), memory.bytes()), (Duration::from_secs(5), 7));
        memory.measured(at(16), 9);
        assert_eq!(memory.bytes(), 9);
        memory.released(at(20));
        memory.measured(at(21), 9);
        assert_eq!(
            (memory.held(at(99)), memory.always_on(at(100))),
            (Duration::from_secs(10), Duration::from_secs(100))
        );
        assert_eq!((memory.loads(), memory.releases(), memory.bytes()), (1, 1, 0));
    }

    #[test]
    fn samples_show_each_slice_at_its_highest() {
        let mut memory = Residency::new(at(0));
        memory.loaded(at(25), Duration::ZERO, 5);
        memory.released(at(45));
        assert_eq!(memory.samples(at(100), 10), [0, 0, 5, 5, 5, 0, 0, 0, 0, 0]);
        assert_eq!(memory.samples(at(100), 1), [5]);
        assert_eq!(memory.samples(at(0), 0), [0u64; 0]);
    }
}
