//! What was written before: sent prompts, drafts that were left or cleared, with their folded pastes.

/// Prompts that the history keeps, and the bytes of all of them together; the last one is kept whatever it takes.
pub(super) const HISTORY: usize = 500;
pub(super) const HISTORY_BYTES: usize = 64 << 20;

/// A text with the names of its folded pastes, and what they stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written {
    pub draft: String,
    /// Placeholder and content of each folded paste.
    pub pastes: Vec<(String, String)>,
}

impl Written {
    /// `draft` with those of `pastes` that it names.
    pub fn new(draft: String, pastes: &[(String, String)]) -> Self {
        let pastes = pastes.iter().filter(|(name, _)| draft.contains(name)).cloned().collect();
        Self { draft, pastes }
    }

    /// What would be sent.
    pub fn text(&self) -> String {
        unfold(&self.draft, &self.pastes)
    }

    /// Whether it stands for `text`, told without unfolding what cannot.
    pub fn is(&self, text: &str) -> bool {
        if self.pastes.is_empty() { self.draft == text } else { self.bytes() >= text.len() && self.text() == text }
    }

    fn bytes(&self) -> usize {
        self.draft.len() + self.pastes.iter().map(|(name, content)| name.len() + content.len()).sum::<usize>()
    }
}

/// `draft` with what the names of its pastes stand for.
pub(super) fn unfold(draft: &str, pastes: &[(String, String)]) -> String {
    let mut text = draft.to_owned();
    for (name, content) in pastes.iter().filter(|(name, _)| draft.contains(name)) {
        // Only the first: a placeholder that was copied by hand is text.
        text = text.replacen(name, content, 1);
    }
    text
}

/// As much of a paste as a search looks through: with each letter typed it looks through all of them.
fn begin(content: &str) -> &str {
    content.char_indices().nth(4096).map_or(content, |(end, _)| &content[..end])
}

/// Prompts, the oldest first.
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

    /// Where the last one stands that `fits`.
    pub fn last_that(&self, fits: impl Fn(&Written) -> bool) -> Option<usize> {
        self.entries.iter().rposition(fits)
    }

    /// Takes out the last one that stands for `text`.
    pub fn take(&mut self, text: &str) -> Option<Written> {
        self.last_that(|written| written.is(text)).map(|at| self.entries.remove(at))
    }

    /// Appends one, unless it says nothing or what the last one says.
    pub fn remember(&mut self, written: Written) {
        if !written.draft.trim().is_empty() && self.entries.last() != Some(&written) {
            self.append(written);
        }
    }

    /// Appends one, whatever it says.
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

    /// Puts `older` before all others.
    pub fn prepend(&mut self, older: Vec<Written>) {
        let newer = std::mem::take(&mut self.entries);
        older.into_iter().for_each(|written| self.remember(written));
        newer.into_iter().for_each(|written| self.append(written));
    }

    /// Those that hold `text` (a folded paste: where it begins), whatever the letter case, the newest first, each once.
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
