//! Times whole models on the GPU: load, prefill, decode, release. For `benches/gpu.sh`: each figure is a line
//! `figure<TAB>NAME<TAB>VALUE`, which the script collects into its table.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::kernels::Random;
use crate::engine::cuda::CudaModel;
use crate::engine::cuda::driver::nvml::Management;
use crate::engine::cuda::driver::{self, GpuProperties};
use crate::engine::cuda::load::{parts_of_one, timeline};
use crate::engine::cuda::select::choose_first;
use crate::engine::cuda::split::{Share, Split};
use crate::engine::cuda::tuning::Tuning;
use crate::engine::error::ModelError;
use crate::engine::model::parts::ModelParts;
use crate::engine::model::{DeviceDecoder, LoadOptions, Model};
use crate::engine::source::{CancelFlag, ModelFiles};
use crate::protocol::{DevicePreference, GpuList, LoadProgress, SamplingParams};

/// Temperature 0, or llama.cpp's defaults.
pub fn sampling(greedy: bool) -> SamplingParams {
    if greedy { SamplingParams { temperature: 0.0, ..SamplingParams::default() } } else { SamplingParams::default() }
}

/// Opens and loads a GGUF file, or a folder of safetensors, on the first GPU, with `context` positions.
pub(super) fn load(path: &str, context: usize) -> Result<(ModelParts, CudaModel), ModelError> {
    load_on(&parts_of_first()?, path, context)
}

/// As `load`, on these GPUs.
pub(super) fn load_on(
    gpus: &[GpuProperties],
    path: &str,
    context: usize,
) -> Result<(ModelParts, CudaModel), ModelError> {
    load_until(gpus, path, context, &CancelFlag::default(), &mut |_| {})
}

/// How many GPUs the following loads use; see [`several`].
static RANKS: AtomicUsize = AtomicUsize::new(1);

/// Makes the following loads use this many GPUs.
pub fn use_gpus(ranks: usize) {
    RANKS.store(ranks, Ordering::Relaxed);
}

/// The GPUs of a load: the first one, or the parts of it that the tuning asks for, or those of [`use_gpus`].
pub(super) fn parts_of_first() -> Result<Vec<GpuProperties>, ModelError> {
    let gpu = first_gpu()?;
    let ranks = RANKS.load(Ordering::Relaxed);
    if ranks > 1 {
        return several(ranks);
    }
    let ranks = Tuning::for_capability(gpu.compute_capability).ranks as usize;
    Ok(parts_of_one(&gpu, ranks))
}

/// The first `ranks` GPUs, or one GPU in their place if there are fewer.
pub fn several(ranks: usize) -> Result<Vec<GpuProperties>, ModelError> {
    let gpus = driver::list_gpus()?;
    match (gpus.get(..ranks), gpus.first()) {
        (Some(enough), _) => Ok(enough.to_vec()),
        (None, Some(only)) => Ok(parts_of_one(only, ranks)),
        (None, None) => first_gpu().map(|gpu| vec![gpu]),
    }
}

/// A GGUF file, or a folder of safetensors.
pub(super) fn model_files(path: &str) -> ModelFiles {
    let place = PathBuf::from(path);
    if place.is_dir() { ModelFiles::Safetensors(place) } else { ModelFiles::Gguf(vec![place]) }
}

/// As `load_on`, with a cancel flag and a progress callback.
fn load_until(
    gpus: &[GpuProperties],
    path: &str,
    context: usize,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(ModelParts, CudaModel), ModelError> {
    let files = model_files(path);
    let options = LoadOptions {
        name: path,
        files: &files,
        context_length: Some(context),
        device: DevicePreference::Cuda(GpuList::one(0)),
        gpu_memory_utilization: 0.95,
        threads: None,
        smaller: &[],
        chat_template: None,
        cancel,
    };
    let opening = crate::engine::cuda::Opening::on(gpus.to_vec(), cancel)?;
    let parts = ModelParts::open(&files, options.context_length);
    let opened = opening.finish(cancel);
    let parts = parts?;
    if let Some(why) = crate::engine::cuda::unsupported(&parts.config, &parts.plan) {
        return Err(ModelError::Unsupported(why));
    }
    let model = crate::engine::cuda::load(&parts, opened?, &options, progress)?;
    Ok((parts, model))
}

/// The first GPU, or `ModelError::Unsupported` without one.
pub fn first_gpu() -> Result<GpuProperties, ModelError> {
    choose_first(DevicePreference::Auto)
}

pub(super) fn random_tokens(random: &mut Random, count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|_| random.below(vocab) as u32).collect()
}

