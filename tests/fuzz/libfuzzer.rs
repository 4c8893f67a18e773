//! Runs one target under libFuzzer. `benches/fuzz.sh` builds and calls it.
//!
//!   fuzz TARGET FOLDER [OPTION OR FILE OF LIBFUZZER...]
//!
//! FOLDER contains the corpus, the seeds, the dictionary and the findings. The current input is written to the file
//! `current` in the temporary folder, because libFuzzer cannot save it if the process dies from a stack overflow.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use proptest::strategy::{SBoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

mod guard;
#[allow(dead_code, reason = "only the property tests use the strategy")]
mod mutate;
#[allow(dead_code, reason = "only the property tests use the number of cases")]
mod targets;

use targets::Target;

unsafe extern "C" {
    /// Defined in `FuzzerDriver.cpp`.
    fn LLVMFuzzerRunDriver(
        count: *mut c_int,
        arguments: *mut *mut *mut c_char,
        callback: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
    /// Defined in `FuzzerLoop.cpp`: libFuzzer's own mutations.
    fn LLVMFuzzerMutate(data: *mut u8, size: usize, most: usize) -> usize;
}

/// The target, and the file that holds the current input.
static CHOSEN: OnceLock<(&'static Target, PathBuf)> = OnceLock::new();

fn main() {
    let mut given = std::env::args().skip(1);
    let usage = "usage: fuzz TARGET FOLDER [OPTION OR FILE OF LIBFUZZER...]";
    let target = targets::find(&given.next().expect(usage)).expect("no target of this name");
    let folder = PathBuf::from(given.next().expect(usage));
    prepare(target, &folder);
    CHOSEN.set((target, std::env::temp_dir().join("current"))).ok().unwrap();
    let within = |name: &str| folder.join(name).display().to_string();
    let longest = (target.seeds)().iter().map(Vec::len).max().unwrap_or(0);
    let mut arguments = vec![
        "fuzz".to_owned(),
        format!("-max_len={}", 8 * longest.max(512)),
        format!("-dict={}", within("words")),
        format!("-artifact_prefix={}/", within("findings")),
    ];
    let given: Vec<String> = given.collect();
    if given.iter().all(|argument| argument.starts_with('-')) {
        arguments.extend([within("corpus"), within("seeds")]);
    }
    arguments.extend(given);
    let arguments: Vec<CString> = arguments.into_iter().map(|argument| CString::new(argument).unwrap()).collect();
    let mut pointers: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let mut count = pointers.len() as c_int;
    pointers.push(std::ptr::null_mut());
    let mut pointer = pointers.as_mut_ptr();
    // SAFETY: a count and a null-terminated array of C strings, as passed to `main`, that outlive the call.
    let code = unsafe { LLVMFuzzerRunDriver(&mut count, &mut pointer, run) };
    std::process::exit(code);
}

/// Writes the seeds, including known findings, and the dictionary.
fn prepare(target: &Target, folder: &Path) {
    for name in ["corpus", "seeds", "findings"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let findings = targets::findings(target).into_iter().map(|(_, input)| input);
    for (index, seed) in (target.seeds)().into_iter().chain(findings).enumerate() {
        std::fs::write(folder.join(format!("seeds/{index:03}")), seed).unwrap();
    }
    let escaped = |word: &str| word.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let words: String = target.words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    std::fs::write(folder.join("words"), words).unwrap();
}

extern "C" fn run(data: *const u8, size: usize) -> c_int {
    let (target, current) = CHOSEN.get().unwrap();
    // SAFETY: libFuzzer passes `size` bytes at `data`, which may be null if `size` is 0.
    let input = if size == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    std::fs::write(current, input).unwrap();
    if let Err(why) = guard::measured(target, input) {
        eprintln!("{}: {why}", target.name);
        // libFuzzer's signal handler saves the input.
        std::process::abort();
    }
    0
}

/// libFuzzer calls this symbol, if it is defined, for each mutation. Even seeds use libFuzzer's own mutations.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerCustomMutator(data: *mut u8, size: usize, most: usize, seed: u32) -> usize {
    let (target, _) = CHOSEN.get().unwrap();
    if seed.is_multiple_of(2) {
        // SAFETY: the arguments of libFuzzer are passed on unchanged.
        return unsafe { LLVMFuzzerMutate(data, size, most) };
    }
    // SAFETY: `data` has room for `most` bytes, of which `size` are set.
    let buffer = unsafe { std::slice::from_raw_parts_mut(data, most) };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    // Built once: building either takes longer than running most inputs.
    static CHANGES: LazyLock<(Config, SBoxedStrategy<mutate::Mutation>)> =
        LazyLock::new(|| (Config::default(), mutate::mutation().sboxed()));
    let mut runner = TestRunner::new_with_rng(CHANGES.0.clone(), rng);
    let mutation = CHANGES.1.new_tree(&mut runner).unwrap().current();
    let input = mutate::apply(buffer[..size].to_vec(), &mutation, target.words);
    let length = input.len().min(most);
    buffer[..length].copy_from_slice(&input[..length]);
    length
}

/// `libfuzzer-sys` needs this symbol to link; only its own `main`, which is not used here, would call it.
#[unsafe(no_mangle)]
#[allow(improper_ctypes_definitions, reason = "both sides are Rust: libfuzzer-sys declares it so")]
extern "C" fn rust_fuzzer_test_input(input: &[u8]) -> i32 {
    run(input.as_ptr(), input.len())
}

use libfuzzer_sys as _;
