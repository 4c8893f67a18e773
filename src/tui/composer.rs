//! The composer: what the user is writing. A text area with folded pastes and a history.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use super::view::units;
use crate::sanitize::sanitize;

/// A paste with more lines or characters than this is folded: the text area holds its name, the prompt its text.
const LONGEST_PASTE_LINES: usize = 20;
const LONGEST_PASTE_CHARS: usize = 2000;

/// Prompts that the history keeps.
const HISTORY: usize = 500;

/// What is being written, and what was written before.
pub struct Composer {
    area: TextArea<'static>,
    width: u16,
    rows: u16,
    /// Counts the changes of the text.
    revision: u64,
    /// Placeholder and content of each folded paste.
    pastes: Vec<(String, String)>,
    pasted: usize,
    history: Vec<String>,
    /// Which prompt of the history is shown, and what was being written before it was.
    browsing: Option<(usize, String)>,
}

impl Default for Composer {
    fn default() -> Self {
        Self {
            area: text_area(Vec::new()),
            width: 1,
            rows: 1,
            revision: 0,
            pastes: Vec::new(),
            pasted: 0,
            history: Vec::new(),
            browsing: None,
        }
    }
}

impl std::fmt::Debug for Composer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Composer").field("lines", &self.area.lines()).finish_non_exhaustive()
    }
}

