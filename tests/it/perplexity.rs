//! Perplexity of the real starter model against llama.cpp's value for the same text, model and chunks.

use chatnap::engine::load::load;
use chatnap::engine::model::LoadOptions;
use chatnap::engine::model::perplexity::perplexity;
use chatnap::engine::source::{CancelFlag, ModelFiles};
use chatnap::protocol::DevicePreference;

use crate::support;

/// `llama-perplexity -m SmolLM2-135M-Instruct.Q4_1.gguf -f TEXT -c 256` (llama.cpp 2026-10) prints 18.5143 ± 2.50594
/// over 4 chunks; TEXT is the first 5,000 bytes of LICENSE-APACHE.
#[test]
fn starter_perplexity_matches_llama_cpp() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-APACHE")).unwrap();
    let cancel = CancelFlag::default();
    let options = LoadOptions {
        name: "smollm2-135m",
        files: &ModelFiles::Gguf(vec![support::starter_model()]),
        context_length: None,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        chat_template: None,
        smaller: &[],
        cancel: &cancel,
    };
    let mut loaded = load(&options, &mut |_| ()).unwrap();
    let mut told = Vec::new();
    let mut note = |so_far, chunks| told.push((so_far, chunks));
    let result = perplexity(loaded.model.as_mut(), &loaded.tokenizer, &text[..5000], 256, &cancel, &mut note).unwrap();
    assert!((result.perplexity / 18.5143 - 1.0).abs() < 0.01, "{result:?}");
    assert!((result.error / 2.50594 - 1.0).abs() < 0.02, "{result:?}");
    assert_eq!((result.chunks, result.context_length), (4, 256));
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|(_, chunks)| *chunks == 4));

    let model = loaded.model.as_mut();
    let short = perplexity(model, &loaded.tokenizer, "Too short.", 256, &cancel, &mut |_, _| ()).unwrap_err();
    assert!(short.to_string().contains("256"), "{short}");
    let beyond = perplexity(model, &loaded.tokenizer, &text, 1 << 20, &cancel, &mut |_, _| ()).unwrap_err();
    assert!(beyond.to_string().contains("8192"), "{beyond}");
    cancel.cancel();
    assert!(perplexity(model, &loaded.tokenizer, &text, 256, &cancel, &mut |_, _| ()).is_err());
}
