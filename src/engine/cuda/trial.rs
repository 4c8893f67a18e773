//! Whole models on the card: compared with the CPU's forward pass, and timed. For `benches/gpu.sh`.

use std::path::PathBuf;
use std::time::Instant;

use super::check::{Random, Report, relative_error};
use super::driver::{CardProperties, Gpu, cards};
use super::kernels::Kernels;
use super::nvml::Management;
use super::{CudaModel, bandwidth, load_parts};
use crate::engine::model::load::{ModelParts, cpu_model};
use crate::engine::model::{DeviceDecoder, LoadOptions, Model, ModelError};
use crate::engine::{CancelFlag, ModelFiles};
use crate::protocol::{DevicePreference, SamplingParams};

/// Greedy, or llama.cpp's defaults.
pub fn sampling(greedy: bool) -> SamplingParams {
    if greedy { SamplingParams { temperature: 0.0, ..SamplingParams::default() } } else { SamplingParams::default() }
}

/// Opens and loads a GGUF file on the first card, with `context` positions.
fn load(path: &str, context: usize) -> Result<(ModelParts, CudaModel), ModelError> {
    let files = ModelFiles::Gguf(vec![PathBuf::from(path)]);
    let parts = ModelParts::open(&files, Some(context))?;
    let cancel = CancelFlag::default();
    let options = LoadOptions {
        name: path,
        files: &files,
        context_length: Some(context),
        device: DevicePreference::Cuda(0),
        gpu_memory_utilization: 0.95,
        threads: None,
        smaller: &[],
        cancel: &cancel,
    };
    let model = load_parts(&parts, first_card()?, &options, &mut |_| {})?;
    Ok((parts, model))
}

/// The first card, or an error.
pub fn first_card() -> Result<CardProperties, ModelError> {
    cards()?.into_iter().next().ok_or_else(|| ModelError::Unsupported("CUDA shows no card".into()))
}

fn random_tokens(random: &mut Random, count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|_| random.below(vocab) as u32).collect()
}

/// Compares with the CPU: a prompt's logits, one-token steps after it, and the decode loop with the step's own argmax.
/// `depth`: where the compared positions stand.
pub fn compare(path: &str, depth: usize, seed: u64, tolerance: f64, report: &mut Report) -> Result<(), ModelError> {
    let (parts, mut card) = load(path, (depth + 128).next_multiple_of(64))?;
    let mut cpu = cpu_model(&parts, None)?;
    let tokens = random_tokens(&mut Random(seed), depth + 8, card.vocab_size());
    let name = format!("{} at depth {depth}", parts.quantization());
    let (mut got, mut wanted) = (Vec::new(), Vec::new());
    let rows = depth.min(8);
    card.forward_rows(&tokens[..depth], 0, rows, &mut got)?;
    cpu.forward_rows(&tokens[..depth], 0, rows, &mut wanted)?;
    report.tell(&format!("prefill {name}"), error(&got, &wanted), tolerance);
    for step in 0..4 {
        let at = depth + step;
        card.forward(&tokens[at..=at], at, &mut got)?;
        cpu.forward(&tokens[at..=at], at, &mut wanted)?;
        report.tell(&format!("step {step} {name}"), error(&got, &wanted), tolerance);
    }
    // The decode loop must draw what the steps' logits say.
    let mut logits = Vec::new();
    let prompt = &tokens[..depth];
    let mut expected = Vec::new();
    card.forward(prompt, 0, &mut logits)?;
    for at in depth..depth + 16 {
        let best = best(&logits);
        expected.push(best);
        card.forward(&[best], at, &mut logits)?;
    }
    let looped = generate(&mut card, prompt, 16, &sampling(true), 7)?;
    let wrong = looped.iter().zip(&expected).filter(|(a, b)| a != b).count();
    report.tell(&format!("decode loop {name}"), wrong as f64, 0.0);
    let (first, second) =
        (generate(&mut card, prompt, 16, &sampling(false), 7)?, generate(&mut card, prompt, 16, &sampling(false), 7)?);
    report.tell(&format!("same seed, same tokens {name}"), f64::from(u8::from(first != second)), 0.0);
    Ok(())
}

fn error(got: &[f32], wanted: &[f32]) -> f64 {
    relative_error(got, &wanted.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
}

fn best(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, better) as u32
}

