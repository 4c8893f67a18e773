//! The dim line under an answer: its figures and how it ended, or how it goes while it does not end.

use ratatui::text::{Line, Span};

use super::{Look, gauge, units};
use crate::chat::{Answering, Chat, EngineState, Stage};
use crate::conversation::{Answer, Ending};
use crate::protocol::{FinishReason, Timing, Usage};
use crate::sanitize::sanitize;
use crate::stats::{AnswerStats, rate};
use crate::wording::plural;

/// What is shown under an answer that has ended.
pub(super) fn ended(answer: &Answer, look: &Look<'_>) -> Vec<Vec<Span<'static>>> {
    let theme = look.theme;
    match &answer.ending {
        Ending::Pending => Vec::new(),
        Ending::Finished { reason, usage, timing } => vec![finished(*reason, usage, timing.as_ref(), look)],
        Ending::Failed { message } => {
            let mut rows = vec![vec![
                Span::styled(format!("{} ", look.glyphs.error), theme.error),
                Span::styled(sanitize(message), theme.error),
            ]];
            let kept = if answer.is_empty() {
                "Your message is kept"
            } else {
                "Your message and this much of the answer are kept"
            };
            rows.push(vec![Span::styled(format!("{kept}; /regenerate asks again."), theme.dim)]);
            rows
        }
        Ending::Interrupted => {
            vec![vec![Span::styled(
                "interrupted: chatnap ended before the answer did; /regenerate asks again",
                theme.warning,
            )]]
        }
    }
}

fn finished(reason: FinishReason, usage: &Usage, timing: Option<&Timing>, look: &Look<'_>) -> Vec<Span<'static>> {
    let dot = format!(" {} ", look.glyphs.dot);
    let mut parts = Vec::new();
    if let Some(timing) = timing {
        let stats = AnswerStats::new(usage, timing);
        parts.extend(stats.ttft.map(|ttft| format!("TTFT {}", units::duration(ttft))));
        parts.extend(stats.tokens_per_second.map(units::token_rate));
    }
    if usage.total_tokens() > 0 {
        parts.push(format!(
            "{} prompt / {} cached / {} completion tokens",
            units::count(usage.prompt_tokens),
            units::count(usage.cached_tokens),
            units::count(usage.completion_tokens)
        ));
    }
    if let Some(timing) = timing.filter(|timing| !timing.load.is_zero()) {
        parts.push(format!("load {}", units::duration(timing.load)));
    }
    let mut spans = vec![Span::styled(parts.join(&dot), look.theme.dim)];
    let end = match reason {
        FinishReason::Stop => None,
        FinishReason::Length => Some("cut off at the token limit (length)"),
        FinishReason::Cancelled => Some("stopped"),
    };
    if let Some(end) = end {
        let before = if parts.is_empty() { String::new() } else { dot };
        spans.push(Span::styled(before, look.theme.dim));
        spans.push(Span::styled(end, look.theme.warning));
    }
    spans
}

/// What is shown under an answer that goes on.
pub(super) fn running(chat: &Chat, answering: &Answering, look: &Look<'_>) -> Line<'static> {
    let waited = units::duration(chat.now().since(answering.submitted));
    let dot = look.glyphs.dot;
    let what = match (answering.stage, &chat.engine.state) {
        (Stage::Saving, _) => "saving your message".to_owned(),
        (Stage::Waiting, EngineState::Loading(_)) => format!("loading the model {dot} {waited}"),
        (Stage::Waiting, EngineState::Releasing) => format!("waiting for the release {dot} {waited}"),
        (Stage::Waiting, _) => format!("waiting {dot} {waited}"),
        (Stage::Prefill { done, total }, _) => {
            format!("reading {} of {} prompt tokens {dot} {waited}", units::count(done), units::count(total))
        }
        (Stage::Decode, _) => tokens(answering, dot),
        (Stage::Stopping, _) => "stopping".to_owned(),
    };
    let stop = if answering.stage == Stage::Stopping { String::new() } else { format!(" {dot} Esc stops") };
    Line::from(vec![
        Span::styled(format!("{} ", gauge::spinner(chat, look)), look.theme.accent),
        Span::styled(format!("{what}{stop}"), look.theme.dim),
    ])
}

fn tokens(answering: &Answering, dot: &str) -> String {
    let Some((first, last, count)) = answering.tokens else { return "answering".to_owned() };
    let speed = rate(count.saturating_sub(1), last.since(first));
    let speed = speed.map(|speed| format!(" {dot} {}", units::token_rate(speed))).unwrap_or_default();
    format!("{} {}{speed}", units::count(count), plural(count, "token"))
}
