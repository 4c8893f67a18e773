//! Prints progress, warnings, reasoning and figures on stderr. A closed stderr is not an error.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::progress::Progress;
use crate::protocol::LoadProgress;
use crate::sanitize::{Sanitizer, sanitize, sanitize_line};

/// The writer of stderr. Interior mutability: its users share it by reference.
pub(super) struct Messages {
    quiet: bool,
    /// Whether text that is not part of the answer is drawn dim.
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
    /// `quiet` suppresses all messages; errors are printed elsewhere.
    pub(super) fn new(quiet: bool) -> Self {
        let progress = Progress::new(quiet);
        let state = State { progress, warned: HashSet::new(), reasoning: None, line_open: false };
        let dims = std::io::stderr().is_terminal() && shows_dim(|name| std::env::var(name).ok());
        Self { quiet, dims, state: RefCell::new(state) }
    }

    pub(super) fn progress(&self, step: &LoadProgress) {
        self.state.borrow_mut().progress.show(step);
    }

    /// Shows that a server is awaited: in the progress line, or as one message for each reason where none is drawn.
    pub(super) fn waiting(&self, model: &str, waited: Duration, why: &str) {
        let text = format!("waiting for {}: {}", sanitize_line(model), sanitize_line(why));
        let drawn = self.state.borrow_mut().progress.wait(&format!("{text}, {} s", waited.as_secs()));
        if !drawn && self.state.borrow_mut().warned.insert(text.clone()) {
            self.say(&format!("chatnap: {text}"));
        }
    }

    /// Erases the progress line.
    pub(super) fn clear(&self) {
        self.state.borrow_mut().progress.clear();
    }

    /// Prints one or more lines.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(std::io::stderr(), "{}", sanitize(text));
        }
    }

    /// Prints figures, dim.
    pub(super) fn figures(&self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(std::io::stderr(), "{}", self.dim(&sanitize(text)));
        }
    }

    /// `text` in dim letters, if these are enabled.
    fn dim(&self, text: &str) -> String {
        if self.dims && !text.is_empty() { format!("\x1b[2m{text}\x1b[22m") } else { text.to_owned() }
    }

    /// Prints a warning, each text once.
    pub(super) fn warn(&self, text: &str) {
        if self.state.borrow_mut().warned.insert(text.to_owned()) {
            self.say(&format!("chatnap: warning: {text}"));
        }
    }

    /// Warns about the number of turns that were left out.
    pub(super) fn trimmed(&self, turns: usize) {
        match turns {
            0 => {}
            1 => self.warn("the conversation outgrew the context: its oldest turn was left out"),
            _ => self.warn(&format!("the conversation outgrew the context: its {turns} oldest turns were left out")),
        }
    }

    /// Streams the model's reasoning.
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

    /// Ends the reasoning with a blank line, if there was any.
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

/// Whether `NO_COLOR` and `TERM` allow dim letters.
fn shows_dim(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty()) && variable("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_and_dumb_terminals_disable_dim_letters() {
        let with =
            |set: &'static str, value: &'static str| shows_dim(move |name| (name == set).then(|| value.to_owned()));
        assert!(with("TERM", "xterm") && with("NO_COLOR", "") && with("HOME", "/"));
        assert!(!with("TERM", "dumb") && !with("NO_COLOR", "1"));
    }
}
