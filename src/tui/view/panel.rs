//! The statistics panel beside the transcript: speed, latency, context by message, memory over time.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{paint, units, wrap};
use crate::chat::{Activity, Chat};
use crate::conversation::{Ending, Turn};
use crate::protocol::{Timing, Usage};
use crate::sanitize::sanitize_line;
use crate::stats::{ConversationStats, Share, rates, shares};
use crate::tui::layout::Look;
use crate::wording::{bytes, plural};

/// Width of the panel with its separator, in cells.
pub const WIDTH: u16 = 44;

/// Minimum width of a screen with a panel, in cells.
pub const NEEDED: u16 = 104;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    if area.width < 8 || area.is_empty() {
        return;
    }
    let bar = if look.glyphs.boxes { "│" } else { "|" };
    for y in area.y..area.bottom() {
        frame.render_widget(Span::styled(bar, look.theme.border), Rect { x: area.x, y, width: 1, height: 1 });
    }
    let inner = Rect { x: area.x + 2, width: area.width - 3, ..area };
    let panel = Panel { chat, look, width: usize::from(inner.width) };
    let lines = panel.lines(usize::from(inner.height));
    paint::lines(frame.buffer_mut(), inner, &lines);
}

struct Panel<'a> {
    chat: &'a Chat,
    look: &'a Look<'a>,
    width: usize,
}

