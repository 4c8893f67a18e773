//! State of the interface beside the chat: composer, scroll position, theme. Turns terminal events into events of the
//! chat.

use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui_textarea::TextArea;

use super::attaching::state::Attaching;
use super::completion::{self, Choice, ConversationChoice};
use super::composer::{Composer, Did};
use super::keymap::{self, Action, Context, Edit, Scroll};
use super::layout::{Areas, Look};
use super::library::Recent;
use super::picker::{Picked, Picker};
use super::theme::{Theme, ThemeName};
use super::view::files;
use super::view::glyphs::Glyphs;
use super::view::help;
use super::view::marked;
use super::view::panel;
use super::view::supply;
use super::view::transcript::Transcript;
use crate::chat::{Cause, Chat, EngineState, Event, View};

/// Minimum width of a screen for a preview beside a list, in cells.
const WITH_PREVIEW: u16 = 100;

#[derive(Debug)]
pub struct UiState {
    pub composer: Composer,
    pub transcript: Transcript,
    /// The stored conversations, once requested for `/resume`.
    pub talks: Vec<ConversationChoice>,
    /// Files that the draft names.
    pub(super) files: Attaching,
    /// The config file's personas.
    pub personas: Vec<Choice>,
    /// All themes, once their files are read.
    pub themes: Vec<ThemeName>,
    /// The latest conversations, for the start screen.
    pub recent: Vec<Recent>,
    /// The list over the transcript.
    pub(super) list: Option<Picker>,
    /// Whether the statistics panel is wanted.
    pub(super) panel: bool,
    /// The rows of chips, as of the last `layout`.
    pub(super) chips: Vec<Line<'static>>,
    /// The screen is a window of some rows, as high as its contents need.
    pub(super) inline: bool,
    pub(super) theme: Theme,
    pub(super) glyphs: &'static Glyphs,
    areas: Areas,
    chosen: usize,
    /// The list that Tab cycles through.
    cycle: Option<Cycle>,
    /// The draft for which the completion list was closed.
    pub(super) dismissed: Option<String>,
    /// First visible line of the help.
    help_top: usize,
    size: Rect,
}

/// The list from which an entry was accepted, so that the next Tab accepts the next one. Valid while the draft equals
/// that entry.
#[derive(Debug)]
struct Cycle {
    choices: Vec<Choice>,
    taken: usize,
}

/// Result of a terminal event.
#[allow(clippy::large_enum_variant, reason = "at most a few exist, and only briefly")]
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An event for the chat.
    Chat(Event),
    /// Stop the process until the shell continues it.
    Suspend,
    /// Redraw the whole screen.
    Redraw,
    /// Edit the draft in an external editor.
    Editor,
    /// Read the files that the draft names.
    Attend,
    /// Open a list.
    Open(View),
    /// Open this web address.
    Follow(String),
    /// A key changed the open list or chose from it.
    Picked(View, Picked),
}

/// Whether a row shows the progress of a load or a download.
pub(super) fn needs_gauge(chat: &Chat) -> bool {
    matches!(chat.engine.state, EngineState::Loading(_)) || supply::is_shown(chat)
}

impl UiState {
    /// An empty composer and transcript.
    pub fn new(theme: Theme, glyphs: &'static Glyphs) -> Self {
        Self {
            composer: Composer::default(),
            transcript: Transcript::default(),
            talks: Vec::new(),
            files: Attaching::default(),
            personas: Vec::new(),
            themes: Vec::new(),
            recent: Vec::new(),
            list: None,
            chips: Vec::new(),
            panel: false,
            inline: false,
            theme,
            glyphs,
            areas: Areas::default(),
            chosen: 0,
            cycle: None,
            dismissed: None,
            help_top: 0,
            size: Rect::default(),
        }
    }

