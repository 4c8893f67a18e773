//! The progress line of a load on stderr; drawn only if stderr is a terminal that can redraw a line.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cells;
use crate::protocol::{LoadPhase, LoadProgress};
use crate::sanitize::sanitize_line;
use crate::wording::bytes;

/// Minimum time between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// Time before a speed is shown: earlier ones are inaccurate.
const WARM_UP: Duration = Duration::from_millis(700);

/// The progress line.
pub struct Progress {
    drawn: bool,
    enabled: bool,
    last: Option<Instant>,
    phase: Option<(LoadPhase, Instant, u64)>,
}

impl Progress {
    /// A line that is not drawn yet; `quiet` disables it.
    pub fn new(quiet: bool) -> Self {
        let can_redraw = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let enabled = !quiet && can_redraw && std::io::stderr().is_terminal();
        Self { drawn: false, enabled, last: None, phase: None }
    }

    /// Draws `step`, at most every 100 ms in one phase.
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

    /// Draws `text` instead of a step; false if no line is drawn here.
    pub fn wait(&mut self, text: &str) -> bool {
        if self.enabled {
            let text = fit(&sanitize_line(text), columns().saturating_sub(1));
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            self.drawn = true;
        }
        self.enabled
    }

    /// Erases the line.
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

/// Bytes per second; `None` before [`WARM_UP`] is over.
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
            text += &format!("{percent} % of {}", bytes(total));
        }
        None => text += &bytes(step.done),
    }
    if let Some(speed) = speed {
        text += &format!(", {}/s", bytes(speed as u64));
        if let Some(left) = step.total.map(|total| total.saturating_sub(step.done)).filter(|left| *left > 0) {
            text += &format!(", {} s left", (left as f64 / speed).ceil() as u64);
        }
    }
    text
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20)
}

/// `text` cut to `columns` cells.
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
    fn progress_line_shows_file_percent_speed_and_time_left() {
        let step = |done, total, detail: Option<&str>| LoadProgress {
            phase: LoadPhase::Download,
            done,
            total,
            detail: detail.map(Into::into),
        };
        assert_eq!(describe(&step(0, None, None), None), "fetching: 0 B");
        assert_eq!(
            describe(&step(50_000_000, Some(100_000_000), Some("a\x1b[2J.gguf")), Some(5e6)),
            "fetching a.gguf: 50 % of 100 MB, 5.0 MB/s, 10 s left"
        );
        assert_eq!(fit("日本語", 4), "日本");
    }
}
