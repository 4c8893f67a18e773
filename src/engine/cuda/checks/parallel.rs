//! Models on several GPUs against one GPU and against the CPU, and what happens if a GPU fails. For `benches/gpu2.sh`.
//!
//! On a machine with fewer GPUs one of them stands for several (`parts_of_one`): the same code and kernels, but for the
//! links between GPUs.

use std::time::{Duration, Instant};

use super::kernels::{Random, Report};
use super::models::{Logits, STEPS, against_exact, context, depths_on, error, small, small_models, with_file};
use super::timings::{figure, first_gpu, generate, load_on, random_tokens, sampling, several, used};
use crate::engine::cpu::GgmlType;
use crate::engine::cuda::driver::GpuProperties;
use crate::engine::cuda::exchange_time;
use crate::engine::error::ModelError;
use crate::engine::model::{DeviceDecoder, Model};
use crate::engine::weights::testing::Spec;

/// Tolerated difference between one GPU and several: the sums of a prompt are rounded to bf16 in parts, and activations
/// are rounded to int8 from slightly different numbers. A wrong part gives about 100 %.
const OF_ONE: f64 = 0.06;

/// Models with heads of which each GPU has a number that is no multiple of the blocks of 256 weights.
fn odd() -> [(Spec, usize); 2] {
    let narrow = Spec { heads: 12, kv: 4, ..small("llama", GgmlType::Q4K) };
    [(Spec { hidden: 768, ..narrow.clone() }, 100), (Spec { hidden: 768, kind: GgmlType::Q3K, ..narrow }, 100)]
}

/// Every format and family on `ranks` GPUs: against the CPU and against one GPU, and the same bits in a second load.
pub fn models(ranks: usize, seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let (one, gpus) = (vec![first_gpu()?], several(ranks)?);
    let mut left_out = Vec::new();
    for (spec, depth) in small_models().into_iter().chain(odd()) {
        let mut splits = true;
        with_file(&spec, |path| {
            let tokens = random_tokens(&mut Random(seed), depth + STEPS, spec.vocab);
            let run = |gpus: &[GpuProperties]| -> Result<Option<(Logits, Vec<u32>)>, ModelError> {
                let loaded = load_on(gpus, path, context(depth));
                if matches!(&loaded, Err(ModelError::Unsupported(why)) if why.contains("cannot be split")) {
                    return Ok(None);
                }
                let (_, mut model) = loaded?;
                model.finish_warmup();
                let logits = Logits::of(&mut model, &tokens)?;
                Ok(Some((logits, generate(&mut model, &tokens[..depth], 16, &sampling(false), 7)?)))
            };
            let (Some(wanted), Some(got), again) = (run(&one)?, run(&gpus)?, run(&gpus)?) else {
                splits = false;
                return Ok(());
            };
            let name = format!("{} {} with {} heads", spec.architecture, spec.kind.name(), spec.heads);
            report.tell(
                &format!("{ranks} GPUs against one, prompt, {name}"),
                error(&got.0.prompt, &wanted.0.prompt),
                OF_ONE,
            );
            report.tell(
                &format!("{ranks} GPUs against one, steps, {name}"),
                error(&got.0.steps, &wanted.0.steps),
                OF_ONE,
            );
            let same = again.is_some_and(|(logits, tokens)| {
                bits(&logits.prompt) == bits(&got.0.prompt)
                    && bits(&logits.steps) == bits(&got.0.steps)
                    && tokens == got.1
            });
            report.tell(&format!("the same bits in a second load, {name}"), f64::from(u8::from(!same)), 0.0);
            Ok(())
        })?;
        match splits {
            true => against_exact(&gpus, &spec, depth, seed, report)?,
            false => left_out.push(format!("{} {}", spec.architecture, spec.kind.name())),
        }
    }
    if !left_out.is_empty() {
        println!("     cannot be split among {ranks}: {}", left_out.join(", "));
    }
    Ok(())
}

