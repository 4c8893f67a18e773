//! The process's host memory: the resident size, and returning freed memory to the system.

/// Resident bytes of this process; `None` if the system does not report them.
pub fn resident_bytes() -> Option<u64> {
    // proc_pid_status(5): `VmRSS:  12345 kB`, of 1024 bytes each.
    kilobytes("/proc/self/status", "VmRSS:")
}

/// Bytes of RAM that programs can take without swapping, by the kernel's estimate; `None` if it gives none.
pub fn available_bytes() -> Option<u64> {
    // proc_meminfo(5): `MemAvailable:  12345 kB`.
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Bytes of RAM in total; `None` if the system does not report them.
pub fn total_bytes() -> Option<u64> {
    // proc_meminfo(5): `MemTotal:  12345 kB`.
    kilobytes("/proc/meminfo", "MemTotal:")
}

/// The value in bytes of the line of `file` that begins with `name`.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns freed memory to the system: otherwise the allocator keeps it, and other programs cannot use it.
pub fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            /// malloc_trim(3) of glibc.
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: the declaration is glibc's, the function takes any `pad`, may be called at any time from any thread
        // and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}

/// Limits glibc's malloc to two arenas. By default it creates up to eight for each core, more with the threads of each
/// load, and every arena keeps about 2 MB that `trim_allocator` does not return.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    {
        /// `M_ARENA_MAX` of glibc's malloc.h.
        const ARENA_MAX: i32 = -8;
        unsafe extern "C" {
            /// mallopt(3) of glibc.
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: the declaration is glibc's; the function takes the allocator's own lock, may be called at any time
        // from any thread, and this parameter only changes which arena is assigned to a thread later.
        unsafe { mallopt(ARENA_MAX, 2) };
    }
}
