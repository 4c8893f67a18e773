//! Monotonic time that goes on while the machine is suspended, as plain data.
//!
//! Everything that waits for the idle window uses this clock and not [`std::time::Instant`], which on Linux
//! stands still during suspend: a laptop that slept for an hour must find its VRAM free.

use std::time::Duration;

/// A point on the boot-time clock. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The time now, by CLOCK_BOOTTIME where the system has it.
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        #[cfg(not(target_os = "linux"))]
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
    }

    /// A point `since_origin` after the clock's origin; for tests and simulations.
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// Time from `earlier` to this point, zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_differences_never_go_below_zero() {
        let earlier = Timestamp::now();
        let later = earlier + Duration::from_secs(2);
        assert_eq!(later.since(earlier), Duration::from_secs(2));
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert!(Timestamp::now() >= earlier);
    }
}
