//! How many workers take part: all of them, fewer where other programs interrupt them.
//!
//! A loop ends when its last part does, so one worker that waits for its core stops all. Each such loop sends one
//! worker to stand by; it comes back after a while without another, and that while grows with each vain attempt.

/// Loops without an interruption after which a worker is tried again, at first (less than one token) and at most.
const PATIENCE: std::ops::RangeInclusive<u32> = 64..=8192;

/// Decides after each loop.
#[derive(Debug)]
pub(super) struct Pace {
    workers: usize,
    active: usize,
    /// Loops without an interruption since the last change.
    calm: u32,
    patience: u32,
}

impl Pace {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, active: workers, calm: 0, patience: *PATIENCE.start() }
    }

    /// Workers that take part.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Notes that a loop is over, and whether a worker was interrupted in it. Returns how many take part from now on.
    pub(super) fn loop_done(&mut self, interrupted: bool) -> usize {
        if interrupted {
            self.active = self.active.saturating_sub(1);
            self.patience = (2 * self.patience).min(*PATIENCE.end());
            self.calm = 0;
            return self.active;
        }
        self.calm += 1;
        if self.calm >= self.patience {
            self.calm = 0;
            if self.active < self.workers {
                self.active += 1;
            } else {
                self.patience = (self.patience / 2).max(*PATIENCE.start());
            }
        }
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm_until_all(pace: &mut Pace) -> u32 {
        (1..1_000_000).find(|_| pace.loop_done(false) == pace.workers).unwrap_or(u32::MAX)
    }

    #[test]
    fn one_interruption_costs_one_worker_for_a_moment() {
        let mut pace = Pace::new(3);
        assert_eq!(pace.loop_done(false), 3);
        assert_eq!(pace.loop_done(true), 2);
        assert_eq!(calm_until_all(&mut pace), 128);
    }

    #[test]
    fn vain_attempts_become_rare_and_calm_forgives() {
        let mut pace = Pace::new(1);
        let waits: Vec<u32> = (0..10)
            .map(|_| {
                assert_eq!(pace.loop_done(true), 0);
                calm_until_all(&mut pace)
            })
            .collect();
        assert_eq!(waits[..3], [128, 256, 512]);
        assert_eq!(waits[9], 8192);
        (0..100_000).for_each(|_| assert_eq!(pace.loop_done(false), 1));
        pace.loop_done(true);
        assert_eq!(calm_until_all(&mut pace), 128);
    }

    #[test]
    fn there_is_always_the_caller_itself() {
        let mut pace = Pace::new(2);
        for _ in 0..5 {
            pace.loop_done(true);
        }
        assert_eq!(pace.active(), 0);
    }
}
