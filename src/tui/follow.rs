//! Opens web addresses in the desktop's browser.

use std::process::{Command, Stdio};

use super::{App, terminal};
use crate::chat::Event;

impl App {
    /// Opens the address, or copies it if there is no desktop: over SSH the browser is elsewhere.
    pub(super) fn follow_link(&mut self, address: &str) {
        let told = match open(address) {
            true => format!("opening {address}"),
            false => match terminal::copy(&mut self.terminal, address) {
                Ok(()) => format!("no browser can be opened here; copied {address}"),
                Err(error) => format!("not opened: {error}"),
            },
        };
        self.chat_event(Event::Hinted(told));
    }
}

/// Starts the desktop's opener; false if there is none.
fn open(address: &str) -> bool {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let program = match () {
        () if cfg!(target_os = "macos") && !has("SSH_CONNECTION") => "open",
        () if has("WAYLAND_DISPLAY") || has("DISPLAY") => "xdg-open",
        () => return false,
    };
    let mut command = Command::new(program);
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    // Without the thread only the entry in the process table stays until the end.
    let _ = std::thread::Builder::new().name("opener".into()).spawn(move || child.wait());
    true
}
