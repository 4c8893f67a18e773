//! Whole models on the GPU against the CPU's forward pass: files, and small generated random models of every storage
//! format, every family and several depths. For `benches/gpu.sh`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernels::{Random, Report, relative_error};
use super::timings::{first_gpu, generate, load, load_on, model_files, parts_of_first, random_tokens, sampling};
use crate::engine::cpu::GgmlType;
use crate::engine::cuda::CudaModel;
use crate::engine::cuda::driver::{DeviceBuffer, Gpu, GpuProperties, LaunchConfig};
use crate::engine::cuda::kernels::Kernels;
use crate::engine::cuda::params::EmbedArgs;
use crate::engine::error::ModelError;
use crate::engine::load::cpu_model;
use crate::engine::model::parts::ModelParts;
use crate::engine::model::{DeviceDecoder, Model};
use crate::engine::weights::testing::{Scaling, Spec, StoredTensor};
use crate::protocol::SamplingParams;

/// Tolerated relative error of logits: weights and activations of a prompt, and the KV cache, are rounded to bf16.
const TOLERANCE: f64 = 0.03;
/// Tolerated error of the GPU as a multiple of the CPU's own error (the worst of prompt and steps). Both round
/// activations to int8 before a quantised product; for a prompt the GPU dequantises the weights to bf16 instead. The
/// error depends on the model and on the prompt: with random Q4_K weights the CPU's is 1.4 to 6 %, depending on the
/// tokens. A wrong weight or position gives about 100 %.
const OF_THE_CPU: f64 = 3.0;

/// Compares a file on the GPU with the CPU: the logits of a prompt of `depth` tokens and of one-token steps after it,
/// and the tokens of the decode loop with the argmax of such steps.
pub fn compare(path: &str, depth: usize, seed: u64, tolerance: f64, report: &mut Report) -> Result<(), ModelError> {
    let (parts, mut on_gpu) = load(path, context(depth))?;
    // The warm-up may switch kernels: both answers to one seed must come from the same ones.
    on_gpu.finish_warmup();
    let tokens = random_tokens(&mut Random(seed), depth + STEPS, on_gpu.vocab_size());
    let got = Logits::of(&mut on_gpu, &tokens)?;
    let wanted = Logits::of(on_cpu(path, depth)?.as_mut(), &tokens)?;
    let name = format!("{} {} at depth {depth}", parts.config.architecture, parts.quantization());
    report.tell(&format!("prefill {name}"), error(&got.prompt, &wanted.prompt), tolerance);
    report.tell(&format!("steps {name}"), error(&got.steps, &wanted.steps), tolerance);
    loops(&mut on_gpu, &tokens[..depth], &name, report)
}

/// Compares a small model on the GPU with the CPU's forward pass over the same weights dequantised to f32, so that the
/// error is the GPU's alone.
pub(super) fn against_exact(
    gpus: &[GpuProperties],
    spec: &Spec,
    depth: usize,
    seed: u64,
    report: &mut Report,
) -> Result<(), ModelError> {
    let (exact, rounded) = (twin(spec, GgmlType::F32)?, twin(spec, GgmlType::BF16)?);
    with_file(spec, |path| {
        let (_, mut on_gpu) = load_on(gpus, path, context(depth))?;
        let tokens = random_tokens(&mut Random(seed), depth + STEPS, spec.vocab);
        let got = Logits::of(&mut on_gpu, &tokens)?;
        let of_cpu = |path: &str| Logits::of(on_cpu(path, depth)?.as_mut(), &tokens);
        let exact = of_cpu(exact.text()?)?;
        // Without quantised weights the CPU's own error is negligible.
        let quantised = spec.kind.is_quantised();
        let (cpu, rounded) = match quantised {
            true => (of_cpu(path)?, of_cpu(rounded.text()?)?),
            false => (exact.clone(), exact.clone()),
        };
        let on = if gpus.len() > 1 { format!(" on {} GPUs", gpus.len()) } else { String::new() };
        let name = format!("{} {} at depth {depth}{on}", spec.architecture, spec.kind.name());
        let likewise = [(&cpu.prompt, &exact.prompt), (&rounded.prompt, &exact.prompt), (&cpu.steps, &exact.steps)];
        let own = likewise.iter().map(|(cpu, exact)| error(cpu, exact)).fold(0.0, f64::max);
        let mut tell = |what: &str, got: &[f32], exact: &[f32]| {
            let name = format!("{what} {name} (the CPU's own: {own:.1e})");
            report.tell(&name, error(got, exact), TOLERANCE + OF_THE_CPU * own);
        };
        tell("prefill", &got.prompt, &exact.prompt);
        tell("steps", &got.steps, &exact.steps);
        // The prompt again by the long-prompt path.
        on_gpu.take_as_short(0);
        let long = Logits::of(&mut on_gpu, &tokens)?;
        tell("long prefill", &long.prompt, &exact.prompt);
        loops(&mut on_gpu, &tokens[..depth], &name, report)
    })
}