    pub fn look(&self) -> Look<'_> {
        Look { theme: &self.theme, glyphs: self.glyphs }
    }

    /// The areas as of the last `layout`.
    pub fn areas(&self) -> Areas {
        self.areas
    }

    /// Replaces the theme; the transcript is rendered again.
    pub fn set_theme(&mut self, theme: Theme) {
        self.theme = theme;
        self.transcript.invalidate();
    }

    /// First visible line of the help, as of the last `layout` or scroll.
    pub fn help_top(&self) -> usize {
        self.help_top
    }

    /// Computes the areas for a screen of this size.
    pub fn layout(&mut self, chat: &Chat, area: Rect) {
        self.size = area;
        if !chat.help {
            self.help_top = 0;
        }
        self.transcript.show_taken(chat.marked().is_some());
        let loading = needs_gauge(chat);
        // The composer's width does not depend on its number of rows.
        let width = Areas::of(area, 1, 0, false, self.inline).composer_text().width;
        let rows = self.composer.layout(width);
        let look = Look { theme: &self.theme, glyphs: self.glyphs };
        let chips = files::rows(&self.chips(chat), usize::from(area.width), &look);
        self.areas = Areas::of(area, rows, chat.queue.len(), loading, self.inline).with_files(chips.len());
        self.chips = chips;
        if self.panel && area.width >= panel::NEEDED {
            self.areas = self.areas.with_panel(panel::WIDTH);
        }
        let rows = marked::lines(chat, self.areas.transcript.width, &self.look()).len();
        self.areas = self.areas.with_actions(rows);
        self.composer.reveal(self.areas.composer_text().height);
        let Areas { transcript: place, .. } = self.areas;
        let look = Look { theme: &self.theme, glyphs: self.glyphs };
        self.transcript.layout(chat, place.width, place.height, &look);
    }

    /// Completions of the draft; during a history search, its results.
    pub fn completions(&self) -> Vec<Choice> {
        if self.composer.is_searching() {
            return self.composer.found().into_iter().map(|(_, begin)| completion::earlier(begin)).collect();
        }
        if self.composer.is_browsing() {
            return Vec::new();
        }
        let draft = self.composer.draft();
        if self.dismissed.as_ref() == Some(&draft) {
            return Vec::new();
        }
        match self.cycle(&draft) {
            Some(cycle) => cycle.choices.clone(),
            None if !self.path_choices().is_empty() => self.path_choices().to_vec(),
            None if draft.starts_with("/persona ") => completion::among(self.personas.clone(), &draft[9..]),
            None if self.composer.is_single_line() => completion::choices(&draft, &self.talks, &self.themes),
            None => Vec::new(),
        }
    }

    fn cycle(&self, draft: &str) -> Option<&Cycle> {
        self.cycle.as_ref().filter(|cycle| cycle.choices.get(cycle.taken).is_some_and(|taken| taken.text == draft))
    }

    /// Index of the selected completion.
    pub fn chosen_completion(&self) -> usize {
        self.chosen.min(self.completions().len().saturating_sub(1))
    }

    /// Selects a completion.
    pub(super) fn choose_completion(&mut self, index: usize) {
        self.chosen = index;
    }

    /// Size of the screen as of the last `layout`.
    pub(super) fn size(&self) -> Rect {
        self.size
    }

    /// Handles an event of the terminal.
    pub fn terminal_event(&mut self, event: TerminalEvent, chat: &Chat) -> Vec<Outcome> {
        match event {
            TerminalEvent::Key(key) => {
                let outcomes = self.key(key, chat);
                self.complete_paths();
                outcomes
            }
            TerminalEvent::Paste(text) => {
                if let Some(outcomes) = self.list_paste(&text) {
                    return outcomes;
                }
                self.composer.paste(&text);
                self.typed()
            }
            TerminalEvent::Resize(..) | TerminalEvent::FocusGained | TerminalEvent::FocusLost => Vec::new(),
            TerminalEvent::Mouse(event) => self.mouse(event, chat),
        }
    }

    /// Several arrow keys that arrived at once: the wheel, unless they have something to move in.
    pub fn arrows(&mut self, up: bool, count: usize, chat: &Chat) -> Vec<Outcome> {
        let has_rows = self.composer.has_rows() || !self.completions().is_empty();
        if self.list.is_some() || (!chat.help && has_rows) {
            let key = KeyEvent::from(if up { KeyCode::Up } else { KeyCode::Down });
            return (0..count).flat_map(|_| self.key(key, chat)).collect();
        }
        self.scroll(if up { Scroll::Up(count) } else { Scroll::Down(count) }, chat);
        Vec::new()
    }

    /// Replaces the draft by `text`; returns the event for the chat, if any.
    pub fn write(&mut self, text: &str) -> Option<Event> {
        self.composer.replace(text);
        self.is_prompt().then_some(Event::Typed)
    }

    /// Replaces the draft by the beginning of a command; the draft goes to the history.
    pub fn write_line(&mut self, command: &str) {
        self.composer.replace(command);
        self.typed();
    }

    fn is_prompt(&self) -> bool {
        let draft = self.composer.draft();
        !draft.is_empty() && !draft.starts_with('/') && !self.composer.is_searching()
    }

    pub(super) fn key(&mut self, key: KeyEvent, chat: &Chat) -> Vec<Outcome> {
        if let Some(outcomes) = self.list_key(key) {
            return outcomes;
        }
        if let Some(outcomes) = self.marked_key(key, chat) {
            return outcomes;
        }
        if let Some(outcomes) = self.vi_key(key, chat) {
            return outcomes;
        }
        self.plain_key(key, chat)
    }

    /// Passes a key to the vi keys; `None` if it has its usual meaning.
    fn vi_key(&mut self, key: KeyEvent, chat: &Chat) -> Option<Vec<Outcome>> {
        let closes = key.code == KeyCode::Esc && !self.completions().is_empty();
        if key.kind == KeyEventKind::Release || chat.help || closes {
            return None;
        }
        let stops = key.code == KeyCode::Esc && self.composer.is_empty() && chat.activity.is_busy();
        Some(match self.composer.vi_key(key)? {
            // In an empty composer Esc still stops the answer.
            _ if stops => vec![Outcome::Chat(Event::Stop)],
            Did::Moved => Vec::new(),
            Did::Changed => self.typed(),
            Did::Vertical(up, times) => {
                let code = if up { KeyCode::Up } else { KeyCode::Down };
                let arrow = KeyEvent::new(code, KeyModifiers::NONE);
                (0..times).flat_map(|_| self.plain_key(arrow, chat)).collect()
            }
        })
    }

    fn plain_key(&mut self, key: KeyEvent, chat: &Chat) -> Vec<Outcome> {
        let (first_line, last_line) = self.composer.at_edge();
        let context = Context {
            empty: self.composer.is_empty(),
            first_line,
            last_line,
            browsing: self.composer.is_browsing(),
            choosing: !self.completions().is_empty(),
            searching: self.composer.is_searching(),
            help: chat.help,
            fresh: chat.feed.entries().is_empty() && !self.recent.is_empty(),
        };
        match keymap::action(key, &context) {
            Some(action) => self.act(action, chat),
            None => Vec::new(),
        }
    }

    fn act(&mut self, action: Action, chat: &Chat) -> Vec<Outcome> {
        let chat_event = |event| vec![Outcome::Chat(event)];
        match action {
            Action::Submit | Action::Complete(_) if self.composer.is_searching() => self.take_found(),
            Action::Stop | Action::Interrupt if self.composer.is_searching() => {
                self.composer.end_search(None);
                self.typed()
            }
            Action::Search => self.search(),
            Action::Submit if self.is_prompt() && chat.refuses_draft() => chat_event(Event::Refused),
            Action::Submit => self.submit(chat),
            Action::Stop => self.stop(),
            Action::Interrupt => chat_event(Event::Interrupt { draft_empty: self.composer.is_empty() }),
            Action::Quit => chat_event(Event::Quit(Cause::User)),
            Action::Help => chat_event(Event::ToggleHelp),
            Action::Reasoning => chat_event(Event::ToggleReasoning),
            Action::Suspend => vec![Outcome::Suspend],
            Action::Redraw => vec![Outcome::Redraw],
            Action::Panel => self.toggle_panel().map(Outcome::Chat).into_iter().collect(),
            Action::Mark(step) => chat_event(Event::Mark(step)),
            Action::Open(view) => vec![Outcome::Open(view)],
            Action::Editor => {
                self.composer.end_search(None);
                vec![Outcome::Editor]
            }
            Action::Scroll(scroll) => {
                self.scroll(scroll, chat);
                Vec::new()
            }
            Action::History(back) => {
                self.composer.browse(back);
                Vec::new()
            }
            Action::Choose(up) => self.choose(up),
            Action::Complete(back) => {
                self.complete(back);
                Vec::new()
            }
            Action::NewLine => self.edit(|area| {
                area.insert_newline();
                true
            }),
            Action::Edit(edit) => self.edit(|area| apply(edit, area)),
            Action::Key(key) => {
                let changed = self.composer.edit(key);
                if changed { self.typed() } else { Vec::new() }
            }
        }
    }

    /// Shows or hides the statistics panel; returns a hint if the screen is too narrow for it.
    pub fn toggle_panel(&mut self) -> Option<Event> {
        let width = self.size.width;
        if !self.panel && width < panel::NEEDED {
            let needed = panel::NEEDED;
            return Some(Event::Hinted(format!(
                "the panel needs {needed} columns, and there are {width}; /stats shows the figures"
            )));
        }
        self.panel = !self.panel;
        None
    }

    /// Whether there is room for a preview beside a list.
    pub fn has_room_for_preview(&self) -> bool {
        self.size.width >= WITH_PREVIEW
    }

    /// Whether there is room for the statistics panel.
    pub fn has_room_for_panel(&self) -> bool {
        self.size.width >= panel::NEEDED
    }

    fn edit(&mut self, f: impl FnOnce(&mut TextArea<'static>) -> bool) -> Vec<Outcome> {
        if self.composer.edit_with(f) { self.typed() } else { Vec::new() }
    }

    /// Handles a change of the draft. A command sends no `Typed`: it must not load the model.
    fn typed(&mut self) -> Vec<Outcome> {
        self.chosen = 0;
        self.cycle = None;
        let draft = self.composer.draft();
        if self.dismissed.as_ref() != Some(&draft) {
            self.dismissed = None;
        }
        if self.is_prompt() { vec![Outcome::Chat(Event::Typed)] } else { Vec::new() }
    }

    fn search(&mut self) -> Vec<Outcome> {
        if self.composer.is_searching() {
            return self.choose(false);
        }
        self.chosen = 0;
        if self.composer.begin_search() {
            return Vec::new();
        }
        vec![Outcome::Chat(Event::Hinted("there are no earlier prompts to search in".into()))]
    }

    fn take_found(&mut self) -> Vec<Outcome> {
        let found = self.composer.found().get(self.chosen_completion()).map(|(at, _)| *at);
        self.composer.end_search(found);
        self.typed()
    }

    pub(super) fn scroll(&mut self, scroll: Scroll, chat: &Chat) {
        if chat.help {
            return self.scroll_help(scroll);
        }
        let look = Look { theme: &self.theme, glyphs: self.glyphs };
        self.transcript.scroll(scroll, chat, &look);
    }

    fn scroll_help(&mut self, scroll: Scroll) {
        let place = help::area(self.size, self.areas.composer);
        let (last, page) = help::scroll_range(place, &self.look());
        let top = self.help_top.min(last);
        let wanted = match scroll {
            Scroll::Up(lines) => top.saturating_sub(lines),
            Scroll::PageUp => top.saturating_sub(page),
            Scroll::Down(lines) => top + lines,
            Scroll::PageDown => top + page,
            Scroll::Top => 0,
            Scroll::Follow => last,
        };
        self.help_top = wanted.min(last);
    }

    /// Selects the previous or next entry, wrapping around at the ends.
    fn choose(&mut self, up: bool) -> Vec<Outcome> {
        let (count, chosen) = (self.completions().len().max(1), self.chosen_completion());
        let wanted = if up { chosen + count - 1 } else { chosen + 1 };
        self.chosen = wanted % count;
        Vec::new()
    }

    fn stop(&mut self) -> Vec<Outcome> {
        if !self.completions().is_empty() {
            self.dismissed = Some(self.composer.draft());
            return Vec::new();
        }
        if self.stop_waiting() {
            return vec![Outcome::Chat(Event::Hinted("not sent yet".into()))];
        }
        vec![Outcome::Chat(if self.composer.is_empty() { Event::StopOrEdit } else { Event::Stop })]
    }

    fn submit(&mut self, chat: &Chat) -> Vec<Outcome> {
        if self.complete_to_send() {
            return Vec::new();
        }
        if self.composer.text().trim().is_empty() {
            self.composer.send();
            return chat.offer().map(|_| Outcome::Chat(Event::AcceptOffer)).into_iter().collect();
        }
        self.before_sending().unwrap_or_else(|| self.send_draft())
    }

    /// Sends the draft, whose files are read.
    pub(super) fn send_draft(&mut self) -> Vec<Outcome> {
        if let Some(outcomes) = self.before_sending() {
            return outcomes;
        }
        let told = self.sent_as_text();
        let text = self.composer.send();
        if text.trim().is_empty() {
            return Vec::new();
        }
        // Scroll to the end, where the answer appears.
        self.transcript.follow();
        std::iter::once(Outcome::Chat(Event::Submit(text))).chain(told).collect()
    }

    /// Accepts the selected completion on Enter. True if it is not sent yet: the user must see or finish it.
    fn complete_to_send(&mut self) -> bool {
        let draft = self.composer.draft();
        let choices = self.completions();
        // A command may be sent without its argument, and a complete name needs no completion.
        let alone = draft.ends_with(' ') && !draft.trim_end().contains(' ');
        let whole = alone || choices.iter().any(|choice| choice.text.trim_end() == draft.trim_end());
        match choices.get(self.chosen_completion()) {
            Some(choice) if !whole && self.enter_takes(choice, self.chosen) => {
                self.composer.complete(&choice.text);
                choice.unfinished
            }
            _ => false,
        }
    }

    /// Accepts the selected completion; if it is accepted already, the next or previous one.
    fn complete(&mut self, back: bool) {
        let (choices, chosen, draft) = (self.completions(), self.chosen_completion(), self.composer.draft());
        let count = choices.len();
        let taken = choices.get(chosen).is_some_and(|choice| choice.text == draft);
        let wanted = match (taken, back) {
            (_, true) => (chosen + count).saturating_sub(1) % count.max(1),
            (true, false) => (chosen + 1) % count.max(1),
            (false, false) => chosen,
        };
        let Some(choice) = choices.get(wanted).filter(|choice| choice.text != draft) else { return };
        self.composer.complete(&choice.text);
        self.chosen = wanted;
        // A single completion does not cycle: the next Tab completes the command's argument.
        self.cycle = (count > 1).then_some(Cycle { choices, taken: wanted });
    }
}

fn apply(edit: Edit, area: &mut TextArea<'static>) -> bool {
    match edit {
        Edit::KillBefore => area.delete_line_by_head(),
        Edit::KillAfter => area.delete_line_by_end(),
        Edit::Yank => area.paste(),
        Edit::Undo => area.undo(),
        Edit::Redo => area.redo(),
    }
}
