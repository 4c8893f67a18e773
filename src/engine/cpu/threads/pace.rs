//! How many workers take part: all of them, fewer where other programs interrupt them.
//!
//! A loop ends when its last part does, so one worker that waits for its core stops all. Each such loop sends one
//! worker to stand by, and one comes back after a while without. The while is short: the system soon moves the other
//! program elsewhere, and a vain attempt costs no more than what not trying would.

/// Loops without an interruption after which a worker comes back: less than one token.
const PATIENCE: u32 = 128;

/// Decides after each loop.
#[derive(Debug)]
pub(super) struct Pace {
    workers: usize,
    active: usize,
    /// Loops without an interruption since the last change.
    calm: u32,
}

impl Pace {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, active: workers, calm: 0 }
    }

    /// Workers that take part.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Notes that a loop is over, and whether a worker was interrupted in it. Returns how many take part from now on.
    pub(super) fn loop_done(&mut self, interrupted: bool) -> usize {
        if interrupted {
            self.active = self.active.saturating_sub(1);
            self.calm = 0;
        } else if self.active < self.workers {
            self.calm += 1;
            if self.calm == PATIENCE {
                self.active += 1;
                self.calm = 0;
            }
        }
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm_until_all(pace: &mut Pace) -> u32 {
        (1..100_000).find(|_| pace.loop_done(false) == pace.workers).unwrap_or(u32::MAX)
    }

    #[test]
    fn an_interruption_costs_one_worker_for_a_moment() {
        let mut pace = Pace::new(3);
        assert_eq!(pace.loop_done(false), 3);
        assert_eq!(pace.loop_done(true), 2);
        assert_eq!(calm_until_all(&mut pace), PATIENCE);
        assert_eq!([pace.loop_done(true), pace.loop_done(true)], [2, 1]);
        assert_eq!(calm_until_all(&mut pace), 2 * PATIENCE);
    }

    #[test]
    fn there_is_always_the_caller_itself() {
        let mut pace = Pace::new(2);
        for _ in 0..5 {
            pace.loop_done(true);
        }
        assert_eq!(pace.active(), 0);
        assert_eq!(calm_until_all(&mut pace), 2 * PATIENCE);
    }
}
