//! The dim lines under an answer: figures and finish reason, or progress while it streams. Lines are broken between
//! figures, not within one.

use ratatui::style::Style;
use ratatui::text::Span;

use super::{gauge, supply, units, wrap};
use crate::chat::{Answering, Chat, EngineState, Limit, Stage};
use crate::conversation::{Answer, Ending, TurnId};
use crate::protocol::{FinishReason, OverflowPolicy, Timing, Usage};
use crate::sanitize::sanitize;
use crate::stats::{AnswerStats, rate};
use crate::tui::layout::Look;
use crate::wording::{is_on_server, plural};

type Row = Vec<Span<'static>>;

/// One figure or remark.
type Part = (String, Style);

/// The lines under an answer that has ended, in `room` cells.
pub(super) fn ended(chat: &Chat, id: TurnId, answer: &Answer, room: usize, look: &Look<'_>) -> Vec<Row> {
    let theme = look.theme;
    match &answer.ending {
        Ending::Pending => Vec::new(),
        Ending::Finished { reason, usage, timing } => {
            let mut parts = Vec::from_iter(answered_by(chat, id).map(|model| (model, theme.dim)));
            let served = chat.conversation.turn(id).is_some_and(|turn| is_on_server(&turn.model));
            parts.extend(figures(usage, timing.as_ref(), served, look));
            let limit = chat.limits.get(&id).copied();
            let silent = (*reason == FinishReason::Stop && answer.is_silent()).then_some("the model gave no answer");
            parts.extend(silent.or(end(*reason, limit)).map(|end| (end.to_owned(), theme.warning)));
            parts.extend(version(chat, id).map(|version| (version, theme.dim)));
            let mut rows = pack(parts, room, look);
            if let (FinishReason::Length, Some(Limit::Context { length, trained })) = (reason, limit) {
                let advice = more_room(length, trained, chat.overflow_policy());
                rows.extend(wrap::wrap(&[Span::styled(advice, theme.dim)], room));
            }
            rows
        }
        Ending::Failed { message } => {
            let kept = if answer.is_empty() {
                "Your message is kept; /edit changes it, /retry asks again."
            } else {
                "Your message and this much of the answer are kept; /continue goes on, /retry asks again."
            };
            let mark = Span::styled(format!("{} ", look.glyphs.error), theme.error);
            let mut rows = hang(
                mark,
                wrap::wrap(&[Span::styled(sanitize(message).trim_end().to_owned(), theme.text)], inner(room)),
            );
            rows.extend(hang(Span::raw("  "), wrap::wrap(&[Span::styled(kept, theme.dim)], inner(room))));
            rows
        }
        Ending::Interrupted => {
            let told = if answer.is_empty() {
                "interrupted: chatnap ended before the answer did; /retry asks again"
            } else {
                "interrupted: chatnap ended before the answer did; /continue goes on, /retry asks again"
            };
            wrap::wrap(&[Span::styled(told, theme.warning)], room)
        }
    }
}

/// `served`: a server answered, which is waited for instead of loaded.
fn figures(usage: &Usage, timing: Option<&Timing>, served: bool, look: &Look<'_>) -> Vec<Part> {
    let mut figures = Vec::new();
    if let Some(timing) = timing {
        let stats = AnswerStats::new(usage, timing);
        figures.extend(stats.ttft.map(|ttft| format!("TTFT {}", units::duration(ttft))));
        figures.extend(stats.tokens_per_second.map(units::token_rate));
    }
    if usage.total_tokens() > 0 {
        let [prompt, cached, completion] =
            usage.known().map(|count| count.map_or_else(|| "unknown".to_owned(), units::count));
        figures.push(format!("{prompt} prompt / {cached} cached / {completion} completion tokens"));
    } else if usage.unknown.completion {
        figures.push("tokens unknown".to_owned());
    }
    if let Some(timing) = timing.filter(|timing| !timing.load.is_zero()) {
        let what = if served { "wait" } else { "load" };
        figures.push(format!("{what} {}", units::duration(timing.load)));
    }
    figures.into_iter().map(|figure| (figure, look.theme.dim)).collect()
}

