//! Writing to the terminal without being blocked by it for good: a terminal that does not read (a stopped emulator, a
//! connection that stalls) holds the interface up, but not the end that a signal asks for.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::ending::Ending;

/// How often a write that waits looks whether the program is to end.
const LOOK_NS: i64 = 50_000_000;

/// The terminal, to be written to. Clones write to the same one.
#[derive(Clone, Debug)]
pub struct Output {
    terminal: Arc<File>,
    ending: Ending,
}

impl Output {
    /// The terminal of standard output, opened anew: `O_NONBLOCK` on standard output itself would also hold for the
    /// shell and every other program that shares it. A terminal that cannot be opened is written to as it is.
    pub fn open(ending: Ending) -> io::Result<Self> {
        let terminal = reopen().map_or_else(|| rustix::io::dup(rustix::stdio::stdout()).map(File::from), Ok)?;
        Ok(Self { terminal: Arc::new(terminal), ending })
    }

    /// A descriptor of the terminal of its own.
    pub fn file(&self) -> io::Result<File> {
        self.terminal.try_clone()
    }

    /// Waits until the terminal takes more; an error where it does not and the program is to end.
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

/// The terminal of standard output with a description of its own.
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
    // Another user's terminal (after `su`) can be opened by this name alone.
    same.or_else(|| rustix::termios::tcgetpgrp(stdout).ok().and_then(|_| open(Path::new("/dev/tty"))))
}
