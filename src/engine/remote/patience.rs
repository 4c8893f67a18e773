//! What to do about each trouble with a server before its answer begins: ask again, and when, or give up. Pure; the
//! caller has the clock. After the first byte of an answer nothing is ever sent again.

use std::time::Duration;

use crate::clock::Timestamp;

/// Longest pause between two requests, unless the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// How often a prompt is sent again after a connection that was lost without a byte of an answer: the server may have
/// begun to work on it.
const MAX_LOST: u32 = 2;

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection: nothing was sent.
    Refused(String),
    /// The connection ended after the request was sent, before a byte of the answer.
    Lost(String),
    /// No header within the time that was left.
    Silent,
    /// An answer with an error.
    Status {
        /// HTTP's code.
        code: u16,
        /// The time that the server asks for.
        after: Option<Duration>,
        /// The server's text.
        text: Option<String>,
    },
    /// The server answered with something else than JSON.
    NotJson,
    /// Nothing that another try can change: a bad certificate, a redirect in a circle.
    Hopeless(String),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again after this time.
    Again(Duration),
    /// The server is not awake in time.
    TooLate(String),
    /// Asking again cannot help.
    Final(String),
}

/// The patience with one server for one request.
#[derive(Clone, Debug)]
pub struct Patience {
    begun: Timestamp,
    limit: Duration,
    tries: u32,
    lost: u32,
}

impl Patience {
    /// Begins at `now` with `limit`; with zero, the first trouble is final.
    pub fn new(limit: Duration, now: Timestamp) -> Self {
        Self { begun: now, limit, tries: 0, lost: 0 }
    }

    /// How long has been waited.
    pub fn waited(&self, now: Timestamp) -> Duration {
        now.since(self.begun)
    }

    /// How long may still be waited.
    pub fn left(&self, now: Timestamp) -> Duration {
        self.limit.saturating_sub(self.waited(now))
    }

    /// What to do about `trouble`, which occurred at `now`.
    pub fn judge(&mut self, trouble: &Trouble, now: Timestamp) -> Verdict {
        let why = describe(trouble);
        let wish = match trouble {
            Trouble::Refused(_) => None,
            Trouble::Lost(_) => {
                self.lost += 1;
                if self.lost > MAX_LOST {
                    return Verdict::Final(why);
                }
                None
            }
            Trouble::Status { code, after, .. } if is_temporary(*code) => *after,
            Trouble::Status { .. } | Trouble::NotJson | Trouble::Hopeless(_) => return Verdict::Final(why),
            Trouble::Silent => return Verdict::TooLate(why),
        };
        let left = self.left(now);
        if left.is_zero() {
            return Verdict::TooLate(why);
        }
        self.tries += 1;
        let own = Duration::from_millis(250 << (self.tries - 1).min(8)).min(LONGEST_PAUSE);
        Verdict::Again(wish.map_or(own, |wish| wish.clamp(own.min(Duration::from_secs(1)), LONGEST_WISH)).min(left))
    }
}

/// Whether a server with this code may answer the same request later.
pub fn is_temporary(code: u16) -> bool {
    matches!(code, 408 | 425 | 429 | 502 | 503 | 504 | 520..=524 | 529)
}

/// The time of a `Retry-After`: seconds, or a date, which is compared with the server's own `Date`.
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return (0.0..1e9).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
    }
    let (then, now) = (http_date(value)?, http_date(date?)?);
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.trim().split_once(", ")?.1.split_ascii_whitespace();
    let day: u64 = parts.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..9999).contains(year))?;
    let time: Vec<u64> = parts.next()?.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[hours, minutes, seconds] = &time[..] else { return None };
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    // Days before the year's March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)? * 24 + hours) * 3600 + minutes * 60 + seconds)
}

