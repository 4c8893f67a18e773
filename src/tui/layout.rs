//! Where the parts of the screen are, and what every part needs to draw itself.

use ratatui::layout::Rect;

use super::theme::Theme;
use super::view::glyphs::Glyphs;

/// How things look: what every part of the view needs.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Colours by role.
    pub theme: &'a Theme,
    /// Signs.
    pub glyphs: &'static Glyphs,
}

/// Where the parts of the screen are. Any of them may have no height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// What was said.
    pub transcript: Rect,
    /// Prompts that wait.
    pub queue: Rect,
    /// Progress of a load.
    pub gauge: Rect,
    /// The composer with its frame.
    pub composer: Rect,
    /// The line at the bottom.
    pub status: Rect,
}

/// From this height on there is room for frames and empty lines.
const ROOMY: u16 = 10;

impl Areas {
    /// Shares out `area`: `rows` lines are in the composer, `queued` prompts wait.
    pub fn of(area: Rect, rows: u16, queued: usize, loading: bool) -> Self {
        let roomy = area.height >= ROOMY && area.width >= 20;
        let mut left = area.height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let frame = if roomy { 2 } else { 0 };
        let composer = take(rows.clamp(1, (area.height / 3).max(1)) + frame);
        let status = take(u16::from(area.height > 1));
        let gauge = take(u16::from(loading && area.height > 3));
        let queue = take(if roomy { queued.min(3) as u16 } else { 0 });
        let transcript = left;
        let mut y = area.y;
        let mut place = |height: u16| {
            let placed = Rect { x: area.x, y, width: area.width, height };
            y += height;
            placed
        };
        Self {
            transcript: place(transcript),
            queue: place(queue),
            gauge: place(gauge),
            composer: place(composer),
            status: place(status),
        }
    }

    /// Whether the composer has a frame.
    pub fn framed(&self) -> bool {
        self.composer.height >= 3 && self.composer.width >= 20 && self.status.bottom() >= ROOMY
    }

    /// The part of the composer that text goes in.
    pub fn composer_text(&self) -> Rect {
        text_area(self.composer, self.framed())
    }
}

/// Cells that the mark before the text takes.
pub(super) const MARK: u16 = 2;

fn text_area(area: Rect, framed: bool) -> Rect {
    let (side, top) = if framed { (2, 1) } else { (0, 0) };
    let mark = if area.width > 6 { MARK } else { 0 };
    Rect {
        x: area.x + (side + mark).min(area.width),
        y: area.y + top,
        width: area.width.saturating_sub(2 * side + mark),
        height: area.height.saturating_sub(2 * top),
    }
}
