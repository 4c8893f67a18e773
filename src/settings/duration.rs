//! Parses and formats durations: `90s`, `2m`, `1h30m`, `500ms`, `0`, `never`.

use std::time::Duration;

use crate::protocol::IdleWindow;

/// Longest idle window (a year): sums of times cannot overflow. A longer one is an error; use `never`.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses an idle window; the error lists the valid forms.
pub fn parse_idle_window(text: &str) -> Result<IdleWindow, String> {
    let text = text.trim();
    match text {
        "never" => return Ok(IdleWindow::Never),
        "0" => return Ok(IdleWindow::After(Duration::ZERO)),
        _ => {}
    }
    parse_duration(text).map(IdleWindow::After).ok_or_else(|| {
        format!(
            "{text:?} is not a duration of at most a year: write 90s, 2m, 1h30m, 0 (release after each answer) or never"
        )
    })
}

/// The sum of numbers with units, in any order; `None` for any other text and above a year.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let part = match &after[..unit_end] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86400)?),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = &after[unit_end..];
    }
    (!text.is_empty() && sum <= LONGEST).then_some(sum)
}

/// Formats an idle window as text that `parse_idle_window` parses back.
pub fn format_idle_window(window: IdleWindow) -> String {
    let IdleWindow::After(span) = window else { return "never".into() };
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(millis), "ms")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_windows_parse() {
        for (text, millis) in
            [("90s", 90_000), ("2m", 120_000), ("1h30m", 5_400_000), ("0", 0), ("0s", 0), ("250ms", 250)]
        {
            assert_eq!(parse_idle_window(text), Ok(IdleWindow::After(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(parse_idle_window("never"), Ok(IdleWindow::Never));
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for text in [
            "",
            "90",
            "-1s",
            "1.5h",
            "2 m",
            "m",
            "forever",
            "99999999999999999999s",
            "18446744073709551615h",
            "400d",
            "1s2",
        ] {
            assert!(parse_idle_window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formatted_idle_windows_parse_back() {
        for text in ["1h30m", "2m", "90s", "1m30s", "never", "0", "1h5ms"] {
            let window = parse_idle_window(text);
            assert_eq!(window.clone().and_then(|w| parse_idle_window(&format_idle_window(w))), window);
        }
    }
}
