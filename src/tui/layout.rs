//! Areas of the screen's parts, and the theme and glyphs that they are drawn with.

use ratatui::layout::Rect;

use super::theme::Theme;
use super::view::glyphs::Glyphs;

/// Theme and glyphs, passed to every part of the view.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Colours by role.
    pub theme: &'a Theme,
    pub glyphs: &'static Glyphs,
}

/// Areas of the screen's parts. Any of them may have height 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    pub transcript: Rect,
    /// The statistics panel, at the right of the transcript.
    pub panel: Rect,
    /// What can be done with the selected turn.
    pub actions: Rect,
    /// Queued prompts.
    pub queue: Rect,
    /// Chips of attached files.
    pub files: Rect,
    /// Load progress.
    pub gauge: Rect,
    /// The composer with its frame.
    pub composer: Rect,
    /// The composer has a frame if it is large enough.
    roomy: bool,
    /// The status line.
    pub status: Rect,
}

/// Minimum height for frames and blank lines.
const ROOMY: u16 = 10;

impl Areas {
    /// Divides `area` between a composer of `rows` lines, `queued` prompts and the other parts.
    /// `inline`: the area is as high as its parts need.
    pub fn of(area: Rect, rows: u16, queued: usize, loading: bool, inline: bool) -> Self {
        let roomy = area.height >= if inline { 5 } else { ROOMY } && area.width >= 20;
        let most = if inline { area.height.saturating_sub(3) } else { area.height / 3 };
        let mut left = area.height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let frame = if roomy { 2 } else { 0 };
        let composer = take(rows.clamp(1, most.max(1)) + frame);
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
            panel: Rect::default(),
            actions: Rect::default(),
            queue: place(queue),
            files: Rect::default(),
            gauge: place(gauge),
            roomy,
            composer: place(composer),
            status: place(status),
        }
    }

    /// With a panel of `width` cells at the right of the transcript.
    pub fn with_panel(mut self, width: u16) -> Self {
        let all = self.transcript;
        self.transcript.width = all.width.saturating_sub(width);
        self.panel = Rect { x: self.transcript.right(), width: all.width - self.transcript.width, ..all };
        self
    }

    /// With `rows` rows of chips below the queue, taken from the transcript as far as it has them.
    pub fn with_files(mut self, rows: usize) -> Self {
        let height = u16::try_from(rows).unwrap_or(u16::MAX).min(self.transcript.height);
        self.transcript.height -= height;
        self.queue.y -= height;
        self.files = Rect { y: self.queue.bottom(), height, ..self.transcript };
        self
    }

    /// With `rows` lines for the actions on the selected turn, at most half of the transcript.
    pub fn with_actions(mut self, rows: usize) -> Self {
        let all = self.transcript;
        let height = u16::try_from(rows).unwrap_or(u16::MAX).min(all.height / 2);
        self.transcript.height = all.height - height;
        self.actions = Rect { y: self.transcript.bottom(), height, ..all };
        self
    }

    /// Whether the composer has a frame.
    pub fn framed(&self) -> bool {
        self.composer.height >= 3 && self.composer.width >= 20 && self.roomy
    }

    /// The composer's text area: inside the frame, after the prompt mark.
    pub fn composer_text(&self) -> Rect {
        text_area(self.composer, self.framed())
    }
}

/// Width of the prompt mark, in cells.
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
