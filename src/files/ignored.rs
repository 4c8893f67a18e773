//! What `.gitignore` files leave out of a list of files: those of each folder, of the folders above it in its repository,
//! and `.git/info/exclude`.

use std::path::Path;
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Largest file of patterns that is read, in bytes.
const LARGEST: u64 = 256 << 10;

/// The patterns of a folder and of the folders above it.
#[derive(Debug)]
pub(super) struct Ignored {
    patterns: Gitignore,
    above: Option<Rc<Self>>,
}

impl Ignored {
    /// The patterns for the folder where a list begins, with those of the repository that it is in.
    pub(super) fn of_root(root: &Path) -> Option<Rc<Self>> {
        let repository = root.ancestors().find(|folder| folder.join(".git").exists());
        let Some(repository) = repository else { return Self::of_folder(root, None) };
        let mut folders: Vec<_> = root.ancestors().take_while(|folder| *folder != repository).collect();
        folders.push(repository);
        let exclude = Self::read(repository, &repository.join(".git/info/exclude"), None);
        folders.into_iter().rev().fold(exclude, |above, folder| Self::of_folder(folder, above))
    }

    /// The patterns for `folder`: its own before those of the folders above.
    pub(super) fn of_folder(folder: &Path, above: Option<Rc<Self>>) -> Option<Rc<Self>> {
        Self::read(folder, &folder.join(".gitignore"), above)
    }

    /// A file that cannot be read, and a line that is no pattern, leave nothing out.
    fn read(folder: &Path, file: &Path, above: Option<Rc<Self>>) -> Option<Rc<Self>> {
        let Ok(text) = super::read_text(file, LARGEST) else { return above };
        let mut builder = GitignoreBuilder::new(folder);
        for line in text.lines() {
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(patterns) if !patterns.is_empty() => Some(Rc::new(Self { patterns, above })),
            _ => above,
        }
    }

    /// Whether the patterns leave out this file or folder. The nearest ones decide.
    pub(super) fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        match self.patterns.matched(path, is_folder) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => self.above.as_ref().is_some_and(|above| above.leaves_out(path, is_folder)),
        }
    }
}
