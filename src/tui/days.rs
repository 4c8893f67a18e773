//! Dates as people name them, in the system's time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// The present day, against which other times are named.
#[derive(Clone, Debug)]
pub struct Days {
    now: ZonedDateTime,
}

impl Days {
    /// Reads the clock and, the first time, the time zone's file.
    pub fn now() -> Self {
        Self { now: Timestamp::now().to_zoned_datetime(TimeZone::system()) }
    }

    fn zoned(&self, ms: u64) -> ZonedDateTime {
        let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        time.unwrap_or_default().to_zoned_datetime(self.now.time_zone().clone())
    }

    /// Days before today; negative in the future.
    fn days_ago(&self, date: Date) -> i64 {
        date.until(self.now.date()).map_or(0, |span| i64::from(span.get_days()))
    }

    /// Heading of the entries of that day, week or month. `ms`: milliseconds since 1970.
    pub fn heading(&self, ms: u64) -> String {
        let then = self.zoned(ms);
        match self.days_ago(then.date()) {
            ..=0 => "today".into(),
            1 => "yesterday".into(),
            2..=6 => then.strftime("%A").to_string(),
            _ => then.strftime("%B %Y").to_string(),
        }
    }

    /// The time of the last seven days, whose heading names the day; the date before.
    pub fn short(&self, ms: u64) -> String {
        let then = self.zoned(ms);
        match self.days_ago(then.date()) {
            ..=6 => then.strftime("%H:%M").to_string(),
            _ => then.strftime("%Y-%m-%d").to_string(),
        }
    }

    /// Time since then: `5 min ago`, `3 h ago`, `yesterday`, `4 days ago`, or the date.
    pub fn age(&self, ms: u64) -> String {
        let then = self.zoned(ms);
        let minutes = self.now.timestamp().duration_since(then.timestamp()).as_secs().max(0) / 60;
        match (minutes, self.days_ago(then.date())) {
            (0, _) => "just now".into(),
            (1..60, _) => format!("{minutes} min ago"),
            (60..720, _) => format!("{} h ago", minutes / 60),
            (_, ..=0) => "today".into(),
            (_, 1) => "yesterday".into(),
            (_, days @ 2..=30) => format!("{days} days ago"),
            _ => then.strftime("%Y-%m-%d").to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(zone: &str, time: &str) -> (Days, impl Fn(&str) -> u64 + use<>) {
        let zone = TimeZone::posix(zone).unwrap();
        let parse = {
            let zone = zone.clone();
            move |text: &str| {
                let time: jiff::civil::DateTime = text.parse().unwrap();
                time.to_zoned_datetime(zone.clone()).unwrap()
            }
        };
        let now = parse(time);
        (Days { now }, move |text| u64::try_from(parse(text).timestamp().as_millisecond()).unwrap())
    }

    #[test]
    fn days_end_at_midnight_of_the_zone() {
        let (days, ms) = at("CET-1", "2026-03-04T00:30");
        let headings = [
            ("2026-03-04T00:10", "today", "00:10", "20 min ago"),
            ("2026-03-03T23:50", "yesterday", "23:50", "40 min ago"),
            ("2026-03-03T10:00", "yesterday", "10:00", "yesterday"),
            ("2026-03-01T08:00", "Sunday", "08:00", "3 days ago"),
            ("2026-02-25T08:00", "February 2026", "2026-02-25", "7 days ago"),
            ("2025-12-25T08:00", "December 2025", "2025-12-25", "2025-12-25"),
            // A clock that was set back.
            ("2026-03-05T08:00", "today", "08:00", "just now"),
        ];
        for (time, heading, short, age) in headings {
            let ms = ms(time);
            assert_eq!(
                (days.heading(ms).as_str(), days.short(ms).as_str(), days.age(ms).as_str()),
                (heading, short, age)
            );
        }
        assert_eq!(days.age(u64::MAX), "1970-01-01");
    }
}