fn generate(
    model: &mut CudaModel,
    prompt: &[u32],
    count: usize,
    sampling: &SamplingParams,
    seed: u64,
) -> Result<Vec<u32>, ModelError> {
    model.begin(prompt, 0, prompt, sampling, seed)?;
    let tokens = (0..count).map(|_| model.next_token()).collect::<Result<Vec<_>, _>>();
    model.end()?;
    tokens
}

/// Bytes in use on the first card.
fn used(card: &CardProperties) -> u64 {
    Management::open().and_then(|m| m.card(&card.bus_id).used).unwrap_or(0)
}

/// Times loading, prefill, decode at several depths and releasing; prints one line each.
pub fn speed(path: &str, depths: &[usize], prompts: &[usize]) -> Result<(), ModelError> {
    let card = first_card()?;
    let before = used(&card);
    let most = depths.iter().chain(prompts).max().copied().unwrap_or(0);
    let started = Instant::now();
    let (parts, mut model) = load(path, (most + 512).next_multiple_of(256))?;
    let loaded = started.elapsed();
    let tokens = random_tokens(&mut Random(1), most.max(64), model.vocab_size());
    model.begin(&tokens[..50], 0, &[], &sampling(true), 1)?;
    model.next_token()?;
    let first = started.elapsed();
    model.end()?;
    let kind = parts.quantization();
    let backend = model.gemm_backend();
    println!(
        "{kind}: load {:.3} s, to first token {:.3} s, products by {backend}",
        loaded.as_secs_f64(),
        first.as_secs_f64()
    );
    for &count in prompts {
        let mut times = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            model.begin(&tokens[..count], 0, &[], &sampling(true), 1)?;
            model.next_token()?;
            times.push(start.elapsed().as_secs_f64());
            model.end()?;
        }
        times.sort_by(f64::total_cmp);
        println!(
            "{kind}: prompt of {count} to first token {:.2} ms (best of 4; worst {:.2})",
            times[0] * 1e3,
            times[3] * 1e3
        );
    }
    for greedy in [true, false] {
        for &depth in depths {
            let rate = decode_rate(&mut model, &tokens[..depth.max(8)], &sampling(greedy))?;
            let bytes = model.bytes_a_token(depth.max(8) + 64);
            println!(
                "{kind}: decode {rate:.1} tok/s at depth {depth}, {} ({:.2} TB/s)",
                if greedy { "greedy" } else { "sampled" },
                rate * bytes as f64 / 1e12
            );
        }
    }
    let held = used(&card);
    let start = Instant::now();
    drop(model);
    let took = start.elapsed().as_secs_f64();
    let after = Management::open().map(|m| m.card(&card.bus_id)).unwrap_or_default();
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{kind}: released in {took:.3} s; card's used memory {} MiB before, {} loaded, {} after; listed {:?}",
        mib(before),
        mib(held),
        mib(after.used.unwrap_or(0)),
        after.listed
    );
    Ok(())
}

/// Tokens a second over 128 tokens after `prompt`.
fn decode_rate(model: &mut CudaModel, prompt: &[u32], sampling: &SamplingParams) -> Result<f64, ModelError> {
    model.begin(prompt, 0, &[], sampling, 1)?;
    for _ in 0..8 {
        model.next_token()?;
    }
    let start = Instant::now();
    for _ in 0..128 {
        model.next_token()?;
    }
    let rate = 128.0 / start.elapsed().as_secs_f64();
    model.end()?;
    Ok(rate)
}

/// Loads, answers and releases again and again; prints the card's used memory after each release.
pub fn cycles(path: &str, count: usize) -> Result<(), ModelError> {
    let card = first_card()?;
    let mut seen = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..count {
        let (_, mut model) = load(path, 1024)?;
        let answer = generate(&mut model, &[1, 2, 3], 8, &sampling(true), 1)?;
        drop(model);
        seen.push(used(&card) >> 20);
        tokens.push(answer);
    }
    let same = tokens.iter().all(|answer| *answer == tokens[0]);
    println!(
        "{count} cycles: MiB in use after the first {:?}, last {:?}, most {:?}; same answers: {same}",
        seen.first(),
        seen.last(),
        seen.iter().max()
    );
    Ok(())
}

/// The card's read bandwidth in bytes a second.
pub fn read_bandwidth() -> Result<f64, ModelError> {
    let mut gpu = Gpu::open(first_card()?)?;
    let kernels = Kernels::load(&mut gpu)?;
    bandwidth::measure(&gpu, &kernels)
}
