//! Completion of paths: after `@` in a prompt, and after `/file `.
//!
//! A plain name is searched in all files below the working folder; a path that begins with `/`, `~/`, `./` or `../` is
//! completed folder by folder.

use crate::conversation::mention;
use crate::tui::completion::Choice;
use crate::tui::fuzzy;
use crate::tui::ui_state::UiState;

/// Most paths that are offered.
const MOST: usize = 50;

const COMMAND: &str = "/file ";

/// A path that is being written: the draft before and behind it, and its text.
struct Written<'a> {
    before: &'a str,
    path: &'a str,
    behind: &'a str,
    is_command: bool,
}

impl UiState {
    /// The paths that fit what is being written at the cursor.
    pub(in crate::tui) fn path_choices(&self) -> &[Choice] {
        &self.files.paths.choices
    }

    /// Takes the list of a folder.
    pub(in crate::tui) fn set_paths(&mut self, folder: String, paths: Vec<String>) {
        let ours = &mut self.files.paths;
        (ours.folder, ours.paths) = (Some(folder), paths);
        ours.lists += 1;
        self.complete_paths();
    }

    /// Makes the choices anew if the draft, the cursor or the list has changed.
    pub(in crate::tui) fn complete_paths(&mut self) {
        let now = (self.composer.revision(), self.composer.cursor(), self.files.paths.lists);
        if self.files.paths.made_for.replace(now) == Some(now) {
            return;
        }
        let (before, behind) = self.composer.around_cursor();
        let written = if self.composer.is_searching() { None } else { written(&before, &behind) };
        let paths = &mut self.files.paths;
        paths.choices.clear();
        let folder = written.as_ref().map(|written| folder_of(written.path));
        paths.written = written.as_ref().zip(folder).map(|(written, folder)| written.path[folder.len()..].to_owned());
        paths.wanted = folder.map(str::to_owned);
        if let (Some(written), Some(folder)) = (&written, folder)
            && paths.folder.as_deref() == Some(folder)
        {
            let found = fuzzy::matches(&written.path[folder.len()..], &paths.paths).into_iter().take(MOST);
            paths.choices = found.map(|index| choice(written, folder, &paths.paths[index])).collect();
        }
    }
}

fn written<'a>(before: &'a str, behind: &'a str) -> Option<Written<'a>> {
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    if let Some(path) = before[line..].strip_prefix(COMMAND) {
        let before = &before[..line + COMMAND.len()];
        return behind.is_empty().then_some(Written { before, path, behind, is_command: true });
    }
    if before.starts_with('/') || behind.chars().next().is_some_and(|c| !c.is_whitespace()) {
        return None;
    }
    let (at, path) = mention::unfinished(before)?;
    Some(Written { before: &before[..at], path, behind, is_command: false })
}

/// The part of `path` that names the folder in which it is completed; empty for a name in any folder.
fn folder_of(path: &str) -> &str {
    let by_folder = ["/", "~/", "./", "../"].iter().any(|start| path.starts_with(start));
    if by_folder { &path[..path.rfind('/').map_or(0, |at| at + 1)] } else { "" }
}

fn choice(written: &Written<'_>, folder: &str, path: &str) -> Choice {
    let whole = format!("{folder}{path}");
    let is_folder = path.ends_with('/');
    let word = match written.is_command {
        true => whole.clone(),
        // The mention of a folder goes on: no closing quote, no space.
        false if is_folder => mention::mention(&whole).trim_end_matches('"').to_owned(),
        false if written.behind.starts_with(char::is_whitespace) => mention::mention(&whole),
        false => mention::mention(&whole) + " ",
    };
    Choice {
        text: format!("{}{word}{}", written.before, written.behind),
        label: whole,
        unfinished: true,
        ..Choice::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn offered(before: &str, behind: &str, path: &str) -> Option<String> {
        let written = written(before, behind)?;
        Some(choice(&written, folder_of(written.path), path).text)
    }

    #[test]
    fn a_choice_replaces_the_path_at_the_cursor() {
        assert_eq!(offered("see @src/m", "", "src/main.rs").unwrap(), "see @src/main.rs ");
        assert_eq!(offered("see @m", " now", "my notes.md").unwrap(), "see @\"my notes.md\" now");
        assert_eq!(offered("@~/do", "", "docs/").unwrap(), "@~/docs/");
        assert_eq!(offered("@/my dir", "", "x/"), None);
        assert_eq!(offered("@\"/my dir/o", "", "other dir/").unwrap(), "@\"/my dir/other dir/");
        assert_eq!(offered("/file ../a", "", "a b").unwrap(), "/file ../a b");
        assert_eq!(offered("compare\n/file a", "", "a b").unwrap(), "compare\n/file a b");
        assert_eq!(offered("/file a\nb", "", "ab"), None);
        assert_eq!(offered("/model @a", "", "a"), None);
        assert_eq!(offered("@a", "b", "a"), None);
    }
}
