//! The forward pass against a naive one in double precision, on small random models of each family, type and format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::engine::cpu::{GgmlType, Isa};
use crate::engine::model::parts::ModelParts;
use crate::engine::source::ModelFiles;
use crate::engine::weights::testing::{Scaling, Spec, StoredTensor, Tensors};

mod deep;
mod files;
mod peers;
mod reference;

use reference::Reference;

fn open(files: &ModelFiles) -> Result<Transformer, ModelError> {
    let parts = ModelParts::open(files, None)?;
    Transformer::load(&parts.config, &parts.plan, Some(2), &CancelFlag::default(), &mut |_| {})
}

fn from_gguf(spec: &Spec, tensors: &Tensors) -> Transformer {
    let folder = tempfile::tempdir().unwrap();
    let path = spec.gguf().write(folder.path(), tensors);
    open(&ModelFiles::Gguf(vec![path])).unwrap()
}

fn from_folder(spec: &Spec, tensors: &Tensors, shards: usize) -> Transformer {
    let folder = tempfile::tempdir().unwrap();
    spec.write_folder(folder.path(), tensors, shards);
    open(&ModelFiles::Safetensors(folder.path().to_path_buf())).unwrap()
}

/// Runs `body` once per supported instruction set. The cache is not reset: a forward pass from position 0 overwrites
/// it.
fn on_every_isa(model: &mut Transformer, mut body: impl FnMut(&mut Transformer, &'static str)) {
    for isa in Isa::available() {
        model.pool = Threads::with_isa(Some(2), isa);
        body(model, isa.name());
    }
}

/// |a - b| / |b|.
fn difference(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let apart: f64 = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (apart / theirs.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn sequence(spec: &Spec, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 7 + 3) % spec.vocab) as u32).collect()
}

/// Compares the residual stream after every layer and the logits of every position, in one step and token by token.
fn check(label: &str, spec: &Spec, tensors: &Tensors, model: &mut Transformer, tolerance: f64) {
    let tokens = sequence(spec, 24);
    let mut reference = Reference::new(spec, tensors);
    let (mut expected, mut layers) = (Vec::new(), Vec::new());
    for (position, token) in tokens.iter().enumerate() {
        expected.push(reference.logits(*token, position));
        layers.push(std::mem::take(&mut reference.layers));
    }
    let mut logits = Vec::new();
    on_every_isa(model, |model, isa| {
        model.layers_seen = Some(Vec::new());
        model.forward_rows(&tokens, 0, tokens.len(), &mut logits).unwrap();
        // The contribution of one layer is smaller than the stream, so its relative error is larger.
        let label = format!("{label}, {isa}");
        check_layers(&label, spec, &model.layers_seen.take().unwrap(), &layers, 2.0 * tolerance);
        for (i, (ours, theirs)) in logits.chunks(spec.vocab).zip(&expected).enumerate() {
            let apart = difference(ours, theirs);
            assert!(apart < tolerance, "{label}: in one step, position {i}: {apart}");
        }
        model.truncate_cache(0);
        for (i, (token, theirs)) in tokens.iter().zip(&expected).enumerate() {
            model.forward(&[*token], i, &mut logits).unwrap();
            let apart = difference(&logits, theirs);
            assert!(apart < tolerance, "{label}: one by one, position {i}: {apart}");
        }
    });
}

/// Compares the contribution of each layer to the residual stream, first layer first, so that the assertion names the
/// faulty layer. `ours` is `[layer][position]`; `theirs` is `[position][layer]` and starts with the embedding.
fn check_layers(label: &str, spec: &Spec, ours: &[Vec<f32>], theirs: &[Vec<Vec<f64>>], tolerance: f64) {
    assert_eq!(ours.len(), spec.layers);
    for (layer, stream) in ours.iter().enumerate() {
        for (position, row) in stream.chunks(spec.hidden).enumerate() {
            let (before, after) = (&theirs[position][layer], &theirs[position][layer + 1]);
            let added: f64 = before.iter().zip(after).map(|(b, a)| (a - b).powi(2)).sum();
            let apart: f64 = row.iter().zip(after).map(|(r, a)| (f64::from(*r) - a).powi(2)).sum();
            let apart = (apart / added).sqrt();
            assert!(apart < tolerance, "{label}: layer {layer}, position {position}: {apart}");
        }
    }
}

/// Tolerance for weights in full precision: rounding of the KV cache to half precision.
const EXACT: f64 = 3e-3;
/// Tolerance for 8-bit activations: their rounding errors grow with each layer; a structural error gives about 1.
const QUANTISED: f64 = 6e-2;

