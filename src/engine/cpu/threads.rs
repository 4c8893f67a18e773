//! A small thread pool for parallel loops of a few microseconds.
//!
//! Between two loops the workers spin for 50 to 100 µs, then park, so that an idle pool uses no CPU time. A loop ends
//! when all of its parts are done; it does not wait for workers that were not scheduled in time to take one.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Isa;

/// Bit of `Shared::state`: set while workers may enter the loop. The bits below count the workers inside, the bits
/// above count the loops.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const LOOP: u64 = 1 << 17;
/// Polls for the next loop before a worker parks (about 50 to 100 µs).
const SPINS: u32 = 4000;

type Part<'a> = &'a (dyn Fn(usize) + Sync);

/// One parallel loop, valid while `OPEN` is set or a worker is inside.
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

struct Shared {
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    parked: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `job` is written only by the thread that holds `Threads::running`, while no worker is inside and the loop is
// closed; workers read it only between entering (an acquire on `state`) and leaving. The body behind it is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: no field is bound to a thread; the pointer in `job` is dereferenced only as described above.
unsafe impl Send for Shared {}

/// The pool. The caller of [`Threads::run`] takes parts too, so `n() - 1` threads are spawned. Drop joins them.
pub struct Threads {
    shared: Arc<Shared>,
    running: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
}

impl Threads {
    /// A pool of `threads` (at most 256) threads with the fastest instruction set of this CPU; `None`: one thread per
    /// physical core that this process may use.
    pub fn new(threads: Option<usize>) -> Self {
        Self::with_isa(threads, Isa::detect())
    }

    /// A pool whose loops use the kernels of `isa`, or of [`Isa::detect`] if the CPU does not support it.
    pub fn with_isa(threads: Option<usize>, isa: Isa) -> Self {
        let wanted = threads.unwrap_or_else(default_threads).clamp(1, 256);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            door: Mutex::new(()),
            bell: Condvar::new(),
        });
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("chatnap-cpu-{i}")).spawn(move || work(&shared)).ok()
        };
        // If a thread cannot be spawned, the pool is smaller; the results are the same.
        let workers = (1..wanted).map_while(start).collect();
        let isa = if isa.is_available() { isa } else { Isa::detect() };
        Self { shared, running: Mutex::new(()), workers, isa }
    }

    /// Number of threads, the caller's included.
    pub fn n(&self) -> usize {
        self.workers.len() + 1
    }

    /// Instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Calls `body(0)` to `body(parts - 1)`, each once, on any thread and in any order, and returns when all are done.
    /// A panic in a part is resumed here. Must not be called from inside a part: it would deadlock.
    pub fn run(&self, parts: usize, body: Part<'_>) {
        if parts <= 1 || self.workers.is_empty() {
            return (0..parts).for_each(body);
        }
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = catch_unwind(AssertUnwindSafe(|| {
            self.open(parts, body);
            take_parts(&self.shared.next, parts, body);
        }));
        self.close();
        let theirs = self.shared.panicked.swap(false, Ordering::Relaxed);
        drop(guard);
        match mine {
            Err(cause) => resume_unwind(cause),
            Ok(()) if theirs => resume_unwind(Box::new("a part of a parallel loop panicked")),
            Ok(()) => {}
        }
    }

    /// Splits `0..len` at multiples of `step` into about four ranges per thread, and runs `body(start, end)` for each.
    pub fn split(&self, len: usize, step: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        let steps = len.div_ceil(step);
        let parts = if self.n() == 1 { 1 } else { (self.n() * 4).min(steps) };
        self.run(parts, &|part| {
            let start = (steps * part / parts * step).min(len);
            let end = (steps * (part + 1) / parts * step).min(len);
            if start < end {
                body(start, end);
            }
        });
    }

    fn open(&self, parts: usize, body: Part<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed; `close` waits until no worker can dereference the pointer any more.
        let body: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<Part<'_>, &'static (dyn Fn(usize) + Sync)>(body) };
        // SAFETY: this thread holds `running`, the loop is closed and no worker is inside: see `Sync for Shared`.
        unsafe { *shared.job.get() = Some(Job { body, parts }) };
        shared.next.store(0, Ordering::Relaxed);
        let state = shared.state.load(Ordering::Relaxed);
        shared.state.store((state & !(OPEN | INSIDE)).wrapping_add(LOOP) | OPEN, Ordering::SeqCst);
        if shared.parked.load(Ordering::SeqCst) > 0 {
            let _door = shared.door.lock().unwrap_or_else(PoisonError::into_inner);
            shared.bell.notify_all();
        }
    }

    fn close(&self) {
        let state = &self.shared.state;
        let mut now = state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while now & INSIDE != 0 {
            pause(&mut spins);
            now = state.load(Ordering::Acquire);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _door = self.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.bell.notify_all();
        }
        for worker in self.workers.drain(..) {
            // Panics of a worker were caught and resumed in `run`.
            let _ = worker.join();
        }
    }
}

