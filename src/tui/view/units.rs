//! Times, counts, rates and model names as displayed.

use crate::chat::Chat;
use crate::sanitize::sanitize;
use crate::wording;
pub use crate::wording::count;
use std::time::Duration;

/// `35 ms`, `0.42 s`, `3.2 s`, `2 m 05 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.0995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 0.995 {
        format!("{seconds:.2} s")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        format!("{} m {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// `1:42`, `1:02:03`; rounded up, so that a countdown reaches `0:00` only at its end.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `45.3 tok/s`.
pub fn token_rate(rate: f64) -> String {
    if rate >= 99.95 { format!("{} tok/s", count(rate.round() as usize)) } else { format!("{rate:.1} tok/s") }
}

/// The name of the model in use; of a path only the last component.
pub(super) fn model_name(chat: &Chat) -> String {
    short_name(&chat.engine.model)
}

/// A model's name, sanitised; of a path only the last component.
pub fn short_name(model: &str) -> String {
    wording::short_name(&sanitize(model).replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_are_formatted() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!((token_rate(45.32), token_rate(4833.4)), ("45.3 tok/s".into(), "4,833 tok/s".into()));
        assert_eq!(duration(Duration::from_millis(35)), "35 ms");
        assert_eq!(duration(Duration::from_millis(420)), "0.42 s");
        assert_eq!(duration(Duration::from_millis(3_240)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 m 05 s");
        assert_eq!(clock(Duration::from_millis(101_400)), "1:42");
        assert_eq!(clock(Duration::ZERO), "0:00");
    }
}
