//! Maps keys to actions, depending on what is open and on whether the composer is empty.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::chat::{Step, View};

/// A scroll request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scroll {
    Up(usize),
    Down(usize),
    PageUp,
    PageDown,
    Top,
    /// To the end, and follow it as text arrives.
    Follow,
}

/// The action bound to a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    Submit,
    NewLine,
    /// Stop the answer, or close what is open.
    Stop,
    /// Stop the answer, else clear the draft, else quit.
    Interrupt,
    Quit,
    /// Show or hide the help.
    Help,
    /// Fold or unfold reasoning.
    Reasoning,
    /// Scroll the transcript, or the help if it is open.
    Scroll(Scroll),
    /// The previous (true) or next history entry.
    History(bool),
    /// The previous (true) or next entry of the completion list.
    Choose(bool),
    /// Accept the selected entry; if it is accepted already, the previous (true) or next one.
    Complete(bool),
    /// Stop the process and return to the shell.
    Suspend,
    /// Redraw the whole screen.
    Redraw,
    /// Edit the draft in an external editor.
    Editor,
    /// Show or hide the statistics panel.
    Panel,
    /// Select a turn.
    Mark(Step),
    /// Open a list over the transcript.
    Open(View),
    /// Search the history; during a search, select the next match.
    Search,
    /// An editing command that the text area binds to another key.
    Edit(Edit),
    /// A key for the text area.
    Key(KeyEvent),
}

/// Editing commands with readline's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Delete to the line's beginning.
    KillBefore,
    /// Delete to the line's end.
    KillAfter,
    /// Insert the text that was deleted last.
    Yank,
    Undo,
    Redo,
}

/// State that changes the meaning of keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The composer is empty.
    pub empty: bool,
    /// The cursor is in the first line.
    pub first_line: bool,
    /// The cursor is in the last line.
    pub last_line: bool,
    /// The history is being browsed.
    pub browsing: bool,
    /// The completion list is open.
    pub choosing: bool,
    /// The history is being searched.
    pub searching: bool,
    /// The help is open.
    pub help: bool,
    /// The start screen shows recent conversations.
    pub fresh: bool,
}

/// The action of a key; `None` if it is unbound.
pub fn action(key: KeyEvent, context: &Context) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let shift = key.modifiers.contains(KeyModifiers::SHIFT);
    if context.help {
        return in_help(key, control);
    }
    Some(match key.code {
        KeyCode::Enter if alt || shift || control => Action::NewLine,
        KeyCode::Enter => Action::Submit,
        KeyCode::Esc => Action::Stop,
        KeyCode::F(1) => Action::Help,
        KeyCode::F(2) => Action::Open(View::Models),
        KeyCode::Char('?') if context.empty && !context.searching && !control && !alt => Action::Help,
        KeyCode::Tab if context.choosing => Action::Complete(shift),
        KeyCode::BackTab if context.choosing => Action::Complete(true),
        KeyCode::Tab | KeyCode::BackTab => return None,
        KeyCode::PageUp => Action::Scroll(Scroll::PageUp),
        KeyCode::PageDown => Action::Scroll(Scroll::PageDown),
        KeyCode::Home if control || context.empty => Action::Scroll(Scroll::Top),
        KeyCode::End if control || context.empty => Action::Scroll(Scroll::Follow),
        KeyCode::Up if alt => Action::Mark(Step::Back),
        KeyCode::Down if alt => Action::Mark(Step::On),
        KeyCode::Up | KeyCode::Down => vertical(key, context, shift || control),
        KeyCode::Char(letter) if control && !alt => return with_control(letter, key, context),
        KeyCode::Char('r') if alt && !control => Action::Edit(Edit::Redo),
        KeyCode::Char(_) if alt && control => return None,
        _ => Action::Key(key),
    })
}

fn in_help(key: KeyEvent, control: bool) -> Option<Action> {
    match key.code {
        KeyCode::Esc | KeyCode::Enter | KeyCode::F(1) | KeyCode::Char('?' | 'q') => Some(Action::Help),
        KeyCode::Char('c') if control => Some(Action::Interrupt),
        KeyCode::Char('d') if control => Some(Action::Quit),
        KeyCode::Char('z') if control => Some(Action::Suspend),
        KeyCode::Up => Some(Action::Scroll(Scroll::Up(1))),
        KeyCode::Down => Some(Action::Scroll(Scroll::Down(1))),
        KeyCode::PageUp => Some(Action::Scroll(Scroll::PageUp)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Action::Scroll(Scroll::PageDown)),
        KeyCode::Home => Some(Action::Scroll(Scroll::Top)),
        KeyCode::End => Some(Action::Scroll(Scroll::Follow)),
        _ => None,
    }
}