/// Generates `count` tokens after `prompt` by the decode loop on the GPU.
pub(super) fn generate(
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

/// Bytes in use on the GPU, by all processes (NVML); 0 if unknown.
pub(super) fn used(gpu: &GpuProperties) -> u64 {
    driver::now(&gpu.bus_id).bytes.unwrap_or(0)
}

/// Prints one figure as a line that `benches/gpu.sh` collects.
pub(super) fn figure(name: &str, value: f64, digits: usize) {
    println!("figure\t{name}\t{value:.digits$}");
}

/// Times the driver's initialisation, which the TUI overlaps with its own start (`Engine::wake`), then a cold start.
/// Needs a process that has not used CUDA before.
pub fn cold(path: &str, context: usize) -> Result<(), ModelError> {
    let start = Instant::now();
    first_gpu()?;
    figure("driver start s", start.elapsed().as_secs_f64(), 3);
    start_cold(path, context).map(drop)
}

/// Loads a file onto an empty GPU and runs a prompt of 50 tokens to its first token; prints the seconds of both.
fn start_cold(path: &str, context: usize) -> Result<(ModelParts, CudaModel), ModelError> {
    let started = Instant::now();
    let (parts, mut model) = load(path, context)?;
    let loaded = started.elapsed().as_secs_f64();
    let tokens = random_tokens(&mut Random(1), 50, model.vocab_size());
    model.begin(&tokens, 0, &[], &sampling(true), 1)?;
    timeline::mark("prompt launched");
    model.next_token()?;
    let first = started.elapsed().as_secs_f64();
    timeline::mark("first token");
    let mut longest = Duration::ZERO;
    for _ in 0..128 {
        let start = Instant::now();
        model.next_token()?;
        longest = longest.max(start.elapsed());
    }
    println!("     slowest of the 128 tokens after it: {longest:.1?}");
    model.end()?;
    for (what, at) in timeline::since(started) {
        println!("     {at:7.1} ms  {what}");
    }
    let kind = parts.quantization();
    figure(&format!("{kind} load s"), loaded, 3);
    figure(&format!("{kind} cold to first token s"), first, 3);
    Ok((parts, model))
}

/// Times load, prefill, decode at several depths and release.
pub fn speed(path: &str, depths: &[usize], prompts: &[usize]) -> Result<(), ModelError> {
    let gpus = parts_of_first()?;
    let before: Vec<u64> = gpus.iter().map(used).collect();
    let most = depths.iter().chain(prompts).max().copied().unwrap_or(0);
    let (parts, mut model) = start_cold(path, (most + 512).next_multiple_of(256))?;
    let kind = parts.quantization();
    // `gemm_backend` waits for the warm-up: all times below are those of a warm model.
    println!("{kind}: products by {}", model.gemm_backend());
    let tokens = random_tokens(&mut Random(1), most.max(64), model.vocab_size());
    for &count in prompts {
        let time = first_token_ms(&mut model, &tokens[..count])?;
        figure(&format!("{kind} prompt {count} to first token ms"), time, 2);
    }
    for greedy in [true, false] {
        for &depth in depths {
            let rate = decode_rate(&mut model, &tokens[..depth.max(8)], &sampling(greedy))?;
            let how = if greedy { "decode" } else { "sampled" };
            figure(&format!("{kind} {how} @{depth} tok/s"), rate, 1);
            if greedy {
                let bytes = model.bytes_a_token(depth.max(8) + 64) as f64;
                figure(&format!("{kind} {how} @{depth} GB a token"), bytes / 1e9, 3);
                figure(&format!("{kind} {how} @{depth} TB/s"), rate * bytes / 1e12, 3);
            }
        }
    }
    let first = Split::new(&parts.config, &parts.plan, Share { rank: 0, ranks: gpus.len() })?;
    let planned = crate::engine::cuda::rank::plan(&first, &parts.plan, gpus[0].multiprocessors)?.needs.total();
    figure(&format!("{kind} planned MiB, besides CUDA's own"), (planned >> 20) as f64, 0);
    release(&kind, model, &gpus, &before);
    Ok(())
}

/// Milliseconds from a prompt to its first token on a warm model: the median of five.
fn first_token_ms(model: &mut CudaModel, prompt: &[u32]) -> Result<f64, ModelError> {
    let mut times = [0.0; 5];
    for time in &mut times {
        let start = Instant::now();
        model.begin(prompt, 0, &[], &sampling(true), 1)?;
        model.next_token()?;
        *time = start.elapsed().as_secs_f64() * 1e3;
        model.end()?;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Lengths of long prompts, in tokens.
const LONG: [usize; 4] = [128, 256, 512, 2048];

/// Times prompts of 8 to 256 tokens by the short-prompt kernels and by the long-prompt path, to find the length from
/// which the latter is faster. Then times each matrix product of a layer in every tiling.
pub fn short(path: &str) -> Result<(), ModelError> {
    let (parts, mut model) = load(path, 4096)?;
    println!("{}: long prompts by {}", parts.quantization(), model.gemm_backend());
    let tokens = random_tokens(&mut Random(1), 2048, model.vocab_size());
    for count in [8, 16, 32, 50, 64, 96, 128, 192, 256] {
        model.take_as_short(usize::MAX);
        let short = first_token_ms(&mut model, &tokens[..count])?;
        model.take_as_short(0);
        let long = first_token_ms(&mut model, &tokens[..count])?;
        println!("     {count} tokens to first token: as short {short:.2} ms, as long {long:.2} ms");
    }
    for portable in [None, Some(false), Some(true)] {
        if let Some(portable) = portable {
            model.use_own_gemm(portable);
        }
        for count in LONG {
            let time = first_token_ms(&mut model, &tokens[..count])?;
            println!("     {count} tokens to first token, products by {}: {time:.2} ms", model.gemm_backend());
        }
    }
    for count in [16, 50] {
        model.time_tilings(count)?;
    }
    Ok(())
}

/// Drops the model; prints the time, each GPU's memory by NVML and NVML's entries for this process.
fn release(kind: &str, model: CudaModel, gpus: &[GpuProperties], before: &[u64]) {
    let held: Vec<u64> = gpus.iter().map(used).collect();
    let start = Instant::now();
    drop(model);
    let took = start.elapsed().as_secs_f64();
    figure(&format!("{kind} release s"), took, 3);
    let mib = |bytes: u64| (bytes >> 20) as f64;
    for (rank, gpu) in gpus.iter().enumerate() {
        let after = Management::open().map(|m| m.usage(&gpu.bus_id)).unwrap_or_default();
        let which = if rank == 0 { String::new() } else { format!(", GPU {rank}") };
        figure(&format!("{kind} GPU memory before MiB{which}"), mib(before[rank]), 0);
        figure(&format!("{kind} GPU memory loaded MiB{which}"), mib(held[rank]), 0);
        figure(&format!("{kind} GPU memory after MiB{which}"), mib(after.used.unwrap_or(0)), 0);
        println!("{kind}: among NVML's processes after the release{which}: {:?}", after.listed);
    }
}

/// Tokens per second over 128 tokens after `prompt`, after 8 untimed ones.
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

/// When a load is cancelled.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// This time after its start.
    After(Duration),
    /// When this share of the weights is on the GPU.
    Share(f64),
}

/// Cancels a load at several moments; prints the time until the load returned, and the memory still in use on the GPU.
/// Fails if a load was not cancelled, or if more than 16 MiB stay in use.
pub fn cancel(path: &str) -> Result<(), ModelError> {
    let gpu = first_gpu()?;
    let before = used(&gpu);
    let mut worst = Duration::ZERO;
    let times = [0, 50, 150, 250, 300, 350].map(|ms| Moment::After(Duration::from_millis(ms)));
    for moment in times.into_iter().chain([0.0, 0.1, 0.5, 0.9].map(Moment::Share)) {
        let took = cancelled_load(path, moment)?;
        println!("     cancelled {moment:?}: {took:?} until the load had ended");
        worst = worst.max(took);
    }
    figure("cancel of a load, worst ms", worst.as_secs_f64() * 1e3, 0);
    let start = Instant::now();
    crate::engine::cuda::wait_for_contexts(Duration::from_secs(2));
    figure("cancel of a load, memory is back after ms", start.elapsed().as_secs_f64() * 1e3, 0);
    let after = used(&gpu);
    figure("cancel: GPU memory before and after, difference MiB", (after.saturating_sub(before) >> 20) as f64, 0);
    match after <= before + (16 << 20) {
        true => Ok(()),
        false => Err(ModelError::Invalid(format!("{} bytes are not released", after - before))),
    }
}

fn cancelled_load(path: &str, moment: Moment) -> Result<Duration, ModelError> {
    let gpus = parts_of_first()?;
    let flag = CancelFlag::default();
    let raised = OnceLock::new();
    let raise = || {
        raised.get_or_init(|| {
            flag.cancel();
            Instant::now()
        });
    };
    let mut watch = |progress: LoadProgress| {
        if let Moment::Share(share) = moment
            && progress.done as f64 >= share * progress.total.unwrap_or(0) as f64
        {
            raise();
        }
    };
    let stopped = std::thread::scope(|scope| {
        if let Moment::After(time) = moment {
            scope.spawn(move || {
                std::thread::sleep(time);
                raise();
            });
        }
        matches!(load_until(&gpus, path, 1024, &flag, &mut watch), Err(ModelError::Cancelled))
    });
    match raised.get() {
        Some(at) if stopped => Ok(at.elapsed()),
        _ => Err(ModelError::Invalid(format!("a load that was cancelled {moment:?} completed"))),
    }
}

/// Prefills a prompt that fills `context`, in chunks of the model's size: freshly loaded, then warm. Prints the time of
/// the slowest chunk: a cancel is checked between chunks only.
pub fn chunks(path: &str, context: usize) -> Result<(), ModelError> {
    let (parts, mut model) = load(path, context)?;
    let tokens = random_tokens(&mut Random(1), context, model.vocab_size());
    let (mut logits, mut worst) = (Vec::new(), Duration::ZERO);
    let name = format!("{} prompt of {context}", parts.quantization());
    for state in ["freshly loaded", "warm"] {
        let (start, mut done) = (Instant::now(), 0);
        while !model.is_ready(context) {
            std::thread::sleep(Duration::from_millis(1));
        }
        while done < context {
            let count = model.prefill_chunk().min(context - done);
            let start = Instant::now();
            model.forward(&tokens[done..done + count], done, &mut logits)?;
            let took = start.elapsed();
            println!("     {count} tokens at {done}: {took:.1?}");
            (done, worst) = (done + count, worst.max(took));
        }
        figure(&format!("{name}, {state} s"), start.elapsed().as_secs_f64(), 2);
    }
    figure(&format!("{name}, slowest chunk ms"), worst.as_secs_f64() * 1e3, 1);
    Ok(())
}

/// Loads, answers and releases `count` times. Fails if memory is not released (16 MiB tolerated) or an answer differs.
pub fn cycles(path: &str, count: usize) -> Result<(), ModelError> {
    let gpu = first_gpu()?;
    let mut seen = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..count {
        let (_, mut model) = load(path, 1024)?;
        let answer = generate(&mut model, &[1, 2, 3], 8, &sampling(true), 1)?;
        drop(model);
        seen.push(used(&gpu) >> 20);
        tokens.push(answer);
    }
    let (first, most) = (seen.first().copied().unwrap_or(0), seen.iter().max().copied().unwrap_or(0));
    figure("cycles", count as f64, 0);
    figure("cycles: GPU memory after the first MiB", first as f64, 0);
    figure("cycles: highest GPU memory after any MiB", most as f64, 0);
    if most > first + 16 {
        return Err(ModelError::Invalid(format!("memory is not released: {seen:?} MiB after each release")));
    }
    if tokens.iter().any(|answer| *answer != tokens[0]) {
        return Err(ModelError::Invalid(format!("the same prompt was answered differently: {tokens:?}")));
    }
    Ok(())
}