/// Number of one-token steps that are compared.
pub(super) const STEPS: usize = 4;

/// Context size for a comparison at `depth`, its steps and decode loops included.
pub(super) fn context(depth: usize) -> usize {
    (depth + 32).next_multiple_of(64)
}

fn on_cpu(path: &str, depth: usize) -> Result<Box<dyn Model>, ModelError> {
    cpu_model(&ModelParts::open(&model_files(path), Some(context(depth)))?, None)
}

/// Rows of logits: of a prompt's last 8 tokens, and of the steps after it.
#[derive(Clone)]
pub(super) struct Logits {
    pub prompt: Vec<f32>,
    pub steps: Vec<f32>,
}

impl Logits {
    pub fn of(model: &mut dyn Model, tokens: &[u32]) -> Result<Self, ModelError> {
        let depth = tokens.len() - STEPS;
        let (mut prompt, mut steps, mut row) = (Vec::new(), Vec::new(), Vec::new());
        model.forward_rows(&tokens[..depth], 0, depth.min(8), &mut prompt)?;
        for at in depth..tokens.len() {
            model.forward(&tokens[at..=at], at, &mut row)?;
            steps.extend(&row);
        }
        Ok(Self { prompt, steps })
    }
}

/// The decode loop must return the argmax of the steps' logits, and the same tokens for the same seed.
fn loops(on_gpu: &mut CudaModel, prompt: &[u32], name: &str, report: &mut Report) -> Result<(), ModelError> {
    let (mut logits, mut expected) = (Vec::new(), Vec::new());
    on_gpu.forward(prompt, 0, &mut logits)?;
    for at in prompt.len()..prompt.len() + 16 {
        let best = best(&logits);
        expected.push(best);
        on_gpu.forward(&[best], at, &mut logits)?;
    }
    let looped = generate(on_gpu, prompt, 16, &sampling(true), 7)?;
    let wrong = looped.iter().zip(&expected).filter(|(a, b)| a != b).count();
    report.tell(&format!("decode loop {name}, wrong tokens"), wrong as f64, 0.0);
    let mut again = || generate(on_gpu, prompt, 16, &sampling(false), 7);
    let differ = again()? != again()?;
    report.tell(&format!("same seed, same tokens {name}"), f64::from(u8::from(differ)), 0.0);
    Ok(())
}

pub(super) fn error(got: &[f32], wanted: &[f32]) -> f64 {
    relative_error(got, &wanted.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
}

fn best(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, better) as u32
}

/// A model of three layers with random weights.
pub(super) fn small(architecture: &'static str, kind: GgmlType) -> Spec {
    Spec { hidden: 512, ff: 1536, layers: 3, heads: 8, kv: 2, dim: 64, vocab: 2000, kind, ..Spec::new(architecture) }
}

