//! The composer: a text area with folded pastes and a prompt history.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use super::view::units;
use crate::sanitize::sanitize;

mod around;
mod grapheme;
mod hanging;
mod history;
mod vi;

use history::{History, Written, unfold};
pub use vi::Did;
use vi::Vi;

/// Longer texts are folded: the text area holds a placeholder, the prompt that is sent the whole text.
#[derive(Clone, Copy)]
struct Longest {
    lines: usize,
    chars: usize,
}

/// Limit for pasted text.
const LONGEST_PASTE: Longest = Longest { lines: 20, chars: 2000 };

/// Limit for the user's own text that is put back: the text area lays out all of it on each keystroke.
const LONGEST_OWN: Longest = Longest { lines: 400, chars: 20_000 };

/// The draft, its folded pastes and the history.
pub struct Composer {
    area: TextArea<'static>,
    width: u16,
    rows: u16,
    /// Blanks at the beginning of each row after wrapping.
    hanging: Vec<u16>,
    /// Incremented on each change of the text.
    revision: u64,
    /// Placeholder and content of each folded paste.
    pastes: Vec<(String, String)>,
    pasted: usize,
    /// Mentions of attached files.
    names: Vec<String>,
    history: History,
    /// Index of the history entry that is shown, and the draft that it replaced.
    browsing: Option<(usize, String)>,
    /// The draft before a history search; during the search the text area holds the search term.
    searching: Option<String>,
    /// The vi keys, if they are chosen.
    vi: Option<Vi>,
}

