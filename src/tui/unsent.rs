//! A prompt that was being written when a signal, or a terminal that went away, ended the program: kept in a file of its
//! own, and offered when the interface starts again.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::App;
use crate::chat::{Cause, Event, Note, NoteKind};
use crate::files;

const PREFIX: &str = "unsent-";

/// A larger file is no draft.
const LARGEST: u64 = 64 << 20;

/// Prompts of earlier runs that were never sent.
#[derive(Debug, Default)]
pub struct Unsent {
    files: Vec<PathBuf>,
}

impl Unsent {
    /// Finds them, the oldest first. A folder that cannot be read holds none.
    pub fn find(data_dir: &Path) -> (Self, Vec<String>) {
        let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
        let mut found: Vec<_> =
            ours.map(|entry| (entry.metadata().and_then(|data| data.modified()).ok(), entry.path())).collect();
        found.sort();
        let read = found.into_iter().filter_map(|(_, path)| Some((files::read_text(&path, LARGEST).ok()?, path)));
        let (texts, files) = read.unzip();
        (Self { files }, texts)
    }

    /// Forgets them: the user was told, and left of their own will.
    pub fn forget(self) {
        for file in self.files {
            // What cannot be removed is offered again.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl App {
    /// What was being written when a signal ended an earlier run stands where Up finds it.
    pub(super) fn offer_unsent(&mut self) {
        let (unsent, prompts) = Unsent::find(&self.settings.data_dir);
        self.unsent = unsent;
        if !prompts.is_empty() {
            self.screen.composer.recall(prompts.iter().map(String::as_str));
            self.chat_event(Event::Noted(Note {
                kind: NoteKind::Info,
                text: "What you were writing when chatnap ended is kept: Up brings it back.".into(),
            }));
            self.dirty = true;
        }
    }

    /// Keeps what is being written where something else than the user ends the program.
    pub(super) fn keep_unsent(&mut self) {
        let text = self.screen.composer.unsent();
        let id = &self.chat.conversation.id.0;
        if !matches!(self.quit, Some(Cause::User)) && !text.trim().is_empty() {
            // Where nothing can be written there is nothing left to tell it on.
            let _ = keep(&self.settings.data_dir, id, &text);
        } else if matches!(self.quit, Some(Cause::User)) {
            std::mem::take(&mut self.unsent).forget();
        }
    }
}

/// Keeps `text` under a name that no other process uses, readable by the user alone.
pub fn keep(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path = data_dir.join(format!("{PREFIX}{name}.md"));
    let mut options = std::fs::OpenOptions::new();
    let mut file = files::open_regular(&path, options.write(true).create(true).truncate(true).mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_is_found_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(Unsent::find(&data).1.is_empty());
        keep(&data, "one", "first\nline").unwrap();
        keep(&data, "two", "zwei").unwrap();
        std::fs::write(data.join("other"), "no").unwrap();
        let mut found = Unsent::find(&data).1;
        found.sort();
        assert_eq!(found, ["first\nline", "zwei"]);
        Unsent::find(&data).0.forget();
        assert!(Unsent::find(&data).1.is_empty());
        assert!(data.join("other").exists());
    }
}