/// A model file on `ranks` GPUs against one: logits at `depth`, and the tokens of both.
pub fn file(ranks: usize, depth: usize, path: &str, seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let mut run = |gpus: &[GpuProperties]| -> Result<(String, Logits), ModelError> {
        let (parts, mut model) = load_on(gpus, path, context(depth))?;
        model.finish_warmup();
        let tokens = random_tokens(&mut Random(seed), depth + STEPS, model.vocab_size());
        let logits = Logits::of(&mut model, &tokens)?;
        let looped = generate(&mut model, &tokens[..depth], 32, &sampling(false), 7)?;
        let again = generate(&mut model, &tokens[..depth], 32, &sampling(false), 7)?;
        let kind = parts.quantization();
        let which = format!("{kind} at depth {depth} on {} GPUs", gpus.len());
        report.tell(&format!("same seed, same tokens, {which}"), f64::from(u8::from(looped != again)), 0.0);
        Ok((kind, logits))
    };
    let (kind, wanted) = run(&[first_gpu()?])?;
    let (_, got) = run(&several(ranks)?)?;
    let name = format!("{kind} at depth {depth}");
    report.tell(&format!("{ranks} GPUs against one, prompt, {name}"), error(&got.prompt, &wanted.prompt), OF_ONE);
    report.tell(&format!("{ranks} GPUs against one, steps, {name}"), error(&got.steps, &wanted.steps), OF_ONE);
    Ok(())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A small Llama 3.1 on `ranks` GPUs at these depths, against the CPU.
pub fn depths(ranks: usize, depths: &[usize], seed: u64, report: &mut Report) -> Result<(), ModelError> {
    depths_on(&several(ranks)?, depths, seed, report)
}

/// One GPU does not launch a step: the turn must end with an error within the limit, and the next one must answer as
/// before. The same between a prompt's products.
pub fn lost_steps(ranks: usize, seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let gpus = several(ranks)?;
    with_file(&small("llama", GgmlType::Q8_0), |path| {
        let (_, mut model) = load_on(&gpus, path, 512)?;
        model.finish_warmup();
        let prompt = random_tokens(&mut Random(seed), 50, 2000);
        let before = generate(&mut model, &prompt, 16, &sampling(true), 1)?;
        for lost in 0..ranks {
            model.begin(&prompt, 0, &prompt, &sampling(true), 1)?;
            let first = model.next_token()?;
            model.lose_step(lost)?;
            let begun = Instant::now();
            // A step that the first rank does not launch seems to be done at once: give the others time to notice.
            let step = || {
                let token = model.next_token();
                std::thread::sleep(Duration::from_millis(if lost == 0 { 200 } else { 0 }));
                token
            };
            let failed = std::iter::repeat_with(step).take(8).find_map(Result::err);
            let took = begun.elapsed();
            // The end of a failed turn may fail too.
            let _ = model.end();
            println!("     {took:.1?}: {}", failed.as_ref().map_or("no error".to_owned(), ToString::to_string));
            let named = matches!(&failed, Some(ModelError::Device { sticky: false, .. }));
            report.tell(&format!("rank {lost} loses a step: an error"), f64::from(u8::from(!named)), 0.0);
            report.tell(&format!("rank {lost} loses a step: seconds until the error"), took.as_secs_f64(), 4.0);
            let after = generate(&mut model, &prompt, 16, &sampling(true), 1)?;
            let same = after == before && first == before[0];
            report.tell(&format!("rank {lost}: the next turn answers as before"), f64::from(u8::from(!same)), 0.0);
        }
        Ok(())
    })
}

/// Times the exchange between the first two GPUs.
pub fn exchange(report: &mut Report) -> Result<(), ModelError> {
    let gpus = several(2)?;
    let time = exchange_time::measure(&gpus[0], &gpus[1])?;
    figure("exchange, a kernel µs", time.kernel.as_secs_f64() * 1e6, 2);
    figure("exchange alone µs", time.exchange.as_secs_f64() * 1e6, 2);
    report.tell("the exchange is direct", f64::from(u8::from(!time.direct)), 1.0);
    Ok(())
}

/// Loads on all GPUs, answers and releases `count` times. Fails if memory is not released (16 MiB tolerated on each) or an
/// answer differs.
pub fn cycles(ranks: usize, path: &str, count: usize) -> Result<(), ModelError> {
    let gpus = several(ranks)?;
    let all = || gpus.iter().map(|gpu| used(gpu) >> 20).collect::<Vec<_>>();
    let (mut after, mut answers, mut longest) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..count {
        let (_, mut model) = load_on(&gpus, path, 1024)?;
        answers.push(generate(&mut model, &[1, 2, 3], 8, &sampling(true), 1)?);
        let begun = Instant::now();
        drop(model);
        longest = longest.max(begun.elapsed().as_secs_f64());
        after.push(all());
    }
    figure("cycles on several GPUs", count as f64, 0);
    figure("cycles on several GPUs: longest release s", longest, 3);
    let most = |index: usize| after.iter().map(|used| used[index]).max().unwrap_or(0);
    let grown = (0..gpus.len()).map(|index| most(index).saturating_sub(after[0][index])).max().unwrap_or(0);
    figure("cycles on several GPUs: most memory kept MiB", grown as f64, 0);
    if grown > 16 {
        return Err(ModelError::Invalid(format!("memory is not released: {after:?} MiB after each release")));
    }
    match answers.iter().all(|answer| *answer == answers[0]) {
        true => Ok(()),
        false => Err(ModelError::Invalid(format!("the same prompt was answered differently: {answers:?}"))),
    }
}
