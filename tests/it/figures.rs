//! The figures of an answer, held to a clock outside the engine, with the real starter model.

use chatnap::protocol::*;
use chatnap::stats::AnswerStats;

use crate::talk::{Answered, Talk};

/// TTFT and tokens per second by the arrival of the events, and by the engine.
struct Measured {
    outside: (f64, f64),
    engine: (f64, f64),
}

fn measure() -> Measured {
    let talk = Talk::new();
    let ask = |text: String| {
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        talk.ask(&[ChatMessage::new(Role::User, text)], greedy, 80)
    };
    // Loads the model.
    ask("Hi".into());
    let long = "The sea is deep and the sky is high above it. ".repeat(30);
    let Answered { asked, tokens, usage, timing, .. } = ask(format!("{long}Tell me all about the sea."));
    let stats = AnswerStats::new(&usage, &timing);
    assert!(usage.completion_tokens > 20, "{usage:?}");
    let (first, last) = (tokens[0], tokens[tokens.len() - 1]);
    let rate = (usage.completion_tokens - 1) as f64 / (last - first).as_secs_f64();
    Measured {
        outside: ((first - asked).as_secs_f64(), rate),
        engine: (stats.ttft.unwrap().as_secs_f64(), stats.tokens_per_second.unwrap()),
    }
}

/// Both are within 5 %. Another process may delay the thread that receives the events, so it counts if one of five
/// measurements agrees.
#[test]
fn ttft_and_rate_agree_with_an_outside_clock() {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let Measured { outside, engine } = measure();
        let off = ((engine.0 / outside.0 - 1.0).abs(), (engine.1 / outside.1 - 1.0).abs());
        seen.push((outside, engine));
        if off.0 < 0.05 && off.1 < 0.05 {
            return;
        }
    }
    panic!("outside and engine: {seen:?}");
}
