//! Entries of the transcript, in order: turns of the visible branch, and notes that belong to no turn.

use std::collections::BTreeSet;

use crate::conversation::TurnId;

/// Key of an entry, unique within a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(pub u64);

/// An entry of the transcript.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A prompt and its answer.
    Turn(TurnId),
    /// A message of the program.
    Note(Note),
}

/// A message of the program. May quote untrusted text: sanitise it before drawing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Severity.
    pub kind: NoteKind,
    /// The text, which may contain newlines.
    pub text: String,
}

/// Severity of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// Information without a problem.
    Info,
    /// A problem that does not stop the operation.
    Warning,
    /// A failed operation.
    Error,
}

impl Note {
    /// A note of severity `Error`.
    pub fn error(text: impl Into<String>) -> Self {
        Self { kind: NoteKind::Error, text: text.into() }
    }

    /// A note of severity `Warning`.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { kind: NoteKind::Warning, text: text.into() }
    }
}

/// The entries of a transcript, each with a stable key.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    entries: Vec<(EntryKey, Entry)>,
    /// Notes that are shown as one line.
    folded: BTreeSet<EntryKey>,
    next: u64,
    rearranged: u64,
}

/// Folded notes that stay in the transcript.
const KEPT: usize = 3;

impl Feed {
    /// All entries, oldest first.
    pub fn entries(&self) -> &[(EntryKey, Entry)] {
        &self.entries
    }

    /// Changes whenever the branches may have changed.
    pub fn rearranged(&self) -> u64 {
        self.rearranged
    }

    /// Appends an entry with a new key.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push((EntryKey(self.next), entry));
        self.next += 1;
    }

    /// Appends a note. An answer to a command replaces the one before, and an error folds the errors before, so that notes
    /// do not pile up.
    pub fn push_note(&mut self, note: Note) {
        match note.kind {
            NoteKind::Info => self.drop_answers(),
            NoteKind::Error => self.fold(|note| note.kind == NoteKind::Error),
            NoteKind::Warning => {}
        }
        self.push(Entry::Note(note));
    }

    /// Removes the answers to commands and folds the other notes: the next prompt was sent. The last `KEPT` stay.
    pub fn settle_notes(&mut self) {
        self.drop_answers();
        self.fold(|_| true);
        let surplus = self.folded.len().saturating_sub(KEPT);
        let gone: BTreeSet<_> = self.folded.iter().copied().take(surplus).collect();
        self.folded.retain(|key| !gone.contains(key));
        self.entries.retain(|(key, _)| !gone.contains(key));
    }

    /// Whether this note is shown as one line.
    pub fn is_folded(&self, key: EntryKey) -> bool {
        self.folded.contains(&key)
    }

    fn drop_answers(&mut self) {
        self.entries.retain(|(_, entry)| !matches!(entry, Entry::Note(note) if note.kind == NoteKind::Info));
    }

    fn fold(&mut self, wanted: impl Fn(&Note) -> bool) {
        let notes = self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Note(note) if wanted(note)));
        self.folded.extend(notes.map(|(key, _)| *key));
    }

    /// Removes all entries; their keys are not used again.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.folded.clear();
    }

    /// Removes an error note whose text is now shown elsewhere.
    pub fn forget_error(&mut self, text: &str) {
        let told =
            |entry: &Entry| matches!(entry, Entry::Note(note) if note.kind == NoteKind::Error && note.text == text);
        self.entries.retain(|(_, entry)| !told(entry));
        self.folded.retain(|key| self.entries.iter().any(|(known, _)| known == key));
    }

    /// Shows the turns of `path` in its order, after a change of branch. Notes stay after the turn before them.
    pub fn arrange(&mut self, path: &[TurnId]) {
        self.keep_turns(path);
        let mut notes = Vec::new();
        let mut turns: Vec<Vec<(EntryKey, Entry)>> = path.iter().map(|_| Vec::new()).collect();
        let mut place = None;
        for (key, entry) in std::mem::take(&mut self.entries) {
            if let Entry::Turn(id) = &entry {
                place = path.iter().position(|other| other == id);
            }
            place.and_then(|place| turns.get_mut(place)).unwrap_or(&mut notes).push((key, entry));
        }
        self.entries = notes;
        for (id, group) in path.iter().zip(turns) {
            if group.is_empty() {
                self.push(Entry::Turn(*id));
            }
            self.entries.extend(group);
        }
    }

    /// Removes the turns that are not in `path`.
    pub fn keep_turns(&mut self, path: &[TurnId]) {
        self.rearranged += 1;
        self.entries.retain(|(_, entry)| !matches!(entry, Entry::Turn(id) if !path.contains(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_arranged_in_order_and_notes_stay_with_them() {
        let note = |text: &str| Entry::Note(Note::warning(text));
        let turn = |id| Entry::Turn(TurnId(id));
        let mut feed = Feed::default();
        for entry in [note("first"), turn(0), note("a"), turn(1), note("b"), turn(2)] {
            feed.push(entry);
        }
        let entries = |feed: &Feed| feed.entries().iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>();
        feed.arrange(&[TurnId(0), TurnId(2)]);
        assert_eq!(entries(&feed), [note("first"), turn(0), note("a"), note("b"), turn(2)]);
        feed.arrange(&[TurnId(0), TurnId(1), TurnId(2)]);
        assert_eq!(entries(&feed), [note("first"), turn(0), note("a"), note("b"), turn(1), turn(2)]);
    }
}
