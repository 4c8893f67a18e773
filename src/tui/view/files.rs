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

/// The rows of chips in `width` cells; the last one tells how many more there are.
pub fn rows(chips: &[Chip], width: usize, look: &Look<'_>) -> Vec<Line<'static>> {
    let labels: Vec<_> = chips.iter().map(|chip| label(chip, width.saturating_sub(2), look)).collect();
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut used = width;
    for (index, (text, _)) in labels.iter().enumerate() {
        let needed = wrap::width(text) + 1;
        used += needed;
        if used > width {
            rows.push(Vec::new());
            used = needed;
        }
        if let Some(row) = rows.last_mut() {
            row.push(index);
        }
    }
    let line = |row: &Vec<usize>| {
        let spans = row.iter().filter_map(|index| labels.get(*index));
        Line::from_iter(spans.flat_map(|(text, style)| [Span::raw(" "), Span::styled(text.clone(), *style)]))
    };
    let mut lines: Vec<_> = rows.iter().take(MOST_ROWS).map(line).collect();
    if rows.len() > MOST_ROWS {
        let more: usize = rows[MOST_ROWS - 1..].iter().map(Vec::len).sum();
        lines.pop();
        lines.push(Line::from(rest(more, look)));
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

fn label(chip: &Chip, room: usize, look: &Look<'_>) -> (String, Style) {
    let (dot, name) = (look.glyphs.dot, name(&chip.name, look));
    let (text, style) = match &chip.state {
        ChipState::Reading => (format!("[{name} {dot} reading]"), look.theme.dim),
        ChipState::Attached(size, tokens) => {
            let counted = tokens.map(|tokens| format!(" {dot} {} {}", units::count(tokens), plural(tokens, "token")));
            (format!("[{name} {dot} {}{}]", bytes(*size as u64), counted.unwrap_or_default()), look.theme.accent)
        }
        ChipState::Refused(why) => (format!("[{name} {}]", sanitize_line(why)), look.theme.warning),
    };
    (wrap::clip(&text, room, look.glyphs.ellipsis), style)
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
