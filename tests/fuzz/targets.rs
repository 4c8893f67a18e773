//! What is fuzzed: for each kind of foreign input its seeds, its words, its limits, and what must hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

mod config;
mod gguf;
mod gguf_writer;
mod hub;
mod safetensors;
mod sanitizer;
mod store;
mod template;
mod tokenizer;

/// Stands between the parts of an input that is several files. No valid JSON holds it.
pub const SEPARATOR: u8 = 0x1e;

/// One kind of foreign input.
pub struct Target {
    /// As the test and the folders are called.
    pub name: &'static str,
    /// Mutated inputs of a test run.
    pub cases: u32,
    /// CPU time for one input.
    pub time: Duration,
    /// Bytes that may be allocated at a time.
    pub memory: usize,
    /// Keys and values that readers look for.
    pub words: &'static [&'static str],
    /// Sound inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input, tells whether it was accepted, and panics where something does not hold.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub static TARGETS: [Target; 8] = [
    gguf::TARGET,
    safetensors::TARGET,
    config::TARGET,
    tokenizer::TARGET,
    template::TARGET,
    sanitizer::TARGET,
    hub::TARGET,
    store::TARGET,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The folder of inputs that were once findings.
pub fn findings_folder(target: &Target) -> PathBuf {
    fixtures().join("fuzz").join(target.name)
}

/// What is in it, in order.
pub fn findings(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(findings_folder(target)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folders of `reference/` that hold `file`, in order.
fn references(file: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures().join("reference")).unwrap().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|folder| folder.join(file).is_file()).collect();
    folders.sort();
    folders
}

/// The first `N` parts of an input, empty where it has fewer; the last one holds all that is left.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut found = input.splitn(N, |&byte| byte == SEPARATOR);
    std::array::from_fn(|_| found.next().unwrap_or_default())
}

/// A folder with these files; one whose content is empty is left out. In memory, where the system has such a place.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (name, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Writes `content` and so many bytes of data: ones as 32-bit floats, and after 64 KiB of them zeros, which take no room.
fn write_padded(path: &Path, content: &[u8], data: u64) -> u64 {
    let ones = 1_f32.to_le_bytes().repeat(16 << 10);
    std::fs::write(path, [content, &ones[..ones.len().min(data as usize)]].concat()).unwrap();
    let size = content.len() as u64 + data;
    std::fs::File::options().write(true).open(path).unwrap().set_len(size).unwrap();
    size
}

/// The first `N` bytes of `input` (missing ones are 0), and the others.
fn take<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = input.split_at(N.min(input.len()));
    (std::array::from_fn(|at| head.get(at).copied().unwrap_or(0)), rest)
}
