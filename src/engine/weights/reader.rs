//! Reads tensors into owned memory: several reader threads, progress in bytes, cancellation between chunks.
//!
//! Files are read with `pread`, not mapped: a file that shrinks during the load is an error instead of a SIGBUS.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use super::file::open_regular;
use super::gguf::invalid;
use super::origin::ReadOrigin;
use super::plan::{PlannedTensor, TensorPlan};
use crate::engine::cpu::{AlignedBytes, zeroed_vec};
use crate::engine::error::ModelError;
use crate::engine::source::CancelFlag;
use crate::protocol::{LoadPhase, LoadProgress};

/// Bytes per `pread`: small enough to cancel quickly, large enough that the system call costs nothing.
pub const CHUNK: usize = 8 << 20;

/// Message from a reader to the thread that started it.
enum News<T> {
    Bytes(u64),
    Tensor(String, T),
    Failed(ModelError),
}

/// Reads the tensors of `names` and passes each one's bytes to `build`, on the reader thread; returns the results by
/// name. At most `readers` tensors are in flight, which bounds the memory besides the results of `build`.
pub fn read_tensors<T: Send>(
    plan: &TensorPlan,
    names: &[String],
    readers: usize,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(LoadProgress),
    build: impl Fn(&str, &PlannedTensor, AlignedBytes) -> Result<T, ModelError> + Sync,
) -> Result<HashMap<String, T>, ModelError> {
    let files =
        plan.files.iter().map(|path| open_regular(path).map(|(file, _)| file)).collect::<Result<Vec<_>, _>>()?;
    let mut jobs = Vec::with_capacity(names.len());
    for name in names {
        let tensor = plan.get(name).ok_or_else(|| plan.invalid(format!("there is no tensor {name:?}")))?;
        jobs.push((name, tensor));
    }
    // Largest first: otherwise one reader could start a large tensor last, while the others are idle.
    jobs.sort_by_key(|(_, tensor)| (std::cmp::Reverse(tensor.bytes), tensor.file, tensor.offset));
    let total: u64 = jobs.iter().map(|(_, tensor)| tensor.bytes).sum();

    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel::<News<T>>();
    let sender = Mutex::new(sender);
    std::thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..readers.clamp(1, jobs.len().max(1)) {
            let news = sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let (files, jobs, next, stop, build) = (&files, &jobs, &next, &stop, &build);
            let read = move || {
                while let Some((name, tensor)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = read_one(&files[tensor.file], &plan.files[tensor.file], tensor, cancel, stop, &news)
                        .and_then(|bytes| build(name, tensor, bytes));
                    let failed = result.is_err();
                    let told = news.send(match result {
                        Ok(built) => News::Tensor((*name).clone(), built),
                        Err(error) => News::Failed(error),
                    });
                    if failed || told.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            };
            // If the system cannot start another thread, the ones already started do the work.
            match std::thread::Builder::new().spawn_scoped(scope, read) {
                Ok(_) => started += 1,
                Err(error) if started == 0 => {
                    return Err(ModelError::OutOfMemory(format!("cannot start a thread to read with: {error}")));
                }
                Err(_) => break,
            }
        }
        drop(sender);
        gather(receiver, total, progress)
    })
}