/// The trouble as a part of a sentence.
pub fn describe(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Refused(why) | Trouble::Lost(why) | Trouble::Hopeless(why) => why.clone(),
        Trouble::Silent => "no answer began".into(),
        Trouble::NotJson => "its answer is not JSON; is its address right?".into(),
        Trouble::Status { code, text: Some(text), .. } => format!("{text} (HTTP {code})"),
        Trouble::Status { code, text: None, .. } => format!("HTTP {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_origin(Duration::from_secs(1000 + seconds))
    }

    fn status(code: u16, after: Option<u64>) -> Trouble {
        Trouble::Status { code, after: after.map(Duration::from_secs), text: None }
    }

    fn refused() -> Trouble {
        Trouble::Refused("connection refused".into())
    }

    /// A4.1, with a clock that only the test moves.
    #[test]
    fn refused_connection_is_tried_until_the_limit() {
        let mut patience = Patience::new(Duration::from_secs(80), at(0));
        let (mut now, mut pauses) = (at(0), Vec::new());
        loop {
            match patience.judge(&refused(), now) {
                Verdict::Again(pause) => {
                    pauses.push(pause.as_millis());
                    now = now + pause;
                }
                end => {
                    assert_eq!(end, Verdict::TooLate("connection refused".into()));
                    break;
                }
            }
        }
        assert_eq!(pauses[..6], [250, 500, 1000, 2000, 2000, 2000]);
        assert!(pauses[6..].iter().all(|&pause| pause <= 2000));
        assert_eq!(patience.waited(now), Duration::from_secs(80));
    }

    /// A4.5.
    #[test]
    fn codes_are_temporary_or_final() {
        for code in [408, 429, 502, 503, 504] {
            let verdict = Patience::new(Duration::from_secs(60), at(0)).judge(&status(code, None), at(0));
            assert_eq!(verdict, Verdict::Again(Duration::from_millis(250)), "{code}");
        }
        for code in [400, 401, 402, 403, 404, 422, 500] {
            let verdict = Patience::new(Duration::from_secs(60), at(0)).judge(&status(code, Some(1)), at(0));
            assert_eq!(verdict, Verdict::Final(format!("HTTP {code}")));
        }
    }

    /// A4.5.
    #[test]
    fn wish_of_the_server_is_followed_within_bounds() {
        let judge = |limit: u64, after: u64| {
            Patience::new(Duration::from_secs(limit), at(0)).judge(&status(503, Some(after)), at(0))
        };
        assert_eq!(judge(600, 20), Verdict::Again(Duration::from_secs(20)));
        assert_eq!(judge(600, 3600), Verdict::Again(LONGEST_WISH));
        assert_eq!(judge(10, 20), Verdict::Again(Duration::from_secs(10)));
        assert_eq!(judge(600, 0), Verdict::Again(Duration::from_millis(250)));
    }

    /// A4.5.
    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let cases = [
            ("120", None, Some(120_000)),
            ("1.5", None, Some(1500)),
            ("-1", None, None),
            ("soon", None, None),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(date), Some(30_000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(date), Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("Tue, 01 Mar 2028 00:00:00 GMT", Some("Mon, 28 Feb 2028 23:59:59 GMT"), Some(86_401_000)),
        ];
        for (value, date, expected) in cases {
            let found = retry_after(value, date).map(|time| time.as_millis());
            assert_eq!(found, expected, "{value}");
        }
        assert_eq!(http_date(date), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    /// A4.7.
    #[test]
    fn prompt_is_sent_again_twice_after_a_lost_connection() {
        let mut patience = Patience::new(Duration::from_secs(600), at(0));
        let lost = Trouble::Lost("the connection was closed".into());
        assert!(matches!(patience.judge(&lost, at(0)), Verdict::Again(_)));
        assert!(matches!(patience.judge(&refused(), at(1)), Verdict::Again(_)));
        assert!(matches!(patience.judge(&lost, at(2)), Verdict::Again(_)));
        assert_eq!(patience.judge(&lost, at(3)), Verdict::Final("the connection was closed".into()));
    }

    /// A4.2 and `--server-wait never`.
    #[test]
    fn without_patience_the_first_trouble_is_final() {
        let mut none = Patience::new(Duration::ZERO, at(0));
        assert_eq!(none.judge(&refused(), at(0)), Verdict::TooLate("connection refused".into()));
        assert_eq!(none.judge(&status(503, Some(1)), at(0)), Verdict::TooLate("HTTP 503".into()));
        let mut some = Patience::new(Duration::from_secs(9), at(0));
        assert_eq!(some.judge(&Trouble::Silent, at(0)), Verdict::TooLate("no answer began".into()));
        let hopeless = Trouble::Hopeless("its certificate is not trusted".into());
        assert_eq!(some.judge(&hopeless, at(0)), Verdict::Final("its certificate is not trusted".into()));
    }
}
