//! Checks and times the CUDA engine on a machine with a GPU; `benches/gpu.sh` runs all of these commands.
//!
//! `gpu --gpus COUNT COMMAND…` splits models among this many GPUs; if there are fewer, the first one stands for all.
//!
//! | command | what it does |
//! | --- | --- |
//! | `gpu bandwidth` | measures the read bandwidth of the GPU's memory |
//! | `gpu kernels` | each kernel against its CPU reference, on random input |
//! | `gpu sampler` | thousands of draws against the CPU's sampler |
//! | `gpu formats` | small random models of every storage format and family against the CPU |
//! | `gpu depths [100,8000,30000]` | a small Llama 3.1 at these depths against the CPU |
//! | `gpu compare TOLERANCE DEPTH FILE.gguf` | a model file against the CPU |
//! | `gpu fault` | an illegal memory access in a kernel, then a load |
//! | `gpu cold FILE.gguf` | one cold start: load to first token |
//! | `gpu speed FILE.gguf [DEPTHS] [PROMPTS]` | decode, prefill, load and release |
//! | `gpu cancel FILE.gguf` | cancels a load at several moments |
//! | `gpu short FILE.gguf` | short prompts by the short and by the long prompt path |
//! | `gpu chunks FILE.gguf [CONTEXT]` | prefill of a long prompt; the slowest chunk, the longest delay of a cancel |
//! | `gpu cycles COUNT FILE.gguf` | load, answer and release, COUNT times |
//! | `gpu split RANKS` | small models of every format and family on RANKS GPUs against one GPU and the CPU |
//! | `gpu split-file RANKS DEPTH FILE.gguf` | a model file on RANKS GPUs against one |
//! | `gpu split-depths RANKS [100,8000,30000]` | a small Llama 3.1 on RANKS GPUs at these depths against the CPU |
//! | `gpu lost RANKS` | each GPU in turn stops in the middle of an answer |
//! | `gpu exchange` | times the exchange between the first two GPUs |
//! | `gpu split-cycles RANKS COUNT FILE.gguf` | load, answer and release on RANKS GPUs, COUNT times |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{SystemTime, UNIX_EPOCH};

use chatnap::engine::cuda::checks::kernels::{Report, kernels, sampler};
use chatnap::engine::cuda::checks::{models, parallel, timings};
use chatnap::engine::cuda::read_bandwidth;
use chatnap::protocol::{DevicePreference, GpuList};

fn numbers(text: Option<&String>, default: &[usize]) -> Vec<usize> {
    text.map_or_else(
        || default.to_vec(),
        |text| text.split(',').map(|n| n.parse().expect("numbers, with commas")).collect(),
    )
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--gpus") {
        timings::use_gpus(args[1].parse().expect("a number of GPUs"));
        args.drain(..2);
    }
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64));
    let mut report = Report::default();
    let command = args.first().map(String::as_str);
    if matches!(
        command,
        Some(
            "split"
                | "split-file"
                | "split-depths"
                | "lost"
                | "kernels"
                | "sampler"
                | "formats"
                | "depths"
                | "compare"
                | "fault"
        )
    ) {
        println!("SEED={seed}");
    }
    let result = match command {
        Some("kernels") => timings::first_gpu().and_then(|gpu| kernels(gpu, seed, &mut report)),
        Some("sampler") => timings::first_gpu().and_then(|gpu| sampler(gpu, seed, &mut report)),
        Some("formats") => models::formats(seed, &mut report),
        Some("depths") => models::depths(&numbers(args.get(1), &[100, 8000, 30_000]), seed, &mut report),
        Some("compare") => {
            let (tolerance, depth) = (args[1].parse().expect("a tolerance"), args[2].parse().expect("a depth"));
            models::compare(&args[3], depth, seed, tolerance, &mut report)
        }
        Some("fault") => models::fault(seed, &mut report),
        Some("cold") => timings::cold(&args[1], 8192),
        Some("speed") => {
            timings::speed(&args[1], &numbers(args.get(2), &[0, 4096, 16384]), &numbers(args.get(3), &[50, 512, 2048]))
        }
        Some("cancel") => timings::cancel(&args[1]),
        Some("short") => timings::short(&args[1]),
        Some("chunks") => timings::chunks(&args[1], numbers(args.get(2), &[32768])[0]),
        Some("cycles") => timings::cycles(&args[2], args[1].parse().expect("a count")),
        Some("split") => parallel::models(numbers(args.get(1), &[2])[0], seed, &mut report),
        Some("split-file") => {
            let number = |index: usize| numbers(args.get(index), &[])[0];
            parallel::file(number(1), number(2), &args[3], seed, &mut report)
        }
        Some("split-depths") => {
            let depths = numbers(args.get(2), &[100, 8000, 30_000]);
            parallel::depths(numbers(args.get(1), &[2])[0], &depths, seed, &mut report)
        }
        Some("lost") => parallel::lost_steps(numbers(args.get(1), &[2])[0], seed, &mut report),
        Some("exchange") => parallel::exchange(&mut report),
        Some("split-cycles") => {
            parallel::cycles(numbers(args.get(1), &[2])[0], &args[3], args[2].parse().expect("a count"))
        }
        Some("bandwidth") => read_bandwidth(DevicePreference::Cuda(GpuList::one(0)))
            .map(|rate| println!("figure\tread bandwidth TB/s\t{:.3}", rate / 1e12)),
        _ => panic!("see the table at the top of benches/gpu.rs"),
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
