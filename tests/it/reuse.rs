//! Reuse of the KV cache between turns with the real starter model: a common prefix is not evaluated again, and the
//! logits after it equal those of a cold run.

use chatnap::engine::load::{LoadedModel, load};
use chatnap::engine::model::LoadOptions;
use chatnap::engine::prompt;
use chatnap::engine::source::{CancelFlag, ModelFiles};
use chatnap::protocol::*;

use crate::support;
use crate::talk::{Answered, Talk};

const QUESTIONS: [&str; 8] = [
    "Name a color.",
    "And another one?",
    "Which of the two do you like more?",
    "Why?",
    "Tell me about the sea in one sentence.",
    "What lives in it?",
    "How deep is it?",
    "Thank you, good bye!",
];

#[test]
fn eight_turns_and_an_edit_reuse_the_cached_prefix() {
    eight_turns(0.0);
}

/// The sampled tokens of an answer often differ from the encoding of its text.
#[test]
fn sampled_answers_are_reused_token_by_token() {
    eight_turns(1.5);
}

fn eight_turns(temperature: f32) {
    let talk = Talk::new();
    let sampling = SamplingParams { temperature, seed: Some(7), ..SamplingParams::default() };
    let mut messages = vec![ChatMessage::new(Role::System, "You are a helpful assistant.")];
    let mut there = 0;
    let mut prompts = Vec::new();
    for question in QUESTIONS {
        messages.push(ChatMessage::new(Role::User, question));
        let Answered { text: answer, usage, reason, .. } = talk.ask(&messages, sampling.clone(), 40);
        assert!(usage.cached_tokens >= there, "{question}: {usage:?}, {there} tokens are cached");
        assert!(usage.cached_tokens < usage.prompt_tokens);
        prompts.push(usage.prompt_tokens);
        // After `Length` the last token was emitted but not evaluated, so it is not cached.
        there = usage.total_tokens() - usize::from(reason == FinishReason::Length);
        messages.push(ChatMessage::new(Role::Assistant, answer));
    }
    // Turn 3 with another text: two turns and the template's start of the third are cached, none of its text.
    let mut edited = messages[..5].to_vec();
    edited.push(ChatMessage::new(Role::User, "Zebras are striped, are they not?"));
    let usage = talk.ask(&edited, sampling, 40).usage;
    assert!(usage.cached_tokens >= prompts[1] && usage.cached_tokens < prompts[2], "{usage:?} {prompts:?}");
}

fn starter() -> LoadedModel {
    let files = ModelFiles::Gguf(vec![support::starter_model()]);
    let options = LoadOptions {
        name: "smollm2-135m",
        files: &files,
        context_length: Some(512),
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        chat_template: None,
        smaller: &[],
        cancel: &CancelFlag::default(),
    };
    load(&options, &mut |_| ()).unwrap()
}

/// The tokens after the kept part of the cache have the logits of a cold run. Prefill sums rows in another order than
/// single tokens, so both agree within 1 % of the logits' range and in the most likely token.
#[test]
fn logits_after_reuse_equal_those_of_a_cold_run() {
    let mut warm = starter();
    let message = |text: &str| [ChatMessage::new(Role::User, text)];
    let render = |loaded: &LoadedModel, text: &str| {
        prompt::render(&loaded.template, &loaded.tokenizer, &message(text)).unwrap().tokens
    };
    let first = render(&warm, "Why is the sky blue during the day?");
    let second = render(&warm, "Why is the sky blue and the sunset red?");
    let common = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    assert!(common > 10 && common < second.len() - 1);
    let (mut reused, mut cold) = (Vec::new(), Vec::new());
    warm.model.forward(&first, 0, &mut reused).unwrap();
    assert_eq!(warm.model.truncate_cache(common), common);
    warm.model.forward(&second[common..], common, &mut reused).unwrap();
    starter().model.forward(&second, 0, &mut cold).unwrap();
    let range = cold.iter().copied().fold(f32::MIN, f32::max) - cold.iter().copied().fold(f32::MAX, f32::min);
    let off = reused.iter().zip(&cold).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < range / 100.0, "off by {off} of {range}");
    let best = |logits: &[f32]| logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert_eq!(best(&reused), best(&cold));
}
