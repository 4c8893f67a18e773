//! Whether weights are read from a disk or from memory, for the progress of a load.

/// The bytes that this process has read from storage, at the beginning of a load.
pub struct ReadOrigin(Option<u64>);

impl ReadOrigin {
    /// To be called before the first read.
    pub fn start() -> Self {
        Self(storage_bytes())
    }

    /// Where most of the `done` bytes that were read since `start` came from; `None` if the system does not say.
    pub fn of(&self, done: u64) -> Option<String> {
        origin(self.0, storage_bytes(), done).map(str::to_owned)
    }
}

fn origin(before: Option<u64>, now: Option<u64>, done: u64) -> Option<&'static str> {
    let read = now?.saturating_sub(before?);
    match done {
        0 => None,
        _ if read >= done / 2 => Some("from disk"),
        _ => Some("from the page cache"),
    }
}

/// proc_pid_io(5), `read_bytes`: bytes that the storage layer has fetched for this process. Network file systems count,
/// those of user space (FUSE) do not.
fn storage_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_part_decides() {
        assert_eq!(origin(Some(10), Some(10), 100), Some("from the page cache"));
        assert_eq!(origin(Some(10), Some(40), 100), Some("from the page cache"));
        assert_eq!(origin(Some(10), Some(110), 100), Some("from disk"));
        assert_eq!(origin(Some(10), Some(10), 0), None);
        assert_eq!(origin(None, Some(10), 100), None);
        assert_eq!(origin(Some(10), None, 100), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_counts_reads_from_storage() {
        assert!(storage_bytes().is_some());
    }
}
