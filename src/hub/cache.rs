//! The cache shared with huggingface_hub and other tools: `models--OWNER--REPO/{blobs,refs,snapshots}`. Each
//! tool reuses the files that another one fetched.

use std::path::{Path, PathBuf};

use super::lock::cannot_write;
use super::name::Pick;
use super::pick::{Choice, choose};
use super::regular_file;
use crate::engine::source::ModelFiles;
use crate::protocol::*;

/// Largest index of tensors that is read, in bytes.
const MAX_INDEX: u64 = 64 << 20;

/// Largest ref file (one commit hash) that is read, in bytes.
const MAX_REF: u64 = 4096;

/// One repository's part of the cache.
#[derive(Clone, Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    name: String,
}

/// A model in the cache: its snapshot folder, and its files in there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cached {
    pub(super) snapshot: PathBuf,
    pub(super) choice: Choice,
}

impl Cached {
    /// The files in the form that the engine loads.
    pub(super) fn files(&self) -> ModelFiles {
        match &self.choice {
            Choice::Gguf(parts) => ModelFiles::Gguf(parts.iter().map(|part| self.snapshot.join(part)).collect()),
            Choice::Safetensors(_) => ModelFiles::Safetensors(self.snapshot.clone()),
        }
    }

    /// The path of every file of the model.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.choice.files().iter().map(|file| self.snapshot.join(file))
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        self.paths().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum()
    }
}

impl RepoCache {
    /// `repo` must be a validated `owner/repo`: it becomes part of a path.
    pub(super) fn new(root: &Path, repo: &str) -> Self {
        Self { root: root.to_owned(), name: format!("models--{}", repo.replace('/', "--")) }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// The partial download of a blob; an interrupted transfer resumes from it, one of huggingface_hub's too.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The model that `pick` selects, if all its files are cached.
    pub(super) fn find(&self, pick: &Pick) -> Option<Cached> {
        self.snapshots().into_iter().find_map(|snapshot| {
            let choice = choose(&list(&snapshot), pick).ok()?;
            let cached = Cached { snapshot, choice };
            is_complete(&cached).then_some(cached)
        })
    }

    /// The snapshot that `refs/main` names, then the others, newest first.
    fn snapshots(&self) -> Vec<PathBuf> {
        let main = regular_file::text(&self.folder().join("refs").join("main"), MAX_REF);
        let mut all: Vec<_> = entries(&self.folder().join("snapshots")).filter(|path| path.is_dir()).collect();
        let changed = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
        all.sort_by_key(|path| {
            let is_main = path.file_name().is_some_and(|name| name == main.trim());
            (is_main, changed(path))
        });
        all.reverse();
        all
    }

    /// Links `file` of `commit` to the blob, and writes the commit to `refs/main`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, EngineError> {
        let pointer = self.snapshot(commit).join(file);
        let write = |path: &Path, result: std::io::Result<()>| result.map_err(|error| cannot_write(path, &error));
        if let Some(folder) = pointer.parent() {
            write(folder, std::fs::create_dir_all(folder))?;
        }
        // Relative: from snapshots/COMMIT two levels up, and one more for each folder in the name.
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        if std::fs::read_link(&pointer).ok().as_deref() != Some(Path::new(&target)) {
            write(&pointer, place_link(&target, &self.blob(etag), &pointer))?;
        }
        let main = self.folder().join("refs").join("main");
        write(&main, std::fs::create_dir_all(self.folder().join("refs")))?;
        write(&main, regular_file::replace(&main, commit.as_bytes()))?;
        Ok(pointer)
    }
}

#[cfg(unix)]
fn place_link(target: &str, _blob: &Path, pointer: &Path) -> std::io::Result<()> {
    // Created under a temporary name: the rename replaces an old link atomically.
    let fresh = pointer.with_extension(format!("link-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh)?;
    std::fs::rename(&fresh, pointer)
}

#[cfg(not(unix))]
fn place_link(_target: &str, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    std::fs::copy(blob, pointer).map(|_| ())
}

pub(super) fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Names of the regular files below a snapshot: at most 4096 entries of each folder, four folders deep.
fn list(snapshot: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(snapshot.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for path in entries(&folder).take(4096) {
            if path.is_dir() && depth < 4 {
                open.push((path, depth + 1));
            } else if path.is_file()
                && let Ok(name) = path.strip_prefix(snapshot)
                && let Some(name) = name.to_str()
            {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Whether all files of the model are present: other tools may fetch only some files of a folder.
fn is_complete(cached: &Cached) -> bool {
    let Choice::Safetensors(files) = &cached.choice else { return true };
    let has = |name: &str| files.iter().any(|file| file == name);
    if !has("tokenizer.json") {
        return false;
    }
    match shards(&cached.snapshot.join("model.safetensors.index.json")) {
        Some(shards) => shards.iter().all(|shard| has(shard)),
        // Without an index, only weights in a single file are known to be complete: shards have `-of-` in their names.
        None => !files.iter().any(|file| file.contains("-of-")),
    }
}

/// The files that an index names; `None` if it cannot be read.
fn shards(index: &Path) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(&regular_file::read(index, MAX_INDEX).ok()?).ok()?;
    let mut shards: Vec<_> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    Some(shards)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fill(cache: &RepoCache, commit: &str, file: &str, etag: &str) {
        std::fs::create_dir_all(cache.folder().join("blobs")).unwrap();
        std::fs::write(cache.blob(etag), etag).unwrap();
        cache.link(commit, file, etag).unwrap();
    }

    #[test]
    fn linked_files_are_found_in_the_cache() {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), "owner/repo");
        assert_eq!(cache.find(&Pick::Best), None);
        fill(&cache, "c0ffee", "sub/a-Q4_K_M.gguf", "abc");
        let cached = cache.find(&Pick::Best).unwrap();
        let path = root.path().join("models--owner--repo/snapshots/c0ffee/sub/a-Q4_K_M.gguf");
        assert_eq!(cached.files(), ModelFiles::Gguf(vec![path.clone()]));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "abc");
        assert_eq!(cached.size(), 3);
    }

    #[test]
    fn incomplete_safetensors_folder_is_not_found() {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), "owner/repo");
        for file in ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors"] {
            fill(&cache, "c0ffee", file, file);
        }
        assert_eq!(cache.find(&Pick::Best), None);
        fill(&cache, "c0ffee", "model-00002-of-00002.safetensors", "two");
        let index =
            r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
        std::fs::write(cache.snapshot("c0ffee").join("model.safetensors.index.json"), index).unwrap();
        assert_eq!(cache.find(&Pick::Best).unwrap().files(), ModelFiles::Safetensors(cache.snapshot("c0ffee")));
    }
}