/// Every storage format and every family that the GPU runs, each with the depth to compare at.
pub(super) fn small_models() -> Vec<(Spec, usize)> {
    let scaled = Scaling::Yarn { factor: 4.0, original: 128 };
    let families = [
        Spec { tied: true, ..small("llama", GgmlType::Q6K) },
        // One key head for all query heads, and one for each.
        Spec { kv: 1, dim: 128, heads: 4, ..small("llama", GgmlType::BF16) },
        Spec { kv: 8, dim: 32, ..small("llama", GgmlType::Q8_0) },
        Spec { scaling: scaled, window: Some(50), ..small("llama", GgmlType::Q5_1) },
        Spec { heads: 14, hidden: 768, ..small("qwen2", GgmlType::Q4K) },
        Spec { dim: 128, ..small("qwen3", GgmlType::Q4_0) },
        small("phi3", GgmlType::F16),
    ];
    let formats = GgmlType::ALL.map(|kind| (small("llama", kind), 100));
    formats.into_iter().chain(families.map(|spec| (spec, 150))).collect()
}

/// Compares all small models, from GGUF and from safetensors, and checks that NaN logits are reported.
pub fn formats(seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let gpus = parts_of_first()?;
    for (spec, depth) in small_models() {
        against_exact(&gpus, &spec, depth, seed, report)?;
    }
    for spec in [small("llama", GgmlType::BF16), Spec { dim: 128, ..small("qwen3", GgmlType::F16) }] {
        with_folder(&spec, |path| compare(path, 100, seed, TOLERANCE, report))?;
    }
    not_finite(seed, report)
}

/// NaN logits must end in `ModelError::NotFinite` with every sampling method, not in a token.
fn not_finite(seed: u64, report: &mut Report) -> Result<(), ModelError> {
    let spec = small("llama", GgmlType::BF16);
    let mut tensors = spec.tensors();
    let broken = StoredTensor::floats(&vec![f32::NAN; spec.hidden], 1, spec.hidden, true, GgmlType::F32);
    tensors.insert("output_norm.weight".into(), broken);
    let place = Place::new("nan.gguf");
    place.write(&spec.gguf().bytes(&tensors))?;
    let (_, mut model) = load(place.text()?, 256)?;
    let prompt = random_tokens(&mut Random(seed), 50, spec.vocab);
    let wide = SamplingParams { top_k: 0, top_p: 0.9, ..sampling(false) };
    let penalised = SamplingParams { repeat_penalty: 1.1, ..sampling(true) };
    for (name, how) in
        [("greedy", sampling(true)), ("top-k", sampling(false)), ("top-p", wide), ("penalties", penalised)]
    {
        model.begin(&prompt, 0, &prompt, &how, seed)?;
        let reported = matches!(model.next_token(), Err(ModelError::NotFinite));
        model.end()?;
        report.tell(&format!("NaN logits are reported, {name}"), f64::from(u8::from(!reported)), 0.0);
    }
    Ok(())
}

/// Compares at depths at which Llama 3.1's scaling of the RoPE frequencies matters.
pub fn depths(depths: &[usize], seed: u64, report: &mut Report) -> Result<(), ModelError> {
    depths_on(&parts_of_first()?, depths, seed, report)
}

/// As `depths`, on these GPUs.
pub(super) fn depths_on(
    gpus: &[GpuProperties],
    depths: &[usize],
    seed: u64,
    report: &mut Report,
) -> Result<(), ModelError> {
    for kind in [GgmlType::BF16, GgmlType::Q4K] {
        for &depth in depths {
            against_exact(gpus, &long(kind), depth, seed, report)?;
        }
    }
    Ok(())
}

/// A smaller model with Llama 3.1's context and RoPE: the CPU's attention is slow at 30,000 tokens.
fn long(kind: GgmlType) -> Spec {
    Spec {
        hidden: 256,
        ff: 1024,
        heads: 4,
        layers: 2,
        theta: 5e5,
        context: 131_072,
        scaling: Scaling::Llama3 { factor: 8.0, original: 8192 },
        ..small("llama", kind)
    }
}

