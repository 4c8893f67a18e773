//! Uploads weights from files to the GPU: several threads read chunks into pinned memory and copy them on their own
//! streams; a kernel repacks quantised chunks into planes. Progress in bytes; checks for a cancel between chunks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use cudarc::driver::sys;

use super::timeline;
use crate::engine::cpu::GgmlType;
use crate::engine::cuda::driver::errors::check;
use crate::engine::cuda::driver::{DeviceBuffer, Event, Gpu, HostMemory, Kernel, LaunchConfig, PinnedBuffer, Stream};
use crate::engine::cuda::layout::{Format, Mat};
use crate::engine::cuda::params::RepackArgs;
use crate::engine::cuda::split::Piece;
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::engine::weights::file::open_regular;
use crate::engine::weights::origin::ReadOrigin;
use crate::engine::weights::plan::PlannedTensor;
use crate::protocol::{LoadPhase, LoadProgress};

/// Bytes of one read and copy: a cancel waits for at most one of them per reader.
pub const CHUNK: usize = 4 << 20;
/// Maximum reader threads; one of them gets 5 to 10 GB/s from the page cache.
pub const MOST_READERS: usize = 12;
/// Chunks in flight per reader.
const DEPTH: usize = 2;

/// Maximum bytes of GPU memory that an upload takes besides the weights.
pub const STAGING: u64 = (CHUNK * MOST_READERS * DEPTH) as u64;

/// The pinned memory that readers copy chunks from.
pub struct Ring {
    pinned: PinnedBuffer,
    readers: usize,
}

/// Memory for the ring, allocated while the context is still being created.
pub struct RingMemory {
    host: Option<HostMemory>,
    readers: usize,
}

impl RingMemory {
    /// Faults the pages in, which makes pinning fast.
    pub fn new(readers: usize) -> Self {
        Self { host: HostMemory::new(CHUNK * readers * DEPTH), readers }
    }

    /// Pins the memory. A context must be current. If pinning fails, the driver allocates new pinned memory.
    pub fn pin(self) -> Result<Ring, ModelError> {
        let pinned = match self.host.map(PinnedBuffer::pin) {
            Some(Ok(pinned)) => pinned,
            _ => PinnedBuffer::new(CHUNK * self.readers * DEPTH)?,
        };
        Ok(Ring { pinned, readers: self.readers })
    }
}

/// One chunk of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    file: usize,
    offset: u64,
    bytes: usize,
    /// Contiguous bytes in the file: all, or a part of each row.
    run: usize,
    /// Bytes between the beginnings of two runs.
    stride: u64,
    to: Destination,
}

#[derive(Clone, Copy, Debug)]
enum Destination {
    /// The bytes of the file, unchanged.
    Copy { address: u64 },
    /// Through staging memory into planes: `count` runs of 32 weights from run `first` on.
    Repack { mat: Mat, kind: GgmlType, first: u64, count: u64 },
}

/// Cuts the piece of a tensor that `mat` has memory for into chunks of whole blocks.
pub fn jobs_for(tensor: &PlannedTensor, piece: &Piece, mat: Mat) -> Vec<Job> {
    let kind = tensor.kind;
    let plain = Format::of(kind).is_plain() && kind.block_size() == 1;
    let bytes_of = |numbers: usize| numbers / kind.block_size() * kind.block_bytes();
    let (row, part) = (bytes_of(tensor.cols), bytes_of(piece.cols.len()));
    let start = tensor.offset + (piece.rows.start * row + bytes_of(piece.cols.start)) as u64;
    let total = piece.rows.len() * part;
    // Parts of rows are read row by row, each row as a whole.
    let unit = if part == row { kind.block_bytes() } else { part };
    let step = (CHUNK / unit.max(1)).max(1) * unit;
    (0..total.div_ceil(step.max(1)))
        .map(|i| {
            let (first, bytes) = (i * step, step.min(total - i * step));
            let run = |bytes: usize| (bytes / kind.block_bytes() * kind.block_size() / 32) as u64;
            let to = if plain {
                Destination::Copy { address: mat.main + first as u64 }
            } else {
                Destination::Repack { mat, kind, first: run(first), count: run(bytes) }
            };
            let (offset, run, stride) = match part == row {
                true => (start + first as u64, bytes, 0),
                false => (start + (first / part * row) as u64, part, row as u64),
            };
            Job { file: tensor.file, offset, bytes, run, stride, to }
        })
        .collect()
}

enum News {
    Bytes(u64),
    Failed(ModelError),
}

