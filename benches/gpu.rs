//! Checks and times the CUDA engine on a machine with a card; `benches/gpu.sh` runs all of it.
//!
//! `gpu kernels`; `gpu compare TOLERANCE DEPTH FILE.gguf`; `gpu speed FILE.gguf [DEPTHS] [PROMPTS]`;
//! `gpu cycles COUNT FILE.gguf`; `gpu bandwidth`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{SystemTime, UNIX_EPOCH};

use chatnap::engine::cuda::check::{Report, kernels};
use chatnap::engine::cuda::trial;

fn numbers(text: Option<&String>, default: &[usize]) -> Vec<usize> {
    text.map_or_else(
        || default.to_vec(),
        |text| text.split(',').map(|n| n.parse().expect("numbers, with commas")).collect(),
    )
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let mut report = Report::default();
    let result = match args.first().map(String::as_str) {
        Some("kernels") => {
            println!("seed {seed}");
            trial::first_card().and_then(|card| kernels(card, seed, &mut report))
        }
        Some("compare") => {
            let (tolerance, depth) = (args[1].parse().expect("a tolerance"), args[2].parse().expect("a depth"));
            trial::compare(&args[3], depth, seed, tolerance, &mut report)
        }
        Some("speed") => {
            trial::speed(&args[1], &numbers(args.get(2), &[0, 4096, 16384]), &numbers(args.get(3), &[50, 512, 2048]))
        }
        Some("cycles") => trial::cycles(&args[2], args[1].parse().expect("a count")),
        Some("bandwidth") => trial::read_bandwidth().map(|rate| println!("read bandwidth {:.3} TB/s", rate / 1e12)),
        _ => panic!("see the comment at the top of benches/gpu.rs"),
    };
    let (failed, passed) = report.counts();
    if failed + passed > 0 {
        println!("{passed} passed, {failed} failed");
    }
    if let Err(error) = &result {
        println!("FAIL {error}");
    }
    std::process::exit(i32::from(failed > 0 || result.is_err()));
}
