//! Drafts of conversations that are not stored yet, and drafts at the time of a signal or hangup: each is in a file of its
//! own, and added to the history at the next start.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::App;
use crate::chat::{Cause, Event, Note, NoteKind};
use crate::conversation::ConversationId;
use crate::files;

const PREFIX: &str = "unsent-";

/// Maximum size of a draft file, in bytes; larger files are ignored.
const LARGEST: u64 = 64 << 20;

/// Draft files of earlier runs.
#[derive(Debug, Default)]
pub struct Unsent {
    files: Vec<PathBuf>,
}

impl Unsent {
    /// Finds the files and their texts, oldest first; none if the folder cannot be read.
    pub fn find(data_dir: &Path) -> (Self, Vec<String>) {
        let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_left_over));
        let mut found: Vec<_> =
            ours.map(|entry| (entry.metadata().and_then(|data| data.modified()).ok(), entry.path())).collect();
        found.sort();
        let read = found.into_iter().filter_map(|(_, path)| Some((files::read_text(&path, LARGEST).ok()?, path)));
        let (texts, files) = read.unzip();
        (Self { files }, texts)
    }

    /// Deletes the files, when the user quits: the drafts were offered.
    pub fn forget(self) {
        for file in self.files {
            // A file that cannot be removed is offered again.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl App {
    /// Adds the drafts of interrupted runs to the history.
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

    /// Writes the draft to a file, unless the user quit.
    pub(super) fn keep_unsent(&mut self) {
        let text = self.screen.composer.unsent();
        let id = &self.chat.conversation.id;
        if !matches!(self.quit, Some(Cause::User)) && !text.trim().is_empty() {
            // Ignore the error: the terminal may be closed.
            let _ = keep(&self.settings.data_dir, id, &text);
        } else if matches!(self.quit, Some(Cause::User)) {
            std::mem::take(&mut self.unsent).forget();
        }
    }
}

/// The draft file of this process for a conversation.
fn path(data_dir: &Path, id: &ConversationId) -> PathBuf {
    data_dir.join(format!("{PREFIX}{}.{}.md", id.0, std::process::id()))
}

/// Whether a file has this name of an earlier run: a process that is still running saves its drafts, too.
fn is_left_over(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let writer = rest.strip_suffix(".md").and_then(|rest| rest.rsplit_once('.')).and_then(|(_, pid)| pid.parse().ok());
    let writer = writer.and_then(rustix::process::Pid::from_raw);
    writer.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Removes the draft file of this process for a conversation.
pub fn discard(data_dir: &Path, id: &ConversationId) {
    // A file that cannot be removed is offered at the next start.
    let _ = std::fs::remove_file(path(data_dir, id));
}

/// Writes `text` to a file that only the user can read, for this conversation.
pub fn keep(data_dir: &Path, id: &ConversationId, text: &str) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path = path(data_dir, id);
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
    fn unsent_drafts_are_found_until_they_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(Unsent::find(&data).1.is_empty());
        let id = ConversationId("one".into());
        keep(&data, &id, "first\nline").unwrap();
        assert!(Unsent::find(&data).1.is_empty(), "its process still runs");
        // No process has so large a number.
        std::fs::rename(path(&data, &id), data.join("unsent-one.2000000000.md")).unwrap();
        std::fs::write(data.join("unsent-two.md"), "zwei").unwrap();
        std::fs::write(data.join("other"), "no").unwrap();
        let mut found = Unsent::find(&data).1;
        found.sort();
        assert_eq!(found, ["first\nline", "zwei"]);
        Unsent::find(&data).0.forget();
        assert!(Unsent::find(&data).1.is_empty());
        assert!(data.join("other").exists());
        keep(&data, &id, "again").unwrap();
        discard(&data, &id);
        assert!(!path(&data, &id).exists());
    }
}
