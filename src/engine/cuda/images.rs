//! The compiled kernels that the program embeds: for each target a blob of images, compressed if it is ready-made.
//! `build.rs` and `.ci/kernels.py` describe the format.

use std::io::Read;
use std::ops::Range;

use crate::engine::error::ModelError;

/// The images of one target: `sm_90`, or `compute_90` for PTX.
pub struct Set {
    target: &'static str,
    blob: &'static [u8],
}

// `SETS`, and `ORIGIN`: whether they were embedded ready-made or compiled, by what.
include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Most bytes of a target's images, so that a damaged program does not take all memory.
const MOST: u64 = 64 << 20;

impl Set {
    /// The compute capability in the target's name: the last digit is the minor one.
    pub fn architecture(&self) -> (i32, i32) {
        let digits = self.target.rsplit('_').next().and_then(|digits| digits.parse::<i32>().ok()).unwrap_or(0);
        (digits / 10, digits % 10)
    }

    /// Whether the driver compiles it at first use.
    pub fn is_ptx(&self) -> bool {
        self.target.starts_with("compute")
    }

    /// Machine code runs on GPUs of its major and of a later minor compute capability, PTX on all later ones.
    fn runs_on(&self, gpu: (i32, i32)) -> bool {
        let own = self.architecture();
        own <= gpu && (self.is_ptx() || own.0 == gpu.0)
    }

    /// The first driver that loads it, by NVIDIA's compatibility tables: those of CUDA 12.0, of CUDA 12.8 for the GPUs
    /// that it was the first for and for its PTX, and of CUDA 13.0 if a toolkit 13 compiled it.
    fn driver(&self) -> u32 {
        match self.architecture() {
            _ if ORIGIN.contains("nvcc 13") => 580,
            (10.., _) => 570,
            _ if self.is_ptx() => 570,
            _ => 525,
        }
    }

    /// The images, unpacked.
    pub fn unpack(&self) -> Result<Images, ModelError> {
        let damaged = |what: &str| ModelError::Invalid(format!("the kernels for {} are damaged: {what}", self.target));
        let mut bytes = Vec::new();
        if self.blob.starts_with(b"\xfd7zXZ\0") {
            let unpacking = lzma_rust2::XzReader::new(self.blob, false);
            unpacking.take(MOST).read_to_end(&mut bytes).map_err(|error| damaged(&error.to_string()))?;
        } else {
            bytes.extend(self.blob);
        }
        let table = read_table(&bytes).ok_or_else(|| damaged("no table of images"))?;
        let images = table.into_iter().map(|(name, range)| (name, aligned(&bytes[range.clone()]), range.len()));
        Ok(Images { architecture: self.architecture(), images: images.collect() })
    }
}

/// The bytes as words, because the driver reads the headers of an image in place.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

/// Names and places of the images; `None` if any is outside `bytes`.
fn read_table(bytes: &[u8]) -> Option<Vec<(String, Range<usize>)>> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(taken)
    };
    let count = u32::from_le_bytes(take(4)?.try_into().ok()?);
    let mut table = Vec::new();
    for _ in 0..count {
        let length = usize::from(*take(1)?.first()?);
        let name = String::from_utf8(take(length)?.to_vec()).ok()?;
        let start = usize::try_from(u64::from_le_bytes(take(8)?.try_into().ok()?)).ok()?;
        let length = usize::try_from(u64::from_le_bytes(take(8)?.try_into().ok()?)).ok()?;
        let range = start..start.checked_add(length)?;
        bytes.get(range.clone())?;
        table.push((name, range));
    }
    Some(table)
}

/// Kernel images in memory, aligned to 8 bytes.
pub struct Images {
    /// The compute capability that they were compiled for.
    pub architecture: (i32, i32),
    /// Name, words, bytes.
    images: Vec<(String, Vec<u64>, usize)>,
}

impl Images {
    /// An image by the name of its source file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, words, bytes) = self.images.iter().find(|(found, ..)| found == name)?;
        // SAFETY: any byte is a valid u8, and the words hold at least `bytes` bytes.
        Some(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), *bytes) })
    }
}

/// The set in the file `$CHATNAP_CUDA_KERNELS`, named like `sm_90.xz` or `sm_90.blob`: to check and time other kernels
/// with the same program.
#[cfg(feature = "gpu-checks")]
fn other_set() -> Option<&'static Set> {
    static OTHER: std::sync::OnceLock<Option<Set>> = std::sync::OnceLock::new();
    let read = || {
        let path = std::path::PathBuf::from(std::env::var_os("CHATNAP_CUDA_KERNELS")?);
        let target = path.file_stem()?.to_str()?.to_owned();
        Some(Set { target: target.leak(), blob: std::fs::read(&path).ok()?.leak() })
    };
    OTHER.get_or_init(read).as_ref()
}

/// The best set for a GPU: machine code of the nearest target, else PTX.
pub fn for_gpu(compute_capability: (i32, i32)) -> Result<&'static Set, ModelError> {
    #[cfg(feature = "gpu-checks")]
    if let Some(other) = other_set() {
        return Ok(other);
    }
    let fitting = SETS.iter().filter(|set| set.runs_on(compute_capability));
    fitting.max_by_key(|set| (!set.is_ptx(), set.architecture())).ok_or_else(|| {
        let (major, minor) = compute_capability;
        ModelError::Unsupported(format!(
            "this build has no kernels for compute capability {major}.{minor}: it has {}",
            targets()
        ))
    })
}

/// The compute capabilities that this build has kernels for, for messages.
pub fn targets() -> String {
    let names = |ptx: bool| -> Vec<String> {
        let sets = SETS.iter().filter(|set| set.is_ptx() == ptx);
        sets.map(|set| format!("{}.{}", set.architecture().0, set.architecture().1)).collect()
    };
    match names(true).first() {
        Some(first) => format!("machine code for {} and PTX for others from {first} on", names(false).join(", ")),
        None => format!("machine code for {}", names(false).join(", ")),
    }
}

/// The first driver version that loads this build's kernels for a GPU.
pub fn driver_needed(compute_capability: (i32, i32)) -> u32 {
    for_gpu(compute_capability).map_or(525, Set::driver)
}

#[cfg(test)]
#[path = "images/tests.rs"]
mod tests;
