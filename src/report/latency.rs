//! Measures the latency table: cold, warm, release, after the release, with the memory in each state.

use std::time::Duration;

use super::data::{FirstAnswer, Latency, Warm, ms};
use super::session::{Answered, Ended, Session};
use super::{Options, Step};
use crate::protocol::{ChatMessage, Role};
use crate::stats::{AnswerStats, percentile};

/// The question of the answers that need a load.
const FIRST_PROMPT: &str = "Say hello.";

/// Most tokens of each answer.
const MAX_TOKENS: usize = 16;

/// System message and question of the warm answers. They differ from the first word on, so that the KV cache of one helps
/// no other.
const WARM: [(&str, &str); 5] = [
    ("Answer briefly.", "What is a prime number?"),
    ("Be concise.", "Name three colours."),
    ("Keep it short.", "Why do leaves fall?"),
    ("Use few words.", "What does a compiler do?"),
    ("Write one sentence.", "How far away is the moon?"),
];

/// Measures into `latency`, which keeps what was measured before an end.
pub(super) fn measure(
    session: &mut Session<'_>,
    options: &Options,
    seed: Option<u64>,
    latency: &mut Latency,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<(), Ended> {
    let before = session.memory.now();
    latency.before = before;
    progress(Step::Says("latency: first answer, cold"));
    latency.cold = Some(first(session, seed, progress)?);
    latency.before = session.memory.before(before);
    progress(Step::Says("latency: warm answers"));
    let mut answers = Vec::new();
    let measured = warm(session, options, seed, &mut answers, progress);
    latency.warm = summary(&answers);
    latency.loaded = session.memory.now();
    measured?;
    progress(Step::Says("latency: release, and the first answer after it"));
    let (took, freed) = session.release()?;
    (latency.release_ms, latency.released_bytes) = (Some(ms(took)), Some(freed));
    latency.after = session.memory.now();
    latency.after_release = Some(first(session, seed, progress)?);
    Ok(())
}

fn first(
    session: &mut Session<'_>,
    seed: Option<u64>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<FirstAnswer, Ended> {
    let question = vec![ChatMessage::new(Role::User, FIRST_PROMPT)];
    let answered = session.ask(question, seed, MAX_TOKENS, progress)?;
    Ok(FirstAnswer {
        prompt: FIRST_PROMPT.into(),
        first_token_ms: answered.marks.first_token().map(ms),
        phases: answered.marks.phases(answered.timing.prefill),
        weights: answered.marks.origin.clone(),
        figures: answered.figures(),
    })
}

fn warm(
    session: &mut Session<'_>,
    options: &Options,
    seed: Option<u64>,
    answers: &mut Vec<(String, Answered)>,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<(), Ended> {
    // Some templates refuse a system message.
    let mut with_system = true;
    for (system, prompt) in WARM.iter().cycle().take(options.warm) {
        let question = ChatMessage::new(Role::User, *prompt);
        if with_system {
            let messages = vec![ChatMessage::new(Role::System, *system), question.clone()];
            match session.ask(messages, seed, MAX_TOKENS, progress) {
                Ok(answered) => {
                    answers.push((format!("{system} {prompt}"), answered));
                    continue;
                }
                Err(Ended::Stopped) => return Err(Ended::Stopped),
                Err(Ended::Failed(_)) => with_system = false,
            }
        }
        let answered = session.ask(vec![question], seed, MAX_TOKENS, progress)?;
        answers.push(((*prompt).to_owned(), answered));
    }
    Ok(())
}

/// `None` without answers.
fn summary(answers: &[(String, Answered)]) -> Option<Warm> {
    let stats = answers.iter().map(|(_, answered)| AnswerStats::new(&answered.usage, &answered.timing));
    let ttfts: Vec<Duration> = stats.filter_map(|stats| stats.ttft).collect();
    let totals: Vec<Duration> = answers.iter().map(|(_, answered)| answered.timing.total).collect();
    let of = |samples: &[Duration], percent| percentile(samples, percent).map(ms);
    (!answers.is_empty()).then(|| Warm {
        prompts: answers.iter().map(|(prompt, _)| prompt.clone()).collect(),
        max_tokens: MAX_TOKENS,
        answers: answers.iter().map(|(_, answered)| answered.figures()).collect(),
        ttft_p50_ms: of(&ttfts, 50.0),
        ttft_p95_ms: of(&ttfts, 95.0),
        total_p50_ms: of(&totals, 50.0),
        total_p95_ms: of(&totals, 95.0),
    })
}
