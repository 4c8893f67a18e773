//! `.`: the last change again, with the text that it inserted.

use ratatui_textarea::TextArea;

use super::{Command, Did, State, Vi};

/// The last command that changed the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Again {
    command: Option<Command>,
    /// What was typed after it, if it began to insert.
    inserted: String,
    /// The state when the insertion began.
    begun: Option<State>,
}

impl Again {
    /// Notes a command, if it is one that changes the text.
    pub(super) fn note(&mut self, command: &Command) {
        let changes = match command.operator {
            Some(operator) => operator != 'y',
            None => "xXDsCpPr~iaIAoO".contains(command.key),
        };
        if changes {
            *self = Self { command: Some(command.clone()), ..Self::default() };
        }
    }

    pub(super) fn insertion_begins(&mut self, state: State) {
        self.begun = Some(state);
    }

    /// The insertion has ended. Its text is what is new at the place where it began; text that was typed elsewhere, or
    /// deleted, is not repeated.
    pub(super) fn inserted(&mut self, now: &State) {
        let Some(begun) = self.begun.take() else { return };
        let (before, behind) = begun.text.split_at(begun.place());
        let new = now.text.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
        self.inserted = new.unwrap_or_default().to_owned();
    }
}

impl State {
    /// The cursor in bytes of the text.
    fn place(&self) -> usize {
        let (row, column) = self.cursor;
        let line: usize = self.text.split_inclusive('\n').take(row).map(str::len).sum();
        self.text[line..].char_indices().nth(column).map_or(self.text.len(), |(at, _)| line + at)
    }
}

impl Vi {
    /// Does the last change again, `count` times if that is given.
    pub(super) fn repeat(&mut self, count: Option<usize>, area: &mut TextArea<'static>, names: &[String]) -> Did {
        let Some(command) = self.again.command.clone() else { return Did::Moved };
        let command = Command { count: count.or(command.count), ..command };
        let inserted = self.again.inserted.clone();
        let mut did = self.run(&command, area, names);
        if !self.normal {
            if !inserted.is_empty() {
                area.insert_str(&inserted);
                did = Did::Changed;
            }
            self.leave_insert(area, names);
        }
        did
    }
}

/// The key of the same search in the other direction.
pub(super) fn opposite(key: char) -> char {
    if key.is_lowercase() { key.to_ascii_uppercase() } else { key.to_ascii_lowercase() }
}
