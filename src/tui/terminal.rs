//! Terminal modes: enabled when the interface starts, restored on exit, panic and fatal signals.

use std::io::{self, BufWriter, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ratatui::Terminal;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, KeyboardEnhancementFlags,
    PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags,
};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute, queue};

use super::background::UNFOLLOW;
use super::links::{self, LinkingBackend};
use super::output::Output;
use super::window::{Rows, Window};
use crate::engine::crash::{self, Restoration};

pub type CrosstermTerminal = Terminal<Window>;

/// Size of the write buffer, in bytes.
const BUFFER: usize = 64 * 1024;

/// Panic messages of threads other than the interface's.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<Mutex<Vec<String>>>);

impl Panics {
    fn note(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Presses of mouse buttons and the wheel (1000), with coordinates beyond 223 (1006).
const MOUSE: (&[u8], &[u8]) = (b"\x1b[?1000h\x1b[?1006h", b"\x1b[?1006l\x1b[?1000l");

/// The terminal's stack of titles: push and pop.
const TITLE: (&[u8], &[u8]) = (b"\x1b[22;0t", b"\x1b[23;0t");

/// Which modes the interface enables beside raw mode and bracketed paste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Kitty keyboard protocol, which distinguishes Shift+Enter from Enter; title. Not on the Linux console, which
    /// misreads the sequences: it interprets the last letter as another command.
    full: bool,
    /// Reports of mouse buttons and the wheel.
    mouse: bool,
    /// The normal screen instead of the alternate one.
    inline: bool,
}

impl Modes {
    /// The modes for this terminal.
    pub fn of_environment(mouse: bool, inline: bool) -> Self {
        Self { full: std::env::var("TERM").is_ok_and(|term| term != "linux"), mouse, inline }
    }
}

/// Owns the terminal's modes; dropping it restores the terminal.
pub struct Guard {
    active: Arc<AtomicBool>,
    modes: Modes,
    output: Output,
    /// How a fatal signal restores the terminal.
    restoration: Option<&'static Restoration>,
    /// Panics of other threads, to be printed after the restoration.
    pub panics: Panics,
}

impl Guard {
    /// Enables the modes. From now on a panic of this thread restores the terminal before its message is printed, and
    /// the message of any other thread's panic is kept for later, so that it does not corrupt the frame. A fatal signal
    /// restores the terminal too. `active`: whether the modes are enabled.
    pub fn enter(output: Output, active: Arc<AtomicBool>, modes: Modes) -> io::Result<Self> {
        let restoration = restoration(&output, modes);
        let guard = Self { active, modes, output, restoration, panics: Panics::default() };
        guard.hook_panics();
        guard.resume()?;
        Ok(guard)
    }

    /// Enables the modes, at the start and after a suspension.
    pub fn resume(&self) -> io::Result<()> {
        self.active.store(true, Ordering::Release);
        self.restoration.inspect(|restoration| restoration.arm());
        enable_raw_mode()?;
        let mut out = BufWriter::new(self.output.clone());
        if !self.modes.inline {
            queue!(out, EnterAlternateScreen)?;
        }
        queue!(out, EnableBracketedPaste, EnableFocusChange)?;
        if self.modes.full {
            queue!(out, PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES))?;
            out.write_all(TITLE.0)?;
        }
        if self.modes.mouse {
            out.write_all(MOUSE.0)?;
        }
        out.flush()
    }

    /// Takes the mouse, or leaves it to the terminal.
    pub fn use_mouse(&mut self, on: bool) -> io::Result<()> {
        self.modes.mouse = on;
        self.output.clone().write_all(if on { MOUSE.0 } else { MOUSE.1 })
    }

    /// Restores the terminal, once. Errors are ignored: a closed terminal needs no restoration.
    pub fn restore(&self) {
        restore(&self.active, self.modes, &self.output);
        self.restoration.inspect(|restoration| restoration.disarm());
    }

    fn hook_panics(&self) {
        let interface = std::thread::current().id();
        let (active, modes, panics) = (self.active.clone(), self.modes, self.panics.clone());
        let (output, restoration) = (self.output.clone(), self.restoration);
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == interface {
                restore(&active, modes, &output);
                restoration.inspect(|restoration| restoration.disarm());
            }
            if active.load(Ordering::Acquire) {
                panics.note(info.to_string());
            } else {
                earlier(info);
            }
        }));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.restore();
    }
}

fn restore(active: &AtomicBool, modes: Modes, output: &Output) {
    if !active.swap(false, Ordering::AcqRel) {
        return;
    }
    let _ = output.clone().write_all(&sequences(modes));
    let _ = disable_raw_mode();
}

/// Escape sequences that undo [`Guard::resume`].
fn sequences(modes: Modes) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The panic hook and the handler of fatal signals have the modes of the start; the mouse may be taken later.
    if modes.mouse || !modes.inline {
        bytes.extend(MOUSE.1);
    }
    if modes.full {
        let _ = queue!(bytes, PopKeyboardEnhancementFlags);
        bytes.extend(TITLE.1);
    }
    bytes.extend(UNFOLLOW);
    // The keyboard flags belong to the alternate screen: restore them before leaving it.
    let _ = queue!(bytes, DisableFocusChange, DisableBracketedPaste, EndSynchronizedUpdate);
    if !modes.inline {
        let _ = queue!(bytes, LeaveAlternateScreen);
    }
    let _ = queue!(bytes, cursor::Show);
    bytes
}

/// Prepares the restoration after a fatal signal from the terminal's settings before the modes are enabled. `None` if
/// they cannot be read.
fn restoration(output: &Output, modes: Modes) -> Option<&'static Restoration> {
    let (terminal, settings) = (output.file().ok()?, rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?);
    let mut bytes = sequences(modes);
    bytes.extend(
        b"\r\nchatnap was ended by a fault or a signal. What was stored is kept: chatnap -c goes on with it.\r\n",
    );
    Some(crash::restore_terminal(terminal, settings, bytes))
}

/// A ratatui terminal on `output`, or on these rows of it.
pub fn screen(output: &Output, rows: Option<Rows>) -> io::Result<CrosstermTerminal> {
    Terminal::new(backend(output, rows))
}

/// A backend on `output`, or on these rows of it.
pub fn backend(output: &Output, rows: Option<Rows>) -> Window {
    let links = links::are_shown(|name| std::env::var(name).ok());
    let writer = BufWriter::with_capacity(BUFFER, output.clone());
    Window::new(LinkingBackend::new(writer, links), rows)
}

/// Draws a frame as one synchronised update, on terminals that support it.
pub fn draw(screen: &mut CrosstermTerminal, paint: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
    queue!(screen.backend_mut(), BeginSynchronizedUpdate)?;
    screen.draw(paint)?;
    execute!(screen.backend_mut(), EndSynchronizedUpdate)
}

/// Writes these bytes between two frames.
pub fn write(screen: &mut CrosstermTerminal, bytes: &str) -> io::Result<()> {
    let backend = screen.backend_mut();
    backend.write_all(bytes.as_bytes())?;
    Write::flush(backend)
}

/// Copies `text` to the clipboard by OSC 52, which also works over SSH.
pub fn copy(screen: &mut CrosstermTerminal, text: &str) -> io::Result<()> {
    let backend = screen.backend_mut();
    write!(backend, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
    backend.flush()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (group >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_rfc_4648() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("ü", "w7w=")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
