//! The prompt history: sent prompts and abandoned or cleared drafts, with their folded pastes.

/// Maximum entries of the history, and their maximum total bytes. The newest entry is kept whatever its size.
pub(super) const HISTORY: usize = 500;
pub(super) const HISTORY_BYTES: usize = 64 << 20;

/// A draft with the placeholders and contents of its folded pastes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written {
    pub draft: String,
    /// Placeholder and content of each folded paste.
    pub pastes: Vec<(String, String)>,
}

impl Written {
    /// `draft` with those of `pastes` whose placeholder it contains.
    pub fn new(draft: String, pastes: &[(String, String)]) -> Self {
        let pastes = pastes.iter().filter(|(name, _)| draft.contains(name)).cloned().collect();
        Self { draft, pastes }
    }

    /// The text to send, with the pastes unfolded.
    pub fn text(&self) -> String {
        unfold(&self.draft, &self.pastes)
    }

    /// Whether it unfolds to `text`. Compares sizes first, to avoid unfolding large pastes.
    pub fn is(&self, text: &str) -> bool {
        if self.pastes.is_empty() { self.draft == text } else { self.bytes() >= text.len() && self.text() == text }
    }

    fn bytes(&self) -> usize {
        self.draft.len() + self.pastes.iter().map(|(name, content)| name.len() + content.len()).sum::<usize>()
    }
}

/// Replaces the placeholders in `draft` by the pasted texts.
pub(super) fn unfold(draft: &str, pastes: &[(String, String)]) -> String {
    let mut text = draft.to_owned();
    for (name, content) in pastes.iter().filter(|(name, _)| draft.contains(name)) {
        // Only the first occurrence: a placeholder that was copied by hand is text.
        text = text.replacen(name, content, 1);
    }
    text
}

/// The part of a paste that a search examines: it runs over all entries on each keystroke.
fn begin(content: &str) -> &str {
    content.char_indices().nth(4096).map_or(content, |(end, _)| &content[..end])
}

/// History entries, oldest first.
#[derive(Default)]
pub(super) struct History {
    entries: Vec<Written>,
}

impl History {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, at: usize) -> Option<&Written> {
        self.entries.get(at)
    }

    /// Index of the newest entry that `fits`.
    pub fn last_that(&self, fits: impl Fn(&Written) -> bool) -> Option<usize> {
        self.entries.iter().rposition(fits)
    }

    /// Removes and returns the newest entry that unfolds to `text`.
    pub fn take(&mut self, text: &str) -> Option<Written> {
        self.last_that(|written| written.is(text)).map(|at| self.entries.remove(at))
    }

    /// Appends an entry, unless it is blank or equal to the newest one.
    pub fn remember(&mut self, written: Written) {
        if !written.draft.trim().is_empty() && self.entries.last() != Some(&written) {
            self.append(written);
        }
    }

    /// Appends an entry; drops the oldest ones beyond the limits.
    pub fn append(&mut self, written: Written) {
        self.entries.push(written);
        let mut left = HISTORY_BYTES;
        let fits = |written: &&Written| {
            let fits = written.bytes() <= left;
            left = left.saturating_sub(written.bytes());
            fits
        };
        let kept = self.entries.iter().rev().take(HISTORY).take_while(fits).count().max(1);
        self.entries.drain(..self.entries.len() - kept);
    }

    /// Inserts `older` before all entries.
    pub fn prepend(&mut self, older: Vec<Written>) {
        let newer = std::mem::take(&mut self.entries);
        older.into_iter().for_each(|written| self.remember(written));
        newer.into_iter().for_each(|written| self.append(written));
    }

    /// Entries that contain `text` (pastes: in the first 4096 characters), ignoring case; newest first, no duplicates.
    pub fn search(&self, text: &str) -> Vec<usize> {
        let wanted = text.to_lowercase();
        let mut seen = std::collections::HashSet::new();
        let holds = |written: &Written| {
            wanted.is_empty()
                || written.draft.to_lowercase().contains(&wanted)
                || written.pastes.iter().any(|(_, content)| begin(content).to_lowercase().contains(&wanted))
        };
        let newest = self.entries.iter().enumerate().rev();
        newest.filter(|(_, written)| seen.insert(&written.draft) && holds(written)).map(|(at, _)| at).collect()
    }
}
