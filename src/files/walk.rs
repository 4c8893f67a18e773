//! Lists the files of a folder for completion: the nearest first, within limits of number and time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ignored::Ignored;

/// Most files of a list.
const MOST: usize = 20_000;

/// Longest time of a walk. A list that is cut off has the files near its root.
const PATIENCE: Duration = Duration::from_millis(700);

/// Folders of programs' output and of fetched packages. Hidden folders are left out, too.
const LEFT_OUT: &[&str] = &["target", "node_modules", "__pycache__", "venv", "vendor", "build", "dist", "out"];

/// The files below `root`, as paths relative to it with `/`: breadth first, each folder sorted. Hidden ones, links to
/// folders, folders of build output and what `.gitignore` names are left out.
pub fn below(root: &Path) -> Vec<String> {
    let since = Instant::now();
    let mut files = Vec::new();
    // Patterns of folders above need the whole path.
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let ignored = Ignored::of_root(&root);
    let mut folders = VecDeque::from([(root, String::new(), ignored)]);
    while let Some((folder, prefix, above)) = folders.pop_front() {
        let ignored = if prefix.is_empty() { above } else { Ignored::of_folder(&folder, above) };
        for (name, path, is_folder) in entries(&folder) {
            if files.len() >= MOST || since.elapsed() >= PATIENCE {
                return files;
            }
            match is_folder {
                _ if ignored.as_ref().is_some_and(|ignored| ignored.leaves_out(&path, is_folder)) => {}
                true if LEFT_OUT.contains(&name.as_str()) || path.is_symlink() => {}
                true => folders.push_back((path, format!("{prefix}{name}/"), ignored.clone())),
                false => files.push(format!("{prefix}{name}")),
            }
        }
    }
    files
}

/// The entries of one folder by name, folders with a `/` behind it. Hidden ones are left out.
pub fn inside(folder: &Path) -> Vec<String> {
    let named = entries(folder).map(|(name, _, is_folder)| if is_folder { name + "/" } else { name });
    named.take(MOST).collect()
}

/// Name, path and whether it is a folder, sorted by name; nothing for a folder that cannot be read. What is neither file
/// nor folder is left out, and so are names that are not UTF-8.
fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf, bool)> {
    let read = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST);
    let named = read.filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let path = entry.path();
        let kind = entry.file_type().ok()?;
        let kind = if kind.is_symlink() { path.metadata().ok()?.file_type() } else { kind };
        (kind.is_dir() || kind.is_file()).then(|| (name, path, kind.is_dir()))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    named.into_iter()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_files_of_the_repository_leave_files_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".gitignore", "*.log\n/models/\n# a comment\n[\n");
        write(".git/info/exclude", "private.md\n");
        write("sub/.gitignore", "!keep.log\ndraft*\n");
        let names = [
            "a.log",
            "b.md",
            "models/m.gguf",
            "private.md",
            "sub/draft.md",
            "sub/keep.log",
            "sub/models/n",
            "sub/x.log",
        ];
        names.iter().for_each(|name| write(name, ""));
        assert_eq!(below(folder.path()), ["b.md", "sub/keep.log", "sub/models/n"]);
        assert_eq!(below(&folder.path().join("sub")), ["keep.log", "models/n"]);
        // The patterns of a folder that is no repository count, too; those above it do not.
        std::fs::remove_dir_all(folder.path().join(".git")).unwrap();
        assert_eq!(below(&folder.path().join("sub")), ["keep.log", "x.log", "models/n"]);
        assert!(!below(folder.path()).contains(&"a.log".to_owned()));
    }

    #[test]
    fn files_are_listed_breadth_first_without_hidden_ones_and_build_output() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for name in ["z.md", "src/deep/b.rs", "src/a.rs", ".git/config", "target/x", "a/node_modules/y"] {
            write(name);
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("src/round")).unwrap();
        assert_eq!(below(folder.path()), ["z.md", "src/a.rs", "src/deep/b.rs"]);
        assert_eq!(inside(folder.path()), ["a/", "src/", "target/", "z.md"]);
        assert_eq!(below(&folder.path().join("absent")), [""; 0]);
    }
}
