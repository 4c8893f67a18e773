//! The fuzz targets: for each kind of untrusted input the seeds, the dictionary, the limits and the assertions.

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

/// Separates the parts of an input that consists of several files. It is invalid in JSON.
pub const SEPARATOR: u8 = 0x1e;

/// One kind of untrusted input.
pub struct Target {
    /// The name of the test and of the folders.
    pub name: &'static str,
    /// The number of mutated inputs in a test run.
    pub cases: u32,
    /// The CPU time allowed for one input.
    pub time: Duration,
    /// The live bytes allowed at any time.
    pub memory: usize,
    /// The dictionary: keys and values that the readers parse.
    pub words: &'static [&'static str],
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input, returns whether it was accepted, and panics if an assertion fails.
    pub run: fn(&[u8]) -> bool,
}

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

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The folder of earlier findings.
pub fn findings_folder(target: &Target) -> PathBuf {
    fixtures().join("fuzz").join(target.name)
}

/// Path and content of each earlier finding, sorted by path.
pub fn findings(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(findings_folder(target)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folders of `reference/` that contain `file`, sorted.
fn references(file: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures().join("reference")).unwrap().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|folder| folder.join(file).is_file()).collect();
    folders.sort();
    folders
}

/// Splits an input into `N` parts; missing ones are empty, the last one contains the rest.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut found = input.splitn(N, |&byte| byte == SEPARATOR);
    std::array::from_fn(|_| found.next().unwrap_or_default())
}

/// A temporary folder with these files, in `/dev/shm` if possible; files without content are left out.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (name, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Writes `content` and `data` bytes: up to 64 KiB of ones as f32, then zeros as a sparse hole. Returns the file size.
fn write_padded(path: &Path, content: &[u8], data: u64) -> u64 {
    let ones = 1_f32.to_le_bytes().repeat(16 << 10);
    std::fs::write(path, [content, &ones[..ones.len().min(data as usize)]].concat()).unwrap();
    let size = content.len() as u64 + data;
    std::fs::File::options().write(true).open(path).unwrap().set_len(size).unwrap();
    size
}

/// The first `N` bytes of `input` (missing ones are 0), and the rest.
fn take<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = input.split_at(N.min(input.len()));
    (std::array::from_fn(|at| head.get(at).copied().unwrap_or(0)), rest)
}
