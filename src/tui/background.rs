//! The terminal's background colour: asked for before the first frame, and again when the terminal reports a change.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use terminal_colorsaurus::{Error, QueryOptions, background_color};

use super::App;
use super::input::Input;
use super::output::Output;
use super::theme::{AUTO, Background, Canvas, ColorDepth, Kind};

mod answer;
mod source;

pub use source::Source;

/// Asks for the background's colour (OSC 11). BEL ends it: some terminals answer with the same end and misplace ST.
const ASK: &[u8] = b"\x1b]11;?\x07";

/// Asks for the device attributes. The answer ends a report that crossterm's parser waits to see the end of.
const ATTRIBUTES: &[u8] = b"\x1b[c";

/// Asks the terminal to report changes of its colours by `CSI ? 997 ; 1 n` (dark) or `… ; 2 n` (light).
const FOLLOW: &[u8] = b"\x1b[?2031h";

/// Undoes [`FOLLOW`].
pub(super) const UNFOLLOW: &[u8] = b"\x1b[?2031l";

/// How long the first frame waits for the answer: it must be on the screen within 50 ms. Terminals on this computer answer
/// in 1 to 5 ms, and one that does not know the question answers the question for its attributes, sent with it, as
/// fast. Over a slow network the answer comes later: then the first frame is drawn for an unknown background, and
/// [`Source`] finds the answer among the keys.
const PATIENCE: Duration = Duration::from_millis(30);

/// What is known before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Background(Background),
    /// The terminal does not tell, or not in time.
    Unknown,
    /// It was not asked, because keys were typed already: they would be lost.
    NotAsked,
}

/// Asks for the background, if the theme follows it; otherwise, and if the terminal does not tell, goes by the environment.
/// Waits at most [`PATIENCE`]. Call it before the terminal's modes are changed.
pub fn at_start(theme: &str, depth: ColorDepth, variable: impl Fn(&str) -> Option<String>) -> Known {
    let told = of_environment(&variable).map_or(Known::Unknown, Known::Background);
    let console = variable("TERM").is_some_and(|term| term == "linux");
    let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if theme != AUTO || depth == ColorDepth::None || console || !both {
        return told;
    }
    match ask() {
        Known::Unknown => told,
        known => known,
    }
}

fn ask() -> Known {
    if has_keys() {
        return Known::NotAsked;
    }
    let mut options = QueryOptions::default();
    options.timeout = PATIENCE;
    match background_color(options) {
        Ok(color) => {
            let (r, g, b) = color.scale_to_8bit();
            Known::Background(Background::of_rgb(r, g, b))
        }
        Err(Error::Parse(bytes)) => {
            // Keys were typed while it waited; what they wrote is lost, so it is a matter of milliseconds.
            tracing::debug!(?bytes, "answer about the background");
            Known::NotAsked
        }
        Err(error) => {
            tracing::debug!(%error, "the background is unknown");
            Known::Unknown
        }
    }
}

/// Whether keys wait to be read. Without raw mode the kernel withholds those of an unfinished line.
fn has_keys() -> bool {
    let raw = enable_raw_mode().is_ok();
    let stdin = rustix::stdio::stdin();
    let mut wait = [PollFd::new(&stdin, PollFlags::IN)];
    let ready = poll(&mut wait, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    if raw {
        // It was possible a moment ago; if it fails, the interface's own raw mode comes next.
        let _ = disable_raw_mode();
    }
    ready != Ok(0)
}

/// The kind by `COLORFGBG` (`15;0`, `0;default;15`), which some terminals set; the Linux console is black.
fn of_environment(variable: &impl Fn(&str) -> Option<String>) -> Option<Background> {
    if variable("TERM").is_some_and(|term| term == "linux") {
        return Some(Background::plain(Kind::Dark));
    }
    let number = variable("COLORFGBG")?.rsplit(';').next()?.parse::<u8>().ok()?;
    match number {
        0..=6 | 8 => Some(Background::plain(Kind::Dark)),
        7 | 9..=15 => Some(Background::plain(Kind::Light)),
        _ => None,
    }
}

impl Known {
    pub fn background(self) -> Option<Background> {
        if let Self::Background(background) = self { Some(background) } else { None }
    }
}

/// Asks for reports of changes.
pub fn follow(output: &Output) -> std::io::Result<()> {
    write(output, &[FOLLOW])
}

/// Asks again; [`Source`] finds the answer among the keys.
fn ask_again(output: &Output) -> std::io::Result<()> {
    write(output, &[ATTRIBUTES, ASK])
}

fn write(output: &Output, parts: &[&[u8]]) -> std::io::Result<()> {
    use std::io::Write;
    output.clone().write_all(&parts.concat())
}

impl App {
    /// Whether the theme follows the terminal's background.
    fn follows(&self) -> bool {
        self.settings.theme == AUTO && self.canvas.depth != ColorDepth::None
    }

    /// Follows the background from now on, if the theme does: after the start, a suspension and a change of the theme.
    pub(super) fn follow_background(&mut self, ask: bool) -> std::io::Result<()> {
        if !self.follows() {
            return Ok(());
        }
        follow(&self.output)?;
        if ask { ask_again(&self.output) } else { Ok(()) }
    }

    /// The terminal has perhaps reported a change of its colours.
    pub(super) fn background_perhaps_changed(&self, number: u64, reads: Arc<AtomicU64>) {
        if self.follows() {
            let sender = self.sender.clone();
            tokio::spawn(async move {
                if source::is_report(number, reads).await {
                    // The receiver is dropped only when the interface ends.
                    let _ = sender.send(Input::ColoursReported);
                }
            });
        }
    }

    /// The terminal has reported a change of its colours.
    pub(super) fn background_changed(&mut self) -> std::io::Result<()> {
        if self.follows() { ask_again(&self.output) } else { Ok(()) }
    }

    /// The terminal has told its background.
    pub(super) fn background_told(&mut self, background: Background) {
        let canvas = Canvas { background: Some(background), ..self.canvas };
        if std::mem::replace(&mut self.canvas, canvas) != canvas {
            self.show_theme();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_the_kind_of_the_background() {
        let of = |name: &'static str, value: &'static str| {
            of_environment(&|asked: &str| (asked == name).then(|| value.to_owned())).map(|background| background.kind)
        };
        assert_eq!([of("COLORFGBG", "15;0"), of("COLORFGBG", "0;default;15")], [Some(Kind::Dark), Some(Kind::Light)]);
        assert_eq!([of("COLORFGBG", "0;default"), of("COLORFGBG", ""), of("TERM", "xterm")], [None; 3]);
        assert_eq!(of("TERM", "linux"), Some(Kind::Dark));
    }
}
