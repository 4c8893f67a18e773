//! What goes to stderr: progress, warnings, reasoning, figures. A stderr that is gone is no reason to stop.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{IsTerminal, Write};

use crate::progress::Progress;
use crate::protocol::LoadProgress;
use crate::sanitize::{Sanitizer, sanitize};

/// The voice on stderr. Interior state only: whoever tells something need not own it.
pub(super) struct Messages {
    quiet: bool,
    /// Whether what is not the answer is told apart from it by its look.
    dims: bool,
    state: RefCell<State>,
}

struct State {
    progress: Progress,
    warned: HashSet<String>,
    reasoning: Option<Sanitizer>,
    line_open: bool,
}

impl Messages {
    /// Nothing is ever said where `quiet` holds; errors do not come this way.
    pub(super) fn new(quiet: bool) -> Self {
        let progress = Progress::new(quiet);
        let state = State { progress, warned: HashSet::new(), reasoning: None, line_open: false };
        let dims = std::io::stderr().is_terminal() && shows_dim(|name| std::env::var(name).ok());
        Self { quiet, dims, state: RefCell::new(state) }
    }

    pub(super) fn progress(&self, step: &LoadProgress) {
        self.state.borrow_mut().progress.show(step);
    }

    /// Takes the progress line away.
    pub(super) fn clear(&self) {
        self.state.borrow_mut().progress.clear();
    }

    /// Says a line (or some).
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(std::io::stderr(), "{}", sanitize(text));
        }
    }

    /// Says figures, which are less than an answer.
    pub(super) fn figures(&self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(std::io::stderr(), "{}", self.dim(&sanitize(text)));
        }
    }

    /// `text` as it looks beside an answer.
    fn dim(&self, text: &str) -> String {
        if self.dims && !text.is_empty() { format!("\x1b[2m{text}\x1b[22m") } else { text.to_owned() }
    }

    /// Says a warning, once.
    pub(super) fn warn(&self, text: &str) {
        if self.state.borrow_mut().warned.insert(text.to_owned()) {
            self.say(&format!("chatnap: warning: {text}"));
        }
    }

    /// Says which turns were left out.
    pub(super) fn trimmed(&self, turns: usize) {
        match turns {
            0 => {}
            1 => self.warn("the conversation outgrew the context: its oldest turn was left out"),
            _ => self.warn(&format!("the conversation outgrew the context: its {turns} oldest turns were left out")),
        }
    }

    /// Streams what the model thinks.
    pub(super) fn reasoning(&self, text: &str) {
        if self.quiet {
            return;
        }
        let state = &mut *self.state.borrow_mut();
        let clean = state.reasoning.get_or_insert_default().push(text);
        if let Some(last) = clean.chars().last() {
            state.line_open = last != '\n';
        }
        let _ = std::io::stderr().write_all(self.dim(&clean).as_bytes());
    }

    /// Ends the reasoning with a blank line, where there was any.
    pub(super) fn end_reasoning(&self) {
        let state = &mut *self.state.borrow_mut();
        if let Some(mut sanitizer) = state.reasoning.take() {
            let rest = sanitizer.finish();
            let open = if rest.is_empty() { state.line_open } else { !rest.ends_with('\n') };
            let end = if open { "\n\n" } else { "\n" };
            let _ = write!(std::io::stderr(), "{rest}{end}");
        }
    }
}

/// Whether this environment's terminal is to be asked for dim letters.
fn shows_dim(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty()) && variable("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dim_letters_are_for_terminals_that_have_them_and_users_who_want_them() {
        let with =
            |set: &'static str, value: &'static str| shows_dim(move |name| (name == set).then(|| value.to_owned()));
        assert!(with("TERM", "xterm") && with("NO_COLOR", "") && with("HOME", "/"));
        assert!(!with("TERM", "dumb") && !with("NO_COLOR", "1"));
    }
}
