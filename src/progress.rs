//! One line on stderr that says how far a load has come; drawn only where stderr is a terminal that can redraw a line.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cells;
use crate::hub::human;
use crate::protocol::{LoadPhase, LoadProgress};
use crate::sanitize::sanitize_line;

/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// Speeds before this are guesses.
const WARM_UP: Duration = Duration::from_millis(700);

/// The line.
pub struct Progress {
    drawn: bool,
    enabled: bool,
    last: Option<Instant>,
    phase: Option<(LoadPhase, Instant, u64)>,
}

impl Progress {
    /// A line that is not drawn yet; with `quiet`, never.
    pub fn new(quiet: bool) -> Self {
        let can_redraw = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let enabled = !quiet && can_redraw && std::io::stderr().is_terminal();
        Self { drawn: false, enabled, last: None, phase: None }
    }

    /// Draws `step`, but not too often.
    pub fn show(&mut self, step: &LoadProgress) {
        if !self.enabled {
            return;
        }
        let now = Instant::now();
        if self.phase.is_none_or(|(phase, ..)| phase != step.phase) {
            self.phase = Some((step.phase, now, step.done));
        } else if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return;
        }
        self.last = Some(now);
        let speed = self.phase.and_then(|(_, start, first)| speed(step.done.saturating_sub(first), now - start));
        let text = fit(&describe(step, speed), columns().saturating_sub(1));
        let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        self.drawn = true;
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Bytes a second.
fn speed(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && time >= WARM_UP).then(|| bytes as f64 / time.as_secs_f64())
}

fn describe(step: &LoadProgress, speed: Option<f64>) -> String {
    let verb = match step.phase {
        LoadPhase::Download => "fetching",
        LoadPhase::Verify => "verifying",
        LoadPhase::Read => "reading",
        LoadPhase::Upload => "copying to the device",
    };
    let mut text = match &step.detail {
        Some(detail) => format!("{verb} {}: ", sanitize_line(detail)),
        None => format!("{verb}: "),
    };
    match step.total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = 100 * u128::from(step.done.min(total)) / u128::from(total);
            text += &format!("{percent} % of {}", human(total));
        }
        None => text += &human(step.done),
    }
    if let Some(speed) = speed {
        text += &format!(", {}/s", human(speed as u64));
        if let Some(left) = step.total.map(|total| total.saturating_sub(step.done)).filter(|left| *left > 0) {
            text += &format!(", {} s left", (left as f64 / speed).ceil() as u64);
        }
    }
    text
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20)
}

/// As much of `text` as `columns` hold.
fn fit(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let text = cells::drawn(text);
    let fits = cells::pieces(&text).take_while(|(_, width)| {
        taken += width;
        taken <= columns
    });
    fits.map(|(piece, _)| piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_what_how_much_how_fast_and_how_long() {
        let step = |done, total, detail: Option<&str>| LoadProgress {
            phase: LoadPhase::Download,
            done,
            total,
            detail: detail.map(Into::into),
        };
        assert_eq!(describe(&step(0, None, None), None), "fetching: 0 B");
        assert_eq!(
            describe(&step(50_000_000, Some(100_000_000), Some("a\x1b[2J.gguf")), Some(5e6)),
            "fetching a.gguf: 50 % of 100.0 MB, 5.0 MB/s, 10 s left"
        );
        assert_eq!(fit("日本語", 4), "日本");
    }
}