fn vertical(key: KeyEvent, context: &Context, scrolls: bool) -> Action {
    let up = key.code == KeyCode::Up;
    if scrolls {
        return Action::Scroll(if up { Scroll::Up(1) } else { Scroll::Down(1) });
    }
    if context.choosing || context.searching {
        return Action::Choose(up);
    }
    if !up && context.empty && context.fresh && !context.browsing {
        return Action::Open(View::Conversations);
    }
    let edge = if up { context.first_line } else { context.last_line };
    if edge && (up || context.browsing) { Action::History(up) } else { Action::Key(key) }
}

fn with_control(letter: char, key: KeyEvent, context: &Context) -> Option<Action> {
    Some(match letter.to_ascii_lowercase() {
        'c' => Action::Interrupt,
        'd' if context.empty && !context.searching => Action::Quit,
        'g' => Action::Editor,
        'j' => Action::NewLine,
        'l' => Action::Redraw,
        'o' => Action::Open(View::Palette),
        's' => Action::Open(View::Conversations),
        't' => Action::Reasoning,
        'z' => Action::Suspend,
        'u' => Action::Edit(Edit::KillBefore),
        'k' => Action::Edit(Edit::KillAfter),
        'x' => Action::Panel,
        'y' => Action::Edit(Edit::Yank),
        // Without the kitty keyboard protocol Ctrl-_ arrives as the byte 0x1f, which crossterm reports as Ctrl-7.
        '_' | '7' | '/' => Action::Edit(Edit::Undo),
        'r' => Action::Search,
        'p' => vertical(KeyEvent::new(KeyCode::Up, KeyModifiers::NONE), context, false),
        'n' => vertical(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE), context, false),
        'a' | 'e' | 'b' | 'f' | 'd' | 'h' | 'w' => Action::Key(key),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers, context: Context) -> Option<Action> {
        action(KeyEvent::new(code, modifiers), &context)
    }

    #[test]
    fn enter_sends_and_modified_enter_inserts_a_newline() {
        let context = Context::default();
        assert_eq!(press(KeyCode::Enter, KeyModifiers::NONE, context), Some(Action::Submit));
        assert_eq!(press(KeyCode::Enter, KeyModifiers::ALT, context), Some(Action::NewLine));
        assert_eq!(press(KeyCode::Enter, KeyModifiers::SHIFT, context), Some(Action::NewLine));
        assert_eq!(press(KeyCode::Char('g'), KeyModifiers::CONTROL, context), Some(Action::Editor));
        assert_eq!(press(KeyCode::Char('j'), KeyModifiers::CONTROL, context), Some(Action::NewLine));
    }

    #[test]
    fn question_mark_opens_the_help_only_in_an_empty_composer() {
        let empty = Context { empty: true, ..Context::default() };
        assert_eq!(press(KeyCode::Char('?'), KeyModifiers::NONE, empty), Some(Action::Help));
        assert!(matches!(press(KeyCode::Char('?'), KeyModifiers::NONE, Context::default()), Some(Action::Key(_))));
        assert_eq!(press(KeyCode::Char('d'), KeyModifiers::CONTROL, empty), Some(Action::Quit));
        assert!(matches!(press(KeyCode::Char('d'), KeyModifiers::CONTROL, Context::default()), Some(Action::Key(_))));
    }

    #[test]
    fn up_browses_the_history_only_from_the_first_line() {
        let middle = Context::default();
        let top = Context { first_line: true, ..middle };
        assert!(matches!(press(KeyCode::Up, KeyModifiers::NONE, middle), Some(Action::Key(_))));
        assert_eq!(press(KeyCode::Up, KeyModifiers::NONE, top), Some(Action::History(true)));
        assert_eq!(press(KeyCode::Up, KeyModifiers::SHIFT, top), Some(Action::Scroll(Scroll::Up(1))));
        let choosing = Context { choosing: true, ..top };
        assert_eq!(press(KeyCode::Up, KeyModifiers::NONE, choosing), Some(Action::Choose(true)));
    }

    #[test]
    fn the_open_help_ignores_other_keys() {
        let help = Context { help: true, empty: true, ..Context::default() };
        assert_eq!(press(KeyCode::Down, KeyModifiers::NONE, help), Some(Action::Scroll(Scroll::Down(1))));
        assert_eq!(press(KeyCode::Char('x'), KeyModifiers::NONE, help), None);
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE, help), Some(Action::Help));
    }
}
