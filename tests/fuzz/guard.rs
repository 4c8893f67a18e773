//! Runs one input under limits: no panic, no hang, bounded CPU time, bounded memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::targets::Target;

/// Stack size in bytes: the standard library's default, as for the program's threads that read files.
const STACK: usize = 2 << 20;

/// The wall-clock limit of an input: after it the reader counts as blocked.
const HANG: Duration = Duration::from_secs(60);

/// Allocations fail beyond this many live bytes, so that a hostile size cannot exhaust the machine's memory.
const MOST: usize = 3 << 30;

/// The system allocator with counters of the live bytes and their peak.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown_by(bytes: usize) {
    PEAK.fetch_max(IN_USE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

fn refused(bytes: usize) -> bool {
    IN_USE.load(Relaxed).saturating_add(bytes) > MOST
}

// SAFETY: every call forwards its arguments to the system allocator or returns null, which means failure.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return std::ptr::null_mut();
        }
        grown_by(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return std::ptr::null_mut();
        }
        grown_by(layout.size());
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refused(size.saturating_sub(layout.size())) {
            return std::ptr::null_mut();
        }
        grown_by(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `measured` on a separate thread with a stack of `STACK` bytes; fails if it takes longer than `HANG`.
#[allow(dead_code, reason = "libFuzzer has its own timeout")]
pub fn run(target: &'static Target, input: &[u8]) -> Result<bool, String> {
    let (sender, receiver) = channel();
    let owned = input.to_vec();
    let work = move || drop(sender.send(measured(target, &owned)));
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work).map_err(|error| error.to_string())?;
    let outcome = match receiver.recv_timeout(HANG) {
        Ok(outcome) => outcome,
        // The blocked thread is leaked.
        Err(RecvTimeoutError::Timeout) => return Err(format!("no end after {HANG:?}")),
        Err(RecvTimeoutError::Disconnected) => return Err("the thread ended without a result".into()),
    };
    // Memory of a thread that is still running would be counted for the next input.
    let _ = thread.join();
    outcome
}

/// Runs `target` on `input`; returns whether it was accepted, or the exceeded limit. Time and memory are counted
/// for the whole process, because readers may start threads.
pub fn measured(target: &Target, input: &[u8]) -> Result<bool, String> {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let start = cpu_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = cpu_time().saturating_sub(start);
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    let accepted = outcome.map_err(|panic| format!("panic: {}", words(panic.as_ref())))?;
    if took > target.time {
        return Err(format!("{} ms of CPU time; {} are allowed", took.as_millis(), target.time.as_millis()));
    }
    if peak > target.memory {
        return Err(format!("{peak} bytes at a time; {} are allowed", target.memory));
    }
    Ok(accepted)
}

/// The CPU time of the process so far.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}
