//! Non-blocking output to the terminal: one that does not read (a stopped emulator, a stalled connection) blocks the
//! interface, but not the shutdown by a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::ending::Ending;

/// Interval at which a blocked write checks for a shutdown, in nanoseconds.
const LOOK_NS: i64 = 50_000_000;

/// A writer to the terminal. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct Output {
    terminal: Arc<File>,
    ending: Ending,
}

impl Output {
    /// Reopens the terminal of standard output: `O_NONBLOCK` on standard output itself would also apply to the shell
    /// and every other program that shares it. If it cannot be reopened, a duplicate is used, whose writes may block.
    pub fn open(ending: Ending) -> io::Result<Self> {
        let terminal = reopen().map_or_else(|| rustix::io::dup(rustix::stdio::stdout()).map(File::from), Ok)?;
        Ok(Self { terminal: Arc::new(terminal), ending })
    }

    /// A duplicate of the terminal's descriptor.
    pub fn file(&self) -> io::Result<File> {
        self.terminal.try_clone()
    }

    /// Waits up to `LOOK_NS` for the terminal to become writable; an error after the shutdown's grace period.
    fn wait(&self) -> io::Result<()> {
        if self.ending.gives_up() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the terminal does not read"));
        }
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK_NS };
        match poll(&mut [PollFd::new(&*self.terminal, PollFlags::OUT)], Some(&look)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&*self.terminal).write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait()?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the terminal of standard output with its own open file description.
fn reopen() -> Option<File> {
    let stdout = rustix::stdio::stdout();
    let device = rustix::fs::fstat(stdout).ok()?.st_rdev;
    let open = |path: &Path| {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path).ok()
    };
    let name = rustix::termios::ttyname(stdout, Vec::new()).ok();
    let named = name.and_then(|name| open(Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()))));
    let same = named.filter(|file| file.metadata().is_ok_and(|found| found.rdev() == device));
    // After `su` the terminal belongs to another user and can be opened only as `/dev/tty`.
    same.or_else(|| rustix::termios::tcgetpgrp(stdout).ok().and_then(|_| open(Path::new("/dev/tty"))))
}