#[test]
fn every_family_and_type_agrees_with_f64() {
    for family in ["llama", "qwen2", "qwen3", "gemma3", "phi3"] {
        for kind in GgmlType::ALL {
            let spec = Spec { kind, ..Spec::new(family) };
            let tensors = spec.tensors();
            let label = format!("{family} in {}", kind.name());
            let tolerance = if kind.is_quantised() { QUANTISED } else { EXACT };
            check(&label, &spec, &tensors, &mut from_gguf(&spec, &tensors), tolerance);
        }
    }
}

/// The comparison detects a faulty layer and names it.
#[test]
fn check_names_the_layer_that_differs() {
    let spec = Spec { layers: 4, ..Spec::new("llama") };
    let tensors = spec.tensors();
    let mut damaged = tensors.clone();
    let other = damaged["blk.1.ffn_up.weight"].clone();
    damaged.insert("blk.2.ffn_up.weight".into(), other);
    let mut model = from_gguf(&spec, &damaged);
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check("damaged", &spec, &tensors, &mut model, QUANTISED);
    }));
    let message = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("damaged, plain: layer 2, position 0"), "{message}");
}

#[test]
fn tied_embeddings_biases_and_windows_agree_with_f64() {
    let tied = Spec { tied: true, ..Spec::new("llama") };
    let biased = Spec { biases: true, ..Spec::new("llama") };
    let windowed = Spec { window: Some(5), ..Spec::new("llama") };
    let lone_head = Spec { heads: 3, kv: 1, ..Spec::new("qwen2") };
    for (label, spec) in [("tied", tied), ("biased", biased), ("window", windowed), ("one key head", lone_head)] {
        let tensors = spec.tensors();
        check(label, &spec, &tensors, &mut from_gguf(&spec, &tensors), EXACT);
    }
}

/// Dequantised values against the `gguf` package of Python (see the fixtures' README): the references in this file
/// rely on them.
#[test]
fn dequantised_blocks_match_the_gguf_package() {
    let text = include_str!("../../../../tests/fixtures/dequantize.json");
    let golden: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>> =
        serde_json::from_str(text).unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    for (name, case) in &golden {
        let kind = GgmlType::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
        let expected: Vec<f32> =
            bytes(&case["values"]).chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let tensor = StoredTensor { rows: 1, cols: expected.len(), vector: false, kind, bytes: bytes(&case["blocks"]) };
        for (i, (ours, theirs)) in tensor.values().iter().zip(&expected).enumerate() {
            let apart = (ours - f64::from(*theirs)).abs();
            assert!(apart <= 1e-6 * f64::from(theirs.abs()).max(1e-3), "{name} {i}: {ours} instead of {theirs}");
        }
    }
    assert_eq!(golden.len(), GgmlType::ALL.len() - 1, "every type but F32");
}

#[test]
fn safetensors_and_gguf_of_the_same_weights_agree() {
    let llama3 = Scaling::Llama3 { factor: 8.0, original: 64 };
    let yarn = Scaling::Yarn { factor: 4.0, original: 128 };
    let specs = [
        (Spec { kind: GgmlType::BF16, scaling: llama3, ..Spec::new("llama") }, 2),
        (Spec { kind: GgmlType::F16, scaling: yarn, ..Spec::new("qwen2") }, 1),
        (Spec { scaling: Scaling::Linear(3.0), tied: true, ..Spec::new("qwen3") }, 3),
        (Spec::new("gemma3"), 1),
        (Spec { kind: GgmlType::BF16, ..Spec::new("phi3") }, 1),
    ];
    for (spec, shards) in specs {
        let tensors = spec.tensors();
        let label = format!("{} from a folder", spec.architecture);
        check(&label, &spec, &tensors, &mut from_folder(&spec, &tensors, shards), EXACT);
        check(spec.architecture, &spec, &tensors, &mut from_gguf(&spec, &tensors), EXACT);
    }
}

/// Mistral is a Llama whose `config.json` has a window.
#[test]
fn a_mistral_folder_applies_its_sliding_window() {
    let mut spec = Spec { window: Some(6), ..Spec::new("llama") };
    let tensors = spec.tensors();
    spec.architecture = "mistral";
    let mut model = from_folder(&spec, &tensors, 1);
    spec.architecture = "llama";
    check("mistral", &spec, &tensors, &mut model, EXACT);
}

