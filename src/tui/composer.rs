//! The composer: what the user is writing. A text area with folded pastes and a history.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use super::view::units;
use crate::sanitize::sanitize;

mod sign;

/// A paste with more lines or characters than this is folded: the text area holds its name, the prompt its text.
const LONGEST_PASTE_LINES: usize = 20;
const LONGEST_PASTE_CHARS: usize = 2000;

/// Prompts that the history keeps, and the bytes of all of them together; the last one is kept whatever it takes.
const HISTORY: usize = 500;
const HISTORY_BYTES: usize = 64 << 20;

/// A text with the names of its folded pastes, and what they stand for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Written {
    draft: String,
    pastes: Vec<(String, String)>,
}

impl Written {
    /// `draft` with those of `pastes` that it names.
    fn new(draft: String, pastes: &[(String, String)]) -> Self {
        let pastes = pastes.iter().filter(|(name, _)| draft.contains(name)).cloned().collect();
        Self { draft, pastes }
    }

    /// What would be sent.
    fn text(&self) -> String {
        unfold(&self.draft, &self.pastes)
    }

    fn bytes(&self) -> usize {
        self.draft.len() + self.pastes.iter().map(|(name, content)| name.len() + content.len()).sum::<usize>()
    }
}

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
    history: Vec<Written>,
    /// Which prompt of the history is shown, and what was being written before it was.
    browsing: Option<(usize, String)>,
}

