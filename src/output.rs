//! Writes to stdout without the panics of `println!`: a closed pipe is not an error, a full disk is one.

use std::io::{ErrorKind, IsTerminal, Write};

use serde_json::Value;

use super::failure::Failure;
use crate::sanitize::{self, sanitize};

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The last write succeeded.
    Listening,
    /// The pipe is closed; nothing more needs to be written.
    Gone,
}

/// Writes `text` to stdout and flushes it.
pub fn write(text: &str) -> Result<Reader, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::failed(format!("Standard output could not be written: {error}"))),
    }
}

/// Whether a short write to stdout would not block now.
pub fn is_ready() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut wanted = [PollFd::new(&stdout, PollFlags::OUT)];
    // If `poll` fails, the write itself reports the error.
    poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
}

/// Writes foreign text: sanitised if stdout is a terminal, else unchanged.
pub fn write_foreign(text: &str) -> Result<Reader, Failure> {
    if std::io::stdout().is_terminal() { write(&sanitize(text)) } else { write(text) }
}

/// Writes a JSON value on one line, the same for a terminal and for a program.
pub fn write_json(value: &Value) -> Result<Reader, Failure> {
    write(&(sanitize::json(value) + "\n"))
}

/// Writes a JSON value on several lines.
pub fn write_json_pretty(value: &Value) -> Result<Reader, Failure> {
    write(&(sanitize::json_pretty(value) + "\n"))
}

/// Width of stdout's terminal in cells; `None` if stdout is not a terminal.
pub fn columns() -> Option<usize> {
    size().map(|(columns, _)| columns)
}

/// Columns and rows of stdout's terminal; `None` if stdout is not a terminal or does not know its size.
pub fn size() -> Option<(usize, usize)> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(stdout).ok()).flatten()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row))).filter(|(columns, _)| *columns > 0)
}
