//! Files that the draft names with `@path`: what is known of each word, and Enter that waits until all of them are read.
//! `work` reads them on threads, `paths` completes their names.

use super::completion::Choice;
use super::ui_state::{Outcome, UiState};
use crate::chat::{Chat, Event};
use crate::conversation::mention::{self, Mention, mentions};

mod paths;
pub mod state;
mod work;

use state::{Chip, ChipState, Known};
use work::Read;

/// What is to be done for the words of the draft.
#[derive(Debug, Default)]
pub struct Errands {
    /// Words to read.
    pub(super) read: Vec<Read>,
    /// Words that are gone.
    pub(super) gone: Vec<String>,
    /// Folder to list for completion.
    list: Option<String>,
}

impl UiState {
    /// Looks for new and deleted words of the draft. The word at the cursor is still being written, unless `all`.
    pub(super) fn errands(&mut self, chat: &Chat, all: bool) -> Errands {
        self.complete_paths();
        let draft = self.composer.draft();
        let found = if self.is_command() { Vec::new() } else { mentions(&draft) };
        let files = &mut self.files;
        let gone: Vec<_> =
            files.words.keys().filter(|word| !found.iter().any(|mention| mention.word == *word)).cloned().collect();
        for word in &gone {
            files.words.remove(word);
            files.demanded.retain(|demanded| demanded != word);
        }
        let written = if all { None } else { self.composer.mention_at_cursor() };
        let mut read = Vec::new();
        for mention in found.iter().filter(|mention| written.is_none_or(|at| at != mention.range.start)) {
            if files.words.contains_key(mention.word) {
                continue;
            }
            let stored = chat.attached(mention.word).is_some_and(|attached| attached.stored);
            if !stored {
                read.push(Read::new(mention));
            }
            files.words.insert(mention.word.to_owned(), if stored { Known::Attached } else { Known::Reading });
        }
        self.mark_names(&found);
        Errands { read, gone, list: self.files.paths.take_wanted() }
    }

    /// Makes the attached words single signs of the composer, which Backspace deletes at once.
    fn mark_names(&mut self, found: &[Mention<'_>]) {
        let attached = |mention: &&Mention<'_>| self.files.words.get(mention.word) == Some(&Known::Attached);
        let names = found.iter().filter(attached).map(|mention| mention.word.to_owned()).collect();
        self.composer.set_names(names);
    }

    fn is_command(&self) -> bool {
        self.composer.is_searching() || self.composer.draft().starts_with('/')
    }

    /// Before a prompt is sent: what to do instead, if its last line is the command `/file`, its files are not read yet or
    /// one of them cannot be attached.
    pub(super) fn before_sending(&mut self) -> Option<Vec<Outcome>> {
        if self.is_command() {
            return None;
        }
        if let Some(outcomes) = self.last_line_attaches() {
            return Some(outcomes);
        }
        let draft = self.composer.draft();
        let hint = |text: String| Some(vec![Outcome::Chat(Event::Hinted(text))]);
        for mention in mentions(&draft) {
            match self.files.words.get(mention.word) {
                None | Some(Known::Reading) => {
                    self.files.waiting = Some(self.composer.revision());
                    // The list of paths would cover the chips.
                    self.dismissed = Some(draft.clone());
                    return Some(vec![Outcome::Attend]);
                }
                Some(Known::Refused(..)) => {
                    return hint(format!("not sent: delete {}, or write it without the @", mention.bare_word()));
                }
                Some(Known::Attached | Known::Text) => {}
            }
        }
        None
    }

    /// `/file PATH` as the last line of a draft attaches the file and leaves the other lines; without a path, a mention
    /// begins in its place.
    fn last_line_attaches(&mut self) -> Option<Vec<Outcome>> {
        let draft = self.composer.draft();
        let (before, line) = draft.trim_end().rsplit_once('\n')?;
        let path =
            line.strip_prefix("/file").filter(|path| path.is_empty() || path.starts_with(char::is_whitespace))?;
        match path.trim() {
            "" => self.composer.set(&format!("{before}\n@")),
            path => {
                self.composer.set(before);
                self.demand_file(path);
            }
        }
        Some(vec![Outcome::Attend])
    }

    /// Begins a mention at the cursor, whose path is then completed.
    pub(super) fn begin_mention(&mut self) {
        let (before, _) = self.composer.around_cursor();
        let apart = before.chars().next_back().is_none_or(char::is_whitespace);
        self.composer.edit_with(|area| area.insert_str(if apart { "@" } else { " @" }));
    }

    /// A hint about words that look like paths and are sent as text.
    pub(super) fn sent_as_text(&self) -> Option<Outcome> {
        let draft = self.composer.draft();
        let found = mentions(&draft).into_iter().filter(|mention| mention.name.contains(['/', '.']));
        let texts: Vec<_> = found
            .filter(|mention| self.files.words.get(mention.word) == Some(&Known::Text))
            .map(|mention| mention.bare_word())
            .collect();
        let hint = || Event::Hinted(format!("there is no file for {}: sent as text", texts.join(", ")));
        (!texts.is_empty() && !self.is_command()).then(|| Outcome::Chat(hint()))
    }

    /// Sends the prompt whose files Enter waited for, once all are read and unless it was changed since.
    fn send_if_read(&mut self) -> Vec<Outcome> {
        if self.files.waiting != Some(self.composer.revision())
            || self.files.words.values().any(|known| *known == Known::Reading)
        {
            return Vec::new();
        }
        self.files.waiting = None;
        self.send_draft()
    }

    /// Esc: Enter no longer waits. False if it did not.
    pub(super) fn stop_waiting(&mut self) -> bool {
        self.files.waiting.take() == Some(self.composer.revision())
    }

    /// Puts a mention of the file before the draft. A missing file is then an error.
    pub(super) fn demand_file(&mut self, name: &str) {
        let word = mention::mention(name);
        self.composer.put_before(&format!("{word} "));
        self.files.demanded.push(word);
    }

    /// The chips of the draft, in the order of the words.
    pub fn chips(&self, chat: &Chat) -> Vec<Chip> {
        let draft = if self.is_command() { String::new() } else { self.composer.draft() };
        let mut chips: Vec<Chip> = Vec::new();
        for mention in mentions(&draft) {
            let (name, state) = match (self.files.words.get(mention.word), chat.attached(mention.word)) {
                (Some(Known::Attached), Some(attached)) => {
                    (attached.file.name.as_str(), ChipState::Attached(attached.file.text.len(), attached.tokens))
                }
                (Some(Known::Reading), _) if self.files.waiting.is_some() => (mention.name, ChipState::Reading),
                (Some(Known::Refused(name, why)), _) => (name.as_str(), ChipState::Refused(why.clone())),
                _ => continue,
            };
            if chips.iter().all(|chip| chip.name != name) {
                chips.push(Chip { name: name.to_owned(), state });
            }
        }
        chips
    }

    /// Whether Enter accepts the selected path: only one that was selected, or that contains what was written.
    pub(super) fn enter_takes(&self, choice: &Choice, chosen: usize) -> bool {
        let Some(written) = self.files.paths.written() else { return true };
        chosen > 0 || choice.label.to_lowercase().contains(&written.to_lowercase())
    }
}