impl Default for Composer {
    fn default() -> Self {
        Self {
            area: text_area(Vec::new()),
            width: 1,
            rows: 1,
            hanging: Vec::new(),
            revision: 0,
            pastes: Vec::new(),
            pasted: 0,
            names: Vec::new(),
            history: History::default(),
            browsing: None,
            searching: None,
            vi: None,
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
    // The terminal's own cursor is shown instead.
    area.set_cursor_style(Style::new());
    area.set_cursor_line_style(Style::new());
    area.set_selection_style(Style::new().reversed());
    area.set_tab_length(4);
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Composer {
    pub fn is_empty(&self) -> bool {
        self.area.is_empty()
    }

    /// The text area's content, with placeholders for folded pastes.
    pub fn draft(&self) -> String {
        self.area.lines().join("\n")
    }

    /// The text to send: the draft with its pastes unfolded.
    pub fn text(&self) -> String {
        unfold(&self.draft(), &self.pastes)
    }

    /// The user's draft, unfolded; not the history entry that is shown, nor the search term.
    pub fn unsent(&self) -> String {
        let aside = self.searching.as_ref().or(self.browsing.as_ref().map(|(_, draft)| draft));
        aside.map_or_else(|| self.text(), |draft| unfold(draft, &self.pastes))
    }

    /// Changes with every change of the text.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the draft takes several rows, so that arrow keys move in it.
    pub fn has_rows(&self) -> bool {
        self.rows > 1
    }

    /// Chooses the keymap: vi keys or the usual ones.
    pub fn use_vi(&mut self, on: bool) {
        if on != self.vi.is_some() {
            self.vi = on.then(Vi::default);
        }
    }

    /// Label of the vi mode; `None` with the usual keys.
    pub fn vi_label(&self) -> Option<String> {
        self.vi.as_ref().map(Vi::label)
    }

    /// Passes a key to the vi keys; `None` if it has its usual meaning.
    pub fn vi_key(&mut self, key: KeyEvent) -> Option<Did> {
        let names: Vec<_> = self.pastes.iter().map(|(name, _)| name.clone()).collect();
        let did = self.vi.as_mut().filter(|_| self.searching.is_none())?.key(key, &mut self.area, &names)?;
        self.edited(did == Did::Changed);
        Some(did)
    }

    pub fn is_single_line(&self) -> bool {
        self.area.lines().len() == 1
    }

    /// Whether the cursor is in the first line and whether it is in the last line, after wrapping.
    pub fn at_edge(&self) -> (bool, bool) {
        let row = self.area.screen_cursor().row;
        (row == 0, row + 1 >= usize::from(self.rows))
    }

    /// Clears the composer, adds the draft to the history and returns its text with the pastes unfolded.
    pub fn send(&mut self) -> String {
        let written = Written::new(self.draft(), &self.pastes);
        self.clear();
        let text = written.text();
        self.history.remember(written);
        text
    }

    /// Appends queued prompts that were not answered to the history, oldest first. Shows the last of them if the
    /// composer is empty.
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

    /// Inserts earlier prompts before all history entries, oldest first.
    pub fn recall<'a>(&mut self, prompts: impl Iterator<Item = &'a str>) {
        let written = prompts.map(|prompt| self.folded(prompt, LONGEST_OWN)).collect();
        self.history.prepend(written);
    }

    /// Removes and returns the history entry of this prompt, with its folds; a new entry if there is none.
    fn as_written(&mut self, prompt: &str) -> Written {
        self.history.take(prompt).unwrap_or_else(|| self.folded(prompt, LONGEST_OWN))
    }

    fn folded(&mut self, text: &str, longest: Longest) -> Written {
        match self.fold(text, longest) {
            Some(paste) => Written { draft: paste.0.clone(), pastes: vec![paste] },
            None => Written { draft: text.to_owned(), pastes: Vec::new() },
        }
    }

    /// Clears the draft and adds it to the history.
    pub fn discard(&mut self) {
        if self.browsing.is_none() {
            let written = Written::new(self.draft(), &self.pastes);
            self.history.remember(written);
        }
        self.leave_history();
        self.clear();
    }

    /// Clears the draft without adding it to the history.
    pub fn clear(&mut self) {
        self.pastes.clear();
        self.browsing = None;
        self.searching = None;
        self.set("");
        if let Some(vi) = &mut self.vi {
            vi.reset();
        }
    }

    /// Replaces the text area's content; the cursor moves to the end.
    pub fn set(&mut self, text: &str) {
        self.area = text_area(text.split('\n').map(str::to_owned).collect());
        self.changed();
    }

    /// Inserts an earlier prompt before the draft, with its pastes folded as they were.
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

    /// Replaces the draft. The old draft goes to the history unless `text` starts with it.
    pub fn replace(&mut self, text: &str) {
        if text.starts_with(&self.text()) {
            self.clear()
        } else {
            self.discard()
        }
        let written = self.folded(text, LONGEST_OWN);
        self.show(written);
    }

    /// Loads a history entry into the text area and registers its pastes.
    fn show(&mut self, written: Written) {
        let new = written.pastes.into_iter().filter(|paste| !self.pastes.contains(paste)).collect::<Vec<_>>();
        self.pastes.extend(new);
        self.set(&sanitize(&written.draft));
    }

    /// Inserts pasted text, folded if it is long. Newlines in it do not send.
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

    /// The placeholder for a long text, and the text; `None` if it is not longer than `longest`.
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

    /// Applies an editing key; returns whether the text changed.
    pub fn edit(&mut self, key: KeyEvent) -> bool {
        let names = || self.pastes.iter().map(|(name, _)| name).chain(&self.names).map(String::as_str);
        let from = self.area.cursor();
        let changed = grapheme::edit(&mut self.area, key, names()).unwrap_or_else(|| self.area.input(key));
        grapheme::leave_names(&mut self.area, from, names());
        self.edited(changed)
    }

    /// Applies `f`, which returns whether it changed the text.
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

    /// Makes the history entry that is shown the draft; the replaced draft goes to the history.
    fn leave_history(&mut self) {
        if let Some((_, draft)) = self.browsing.take() {
            self.history.remember(Written::new(draft, &self.pastes));
        }
    }

    /// Shows the previous (`back`) or next history entry.
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

    /// Starts a history search; false if the history is empty.
    pub fn begin_search(&mut self) -> bool {
        if self.searching.is_none() && self.history.len() > 0 {
            self.leave_history();
            self.searching = Some(self.draft());
            self.set("");
        }
        self.searching.is_some()
    }

    pub fn is_searching(&self) -> bool {
        self.searching.is_some()
    }

    /// Search results, newest first: index in the history and first line of the prompt.
    pub fn found(&self) -> Vec<(usize, String)> {
        let found = self.history.search(&self.draft()).into_iter();
        found.filter_map(|at| Some((at, first_line(&self.history.get(at)?.draft)))).collect()
    }

    /// Ends the search. Loads the history entry at `at` and adds the draft to the history; without an entry, restores
    /// the draft.
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

    pub fn is_browsing(&self) -> bool {
        self.browsing.is_some()
    }

    /// Number of lines when wrapped at `width` cells.
    pub fn layout(&mut self, width: u16) -> u16 {
        if self.width != width.max(1) {
            self.width = width.max(1);
            self.measure();
        }
        self.rows
    }

    /// Scrolls to the first line if all lines fit in `height`: the text area itself scrolls only as far as the cursor
    /// requires.
    pub fn reveal(&mut self, height: u16) {
        let (top, _) = self.area.scroll_offset();
        if top > 0 && self.rows <= height {
            self.area.scroll((i16::try_from(top).map_or(i16::MIN, |top| -top), 0));
        }
    }

    /// Lines hidden above and below a viewport of `rows` rows.
    pub fn hidden(&self, rows: u16) -> (u16, u16) {
        let cursor = u16::try_from(self.area.screen_cursor().row).unwrap_or(u16::MAX);
        // The next draw scrolls as far as the cursor requires.
        let top = self.area.scroll_offset().0.clamp((cursor + 1).saturating_sub(rows), cursor);
        (top, self.rows.saturating_sub(top.saturating_add(rows)))
    }

    fn changed(&mut self) {
        self.revision += 1;
        self.measure();
    }

    /// Counts the lines after wrapping: renders a copy of the text area and reads the row of its end.
    fn measure(&mut self) {
        let area = Rect::new(0, 0, self.width, 1);
        let mut buffer = Buffer::empty(area);
        let mut probe = self.area.clone();
        (&probe).render(area, &mut buffer);
        probe.move_cursor(CursorMove::Bottom);
        probe.move_cursor(CursorMove::End);
        self.rows = u16::try_from(probe.screen_cursor().row + 1).unwrap_or(u16::MAX);
        self.hanging = hanging::blanks(&self.area, self.width, self.rows);
    }

    #[cfg(test)]
    pub fn widget(&self) -> &TextArea<'static> {
        &self.area
    }

    /// Row and column of the cursor in the visible part, as of the last draw.
    pub fn cursor_on_screen(&self) -> (usize, usize) {
        let cursor = self.area.screen_cursor();
        let (top, left) = self.area.scroll_offset();
        let column = cursor.col.saturating_sub(usize::from(self.hanging(cursor.row)));
        (cursor.row.saturating_sub(usize::from(top)), column.saturating_sub(usize::from(left)))
    }
}

/// The first line that is not blank, with an ellipsis if the text has more lines.
fn first_line(draft: &str) -> String {
    let line = draft.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let more = if draft.trim().contains('\n') { " …" } else { "" };
    format!("{}{more}", sanitize(line))
}

#[cfg(test)]
mod tests;
