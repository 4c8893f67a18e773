//! Settings of the interface: notifications and the mouse.

use std::time::Duration;

use super::duration::{format_idle_window, parse_idle_window};
use crate::protocol::IdleWindow;

/// How the end of a long answer is announced while the terminal is not in focus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// A notification if the terminal is known to show them, else the bell.
    #[default]
    Auto,
    /// The bell.
    Bell,
    /// A notification: OSC 777 on VTE terminals, else OSC 9.
    Osc,
    /// Nothing.
    Off,
}

/// Notifications and the mouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comfort {
    /// How the end of a long answer is announced.
    pub notify: Notify,
    /// The duration from which an answer is long; `None`: none is.
    pub notify_after: Option<Duration>,
    /// Whether the interface takes the mouse; the terminal's selection then needs Shift.
    pub mouse: bool,
    /// Whether the interface stays in the normal screen, so that the transcript goes into the scrollback.
    pub inline: bool,
}

impl Default for Comfort {
    fn default() -> Self {
        Self { notify: Notify::default(), notify_after: Some(Duration::from_secs(10)), mouse: false, inline: false }
    }
}

const NAMES: [(&str, Notify); 4] =
    [("auto", Notify::Auto), ("bell", Notify::Bell), ("osc", Notify::Osc), ("off", Notify::Off)];

pub(super) fn parse_notify(value: &str) -> Result<Notify, String> {
    let found = NAMES.iter().find(|(name, _)| *name == value).map(|(_, notify)| *notify);
    found.ok_or_else(|| format!("\"auto\", \"bell\", \"osc\" or \"off\" is wanted, not {value:?}"))
}

pub(super) fn show_notify(notify: Notify) -> Option<String> {
    NAMES.iter().find(|(_, known)| *known == notify).map(|(name, _)| (*name).to_owned())
}

pub(super) fn parse_after(value: &str) -> Result<Option<Duration>, String> {
    parse_idle_window(value).map(|time| match time {
        IdleWindow::After(time) => Some(time),
        IdleWindow::Never => None,
    })
}

pub(super) fn show_after(time: Option<Duration>) -> Option<String> {
    Some(format_idle_window(time.map_or(IdleWindow::Never, IdleWindow::After)))
}