impl Panel<'_> {
    /// As many groups as fit in `height` lines, the most important ones first.
    fn lines(&self, height: usize) -> Vec<Line<'static>> {
        let fixed = [self.head(), self.speed(), self.memory()];
        let used: usize = fixed.iter().map(Vec::len).sum();
        let context = self.context(height.saturating_sub(used));
        let [head, speed, memory] = fixed;
        head.into_iter().chain(speed).chain(context).chain(memory).take(height).collect()
    }

    fn head(&self) -> Vec<Line<'static>> {
        vec![self.row("statistics", self.look.theme.accent, "Ctrl-X closes", self.look.theme.dim)]
    }

    /// A label at the left and a figure at the right.
    fn row(&self, label: &str, label_style: Style, figure: &str, style: Style) -> Line<'static> {
        let label = wrap::clip(label, self.width.saturating_sub(wrap::width(figure) + 1), self.look.glyphs.ellipsis);
        let gap = self.width.saturating_sub(wrap::width(&label) + wrap::width(figure));
        Line::from(vec![
            Span::styled(label, label_style),
            Span::raw(" ".repeat(gap)),
            Span::styled(figure.to_owned(), style),
        ])
    }

    fn figure(&self, label: &str, figure: &str) -> Line<'static> {
        self.row(label, self.look.theme.dim, figure, self.look.theme.text)
    }

    fn title(&self, label: &str, figure: &str) -> Vec<Line<'static>> {
        vec![Line::default(), self.row(label, self.look.theme.heading, figure, self.look.theme.text)]
    }

    /// Speed over the running or last answer, and the latencies of the conversation.
    fn speed(&self) -> Vec<Line<'static>> {
        let stats = ConversationStats::of(finished(self.chat).filter_map(|(_, usage, timing)| Some((usage, timing?))));
        let speed = stats.tokens_per_second.map(units::token_rate).unwrap_or_else(|| "no answer yet".into());
        let mut lines = self.title("tokens per second", &speed);
        let gaps = self.gaps();
        if !gaps.is_empty() {
            let rates = rates(&gaps, self.width);
            lines.push(self.chart(&rates));
        }
        let pair = |p50: Option<Duration>, p95: Option<Duration>| {
            p50.zip(p95).map(|(p50, p95)| format!("p50 {}  p95 {}", units::duration(p50), units::duration(p95)))
        };
        lines.extend(pair(stats.ttft_p50, stats.ttft_p95).map(|text| self.figure("TTFT", &text)));
        lines.extend(
            pair(stats.inter_token_p50, stats.inter_token_p95).map(|text| self.figure("inter-token latency", &text)),
        );
        if stats.answers > 0 {
            let usage = stats.usage;
            // A server need not count.
            let sum =
                |tokens, unknown: bool| format!("{}{}", if unknown { "at least " } else { "" }, units::count(tokens));
            lines.push(self.figure(
                &format!("{} {}", stats.answers, plural(stats.answers, "answer")),
                &format!("{} tokens", sum(usage.completion_tokens, usage.unknown.completion)),
            ));
            let prompts = sum(usage.prompt_tokens, usage.unknown.prompt);
            let share = usage.cached_tokens * 100 / usage.prompt_tokens.max(1);
            let cached = if usage.unknown.cached { String::new() } else { format!(", {share} % cached") };
            lines.push(self.figure("prompts", &format!("{prompts} tokens{cached}")));
        }
        lines
    }

    /// Gaps between the tokens of the running answer, else of the last one.
    fn gaps(&self) -> Vec<Duration> {
        if let Activity::Busy(answering) = &self.chat.activity
            && !answering.gaps.is_empty()
        {
            return answering.gaps.clone();
        }
        let last = finished(self.chat).filter_map(|(_, _, timing)| timing).last();
        last.map(|timing| timing.inter_token.clone()).unwrap_or_default()
    }

    /// A chart of one line; the highest value has the highest bar.
    fn chart(&self, values: &[f64]) -> Line<'static> {
        let bars = &self.look.glyphs.spark;
        let highest = values.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| {
            let height = if highest > 0.0 { value / highest * bars.len() as f64 } else { 0.0 };
            bars[(height.ceil() as usize).clamp(1, bars.len()) - 1]
        };
        Line::from(Span::styled(values.iter().map(bar).collect::<String>(), self.look.theme.gauge))
    }

    /// Used positions by message, in at most `height` lines.
    fn context(&self, height: usize) -> Vec<Line<'static>> {
        let Some(total) = self.chat.engine.info.as_ref().map(|info| info.context_length) else { return Vec::new() };
        let turns: Vec<(&Turn, Option<&Usage>)> = self.turns();
        let shares = shares(turns.iter().map(|(_, usage)| *usage));
        let used: usize = shares.iter().map(|share| share.question + share.answer).sum();
        let percent = used * 100 / total.max(1);
        let figure = match total {
            0 => format!("{} of an unknown number", units::count(used)),
            _ => format!("{} of {} ({percent} %)", units::count(used), units::count(total)),
        };
        let mut lines = self.title("context", &figure);
        lines.push(self.bar(&shares, used.max(total)));
        let room = height.saturating_sub(lines.len());
        let known: Vec<_> = turns.iter().zip(&shares).enumerate().filter(|(_, (_, share))| share.answer > 0).collect();
        let hidden = if known.len() > room { known.len() - room.saturating_sub(1) } else { 0 };
        if hidden > 0 {
            let tokens: usize = known[..hidden].iter().map(|(_, (_, share))| share.question + share.answer).sum();
            lines.push(self.figure(&format!("{hidden} earlier turns"), &units::count(tokens)));
        }
        for (number, ((turn, _), share)) in &known[hidden.min(known.len())..] {
            let first = sanitize_line(turn.prompt.trim().lines().next().unwrap_or_default());
            let figure = format!("{} + {}", units::count(share.question), units::count(share.answer));
            lines.push(self.figure(&format!("{} {first}", number + 1), &figure));
        }
        lines.truncate(height);
        lines
    }

    fn turns(&self) -> Vec<(&Turn, Option<&Usage>)> {
        let path = self.chat.conversation.path();
        let turns = path.into_iter().filter_map(|id| self.chat.conversation.turn(id));
        turns
            .map(|turn| match &turn.answer.ending {
                Ending::Finished { usage, .. } => (turn, Some(usage)),
                _ => (turn, None),
            })
            .collect()
    }

    /// A bar over `total` positions: questions and answers in turn, then what is free.
    fn bar(&self, shares: &[Share], total: usize) -> Line<'static> {
        let theme = self.look.theme;
        let mut spans = Vec::new();
        let (mut tokens, mut cells) = (0, 0);
        let parts = shares.iter().flat_map(|share| [(share.question, theme.marker), (share.answer, theme.gauge)]);
        for (count, style) in parts {
            tokens += count;
            let end = (tokens * self.width).div_ceil(total.max(1)).min(self.width);
            spans.push(Span::styled(self.look.glyphs.gauge[0].repeat(end.saturating_sub(cells)), style));
            cells = end.max(cells);
        }
        spans.push(Span::styled(self.look.glyphs.gauge[1].repeat(self.width - cells), theme.gauge_rest));
        Line::from(spans)
    }

    /// Memory over time, loads and releases, and how long the weights were held.
    fn memory(&self) -> Vec<Line<'static>> {
        let (memory, now) = (&self.chat.residency, self.chat.now());
        let mut lines = self.title("memory", &format!("{} now", bytes(memory.bytes())));
        let samples: Vec<f64> = memory.samples(now, self.width).into_iter().map(|bytes| bytes as f64).collect();
        lines.push(self.chart(&samples));
        let (loads, releases) = (memory.loads(), memory.releases());
        let last = memory.last_load().map(|took| format!(", the last in {}", units::duration(took)));
        lines.push(self.figure(
            &format!("{loads} {}{}", plural(loads, "load"), last.unwrap_or_default()),
            &format!("{releases} {}", plural(releases, "release")),
        ));
        let (held, always) = (memory.held(now), memory.always_on(now));
        let percent = (held.as_secs_f64() / always.as_secs_f64().max(1e-3) * 100.0).min(100.0);
        lines.push(self.figure("weights held", &format!("{} ({percent:.0} %)", units::clock(held))));
        lines.push(self.figure("always on would be", &units::clock(always)));
        lines
    }
}

/// The finished answers of the visible branch.
fn finished(chat: &Chat) -> impl Iterator<Item = (&Turn, &Usage, Option<&Timing>)> {
    let path = chat.conversation.path();
    path.into_iter().filter_map(|id| chat.conversation.turn(id)).filter_map(|turn| match &turn.answer.ending {
        Ending::Finished { usage, timing, .. } => Some((turn, usage, timing.as_ref())),
        _ => None,
    })
}