/// `draft` with what the names of its pastes stand for.
fn unfold(draft: &str, pastes: &[(String, String)]) -> String {
    let mut text = draft.to_owned();
    for (name, content) in pastes.iter().filter(|(name, _)| draft.contains(name)) {
        // Only the first: a placeholder that was copied by hand is text.
        text = text.replacen(name, content, 1);
    }
    text
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
        unfold(&self.draft(), &self.pastes)
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

    /// Takes what was written, with its pastes unfolded, keeps it to be found with Up, and begins anew.
    pub fn send(&mut self) -> String {
        let written = Written::new(self.draft(), &self.pastes);
        self.clear();
        let text = written.text();
        self.remember(written);
        text
    }

    fn remember(&mut self, written: Written) {
        if written.draft.trim().is_empty() || self.history.last() == Some(&written) {
            return;
        }
        self.history.push(written);
        let mut left = HISTORY_BYTES;
        let fits = |written: &&Written| {
            let fits = written.bytes() <= left;
            left = left.saturating_sub(written.bytes());
            fits
        };
        let kept = self.history.iter().rev().take(HISTORY).take_while(fits).count().max(1);
        self.history.drain(..self.history.len() - kept);
    }

    /// Offers prompts that were sent and not asked, the oldest first: the last of them is what Up finds first. It is
    /// shown at once where nothing else is being written.
    pub fn return_prompts(&mut self, prompts: Vec<String>) {
        for prompt in prompts {
            let known = self.history.iter().rposition(|written| written.text() == prompt);
            let written = known.map(|at| self.history.remove(at)).unwrap_or_else(|| match self.fold(&prompt) {
                Some(paste) => Written { draft: paste.0.clone(), pastes: vec![paste] },
                None => Written { draft: prompt, pastes: Vec::new() },
            });
            self.history.push(written);
        }
        if let Some((_, draft)) = self.browsing.take() {
            let shown = self.draft();
            let at = self.history.iter().rposition(|written| written.draft == shown);
            self.browsing = Some((at.unwrap_or(self.history.len()), draft));
        } else if self.is_empty() {
            self.browse(true);
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
        self.leave_history();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        match self.fold(&text) {
            Some(paste) => {
                self.area.insert_str(&paste.0);
                self.pastes.push(paste);
            }
            None => drop(self.area.insert_str(sanitize(&text))),
        }
        self.changed();
    }

    /// The name under which a long text is folded, and the text.
    fn fold(&mut self, text: &str) -> Option<(String, String)> {
        let lines = text.lines().count();
        if lines <= LONGEST_PASTE_LINES && text.chars().nth(LONGEST_PASTE_CHARS).is_none() {
            return None;
        }
        self.pasted += 1;
        let size = match lines {
            1 => format!("{} characters", units::count(text.chars().count())),
            _ => format!("{} lines", units::count(lines)),
        };
        Some((format!("[pasted #{}: {size}]", self.pasted), text.to_owned()))
    }

    /// Edits by a key that means nothing else. True where the text changed.
    pub fn edit(&mut self, key: KeyEvent) -> bool {
        let names = || self.pastes.iter().map(|(name, _)| name.as_str());
        let from = self.area.cursor();
        let changed = sign::edit(&mut self.area, key, names()).unwrap_or_else(|| self.area.input(key));
        sign::leave_names(&mut self.area, from, names());
        self.edited(changed)
    }

    /// Edits by hand of `f`. True where it says that the text changed.
    pub fn edit_with(&mut self, f: impl FnOnce(&mut TextArea<'static>) -> bool) -> bool {
        let changed = f(&mut self.area);
        self.edited(changed)
    }

    fn edited(&mut self, changed: bool) -> bool {
        if changed {
            self.leave_history();
            self.changed();
        }
        changed
    }

    /// What is shown is the draft from now on; the one before it is kept where Up finds it.
    fn leave_history(&mut self) {
        if let Some((_, draft)) = self.browsing.take() {
            self.remember(Written::new(draft, &self.pastes));
        }
    }

    /// Shows the prompt before (or after) the one that is shown.
    pub fn browse(&mut self, back: bool) {
        let (at, draft) = match self.browsing.take() {
            Some((at, draft)) => (at, draft),
            None => (self.history.len(), self.draft()),
        };
        let wanted = if back { at.saturating_sub(1) } else { at + 1 };
        match self.history.get(wanted).cloned() {
            Some(written) => {
                let new = written.pastes.into_iter().filter(|paste| !self.pastes.contains(paste)).collect::<Vec<_>>();
                self.pastes.extend(new);
                self.set(&sanitize(&written.draft));
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

    fn send(composer: &mut Composer, text: &str) -> String {
        composer.set(text);
        composer.send()
    }

    #[test]
    fn a_folded_paste_is_offered_again_with_its_whole_text() {
        let mut composer = Composer::default();
        let paste = "line\n".repeat(100);
        composer.set("look: ");
        composer.paste(&paste);
        composer.send();
        composer.set("and ");
        composer.paste(&"more\n".repeat(50));
        composer.browse(true);
        assert_eq!(composer.draft(), "look: [pasted #1: 100 lines]");
        assert_eq!(composer.text(), format!("look: {paste}"));
        // The draft that was left for it comes back whole too.
        composer.browse(false);
        assert_eq!(composer.text(), format!("and {}", "more\n".repeat(50)));
        composer.browse(true);
        assert_eq!(composer.send(), format!("look: {paste}"));
        composer.browse(true);
        assert_eq!(composer.text(), format!("look: {paste}"));
    }

    #[test]
    fn prompts_that_come_back_are_offered_one_at_a_time() {
        let mut composer = Composer::default();
        let long = "a line\n".repeat(100);
        composer.paste(&long);
        let prompts = vec!["one".to_owned(), composer.send(), send(&mut composer, "three")];
        assert_eq!(prompts[1], long);
        composer.return_prompts(prompts.clone());
        let mut offered = vec![composer.text()];
        for _ in 0..2 {
            composer.browse(true);
            offered.insert(0, composer.text());
        }
        assert_eq!(offered, prompts);
        // What is being written stays where it is.
        composer.clear();
        composer.set("draft");
        composer.return_prompts(prompts[..1].to_vec());
        assert_eq!(composer.draft(), "draft");
        composer.browse(true);
        assert_eq!(composer.draft(), "one");
    }

    #[test]
    fn a_draft_that_was_left_for_the_history_is_never_lost() {
        let mut composer = Composer::default();
        send(&mut composer, "sent");
        composer.set("draft");
        composer.browse(true);
        composer.edit_with(|area| area.insert_str("!"));
        assert_eq!(composer.draft(), "sent!");
        composer.browse(true);
        assert_eq!(composer.draft(), "draft");
    }

    #[test]
    fn the_history_has_its_limits() {
        let mut composer = Composer::default();
        let large = "x".repeat(HISTORY_BYTES / 2);
        for n in 0..3 {
            composer.paste(&format!("{n}{large}"));
            composer.send();
        }
        assert_eq!(composer.history.len(), 1, "two of them are too much");
        for n in 0..HISTORY + 10 {
            send(&mut composer, &n.to_string());
        }
        assert_eq!(composer.history.len(), HISTORY);
    }

    #[test]
    fn a_long_paste_is_folded_and_sent_whole() {
        let mut composer = Composer::default();
        composer.set("look: ");
        let paste = "line\r\n".repeat(12_345);
        composer.paste(&paste);
        assert_eq!(composer.draft(), "look: [pasted #1: 12,345 lines]");
        assert_eq!(composer.send(), format!("look: {}", "line\n".repeat(12_345)));
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
        for prompt in ["first", "second", "second", " "] {
            send(&mut composer, prompt);
        }
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