/// The finish reason as text. The limit is not stored, so it is unknown for answers of earlier runs.
fn end(reason: FinishReason, limit: Option<Limit>) -> Option<&'static str> {
    match (reason, limit) {
        (FinishReason::Stop, _) => None,
        (FinishReason::Length, Some(Limit::Context { .. })) => Some("cut off: the context is full (length)"),
        (FinishReason::Length, Some(Limit::MaxTokens)) => {
            Some("cut off at the token limit (length); /continue goes on")
        }
        (FinishReason::Length, None) => Some("cut off (length)"),
        (FinishReason::Cancelled, _) => Some("stopped"),
    }
}

/// The model, if the turn before or another version of this turn was answered by another one.
fn answered_by(chat: &Chat, id: TurnId) -> Option<String> {
    let conversation = &chat.conversation;
    let turn = conversation.turn(id)?;
    let versions = conversation.siblings(id);
    let others = turn.parent.into_iter().chain(versions).filter_map(|other| conversation.turn(other));
    others.into_iter().any(|other| other.model != turn.model).then(|| units::short_name(&turn.model))
}

/// Number of this branch among its siblings; `None` if it has none.
fn version(chat: &Chat, id: TurnId) -> Option<String> {
    let versions = chat.conversation.siblings(id);
    let place = versions.iter().position(|version| *version == id)? + 1;
    (versions.len() > 1).then(|| format!("{place} of {} branches (/branch lists them)", versions.len()))
}

/// Advice for a full context of `length` tokens.
fn more_room(length: usize, trained: usize, policy: OverflowPolicy) -> String {
    let larger = (trained > length).then(|| format!("/context N (up to {} for this model)", units::count(trained)));
    let (next, trim) = match policy {
        OverflowPolicy::Error => ("", Some("/context trim (leaves out the oldest turns)".to_owned())),
        OverflowPolicy::Trim => ("; the next prompt leaves out the oldest turns", None),
    };
    let compact = Some("/compact (summarises them)".to_owned());
    let ways: Vec<_> = [larger, trim, compact, Some("/new".to_owned())].into_iter().flatten().collect();
    let length = units::count(length);
    format!("The context of {length} tokens is full. What helps: {}{next}.", ways.join(", "))
}

/// The line under a streaming answer. Always one line of at most `room` cells, so that the text above does not move.
pub(super) fn running(chat: &Chat, answering: &Answering, room: usize, look: &Look<'_>) -> Row {
    let waited = || units::duration(chat.now().since(answering.submitted));
    let mut parts = match (answering.stage, &chat.engine.state) {
        (Stage::Saving, _) => vec!["saving your message".to_owned()],
        (Stage::Files, _) => vec![supply::waits_for(chat).to_owned()],
        (Stage::Waiting, _) if chat.engine.waiting.is_some() => vec!["waiting for the server".to_owned(), waited()],
        (Stage::Waiting, EngineState::Loading(_)) => vec!["loading the model".to_owned(), waited()],
        (Stage::Waiting, EngineState::Releasing) => vec!["waiting for the release".to_owned(), waited()],
        (Stage::Waiting, _) => vec!["waiting".to_owned(), waited()],
        (Stage::Prefill { done, total }, _) => {
            vec![format!("reading {} of {} prompt tokens", units::count(done), units::count(total)), waited()]
        }
        (Stage::Decode, _) => tokens(answering),
        (Stage::Stopping, _) => vec!["stopping".to_owned()],
    };
    if answering.stage != Stage::Stopping {
        parts.push("Esc stops".to_owned());
    }
    let dot = format!(" {} ", look.glyphs.dot);
    // Keep the key that stops the answer; drop the speed first.
    while parts.len() > 1 && wrap::width(&parts.join(&dot)) > inner(room) {
        parts.remove(1);
    }
    let text = wrap::clip(&parts.join(&dot), inner(room), look.glyphs.ellipsis);
    let mark = Span::styled(format!("{} ", gauge::spinner(chat, look)), look.theme.accent);
    vec![mark, Span::styled(text, look.theme.dim)]
}

fn tokens(answering: &Answering) -> Vec<String> {
    let Some((first, last, count)) = answering.tokens else { return vec!["answering".to_owned()] };
    let speed = rate(count.saturating_sub(1), last.since(first));
    let count = format!("{} {}", units::count(count), plural(count, "token"));
    std::iter::once(count).chain(speed.map(units::token_rate)).collect()
}

