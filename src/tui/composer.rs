//! The composer: what the user is writing. A text area with folded pastes and a history.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use super::view::units;
use crate::sanitize::sanitize;

mod grapheme;
mod history;

use history::{History, Written, unfold};

/// A text with more lines or characters than this is folded: the text area holds its name, the prompt its text.
#[derive(Clone, Copy)]
struct Longest {
    lines: usize,
    chars: usize,
}

/// Of what is pasted.
const LONGEST_PASTE: Longest = Longest { lines: 20, chars: 2000 };

/// Of what the user wrote, and gets back to go on with it: as long as the text area stays quick.
const LONGEST_OWN: Longest = Longest { lines: 400, chars: 20_000 };

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
    history: History,
    /// Which prompt of the history is shown, and what was being written before it was.
    browsing: Option<(usize, String)>,
    /// What was being written before the search in the history began: what is written now is searched for.
    searching: Option<String>,
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
            history: History::default(),
            browsing: None,
            searching: None,
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

    /// What the user was writing: not an earlier prompt that is only being looked at, nor what is searched for.
    pub fn unsent(&self) -> String {
        let aside = self.searching.as_ref().or(self.browsing.as_ref().map(|(_, draft)| draft));
        aside.map_or_else(|| self.text(), |draft| unfold(draft, &self.pastes))
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
        self.history.remember(written);
        text
    }

    /// Offers prompts that were sent and not asked, the oldest first: the last of them is what Up finds first. It is
    /// shown at once where nothing else is being written.
    pub fn return_prompts(&mut self, prompts: Vec<String>) {
        for prompt in prompts {
            let written = self.as_written(&prompt);
            self.history.append(written);
        }
        if let Some((_, draft)) = self.browsing.take() {
            let shown = self.draft();
            let at = self.history.last_that(|written| written.draft == shown);
            self.browsing = Some((at.unwrap_or(self.history.len()), draft));
        } else if self.is_empty() && self.searching.is_none() {
            self.browse(true);
        }
    }

    /// Offers prompts of earlier times, the oldest first, before all others.
    pub fn recall<'a>(&mut self, prompts: impl Iterator<Item = &'a str>) {
        let written = prompts.map(|prompt| self.folded(prompt, LONGEST_OWN)).collect();
        self.history.prepend(written);
    }

    /// A prompt as it was written, where that is known; it is no longer in the history then.
    fn as_written(&mut self, prompt: &str) -> Written {
        self.history.take(prompt).unwrap_or_else(|| self.folded(prompt, LONGEST_OWN))
    }

    fn folded(&mut self, text: &str, longest: Longest) -> Written {
        match self.fold(text, longest) {
            Some(paste) => Written { draft: paste.0.clone(), pastes: vec![paste] },
            None => Written { draft: text.to_owned(), pastes: Vec::new() },
        }
    }

    /// Clears what is written; Up brings it back.
    pub fn discard(&mut self) {
        if self.browsing.is_none() {
            let written = Written::new(self.draft(), &self.pastes);
            self.history.remember(written);
        }
        self.leave_history();
        self.clear();
    }

    /// Forgets what is written.
    pub fn clear(&mut self) {
        self.pastes.clear();
        self.browsing = None;
        self.searching = None;
        self.set("");
    }

    /// Replaces what is written.
    pub fn set(&mut self, text: &str) {
        self.area = text_area(text.split('\n').map(str::to_owned).collect());
        self.changed();
    }

    /// Puts a prompt before what is written, as it was written, with its pastes folded.
    pub fn put_back(&mut self, text: &str) {
        self.leave_history();
        let draft = self.draft();
        let known = self.history.last_that(|written| written.is(text)).and_then(|at| self.history.get(at)).cloned();
        let written = known.unwrap_or_else(|| self.folded(text, LONGEST_OWN));
        self.show(written);
        if !draft.trim().is_empty() {
            self.area.insert_str(format!("\n\n{draft}"));
        }
        self.changed();
    }

    /// Puts a text in the place of what is written, which Up brings back where the text does not hold all of it.
    pub fn replace(&mut self, text: &str) {
        if text.starts_with(&self.text()) {
            self.clear()
        } else {
            self.discard()
        }
        let written = self.folded(text, LONGEST_OWN);
        self.show(written);
    }

    /// Shows a text that was written before; its pastes are known from now on.
    fn show(&mut self, written: Written) {
        let new = written.pastes.into_iter().filter(|paste| !self.pastes.contains(paste)).collect::<Vec<_>>();
        self.pastes.extend(new);
        self.set(&sanitize(&written.draft));
    }

    /// Inserts pasted text, whole and unsent; folds it where it is long.
    pub fn paste(&mut self, text: &str) {
        self.leave_history();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        match self.fold(&text, LONGEST_PASTE) {
            Some(paste) => {
                self.area.insert_str(&paste.0);
                self.pastes.push(paste);
            }
            None => drop(self.area.insert_str(sanitize(&text))),
        }
        self.changed();
    }

    /// The name under which a long text is folded, and the text.
    fn fold(&mut self, text: &str, longest: Longest) -> Option<(String, String)> {
        let lines = text.lines().count();
        if lines <= longest.lines && text.chars().nth(longest.chars).is_none() {
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
        let changed = grapheme::edit(&mut self.area, key, names()).unwrap_or_else(|| self.area.input(key));
        grapheme::leave_names(&mut self.area, from, names());
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
            self.history.remember(Written::new(draft, &self.pastes));
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
                self.show(written);
                self.browsing = Some((wanted, draft));
            }
            None if back => {}
            None => self.set(&draft),
        }
    }

    /// Begins to search the history for what is written from now on; false where there is none.
    pub fn begin_search(&mut self) -> bool {
        if self.searching.is_none() && self.history.len() > 0 {
            self.leave_history();
            self.searching = Some(self.draft());
            self.set("");
        }
        self.searching.is_some()
    }

    /// Whether the history is being searched.
    pub fn is_searching(&self) -> bool {
        self.searching.is_some()
    }

    /// What the search finds, the newest first: places in the history, and how the prompts begin.
    pub fn found(&self) -> Vec<(usize, String)> {
        let found = self.history.search(&self.draft()).into_iter();
        found.filter_map(|at| Some((at, first_line(&self.history.get(at)?.draft)))).collect()
    }

    /// Ends the search. Shows the prompt at this place of the history, and what was being written is kept where Up finds
    /// it; or what was being written, where there is no such place.
    pub fn end_search(&mut self, at: Option<usize>) {
        let Some(draft) = self.searching.take() else { return };
        match at.and_then(|at| self.history.get(at)).cloned() {
            Some(written) => {
                self.history.remember(Written::new(draft, &self.pastes));
                self.show(written);
            }
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

    /// Lines that a place of so many rows hides, above and below; as it was drawn last.
    pub fn hidden(&self, rows: u16) -> (u16, u16) {
        let cursor = u16::try_from(self.area.screen_cursor().row).unwrap_or(u16::MAX);
        // What is drawn next scrolls as far as the cursor needs.
        let top = self.area.scroll_offset().0.clamp((cursor + 1).saturating_sub(rows), cursor);
        (top, self.rows.saturating_sub(top.saturating_add(rows)))
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

/// The first line that says something.
fn first_line(draft: &str) -> String {
    let line = draft.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let more = if draft.trim().contains('\n') { " …" } else { "" };
    format!("{}{more}", sanitize(line))
}

#[cfg(test)]
mod tests;