/// Collects the built tensors and reports progress; returns the first failure, if any.
fn gather<T>(
    news: std::sync::mpsc::Receiver<News<T>>,
    total: u64,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<HashMap<String, T>, ModelError> {
    let mut built = HashMap::new();
    let mut failure = None;
    let (mut done, mut told) = (0, 0);
    let origin = ReadOrigin::start();
    let mut tell = |done: u64| {
        progress(LoadProgress { phase: LoadPhase::Read, done, total: Some(total), detail: origin.of(done) });
    };
    tell(0);
    for item in news {
        match item {
            News::Tensor(name, tensor) => drop(built.insert(name, tensor)),
            News::Failed(error) => drop(failure.get_or_insert(error)),
            News::Bytes(bytes) => {
                done += bytes;
                if done - told >= CHUNK as u64 || done == total {
                    told = done;
                    tell(done);
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(built),
    }
}

fn read_one<T>(
    file: &File,
    path: &Path,
    tensor: &PlannedTensor,
    cancel: &CancelFlag,
    stop: &AtomicBool,
    news: &Sender<News<T>>,
) -> Result<AlignedBytes, ModelError> {
    let length = usize::try_from(tensor.bytes).map_err(|_| invalid(path, "a tensor is larger than memory"))?;
    let mut bytes = AlignedBytes::for_weights(length)?;
    let mut offset = tensor.offset;
    for chunk in bytes.chunks_mut(CHUNK) {
        if cancel.is_cancelled() || stop.load(Ordering::Relaxed) {
            return Err(ModelError::Cancelled);
        }
        read_at(file, path, chunk, offset)?;
        offset += chunk.len() as u64;
        // A closed channel means that another reader failed; the next iteration checks `stop`.
        let _ = news.send(News::Bytes(chunk.len() as u64));
    }
    Ok(bytes)
}

/// Fills `out` from `offset`. A file that ends too early was truncated or replaced during the load: an error.
pub(super) fn read_at(file: &File, path: &Path, out: &mut [u8], offset: u64) -> Result<(), ModelError> {
    file.read_exact_at(out, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            invalid(path, "the file ended while it was being read; it was truncated or replaced meanwhile")
        }
        _ => ModelError::Io(format!("{}: {error}", path.display())),
    })
}

/// Whether two tensors have the same type and size and the same first and last 64 KiB.
pub fn same_bytes(plan: &TensorPlan, one: &PlannedTensor, other: &PlannedTensor) -> bool {
    const FEW: u64 = 1 << 16;
    let ends = |tensor: &PlannedTensor| -> Option<Vec<u8>> {
        let path = plan.files.get(tensor.file)?;
        let (file, _) = open_regular(path).ok()?;
        let few = FEW.min(tensor.bytes);
        let mut bytes = vec![0; 2 * few as usize];
        let (first, last) = bytes.split_at_mut(few as usize);
        read_at(&file, path, first, tensor.offset).ok()?;
        read_at(&file, path, last, tensor.offset + tensor.bytes - few).ok()?;
        Some(bytes)
    };
    one.bytes == other.bytes && one.kind == other.kind && ends(one) == ends(other)
}

/// Reads a small unquantised tensor as floats (norms, biases, RoPE factors).
pub fn read_floats(plan: &TensorPlan, tensor: &PlannedTensor) -> Result<Vec<f32>, ModelError> {
    let path = &plan.files[tensor.file];
    let (file, size) = open_regular(path)?;
    if tensor.bytes > size {
        return Err(invalid(path, "a tensor is larger than the file"));
    }
    let mut bytes = zeroed_vec(usize::try_from(tensor.bytes).unwrap_or(usize::MAX))?;
    read_at(&file, path, &mut bytes, tensor.offset)?;
    floats(path, tensor, &bytes)
}

/// Converts the bytes of an unquantised tensor to floats; an error for a quantised one.
pub fn floats(path: &Path, tensor: &PlannedTensor, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
    use crate::engine::cpu::GgmlType;
    let two = |convert: fn([u8; 2]) -> f32| bytes.chunks_exact(2).map(|b| convert([b[0], b[1]])).collect();
    match tensor.kind {
        GgmlType::F32 => Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        GgmlType::F16 => Ok(two(|b| half::f16::from_le_bytes(b).to_f32())),
        GgmlType::BF16 => Ok(two(|b| half::bf16::from_le_bytes(b).to_f32())),
        kind => Err(invalid(path, format!("a vector is stored as {}; F32, F16 or BF16 was expected", kind.name()))),
    }
}