/// Cells left beside a mark of two.
fn inner(room: usize) -> usize {
    room.saturating_sub(2).max(1)
}

/// Puts `mark`, of two cells, before the first row and two spaces before the others.
fn hang(mark: Span<'static>, rows: Vec<Row>) -> Vec<Row> {
    let marks = std::iter::once(mark).chain(std::iter::repeat(Span::raw("  ")));
    marks.zip(rows).map(|(mark, row)| std::iter::once(mark).chain(row).collect()).collect()
}

/// Packs parts into lines, with dots between them. Only a part wider than a line is broken: at its slashes, then at its
/// spaces.
pub(super) fn pack(parts: Vec<Part>, room: usize, look: &Look<'_>) -> Vec<Row> {
    let dot = format!(" {} ", look.glyphs.dot);
    let mut rows: Vec<Row> = Vec::new();
    let mut taken = 0;
    for (text, style) in parts {
        let width = wrap::width(&text);
        match rows.last_mut() {
            Some(row) if taken + wrap::width(&dot) + width <= room => {
                row.push(Span::styled(dot.clone(), look.theme.dim));
                row.push(Span::styled(text, style));
                taken += wrap::width(&dot) + width;
            }
            _ => {
                rows.extend(
                    pieces(&text, room).into_iter().flat_map(|piece| wrap::wrap(&[Span::styled(piece, style)], room)),
                );
                taken = rows.last().map_or(0, |row| row.iter().map(|span| wrap::width(&span.content)).sum());
            }
        }
    }
    rows
}

/// Splits `text` at its slashes into pieces of at most `room` cells.
fn pieces(text: &str, room: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for piece in text.split_inclusive(" / ") {
        match pieces.last_mut() {
            Some(last) if wrap::width(last) + wrap::width(piece.trim_end()) <= room => last.push_str(piece),
            _ => pieces.push(piece.to_owned()),
        }
    }
    pieces.into_iter().map(|piece| piece.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{ColorDepth, Theme};
    use crate::tui::view::glyphs::UNICODE;

    #[test]
    fn figures_are_not_broken_across_lines() {
        let theme = Theme::load("dark", std::path::Path::new(""), ColorDepth::None).unwrap_or_default();
        let look = Look { theme: &theme, glyphs: &UNICODE };
        let figures = ["TTFT 96 ms", "100 tok/s", "1,041 prompt / 960 cached / 51 completion tokens", "load 0.14 s"];
        let lines = |room| -> Vec<String> {
            let parts = figures.iter().map(|figure| ((*figure).to_owned(), Style::new())).collect();
            let rows = pack(parts, room, &look);
            rows.iter().map(|row| row.iter().map(|span| &*span.content).collect()).collect()
        };
        assert_eq!(lines(90).len(), 1);
        for room in 12..90 {
            let all = lines(room);
            assert!(all.iter().all(|line| wrap::width(line) <= room), "{room}: {all:?}");
            let whole = |figure: &str| all.iter().any(|line| line.contains(figure));
            assert!(whole("TTFT 96 ms") && whole("100 tok/s") && whole("load 0.14 s"), "{room}: {all:?}");
            assert!(room < 14 || whole("1,041 prompt /") && whole("960 cached"), "{room}: {all:?}");
            assert!(room < 48 || whole(figures[2]), "{room}: {all:?}");
        }
        assert_eq!(lines(36)[0], "TTFT 96 ms · 100 tok/s");
    }

    #[test]
    fn advice_for_a_full_context_lists_only_options_that_help() {
        let told = more_room(512, 8192, OverflowPolicy::Error);
        assert_eq!(
            told,
            "The context of 512 tokens is full. What helps: /context N (up to 8,192 for this model), /context trim \
             (leaves out the oldest turns), /compact (summarises them), /new."
        );
        let largest = more_room(8192, 8192, OverflowPolicy::Error);
        assert!(!largest.contains("/context N") && largest.contains("/context trim"), "{largest}");
        let trims = more_room(8192, 8192, OverflowPolicy::Trim);
        assert!(trims.ends_with("/new; the next prompt leaves out the oldest turns."), "{trims}");
    }
}
