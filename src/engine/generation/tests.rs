//! Growing a sequence beyond what a model was first made for, and waiting for a model that is not ready.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::engine::load::cpu_model;
use crate::engine::model::parts::ModelParts;
use crate::engine::source::ModelFiles;

/// A model with LongRoPE, made for 40 positions at first.
fn long_rope() -> Box<dyn Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/phi3-long");
    let parts = ModelParts::open(&ModelFiles::Safetensors(folder), None).unwrap();
    cpu_model(&parts, Some(1)).unwrap()
}

fn request() -> GenerationRequest {
    GenerationRequest {
        id: RequestId(1),
        messages: Vec::new(),
        sampling: SamplingParams::default(),
        max_tokens: None,
        on_overflow: OverflowPolicy::Error,
    }
}

#[test]
fn a_sequence_that_grows_too_long_is_evaluated_anew() {
    let (mut model, mut other) = (long_rope(), long_rope());
    let tokens: Vec<u32> = (0..41).map(|i| 3 + i * 7 % 100).collect();
    let request = request();
    let mut decoder = Decoder::new(&request);
    let mut prefix = Prefix::default();
    model.reusable_prefix(0, 39);
    model.forward(&tokens[..39], 0, &mut decoder.logits).unwrap();
    prefix.extend(&tokens[..39]);
    // The 40th still fits; the 41st does not.
    assert!(decoder.grow(&mut *model, &mut prefix, &CancelFlag::default(), &tokens[39..40]).unwrap());
    model.forward(&tokens[39..40], 39, &mut decoder.logits).unwrap();
    prefix.extend(&tokens[39..40]);
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
fn evaluating_anew_can_be_stopped() {
    let mut model = long_rope();
    let request = request();
    let mut decoder = Decoder::new(&request);
    let mut prefix = Prefix::default();
    model.reusable_prefix(0, 40);
    model.forward(&[5; 40], 0, &mut decoder.logits).unwrap();
    prefix.extend(&[5; 40]);
    let cancel = CancelFlag::default();
    cancel.cancel();
    assert!(!decoder.grow(&mut *model, &mut prefix, &cancel, &[5]).unwrap());
    // Nothing of the cache is taken for valid.
    assert!(prefix.is_empty());
}

/// Ready for long prompts when it was asked so many times, or never.
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
        panic!("nothing is evaluated before the model is ready");
    }

    fn forward_rows(&mut self, _: &[u32], _: usize, _: usize, _: &mut Vec<f32>) -> Result<(), ModelError> {
        panic!("nothing is evaluated before the model is ready");
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
fn a_prompt_waits_until_the_model_is_ready_for_it_or_it_is_cancelled() {
    assert_eq!(asked(99, Some(3)), 1, "a short one begins at once");
    assert_eq!(asked(100, Some(3)), 3);
    assert_eq!(asked(100, None), 5, "the cancel is heard");
}

#[test]
fn logits_that_are_no_numbers_choose_no_token() {
    let mut model = long_rope();
    let request = request();
    for (logits, sound) in [
        (vec![f32::NAN; 8], false),
        (vec![f32::INFINITY; 8], false),
        (vec![f32::NEG_INFINITY; 8], false),
        (vec![f32::NAN, 1.0, f32::NEG_INFINITY], true),
    ] {
        let mut decoder = Decoder::new(&request);
        decoder.sampler = Some(Sampler::new(&request.sampling, 1));
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
