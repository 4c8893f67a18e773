//! Chips of attached files: above the composer, and below a prompt of the transcript.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{paint, units, wrap};
use crate::conversation::Attachment;
use crate::sanitize::sanitize_line;
use crate::tui::attaching::state::{Chip, ChipState};
use crate::tui::layout::Look;
use crate::wording::{bytes, plural};

/// Most rows of chips above the composer.
const MOST_ROWS: usize = 3;

/// Longest name of a file, in cells.
const LONGEST_NAME: usize = 40;

/// The rows of chips in `width` cells, each with the number of chips that begin in it; the reason of a refusal has rows of
/// its own.
fn all_rows(chips: &[Chip], width: usize, look: &Look<'_>) -> Vec<(Line<'static>, usize)> {
    let (mut rows, mut used) = (Vec::<(Line<'static>, usize)>::new(), width);
    for chip in chips {
        let (text, style) = label(chip, look);
        if matches!(chip.state, ChipState::Refused(_)) {
            let lines = wrap::wrap(&[Span::styled(text.as_str(), style)], width.saturating_sub(2).max(1));
            let lines = lines.into_iter().take(MOST_ROWS).enumerate();
            rows.extend(lines.map(|(n, line)| (indented(line), usize::from(n == 0))));
            used = width;
            continue;
        }
        let text = wrap::clip(&text, width.saturating_sub(2), look.glyphs.ellipsis);
        let needed = wrap::width(&text) + 1;
        used += needed;
        if used > width {
            rows.push((Line::default(), 0));
            used = needed;
        }
        if let Some((row, count)) = rows.last_mut() {
            row.spans.extend([Span::raw(" "), Span::styled(text, style)]);
            *count += 1;
        }
    }
    rows
}

fn indented(mut line: Vec<Span<'static>>) -> Line<'static> {
    line.insert(0, Span::raw(" "));
    Line::from(line)
}

/// The rows of chips in `width` cells; the last one tells how many more there are.
pub fn rows(chips: &[Chip], width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let rows = all_rows(chips, width, look);
    let hidden: usize = rows.iter().skip(MOST_ROWS - 1).map(|(_, count)| count).sum();
    let is_full = rows.len() > MOST_ROWS && hidden > 0;
    let shown = if is_full { MOST_ROWS - 1 } else { MOST_ROWS };
    let mut lines: Vec<_> = rows.into_iter().take(shown).map(|(line, _)| line).collect();
    if is_full {
        lines.push(Line::from(rest(hidden, look)));
    }
    lines
}

fn rest(more: usize, look: &Look<'_>) -> Span<'static> {
    Span::styled(format!(" and {more} more files"), look.theme.dim)
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, rows: &[Line<'static>]) {
    paint::lines(frame.buffer_mut(), area, rows);
}

/// The chip of a file that was sent: its name and size.
pub(super) fn sent(file: &Attachment, look: &Look<'_>) -> String {
    format!("[{} {} {}]", name(&file.name, look), look.glyphs.dot, bytes(file.text.len() as u64))
}

fn label(chip: &Chip, look: &Look<'_>) -> (String, Style) {
    let (dot, name) = (look.glyphs.dot, name(&chip.name, look));
    match &chip.state {
        ChipState::Reading => (format!("[{name} {dot} reading]"), look.theme.dim),
        ChipState::Attached(size, tokens) => {
            let counted = tokens.map(|tokens| format!(" {dot} {} {}", units::count(tokens), plural(tokens, "token")));
            (format!("[{name} {dot} {}{}]", bytes(*size as u64), counted.unwrap_or_default()), look.theme.accent)
        }
        ChipState::Refused(why) => (format!("[{name} {}]", sanitize_line(why)), look.theme.warning),
    }
}

/// A file's name without control characters; of a long one the end, which tells more.
fn name(name: &str, look: &Look<'_>) -> String {
    let clean = sanitize_line(name);
    if wrap::width(&clean) <= LONGEST_NAME {
        return clean;
    }
    let mut end = String::new();
    for c in clean.chars().rev() {
        if wrap::width(&end) + 2 > LONGEST_NAME {
            break;
        }
        end.insert(0, c);
    }
    format!("{}{end}", look.glyphs.ellipsis)
}