/// State shared by the readers.
struct Shared<'a> {
    gpu: &'a Gpu,
    repack: Kernel,
    paths: &'a [PathBuf],
    files: Vec<File>,
    jobs: &'a [Job],
    pinned: &'a PinnedBuffer,
    staging: Option<DeviceBuffer<u8>>,
    next: AtomicUsize,
    stop: AtomicBool,
    cancel: &'a CancelFlag,
}

/// Runs all jobs and waits until the weights are in GPU memory.
pub fn upload(
    gpu: &Gpu,
    repack: Kernel,
    ring: &Ring,
    paths: &[PathBuf],
    jobs: &[Job],
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), ModelError> {
    let total: u64 = jobs.iter().map(|job| job.bytes as u64).sum();
    // A part of a row is read as a whole.
    if jobs.iter().any(|job| job.bytes > CHUNK) {
        return Err(ModelError::Unsupported("a row of a matrix is too long to be split among GPUs".into()));
    }
    let readers = ring.readers.min(jobs.len()).max(1);
    let staged = jobs.iter().any(|job| matches!(job.to, Destination::Repack { .. }));
    let shared = Shared {
        gpu,
        repack,
        paths,
        files: paths.iter().map(|path| open_regular(path).map(|(file, _)| file)).collect::<Result<_, _>>()?,
        jobs,
        pinned: &ring.pinned,
        staging: if staged { Some(DeviceBuffer::new(CHUNK * readers * DEPTH)?) } else { None },
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        cancel,
    };
    timeline::mark("staging");
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for reader in 0..readers {
            let (shared, sender) = (&shared, sender.clone());
            scope.spawn(move || {
                if let Err(error) = read_and_copy(shared, reader, &sender) {
                    shared.stop.store(true, Ordering::Relaxed);
                    // Cannot fail: the receiver exists until every sender is dropped.
                    let _ = sender.send(News::Failed(error));
                }
            });
        }
        drop(sender);
        let gathered = gather(receiver, total, progress);
        timeline::mark("weights read");
        gathered
    })
}

