//! Reads attached files and lists folders on threads of their own: a disk may take for ever.

use super::state::Known;
use crate::chat::{Event, Note};
use crate::conversation::Attachment;
use crate::conversation::mention::{Mention, mentions};
use crate::files::text::{self, Refusal};
use crate::files::walk;
use crate::sanitize::sanitize_line;
use crate::tui::App;
use crate::tui::input::{Found, Input};
use crate::tui::ui_state::Outcome;

/// A word to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub(in crate::tui) word: String,
    pub(in crate::tui) names: Vec<String>,
}

impl Read {
    pub(super) fn new(mention: &Mention<'_>) -> Self {
        Self { word: mention.word.to_owned(), names: mention.names().into_iter().map(str::to_owned).collect() }
    }

    /// Reads the first of the names that exists.
    fn file(&self) -> Found {
        let mut found = Err((String::new(), Refusal::Missing));
        for name in &self.names {
            found = text::read(name)
                .map(|text| Attachment { name: name.clone(), text })
                .map_err(|refusal| (name.clone(), refusal));
            if !matches!(found, Err((_, Refusal::Missing))) {
                break;
            }
        }
        found
    }
}

impl App {
    /// Reads the files that the draft names since the last call, and lists the folder of the path that is being written.
    pub(in crate::tui) fn attend_files(&mut self, all: bool) {
        let errands = self.screen.errands(&self.chat, all);
        for word in errands.gone {
            self.chat_event(Event::Detached(word));
        }
        for read in errands.read {
            let word = read.word.clone();
            self.in_background(
                move || Input::File { found: Box::new(read.file()), word: read.word },
                |app| {
                    let why = Refusal::Because("cannot be read: no thread could be started".into());
                    app.file_read(word.clone(), Err((word, why)));
                },
            );
        }
        if let Some(folder) = errands.list {
            let list = move || {
                let path = text::path_of(if folder.is_empty() { "." } else { &folder });
                let paths = if folder.is_empty() { walk::below(&path) } else { walk::inside(&path) };
                Input::Paths(folder, paths)
            };
            // Without a thread there is no completion.
            self.in_background(list, |_| {});
        }
    }

    fn in_background(&mut self, work: impl FnOnce() -> Input + Send + 'static, otherwise: impl FnOnce(&mut Self)) {
        let sender = self.sender.clone();
        let work = move || {
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(work());
        };
        if std::thread::Builder::new().name("files".into()).spawn(work).is_err() {
            otherwise(self);
        }
    }

    /// Attaches the file of a word, or notes why there is none; sends the prompt if Enter waited for this.
    pub(in crate::tui) fn file_read(&mut self, word: String, found: Found) {
        let (attached, outcomes) = self.screen.file_found(word, found);
        attached.into_iter().for_each(|event| self.chat_event(event));
        for outcome in outcomes {
            if let Outcome::Chat(event) = outcome {
                self.chat_event(event);
            }
        }
        self.dirty = true;
    }

    /// Attaches the file `name`: `/file` or -f.
    pub(in crate::tui) fn attach(&mut self, name: &str) {
        self.screen.demand_file(name);
        self.attend_files(true);
        self.dirty = true;
    }
}

impl crate::tui::ui_state::UiState {
    /// Notes what was found for a word. Returns the event that attaches it, and what a waiting Enter does after that.
    pub(in crate::tui) fn file_found(&mut self, word: String, found: Found) -> (Option<Event>, Vec<Outcome>) {
        if !self.files.words.contains_key(&word) {
            return (None, Vec::new());
        }
        let (known, event) = match found {
            Ok(file) => (Known::Attached, Some(Event::Attached { word: word.clone(), file })),
            Err((_, Refusal::Missing)) if !self.files.demanded.contains(&word) => (Known::Text, None),
            Err((name, refusal)) if self.files.demanded.contains(&word) => {
                let name = if name.is_empty() { word[1..].to_owned() } else { name };
                self.composer.set(&self.composer.draft().replacen(&format!("{word} "), "", 1));
                self.files.words.remove(&word);
                self.files.demanded.retain(|demanded| *demanded != word);
                let text = format!("{} {refusal}. It is not attached.", sanitize_line(&name));
                return (Some(Event::Noted(Note::warning(text))), self.send_if_read());
            }
            Err((name, refusal)) => {
                let name = if name.is_empty() { word[1..].to_owned() } else { name };
                (Known::Refused(name, refusal.to_string()), None)
            }
        };
        self.files.words.insert(word, known);
        self.mark_names(&mentions(&self.composer.draft()));
        (event, self.send_if_read())
    }
}