/// One thread per physical core that this process may use: SMT siblings share the execution units and gain nothing.
pub fn default_threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    physical_cores().map_or(logical, |cores| cores.clamp(1, logical))
}

/// Physical cores in this thread's affinity mask; `None` if sysfs has no topology.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(None).ok()?;
    let siblings = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).filter_map(|cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).ok()
    });
    let cores = siblings.collect::<std::collections::BTreeSet<String>>().len();
    (cores > 0).then_some(cores)
}

#[cfg(not(target_os = "linux"))]
fn physical_cores() -> Option<usize> {
    None
}

fn pause(spins: &mut u32) {
    *spins = spins.wrapping_add(1);
    if (*spins).is_multiple_of(1024) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

fn take_parts(next: &AtomicUsize, parts: usize, body: Part<'_>) {
    loop {
        let part = next.fetch_add(1, Ordering::Relaxed);
        if part >= parts {
            return;
        }
        body(part);
    }
}

/// Main loop of a worker thread.
fn work(shared: &Shared) {
    let mut seen = 0;
    while let Some(state) = wait(shared, seen) {
        if shared.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue; // Another worker entered or the loop was closed: retry.
        }
        seen = state / LOOP;
        // SAFETY: this worker is inside (the exchange above), so the job is not changed and its body is still valid.
        if let Some(job) = unsafe { &*shared.job.get() } {
            // SAFETY: as above.
            let body = unsafe { &*job.body };
            if catch_unwind(AssertUnwindSafe(|| take_parts(&shared.next, job.parts, body))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits for an open loop other than number `seen`; `None` when the pool ends.
fn wait(shared: &Shared, seen: u64) -> Option<u64> {
    let mut spins = 0;
    loop {
        let state = shared.state.load(Ordering::Acquire);
        if state & OPEN != 0 && state / LOOP != seen {
            return Some(state);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        pause(&mut spins);
        if spins >= SPINS {
            park(shared, seen);
            spins = 0;
        }
    }
}

fn park(shared: &Shared, seen: u64) {
    let mut door = shared.door.lock().unwrap_or_else(PoisonError::into_inner);
    shared.parked.fetch_add(1, Ordering::SeqCst);
    loop {
        let state = shared.state.load(Ordering::SeqCst);
        let wanted = state & OPEN != 0 && state / LOOP != seen;
        if wanted || shared.stop.load(Ordering::SeqCst) {
            break;
        }
        door = shared.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
    }
    shared.parked.fetch_sub(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn default_threads_is_one_under_a_one_cpu_affinity() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let kept = std::thread::spawn(|| {
            let allowed = sched_getaffinity(None).unwrap();
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap());
            sched_setaffinity(None, &one).unwrap();
            default_threads()
        });
        assert_eq!(kept.join().unwrap(), 1);
        assert!((1..=std::thread::available_parallelism().unwrap().get()).contains(&default_threads()));
    }

    #[test]
    fn every_part_runs_once_over_many_loops() {
        let pool = Threads::new(Some(4));
        for round in 0..2000 {
            let parts = round % 17;
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            pool.run(parts, &|i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn parked_workers_wake_for_the_next_loop() {
        let pool = Threads::new(Some(3));
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = Threads::new(Some(2));
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert_ne!(i, 3))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }

    #[test]
    fn split_covers_the_range_exactly_once() {
        let pool = Threads::new(Some(3));
        for len in [0, 1, 5, 16, 100, 577] {
            let seen: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.split(len, 16, &|a, b| {
                assert!(a % 16 == 0);
                (a..b).for_each(|i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(seen.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }
}