/// A kernel reads an unmapped address: the error must be sticky (the context is lost), and a later load by the same
/// process must answer as before or fail with a sticky error.
pub fn fault(seed: u64, report: &mut Report) -> Result<(), ModelError> {
    with_file(&small("llama", GgmlType::Q4K), |path| {
        let prompt = random_tokens(&mut Random(seed), 50, 2000);
        let answer = |path: &str| {
            let (_, mut model) = load(path, 256)?;
            generate(&mut model, &prompt, 16, &sampling(true), 1)
        };
        let before = answer(path)?;
        let fault = read_nowhere().err();
        println!("     {}", fault.as_ref().map_or("no fault".to_owned(), ToString::to_string));
        let sticky = matches!(fault, Some(ModelError::Device { sticky: true, .. }));
        report.tell("an illegal address is a sticky error", f64::from(u8::from(!sticky)), 0.0);
        let after = answer(path);
        if let Err(error) = &after {
            println!("     {error}");
        }
        // It depends on the driver whether this process can use the GPU again.
        let right = match after {
            Ok(after) => after == before,
            Err(error) => matches!(error, ModelError::Device { sticky: true, .. }),
        };
        report.tell("a load after a fault answers as before or fails as sticky", f64::from(u8::from(!right)), 0.0);
        Ok(())
    })
}

/// Runs the embedding kernel on a matrix at an unmapped address.
fn read_nowhere() -> Result<(), ModelError> {
    let mut gpu = Gpu::open(first_gpu()?)?;
    let kernels = Kernels::load(&mut gpu)?;
    let tokens = DeviceBuffer::from_slice(&gpu, &[0_i32])?;
    let out = DeviceBuffer::<f32>::new(64)?;
    let mut args = EmbedArgs { tokens: tokens.pointer(), out: out.pointer(), ..EmbedArgs::default() };
    (args.m.main, args.m.rows, args.m.cols) = (256, 1, 64);
    // SAFETY: deliberately violated: the address is unmapped, and the context is destroyed after the fault.
    unsafe { kernels.embed.launch(gpu.stream, LaunchConfig::linear(1, 64), &args)? };
    gpu.synchronize()
}

/// Writes the model to a temporary GGUF file, which is deleted after `work`.
pub(super) fn with_file(spec: &Spec, work: impl FnOnce(&str) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let bytes = spec.gguf().bytes(&spec.tensors());
    let place = Place::new("gguf");
    place.write(&bytes)?;
    work(place.text()?)
}

/// A temporary file with the same weights, dequantised, as floats of `kind`.
fn twin(spec: &Spec, kind: GgmlType) -> Result<Place, ModelError> {
    let floats = |tensor: StoredTensor| {
        let values: Vec<f32> = tensor.values().into_iter().map(|value| value as f32).collect();
        StoredTensor::floats(&values, tensor.rows, tensor.cols, tensor.vector, kind)
    };
    let tensors = spec.tensors().into_iter().map(|(name, tensor)| (name, floats(tensor))).collect();
    let place = Place::new("twin.gguf");
    place.write(&spec.gguf().bytes(&tensors))?;
    Ok(place)
}

/// As `with_file`, for a folder of safetensors in two shards.
fn with_folder(spec: &Spec, work: impl FnOnce(&str) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let place = Place::new("safetensors");
    std::fs::create_dir(&place.0).map_err(|error| ModelError::Io(format!("{}: {error}", place.0.display())))?;
    spec.write_folder(&place.0, &spec.tensors(), 2);
    work(place.text()?)
}

/// A unique path in the folder for temporary files; a file or folder there is deleted on drop.
struct Place(PathBuf);

