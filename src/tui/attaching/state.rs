//! What is known of the files that the draft names, and of the paths that complete them.

use std::collections::BTreeMap;

use crate::tui::completion::Choice;

/// What is known of the words of the draft that may name files.
#[derive(Debug, Default)]
pub struct Attaching {
    pub(super) words: BTreeMap<String, Known>,
    /// Words of `/file` and -f: a missing file is an error, not a text with an `@`.
    pub(super) demanded: Vec<String>,
    /// The composer's revision in which Enter waits for the files.
    pub(super) waiting: Option<u64>,
    pub(super) paths: Paths,
}

/// What is known of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Reading,
    Attached,
    /// There is no such file: the word is text.
    Text,
    /// It names something that cannot be attached: its name and the reason.
    Refused(String, String),
}

/// A chip above the composer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    /// The file's name.
    pub name: String,
    pub state: ChipState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChipState {
    Reading,
    /// Size in bytes, and tokens if a model has counted them.
    Attached(usize, Option<usize>),
    Refused(String),
}

/// The paths of a folder, and those that fit what is being written.
#[derive(Debug, Default)]
pub(in crate::tui) struct Paths {
    /// The folder that `paths` lists; empty: all files below the working folder.
    pub(super) folder: Option<String>,
    pub(super) paths: Vec<String>,
    /// Incremented with every new list.
    pub(super) lists: u64,
    /// The folder of the path that is being written; `None`: none is.
    pub(super) wanted: Option<String>,
    /// The folder that was asked for since a path is being written.
    pub(super) asked: Option<String>,
    /// The path that is being written, without its folder.
    pub(super) written: Option<String>,
    pub(super) choices: Vec<Choice>,
    /// Composer's revision, cursor and list for which `choices` was made.
    pub(super) made_for: Option<(u64, (usize, usize), u64)>,
}

impl Paths {
    /// The folder to list, once for each path that is begun.
    pub fn take_wanted(&mut self) -> Option<String> {
        if self.asked == self.wanted {
            return None;
        }
        self.asked.clone_from(&self.wanted);
        self.wanted.clone()
    }

    /// The path that is being written, without its folder, while paths are offered.
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref().filter(|_| !self.choices.is_empty())
    }
}
