//! What the transcript shows, in order: turns of the branch in view, and notes that belong to no turn.

use crate::conversation::TurnId;

/// Names an entry for as long as the chat lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(pub u64);

/// One thing in the transcript.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A question and its answer.
    Turn(TurnId),
    /// Something that the program says.
    Note(Note),
}

/// Something that the program says. May quote foreign text: make it harmless before showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub kind: NoteKind,
    /// What it says; newlines stay.
    pub text: String,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// Good to know.
    Info,
    /// Something is not as wanted.
    Warning,
    /// Something failed.
    Error,
}

impl Note {
    /// A note about a failure.
    pub fn error(text: impl Into<String>) -> Self {
        Self { kind: NoteKind::Error, text: text.into() }
    }

    /// A note about something that is not as wanted.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { kind: NoteKind::Warning, text: text.into() }
    }
}

/// The entries of a transcript, each with a key that stays.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    entries: Vec<(EntryKey, Entry)>,
    next: u64,
}

impl Feed {
    /// All of them, oldest first.
    pub fn entries(&self) -> &[(EntryKey, Entry)] {
        &self.entries
    }

    /// Appends one.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push((EntryKey(self.next), entry));
        self.next += 1;
    }

    /// Forgets all of them; keys go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Takes an error out that is told in another place now.
    pub fn forget_error(&mut self, text: &str) {
        let told =
            |entry: &Entry| matches!(entry, Entry::Note(note) if note.kind == NoteKind::Error && note.text == text);
        self.entries.retain(|(_, entry)| !told(entry));
    }

    /// Shows the turns of `path`, after the head went to another branch: those that it has not come last.
    pub fn show_turns(&mut self, path: &[TurnId]) {
        self.keep_turns(path);
        let shown =
            |id: &TurnId, entries: &[(EntryKey, Entry)]| entries.iter().any(|(_, entry)| *entry == Entry::Turn(*id));
        for id in path {
            if !shown(id, &self.entries) {
                self.push(Entry::Turn(*id));
            }
        }
    }

    /// Takes the turns out that are not in `path`.
    pub fn keep_turns(&mut self, path: &[TurnId]) {
        self.entries.retain(|(_, entry)| !matches!(entry, Entry::Turn(id) if !path.contains(id)));
    }
}