fn text_area(lines: Vec<String>) -> TextArea<'static> {
    let mut area = TextArea::new(lines);
    area.set_wrap_mode(WrapMode::WordOrGlyph);
    // The terminal's own cursor shows where it is.
    area.set_cursor_style(Style::new());
    area.set_cursor_line_style(Style::new());
    area.set_tab_length(4);
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Composer {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.area.is_empty()
    }

    /// What is written, with placeholders for folded pastes.
    pub fn draft(&self) -> String {
        self.area.lines().join("\n")
    }

    /// What would be sent: what is written with its pastes unfolded.
    pub fn text(&self) -> String {
        self.unfold(&self.draft())
    }

    /// Another number for another text.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether one line is all that is written.
    pub fn is_single_line(&self) -> bool {
        self.area.lines().len() == 1
    }

    /// Whether the cursor is in the first or the last line on the screen.
    pub fn at_edge(&self) -> (bool, bool) {
        let row = self.area.screen_cursor().row;
        (row == 0, row + 1 >= usize::from(self.rows))
    }

    /// Takes what was written, with its pastes unfolded, and begins anew.
    pub fn take(&mut self) -> String {
        let text = self.text();
        self.clear();
        text
    }

    /// Keeps a prompt that was sent, to be found with Up.
    pub fn remember(&mut self, prompt: &str) {
        // A folded paste does not come back folded; what is too long to edit is not offered.
        let fits = prompt.chars().count() <= LONGEST_PASTE_CHARS && prompt.lines().count() <= LONGEST_PASTE_LINES;
        if fits && !prompt.trim().is_empty() && self.history.last().is_none_or(|last| last != prompt) {
            self.history.push(prompt.to_owned());
            let excess = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..excess);
        }
    }

    /// Forgets what is written.
    pub fn clear(&mut self) {
        self.pastes.clear();
        self.browsing = None;
        self.set("");
    }

    /// Replaces what is written.
    pub fn set(&mut self, text: &str) {
        self.area = text_area(text.split('\n').map(str::to_owned).collect());
        self.changed();
    }

    /// Puts text before what is written.
    pub fn put_back(&mut self, text: &str) {
        let draft = self.draft();
        self.set("");
        self.paste(text);
        if !draft.trim().is_empty() {
            self.area.insert_str(format!("\n\n{draft}"));
        }
        self.changed();
    }

    /// Inserts pasted text, whole and unsent; folds it where it is long.
    pub fn paste(&mut self, text: &str) {
        self.browsing = None;
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let lines = text.lines().count();
        if lines <= LONGEST_PASTE_LINES && text.chars().nth(LONGEST_PASTE_CHARS).is_none() {
            self.area.insert_str(sanitize(&text));
        } else {
            self.pasted += 1;
            let size = match lines {
                1 => format!("{} characters", units::count(text.chars().count())),
                _ => format!("{} lines", units::count(lines)),
            };
            let name = format!("[pasted #{}: {size}]", self.pasted);
            self.area.insert_str(&name);
            self.pastes.push((name, text));
        }
        self.changed();
    }

    fn unfold(&self, draft: &str) -> String {
        let mut text = draft.to_owned();
        for (name, content) in &self.pastes {
            // Only the first: a placeholder that was copied by hand is text.
            text = text.replacen(name, content, 1);
        }
        text
    }

    /// Edits by a key that means nothing else. True where the text changed.
    pub fn edit(&mut self, key: KeyEvent) -> bool {
        let changed = self.area.input(key);
        self.edited(changed)
    }

    /// Edits by hand of `f`. True where it says that the text changed.
    pub fn edit_with(&mut self, f: impl FnOnce(&mut TextArea<'static>) -> bool) -> bool {
        let changed = f(&mut self.area);
        self.edited(changed)
    }

    fn edited(&mut self, changed: bool) -> bool {
        if changed {
            self.browsing = None;
            self.changed();
        }
        changed
    }

    /// Shows the prompt before (or after) the one that is shown.
    pub fn browse(&mut self, back: bool) {
        let (at, draft) = match self.browsing.take() {
            Some((at, draft)) => (at, draft),
            None => (self.history.len(), self.draft()),
        };
        let wanted = if back { at.saturating_sub(1) } else { at + 1 };
        match self.history.get(wanted).cloned() {
            Some(prompt) => {
                self.set(&sanitize(&prompt));
                self.browsing = Some((wanted, draft));
            }
            None if back => {}
            None => self.set(&draft),
        }
    }

    /// Whether the history is being browsed.
    pub fn is_browsing(&self) -> bool {
        self.browsing.is_some()
    }

    /// How many lines it takes in `width` cells.
    pub fn layout(&mut self, width: u16) -> u16 {
        if self.width != width.max(1) {
            self.width = width.max(1);
            self.measure();
        }
        self.rows
    }

    /// Scrolls back to the first line where all of them fit in `height`: the text area itself only ever scrolls as far
    /// as the cursor needs.
    pub fn reveal(&mut self, height: u16) {
        let (top, _) = self.area.scroll_offset();
        if top > 0 && self.rows <= height {
            self.area.scroll((i16::try_from(top).map_or(i16::MIN, |top| -top), 0));
        }
    }

    fn changed(&mut self) {
        self.revision += 1;
        self.measure();
    }

    /// Counts the lines after wrapping, by asking a copy of the text area where its end is.
    fn measure(&mut self) {
        let area = Rect::new(0, 0, self.width, 1);
        let mut buffer = Buffer::empty(area);
        let mut probe = self.area.clone();
        (&probe).render(area, &mut buffer);
        probe.move_cursor(CursorMove::Bottom);
        probe.move_cursor(CursorMove::End);
        self.rows = u16::try_from(probe.screen_cursor().row + 1).unwrap_or(u16::MAX);
    }

    /// The text as it is drawn.
    pub fn widget(&self) -> &TextArea<'static> {
        &self.area
    }

    /// Row and column of the cursor in the part of the text that was drawn last.
    pub fn cursor_on_screen(&self) -> (usize, usize) {
        let cursor = self.area.screen_cursor();
        let (top, left) = self.area.scroll_offset();
        (cursor.row.saturating_sub(usize::from(top)), cursor.col.saturating_sub(usize::from(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_paste_is_folded_and_sent_whole() {
        let mut composer = Composer::default();
        composer.set("look: ");
        let paste = "line\r\n".repeat(12_345);
        composer.paste(&paste);
        assert_eq!(composer.draft(), "look: [pasted #1: 12,345 lines]");
        assert_eq!(composer.take(), format!("look: {}", "line\n".repeat(12_345)));
        assert!(composer.is_empty());
    }

    #[test]
    fn a_short_paste_stands_as_it_is() {
        let mut composer = Composer::default();
        composer.paste("one\rtwo\r\nthree\u{1b}[31m");
        assert_eq!(composer.draft(), "one\ntwo\nthree");
    }

    #[test]
    fn the_history_goes_back_and_forth_and_keeps_the_draft() {
        let mut composer = Composer::default();
        composer.remember("first");
        composer.remember("second");
        composer.remember("second");
        composer.set("draft");
        composer.browse(true);
        assert_eq!(composer.draft(), "second");
        composer.browse(true);
        composer.browse(true);
        assert_eq!(composer.draft(), "first");
        composer.browse(false);
        composer.browse(false);
        assert_eq!(composer.draft(), "draft");
        assert!(!composer.is_browsing());
    }

    #[test]
    fn it_grows_with_what_is_written() {
        let mut composer = Composer::default();
        assert_eq!(composer.layout(10), 1);
        composer.set("one two three four");
        assert_eq!(composer.layout(10), 2);
        composer.set("日本語日本語");
        assert_eq!(composer.layout(4), 3);
        composer.put_back("before");
        assert_eq!(composer.draft(), "before\n\n日本語日本語");
    }
}
