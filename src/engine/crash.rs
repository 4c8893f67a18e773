//! The handler of fatal signals: restores the terminal, and prints a message if memory ran out.
//!
//! Installing a signal handler needs `unsafe` code, which is allowed only under `engine/`, so the handler is here. It
//! is independent of the front ends: they pass the bytes to write and the terminal settings beforehand.
//!
//! The handler runs on the alternate signal stack that the standard library sets up for the main thread and for each
//! thread that it starts (`SA_ONSTACK`), so it also works after a stack overflow. It calls only `write`, `poll`,
//! `ioctl`, `sigaction`, `raise` and `_exit`, takes no lock and allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcsetattr};

/// Signals that end the process and have no other handler in this program.
const FATAL: [Signal; 14] = [
    Signal::SIGABRT,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGQUIT,
    Signal::SIGXCPU,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The exit code if memory ran out.
const OUT_OF_MEMORY: c_int = 4;

/// Attempts to write to a terminal that does not read, and the milliseconds that each one waits.
const ATTEMPTS: usize = 4;
const ATTEMPT_MS: i64 = 50;

/// The terminal, its original settings and the escape sequences that restore it.
#[derive(Debug)]
pub struct Restoration {
    terminal: File,
    settings: Termios,
    sequences: Vec<u8>,
    armed: AtomicBool,
}

impl Restoration {
    /// Makes the signal handler restore the terminal.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Makes the signal handler leave the terminal alone: it has been restored already.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }

    fn restore(&self) {
        if self.armed.swap(false, Ordering::AcqRel) {
            write(self.terminal.as_fd(), &self.sequences);
            // An error means that the terminal is gone.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.settings);
        }
    }
}

static RESTORATION: AtomicPtr<Restoration> = AtomicPtr::new(ptr::null_mut());
static LAST_WORDS: AtomicPtr<LastWords> = AtomicPtr::new(ptr::null_mut());
/// Bytes of the last allocation that failed; 0: none has failed.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// The messages to print if memory ran out.
#[derive(Clone, Debug, Default)]
struct LastWords {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Installs a handler for fatal signals that writes `sequences` to `terminal` and applies `settings` to it while the
/// result is armed. Never freed, so it should be called once.
pub fn restore_terminal(terminal: File, settings: Termios, sequences: Vec<u8>) -> &'static Restoration {
    let armed = AtomicBool::new(false);
    let restoration: &'static Restoration = Box::leak(Box::new(Restoration { terminal, settings, sequences, armed }));
    RESTORATION.store(ptr::from_ref(restoration).cast_mut(), Ordering::Release);
    FATAL.into_iter().for_each(handle);
    restoration
}

/// Makes a failed allocation print these messages and exit with code 4 instead of aborting. Needs [`Allocator`] as the
/// global allocator.
pub fn say_out_of_memory(stdout: Vec<u8>, stderr: Vec<u8>) {
    let words: &'static LastWords = Box::leak(Box::new(LastWords { stdout, stderr }));
    LAST_WORDS.store(ptr::from_ref(words).cast_mut(), Ordering::Release);
    handle(Signal::SIGABRT);
}

/// The system's allocator; records failures, so that the abort that follows can be distinguished from other aborts.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    #[inline]
    fn noted(memory: *mut u8, bytes: usize) -> *mut u8 {
        if memory.is_null() {
            REFUSED.store(bytes.max(1), Ordering::Relaxed);
        }
        memory
    }
}

// SAFETY: every call is passed to the system's allocator unchanged, and its result is returned unchanged.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the same contract.
        Self::noted(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the same contract.
        Self::noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the same contract.
        Self::noted(unsafe { System.realloc(memory, layout, size) }, size)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Actions of SIGSEGV and SIGBUS to restore: the standard library's handler reports stack overflows.
static EARLIER: [AtomicPtr<SigAction>; 2] = [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];

fn earlier(signal: Signal) -> Option<&'static AtomicPtr<SigAction>> {
    match signal {
        Signal::SIGSEGV => Some(&EARLIER[0]),
        Signal::SIGBUS => Some(&EARLIER[1]),
        _ => None,
    }
}

fn handle(signal: Signal) {
    let action = SigAction::new(SigHandler::SigAction(on_signal), SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: `on_signal` calls only async-signal-safe functions (see the head of this file).
    if let (Ok(before), Some(place)) = (unsafe { sigaction(signal, &action) }, earlier(signal)) {
        place.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
}

extern "C" fn on_signal(number: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: set once to a value that is never freed.
    if let Some(restoration) = unsafe { RESTORATION.load(Ordering::Acquire).as_ref() } {
        restoration.restore();
    }
    if number == libc::SIGABRT && REFUSED.load(Ordering::Relaxed) > 0 {
        end_out_of_memory();
    }
    let Ok(signal) = Signal::try_from(number) else { return };
    // SAFETY: the kernel passes a valid `siginfo_t` to the handler. A positive code means that the kernel raised it.
    let is_fault = unsafe { info.as_ref() }.is_some_and(|info| info.si_code > 0);
    let place = earlier(signal).map_or(ptr::null_mut(), |place| place.load(Ordering::Acquire));
    // SAFETY: set once to a value that is never freed.
    match unsafe { place.as_ref() } {
        // The instruction runs again and faults again, and the previous handler reports the reason.
        // SAFETY: `before` was returned by `sigaction` for the same signal.
        Some(before) if is_fault => drop(unsafe { sigaction(signal, before) }),
        _ => {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            // SAFETY: the default action runs no code of this process.
            let _ = unsafe { sigaction(signal, &default) };
            // Delivered after this handler returns: the signal is blocked until then.
            let _ = raise(signal);
        }
    }
}

fn end_out_of_memory() -> ! {
    // SAFETY: set once to a value that is never freed.
    if let Some(words) = unsafe { LAST_WORDS.load(Ordering::Acquire).as_ref() } {
        write(rustix::stdio::stdout(), &words.stdout);
        write(rustix::stdio::stderr(), &words.stderr);
    }
    // SAFETY: `_exit` ends the process without running any of its code.
    unsafe { libc::_exit(OUT_OF_MEMORY) }
}

/// Writes all bytes; returns early if the reader does not read for `ATTEMPTS` times `ATTEMPT_MS`.
fn write(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    let mut attempts = ATTEMPTS;
    while !bytes.is_empty() && attempts > 0 {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => {
                attempts -= 1;
                let wait = Timespec { tv_sec: 0, tv_nsec: ATTEMPT_MS * 1_000_000 };
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], Some(&wait));
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