/// Large positions: the cache between them stays zero, as in the reference.
#[test]
fn scaled_positions_agree_with_f64_at_100_8000_and_30000() {
    let context = 32_768;
    let scalings = [
        Scaling::None,
        Scaling::Linear(4.0),
        Scaling::Llama3 { factor: 8.0, original: 8192 },
        Scaling::Yarn { factor: 4.0, original: 8192 },
    ];
    for scaling in scalings {
        let spec = Spec { scaling, context, theta: 500_000.0, ..Spec::new("llama") };
        let tensors = spec.tensors();
        let folder = tempfile::tempdir().unwrap();
        let path = spec.gguf().write(folder.path(), &tensors);
        let parts = ModelParts::open(&ModelFiles::Gguf(vec![path]), Some(context)).unwrap();
        let mut model =
            Transformer::load(&parts.config, &parts.plan, Some(2), &CancelFlag::default(), &mut |_| {}).unwrap();
        let mut reference = Reference::new(&spec, &tensors);
        let mut logits = Vec::new();
        for (start, length) in [(0, 12), (100, 6), (8000, 6), (30_000, 4)] {
            let tokens = sequence(&spec, length);
            let expected = tokens.iter().enumerate().map(|(i, t)| reference.logits(*t, start + i)).last().unwrap();
            on_every_isa(&mut model, |model, isa| {
                model.forward(&tokens, start, &mut logits).unwrap();
                let apart = difference(&logits, &expected);
                assert!(apart < EXACT, "{scaling:?} at {start}, {isa}: {apart}");
            });
        }
    }
}

#[test]
fn a_kept_prefix_gives_the_same_logits_as_a_cold_run() {
    let spec = Spec { kind: GgmlType::Q4_1, ..Spec::new("llama") };
    let tensors = spec.tensors();
    let mut warm = from_gguf(&spec, &tensors);
    let mut cold = from_gguf(&spec, &tensors);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let first = sequence(&spec, 80);
    warm.forward(&first, 0, &mut ours).unwrap();
    let second: Vec<u32> = first[..50].iter().copied().chain((0..30).map(|i| i * 3)).collect();
    assert_eq!(warm.truncate_cache(50), 50);
    warm.forward(&second[50..], 50, &mut ours).unwrap();
    cold.forward(&second[..50], 0, &mut theirs).unwrap();
    cold.forward(&second[50..], 50, &mut theirs).unwrap();
    assert_eq!(ours, theirs);
    // With other step boundaries only the order of summation differs.
    cold.truncate_cache(0);
    cold.forward(&second, 0, &mut theirs).unwrap();
    let expected: Vec<f64> = theirs.iter().map(|v| f64::from(*v)).collect();
    assert!(difference(&ours, &expected) < 1e-3);
}

#[test]
fn a_prompt_of_several_steps_gives_the_logits_of_single_tokens() {
    let spec = Spec { context: 2048, ..Spec::new("llama") };
    let tensors = spec.tensors();
    let mut model = from_gguf(&spec, &tensors);
    let tokens = sequence(&spec, 600);
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    // Steps have at most 256 tokens, so the 300 requested rows span two of them.
    model.forward_rows(&tokens, 0, 300, &mut whole).unwrap();
    assert_eq!(whole.len(), 300 * spec.vocab);
    model.truncate_cache(0);
    for (i, token) in tokens.iter().enumerate() {
        model.forward(&[*token], i, &mut single).unwrap();
        if i >= 300 {
            let expected: Vec<f64> = single.iter().map(|v| f64::from(*v)).collect();
            let ours = &whole[(i - 300) * spec.vocab..(i - 299) * spec.vocab];
            assert!(difference(ours, &expected) < 1e-3, "position {i}");
        }
    }
}

#[test]
fn out_of_range_tokens_are_errors_and_the_model_stays_usable() {
    let spec = Spec::new("llama");
    let mut model = from_gguf(&spec, &spec.tensors());
    let mut logits = Vec::new();
    assert!(model.forward(&[], 0, &mut logits).is_err());
    assert!(model.forward(&[1], spec.context, &mut logits).is_err());
    assert!(model.forward(&[1], usize::MAX, &mut logits).is_err());
    assert!(model.forward(&[spec.vocab as u32], 0, &mut logits).is_err());
    assert!(model.forward_rows(&[1, 2], 0, 3, &mut logits).is_err());
    model.forward(&[1, 2], 0, &mut logits).unwrap();
    assert_eq!(logits.len(), spec.vocab);
}

/// The cancel flag is checked between layers; positions of earlier steps stay valid.
#[test]
fn a_cancelled_step_counts_as_not_evaluated() {
    let spec = Spec::new("llama");
    let tensors = spec.tensors();
    let (mut model, mut other) = (from_gguf(&spec, &tensors), from_gguf(&spec, &tensors));
    let tokens = sequence(&spec, 20);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let cancel = CancelFlag::default();
    model.set_cancel_flag(&cancel);
    model.forward(&tokens[..10], 0, &mut ours).unwrap();
    cancel.cancel();
    assert!(matches!(model.forward(&tokens[10..], 10, &mut ours), Err(ModelError::Cancelled)));
    model.set_cancel_flag(&CancelFlag::default());
    model.forward(&tokens[10..], 10, &mut ours).unwrap();
    other.forward(&tokens[..10], 0, &mut theirs).unwrap();
    other.forward(&tokens[10..], 10, &mut theirs).unwrap();
    assert_eq!(ours, theirs);
}
