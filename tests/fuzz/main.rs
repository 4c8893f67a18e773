//! Property tests of all readers of untrusted input: a fixed number of mutated inputs for each target, the same in each
//! run. `benches/fuzz.sh` runs the same targets without a fixed number, guided by coverage.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

mod guard;
mod mutate;
mod targets;

/// Locked during a measurement, because time and memory are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Replays earlier findings, then runs mutated seeds.
fn check(name: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = targets::find(name).unwrap();
    for (path, input) in targets::findings(target) {
        guard::run(target, &input).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
    let seeds = (target.seeds)();
    let read = seeds
        .iter()
        .enumerate()
        .filter(|(index, seed)| guard::run(target, seed).unwrap_or_else(|why| panic!("seed {index} of {name}: {why}")));
    // Mutations of seeds that are refused at once would not reach deep into a reader.
    assert!(2 * read.count() >= seeds.len(), "most seeds of {name} are refused");
    let config = Config { cases: target.cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, rng).run(&mutate::inputs(seeds, target.words), |input| {
        guard::run(target, &input.0).map(drop).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&kept, &input.0).unwrap();
            panic!(
                "{why}\nThe input is {input:?},\nkept as {}; it belongs to tests/fixtures/fuzz/{name}",
                kept.display()
            );
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

macro_rules! properties {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(targets::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), tested);
        }
    };
}

properties!(gguf safetensors config tokenizer template sanitizer hub store);

#[test]
fn guard_detects_panics_and_excess_cpu_time_and_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = |run| targets::Target { run, time: std::time::Duration::from_millis(200), ..targets::TARGETS[0] };
    let refusal = |run| guard::run(Box::leak(Box::new(target(run))), b"x").unwrap_err();
    assert!(refusal(|_| panic!("at {}", 7)).contains("at 7"));
    assert!(refusal(|_| std::hint::black_box(vec![0_u8; 1 << 30]).is_empty()).contains("bytes"));
    let spin = |_: &[u8]| {
        // Counts iterations instead of time: on a loaded machine wall-clock time exceeds CPU time.
        (0..3_000_000_000_u64).all(|number| std::hint::black_box(number) < u64::MAX)
    };
    assert!(refusal(spin).contains("ms of CPU time"));
    assert!(guard::run(&targets::TARGETS[0], b"x").is_ok_and(|read| !read));
}
