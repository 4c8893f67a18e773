//! Identifies a model's files without reading all of them: a hash of their sizes and of samples of their bytes.
//!
//! The samples are the first MiB, which holds a GGUF's metadata, and 256 blocks of 4 KiB at equal distances up to the end:
//! 2 MiB of each file, read in milliseconds. Files of other models, versions and quantisations differ in them. Files that
//! differ in a few bytes between the samples have the same fingerprint.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::source::ModelFiles;

/// Bytes at the start of a file that are hashed whole.
const HEAD: u64 = 1 << 20;

/// Number of sampled blocks, and bytes of each.
const BLOCKS: u64 = 256;
const BLOCK: u64 = 4096;

/// The fingerprint of a model's files, in lower-case hex (64 digits).
pub fn of(files: &ModelFiles) -> io::Result<String> {
    let mut hasher = Sha256::new();
    for path in paths(files)? {
        sample(&path, &mut hasher)?;
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of a text, in lower-case hex.
pub fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The files that decide about the answers, in a fixed order.
fn paths(files: &ModelFiles) -> io::Result<Vec<PathBuf>> {
    let folder = match files {
        ModelFiles::Gguf(paths) => return Ok(paths.clone()),
        ModelFiles::Scripted(path) => return Ok(vec![path.clone()]),
        ModelFiles::Safetensors(folder) => folder,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        if ["safetensors", "json", "jinja", "model"].contains(&kind) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn sample(path: &Path, hasher: &mut Sha256) -> io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hasher.update(length.to_le_bytes());
    let mut bytes = vec![0; HEAD.max(BLOCK) as usize];
    let head = fill(&mut file, &mut bytes[..HEAD as usize])?;
    hasher.update(&bytes[..head]);
    let last = length.saturating_sub(BLOCK);
    let mut next = HEAD;
    for place in 1..=BLOCKS {
        // u128: a file of terabytes times 256 exceeds no limit.
        let at = (u128::from(last) * u128::from(place) / u128::from(BLOCKS)) as u64;
        if at < next {
            continue;
        }
        file.seek(SeekFrom::Start(at))?;
        let count = fill(&mut file, &mut bytes[..BLOCK as usize])?;
        hasher.update(&bytes[..count]);
        next = at + 1;
    }
    // The end of a file that is a little longer than the head.
    if length > HEAD && last < HEAD {
        file.seek(SeekFrom::Start(HEAD))?;
        let count = fill(&mut file, &mut bytes[..BLOCK as usize])?;
        hasher.update(&bytes[..count]);
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends; returns the number of bytes.
fn fill(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read(&mut bytes[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fingerprint that is computed beside the load.
pub struct Pending {
    thread: Option<JoinHandle<String>>,
    done: String,
}

impl Pending {
    /// Starts to compute the fingerprint of `files`.
    pub fn start(files: &ModelFiles) -> Self {
        let files = files.clone();
        let thread = std::thread::Builder::new().name("fingerprint".into());
        let thread = thread.spawn(move || of(&files).unwrap_or_default());
        Self { thread: thread.ok(), done: String::new() }
    }

    /// The fingerprint; empty if the files cannot be read. Waits for it.
    pub fn get(&mut self) -> &str {
        if let Some(thread) = self.thread.take() {
            self.done = thread.join().unwrap_or_default();
        }
        &self.done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hash(folder: &Path, bytes: &[u8]) -> String {
        let path = folder.join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        of(&ModelFiles::Gguf(vec![path])).unwrap()
    }

    #[test]
    fn each_sampled_byte_and_the_length_count() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, 5000, HEAD as usize, HEAD as usize + 10, HEAD as usize + 5000, 3 << 20] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            let whole = hash(folder.path(), &bytes);
            assert_eq!(whole, hash(folder.path(), &bytes));
            assert_eq!(whole.len(), 64);
            let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            assert_ne!(whole, hash(folder.path(), &longer), "{length} and one more");
            let ends = [0, length / 2, length.saturating_sub(1)];
            for at in ends.into_iter().filter(|at| *at < length && (*at < HEAD as usize || *at + 1 == length)) {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert_ne!(whole, hash(folder.path(), &other), "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn folder_is_identified_by_its_model_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let hash = || of(&ModelFiles::Safetensors(folder.path().into())).unwrap();
        write("config.json", "{}");
        write("model.safetensors", "weights");
        let first = hash();
        write("README.md", "text");
        assert_eq!(hash(), first);
        write("config.json", "{ }");
        assert_ne!(hash(), first);
    }

    #[test]
    fn missing_file_is_an_error_and_pending_is_empty() {
        let nowhere = ModelFiles::Gguf(vec!["/nonexistent/model.gguf".into()]);
        assert!(of(&nowhere).is_err());
        assert_eq!(Pending::start(&nowhere).get(), "");
    }
}
