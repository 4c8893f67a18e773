//! Growing a LongRoPE sequence beyond its original context, waiting for a model, logits that are not finite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::engine::load::cpu_model;
use crate::engine::model::parts::ModelParts;
use crate::engine::source::ModelFiles;

/// A LongRoPE model whose original context is 40 positions.
fn long_rope() -> Box<dyn Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/phi3-long");
    let parts = ModelParts::open(&ModelFiles::Safetensors(folder), None).unwrap();
    cpu_model(&parts, Some(1)).unwrap()
}

#[test]
fn sequence_that_exceeds_the_original_longrope_context_is_evaluated_again() {
    let (mut model, mut other) = (long_rope(), long_rope());
    let tokens: Vec<u32> = (0..41).map(|i| 3 + i * 7 % 100).collect();
    let mut decoder = Decoder::new(SamplingParams::default());
    let mut prefix = Prefix::default();
    model.reusable_prefix(0, 39);
    model.forward(&tokens[..39], 0, &mut decoder.logits).unwrap();
    prefix.extend(&tokens[..39], Kernels::Own);
    // The 40th position is within the original context; the 41st is not.
    assert!(decoder.grow(&mut *model, &mut prefix, &CancelFlag::default(), &tokens[39..40]).unwrap());
    model.forward(&tokens[39..40], 39, &mut decoder.logits).unwrap();
    prefix.extend(&tokens[39..40], Kernels::Step);
    assert!(decoder.grow(&mut *model, &mut prefix, &CancelFlag::default(), &tokens[39..41]).unwrap());
    assert_eq!(prefix.len(), 40);
    model.forward(&tokens[40..], 40, &mut decoder.logits).unwrap();
    let mut expected = Vec::new();
    other.reusable_prefix(0, 41);
    other.forward(&tokens[..40], 0, &mut expected).unwrap();
    other.forward(&tokens[40..], 40, &mut expected).unwrap();
    assert_eq!(decoder.logits, expected);
}

#[test]
fn evaluating_a_sequence_again_can_be_cancelled() {
    let mut model = long_rope();
    let mut decoder = Decoder::new(SamplingParams::default());
    let mut prefix = Prefix::default();
    model.reusable_prefix(0, 40);
    model.forward(&[5; 40], 0, &mut decoder.logits).unwrap();
    prefix.extend(&[5; 40], Kernels::Own);
    let cancel = CancelFlag::default();
    cancel.cancel();
    assert!(!decoder.grow(&mut *model, &mut prefix, &cancel, &[5]).unwrap());
    // No cached position counts as valid.
    assert!(prefix.is_empty());
}

/// Ready for 100 tokens or more at the `ready_at`-th call of `is_ready`; `None`: never, and the 5th call cancels.
struct Late {
    asked: usize,
    ready_at: Option<usize>,
    cancel: CancelFlag,
}

impl Model for Late {
    fn vocab_size(&self) -> usize {
        1
    }

    fn context_length(&self) -> usize {
        1
    }

    fn prefill_chunk(&self) -> usize {
        1
    }

    fn truncate_cache(&mut self, positions: usize) -> usize {
        positions
    }

    fn forward(&mut self, _: &[u32], _: usize, _: &mut Vec<f32>) -> Result<(), ModelError> {
        panic!("evaluated before the model was ready");
    }

    fn forward_rows(&mut self, _: &[u32], _: usize, _: usize, _: &mut Vec<f32>) -> Result<(), ModelError> {
        panic!("evaluated before the model was ready");
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }

    fn is_ready(&mut self, tokens: usize) -> bool {
        self.asked += 1;
        if self.asked == 5 && self.ready_at.is_none() {
            self.cancel.cancel();
        }
        tokens < 100 || self.ready_at == Some(self.asked)
    }
}

fn asked(tokens: usize, ready_at: Option<usize>) -> usize {
    let cancel = CancelFlag::default();
    let mut model = Late { asked: 0, ready_at, cancel: cancel.clone() };
    wait_until_ready(&mut model, tokens, &cancel);
    model.asked
}

#[test]
fn prompt_waits_until_the_model_is_ready_or_it_is_cancelled() {
    assert_eq!(asked(99, Some(3)), 1, "a short prompt starts at once");
    assert_eq!(asked(100, Some(3)), 3);
    assert_eq!(asked(100, None), 5, "the cancel ends the wait");
}

#[test]
fn logits_without_a_finite_value_are_an_error() {
    let mut model = long_rope();
    for (logits, sound) in [
        (vec![f32::NAN; 8], false),
        (vec![f32::INFINITY; 8], false),
        (vec![f32::NEG_INFINITY; 8], false),
        (vec![f32::NAN, 1.0, f32::NEG_INFINITY], true),
    ] {
        let mut decoder = Decoder::new(SamplingParams::default());
        decoder.sampler = Some(Sampler::new(&SamplingParams::default(), 1));
        decoder.logits.clone_from(&logits);
        let next = decoder.next(&mut *model, &mut Prefix::default(), 3, &[]);
        assert_eq!(next.is_ok(), sound, "{logits:?}: {next:?}");
    }
    let failure = turn_failure(ModelError::NotFinite);
    assert!(
        failure.error.message.contains("not finite") && failure.error.message.contains("kept"),
        "{:?}",
        failure.error
    );
}