fn gather(
    news: std::sync::mpsc::Receiver<News>,
    total: u64,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), ModelError> {
    let origin = ReadOrigin::start();
    let mut tell = |done| {
        progress(LoadProgress { phase: LoadPhase::Upload, done, total: Some(total), detail: origin.of(done) });
    };
    let (mut done, mut told, mut failure) = (0, 0, None);
    tell(0);
    for item in news {
        match item {
            News::Failed(error) => drop(failure.get_or_insert(error)),
            News::Bytes(bytes) => {
                done += bytes;
                if done - told >= 64 << 20 || done == total {
                    told = done;
                    tell(done);
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

fn read_and_copy(shared: &Shared<'_>, reader: usize, news: &Sender<News>) -> Result<(), ModelError> {
    shared.gpu.activate()?;
    let events = [Event::new(false)?, Event::new(false)?];
    let stream = Stream::new()?;
    for turn in 0.. {
        let Some(job) = shared.jobs.get(shared.next.fetch_add(1, Ordering::Relaxed)) else { break };
        if shared.cancel.is_cancelled() || shared.stop.load(Ordering::Relaxed) {
            return Err(ModelError::Cancelled);
        }
        let slot = turn % DEPTH;
        if turn >= DEPTH {
            events[slot].wait()?;
        }
        let at = (reader * DEPTH + slot) * CHUNK;
        // SAFETY: each (reader, slot) has its own range of the ring, and the last copy from it has ended.
        let buffer = unsafe { std::slice::from_raw_parts_mut(shared.pinned.pointer().add(at), job.bytes) };
        for (i, run) in buffer.chunks_mut(job.run.max(1)).enumerate() {
            let offset = job.offset + i as u64 * job.stride;
            read_exact(&shared.files[job.file], &shared.paths[job.file], run, offset)?;
        }
        send(shared, job, buffer, at, &stream)?;
        events[slot].record(stream.0)?;
        // Cannot fail: the receiver exists until every sender is dropped.
        let _ = news.send(News::Bytes(job.bytes as u64));
    }
    // SAFETY: `stream` owns the handle.
    check(unsafe { sys::cuStreamSynchronize(stream.0) }, "copying weights to the GPU")
}

fn send(shared: &Shared<'_>, job: &Job, buffer: &[u8], at: usize, stream: &Stream) -> Result<(), ModelError> {
    let address = match (job.to, &shared.staging) {
        (Destination::Copy { address }, _) => address,
        (Destination::Repack { .. }, Some(staging)) => staging.at(at),
        (Destination::Repack { .. }, None) => return Err(ModelError::Invalid("no staging memory".into())),
    };
    // SAFETY: the destination was laid out for this job; `buffer` is pinned and not reused before the slot's event.
    let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(address, buffer.as_ptr().cast(), buffer.len(), stream.0) };
    check(copied, "copying weights to the GPU")?;
    if let Destination::Repack { mat, kind, first, count } = job.to {
        let args = RepackArgs { src: address, dst: mat, first, count, source: kind.to_ggml() as i32, pad: 0 };
        // SAFETY: source and planes hold `count` runs from `first` on.
        unsafe { shared.repack.launch(stream.0, LaunchConfig::linear(count.div_ceil(128), 128), &args)? };
    }
    Ok(())
}

fn read_exact(file: &File, path: &std::path::Path, out: &mut [u8], offset: u64) -> Result<(), ModelError> {
    file.read_exact_at(out, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ModelError::Invalid(format!(
            "{}: the file ended while it was being read; it was truncated or replaced meanwhile",
            path.display()
        )),
        _ => ModelError::Io(format!("{}: {error}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    fn tensor(kind: GgmlType, rows: usize, cols: usize) -> PlannedTensor {
        let bytes = (rows * cols / kind.block_size() * kind.block_bytes()) as u64;
        PlannedTensor { file: 0, offset: 96, bytes, kind, rows, cols }
    }

    fn whole(tensor: &PlannedTensor) -> Piece {
        Piece { rows: 0..tensor.rows, cols: 0..tensor.cols }
    }

    /// Reads the jobs of a piece from bytes that hold their own block's number, as the upload reads a file.
    #[test]
    fn parts_of_rows_are_read_as_runs_of_each_row() {
        for kind in [GgmlType::Q4K, GgmlType::BF16, GgmlType::Q8_0] {
            let tensor = tensor(kind, 900, 4096);
            let piece = Piece { rows: 0..900, cols: 1024..3072 };
            let block = kind.block_bytes();
            let numbers = tensor.bytes as usize / block;
            let mut read = Vec::new();
            for job in jobs_for(&tensor, &piece, Mat::default()) {
                assert!(job.bytes <= CHUNK && job.bytes.is_multiple_of(job.run), "{job:?}");
                for i in 0..job.bytes / job.run {
                    let at = (job.offset - 96) as usize + i * job.stride as usize;
                    assert!(at.is_multiple_of(block) && job.run.is_multiple_of(block));
                    read.extend(at / block..(at + job.run) / block);
                }
            }
            let per_row = numbers / 900;
            let of_row = |row: usize| row * per_row + per_row / 4..row * per_row + per_row * 3 / 4;
            assert_eq!(read, (0..900).flat_map(of_row).collect::<Vec<_>>(), "{}", kind.name());
        }
    }

    #[test]
    fn rows_of_a_tensor_are_read_from_the_middle_of_the_file() {
        let tensor = tensor(GgmlType::Q6K, 900, 1024);
        let piece = Piece { rows: 450..900, cols: 0..1024 };
        let jobs = jobs_for(&tensor, &piece, Mat::default());
        assert_eq!(
            (jobs[0].offset, jobs.iter().map(|job| job.bytes as u64).sum()),
            (96 + tensor.bytes / 2, tensor.bytes / 2)
        );
    }

    #[test]
    fn chunks_cover_a_tensor_once_in_whole_blocks() {
        for kind in [GgmlType::Q4K, GgmlType::Q6K, GgmlType::Q8_0, GgmlType::Q2K] {
            let tensor = tensor(kind, 9000, 1024);
            let jobs = jobs_for(&tensor, &whole(&tensor), Mat::default());
            let (mut offset, mut block) = (96, 0);
            for job in &jobs {
                let Destination::Repack { first, count, .. } = job.to else { panic!("{kind:?} is repacked") };
                assert_eq!((job.offset, first), (offset, block));
                assert!(job.bytes <= CHUNK && first.is_multiple_of(kind.block_size() as u64 / 32));
                offset += job.bytes as u64;
                block += count;
            }
            assert_eq!((offset, block), (96 + tensor.bytes, 9000 * 1024 / 32));
        }
    }

    #[test]
    fn plain_weights_are_copied_to_consecutive_addresses() {
        let tensor = tensor(GgmlType::BF16, 5000, 1024);
        let jobs = jobs_for(&tensor, &whole(&tensor), Mat { main: 4096, ..Mat::default() });
        let ends: Vec<_> = jobs
            .iter()
            .map(|job| match job.to {
                Destination::Copy { address } => (address, address + job.bytes as u64),
                Destination::Repack { .. } => panic!("bf16 is copied"),
            })
            .collect();
        assert_eq!((ends[0].0, ends[ends.len() - 1].1), (4096, 4096 + tensor.bytes));
        assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }
}