impl Place {
    fn new(kind: &str) -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("chatnap-{}-{number}.{kind}", std::process::id())))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ModelError> {
        std::fs::write(&self.0, bytes).map_err(|error| ModelError::Io(format!("{}: {error}", self.0.display())))
    }

    fn text(&self) -> Result<&str, ModelError> {
        self.0.to_str().ok_or_else(|| ModelError::Io(format!("{} is not UTF-8", self.0.display())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only one of the two can succeed; a file left behind is harmless.
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::cuda::rank::{plan, unsupported};
    use crate::engine::cuda::split::Split;
    use crate::engine::source::ModelFiles;

    fn opened(spec: &Spec, context: usize) -> ModelParts {
        let mut parts = None;
        let open = |path: &str| {
            parts = Some(ModelParts::open(&ModelFiles::Gguf(vec![path.into()]), Some(context))?);
            Ok(())
        };
        with_file(spec, open).unwrap();
        parts.unwrap()
    }

    #[test]
    fn compared_models_are_supported_and_their_planned_memory_is_close_to_the_file_size() {
        with_folder(&small("llama", GgmlType::BF16), |path| {
            ModelParts::open(&ModelFiles::Safetensors(path.into()), Some(64)).map(drop)
        })
        .unwrap();
        for (spec, depth) in small_models() {
            let parts = opened(&spec, depth + 32);
            assert_eq!(unsupported(&parts.config, &parts.plan), None, "{spec:?}");
            let needs = plan(&Split::whole(&parts.config), &parts.plan, 132).unwrap().needs;
            let kv = spec.layers * 2 * spec.kv * spec.dim * (depth + 32) * 2;
            assert_eq!(needs.kv_cache, kv as u64, "{spec:?}");
            let file: u64 = parts.plan.tensors.values().map(|tensor| tensor.bytes).sum();
            // Q2_K is stored on the GPU as bf16 (16 bits for 2.6), Q3_K as Q6_K (6.6 for 3.4); planes are padded.
            let most = if spec.kind == GgmlType::Q2K { 6.2 } else { 2.0 };
            let share = needs.weights as f64 / file as f64;
            assert!((0.99..most).contains(&share), "{:?}: {share}", spec.kind);
        }
    }

    /// The logits must not be near zero, and the CPU's int8 products must be close to the exact ones.
    #[test]
    fn small_models_and_their_f32_twins_have_close_nonzero_logits() {
        for (spec, depth) in small_models().into_iter().chain([(long(GgmlType::Q4K), 100)]) {
            let tokens = random_tokens(&mut Random(3), depth + STEPS, spec.vocab);
            let exact = twin(&spec, GgmlType::F32).unwrap();
            let compare = |path: &str| {
                let exact = exact.text()?;
                let stored = Logits::of(on_cpu(path, depth)?.as_mut(), &tokens)?;
                let exact = Logits::of(on_cpu(exact, depth)?.as_mut(), &tokens)?;
                let most = if spec.kind.is_quantised() { 0.12 } else { 3e-3 };
                for (stored, exact) in [(&stored.prompt, &exact.prompt), (&stored.steps, &exact.steps)] {
                    let apart = error(stored, exact);
                    assert!(apart < most, "{} {}: {apart}", spec.architecture, spec.kind.name());
                    let square = exact.iter().map(|logit| logit * logit).sum::<f32>() / exact.len() as f32;
                    assert!(square > 0.01, "{square}");
                }
                Ok(())
            };
            with_file(&spec, compare).unwrap();
        }
    }

    #[test]
    fn unsupported_reason_names_the_family_and_the_head_dimension() {
        let reason = |spec: Spec| {
            let parts = opened(&spec, 64);
            unsupported(&parts.config, &parts.plan).unwrap_or_default()
        };
        assert!(reason(Spec::new("gemma3")).contains("gemma3"));
        let odd = reason(Spec { dim: 96, ..small("phi3", GgmlType::Q4K) });
        assert!(odd.contains("phi3") && odd.contains("96"), "{odd}");
    }
}
