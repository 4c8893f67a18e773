//! Lists and removes models in the local caches: the one shared with huggingface_hub, and chatnap's own.

use std::path::{Path, PathBuf};

use super::cache::{RepoCache, entries};
use super::name::{ModelName, Pick};
use super::options::HubOptions;
use super::{not_found, pick_of, repo, verify};
use crate::catalogue::{Source, Variant, catalogue};
use crate::protocol::*;
use crate::settings::Settings;

/// A model in one of the caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// The GGUF file (the first part of a split one) or the safetensors folder.
    pub path: PathBuf,
    /// Bytes on disk.
    pub size: u64,
}

impl StoredModel {
    /// The quantization in the file's name, such as `Q4_K_M`.
    pub fn quantization(&self) -> Option<&'static str> {
        super::pick::quantization(self.path.file_name()?.to_str()?)
    }
}

/// The caches that chatnap writes: the one shared with huggingface_hub, and its own.
pub struct Stored {
    cache_dir: PathBuf,
    options: HubOptions,
}

impl Stored {
    /// The caches that the settings and the `HF_*` variables name.
    pub fn new(settings: &Settings) -> Self {
        Self::with_options(settings, HubOptions::from_env())
    }

    /// As `new`, with the hub described by `options` instead of the environment.
    pub fn with_options(settings: &Settings, options: HubOptions) -> Self {
        Self { cache_dir: settings.cache_dir.clone(), options }
    }

    /// The cached files of a catalogue entry; `None` if it is not cached.
    pub fn variant(&self, variant: &Variant) -> Option<StoredModel> {
        variant.sources.iter().find_map(|source| match source {
            Source::Hub { repo, file, .. } => self.repo(repo, &pick_of(file.as_deref())),
            Source::Pip { entry, .. } => {
                let path = super::mirror::cached_path(&self.cache_dir, entry);
                let size = path.metadata().ok().filter(|meta| meta.is_file())?.len();
                (Some(size) == variant.size).then_some(StoredModel { path, size })
            }
        })
    }

    fn repo(&self, repo: &str, pick: &Pick) -> Option<StoredModel> {
        let cached = repo::cached(&self.options, repo, pick)?;
        let path = match cached.files() {
            crate::engine::source::ModelFiles::Gguf(parts) => parts.into_iter().next()?,
            _ => cached.snapshot.clone(),
        };
        Some(StoredModel { path, size: cached.size() })
    }

    /// Repositories in the shared cache with a model that the catalogue does not list: names, sorted, and best files.
    pub fn repos(&self) -> Vec<(String, StoredModel)> {
        let variants = catalogue().models.iter().flat_map(|model| &model.variants);
        let listed: Vec<_> = variants.filter_map(|variant| self.variant(variant)).map(|stored| stored.path).collect();
        let mut found: Vec<_> = entries(&self.options.cache_dir)
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.strip_prefix("models--")?.replacen("--", "/", 1);
                let stored = self.repo(&name, &Pick::Best)?;
                (!listed.contains(&stored.path)).then_some((name, stored))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Removes a model from the caches and returns the bytes freed: 0 if only links were removed, because their targets
    /// are outside the cache or used by another model. An error for the user's own files and for a model that is not
    /// cached. A bare repository name removes every model in it.
    pub fn remove(&self, name: &ModelName) -> Result<u64, EngineError> {
        let removed = match name {
            ModelName::Path(path) | ModelName::Scripted(path) => return Err(users_own(path)),
            ModelName::Unknown(_, why) => return Err(not_found(format!("Model not found: {}", super::sentence(why)))),
            ModelName::Repo { repo, pick } => self.remove_repo(repo, pick)?,
            ModelName::Catalogue(_, variant) => {
                let mut removed = Removed::default();
                for source in &variant.sources {
                    removed += match source {
                        Source::Hub { repo, file, .. } => self.remove_repo(repo, &pick_of(file.as_deref()))?,
                        Source::Pip { entry, .. } => {
                            let path = super::mirror::cached_path(&self.cache_dir, entry);
                            let _ = std::fs::remove_file(verify::stamp_path(&path));
                            remove_file(&path)?
                        }
                    };
                }
                removed
            }
        };
        let written = name.to_string();
        match removed.names {
            0 if Path::new(&written).is_file() => Err(users_own(Path::new(&written))),
            0 => Err(not_found(format!("{name} is not on this machine; nothing was removed."))),
            _ => Ok(removed.bytes),
        }
    }

    /// Removes the picked files from every snapshot, and the blobs that no link points to any more.
    fn remove_repo(&self, repo: &str, pick: &Pick) -> Result<Removed, EngineError> {
        let cache = RepoCache::new(&self.options.cache_dir, repo);
        let mut removed = Removed::default();
        while let Some(cached) = cache.find(pick) {
            for pointer in cached.paths() {
                let blob = pointer.canonicalize().ok();
                removed += remove_file(&pointer)?;
                let blob = blob.filter(|blob| *blob != pointer && blob.starts_with(real(&cache.folder())));
                if let Some(blob) = blob
                    && !is_used(&cache.folder().join("snapshots"), &blob, 0)
                {
                    removed += remove_file(&blob)?;
                }
            }
        }
        if removed.names > 0 && !holds_files(&cache.folder().join("snapshots"), 0) {
            let folder = cache.folder();
            std::fs::remove_dir_all(&folder).map_err(|error| cannot_remove(&folder, &error))?;
        }
        Ok(removed)
    }
}

#[derive(Clone, Copy, Default)]
struct Removed {
    /// Number of files and links.
    names: usize,
    /// Size of the regular files; links count as 0.
    bytes: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.names += other.names;
        self.bytes += other.bytes;
    }
}

fn users_own(path: &Path) -> EngineError {
    not_found(format!("{} is a file of your own, not one that chatnap fetched; nothing was removed.", path.display()))
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Removes a file or link if it exists.
fn remove_file(path: &Path) -> Result<Removed, EngineError> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(Removed::default()) };
    std::fs::remove_file(path).map_err(|error| cannot_remove(path, &error))?;
    Ok(Removed { names: 1, bytes: if meta.is_file() { meta.len() } else { 0 } })
}

fn cannot_remove(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::new(ErrorKind::Failed, format!("Cannot remove {}: {error}.", path.display()))
}

/// Whether a link below `folder` still points to `blob`.
fn is_used(folder: &Path, blob: &Path, depth: u8) -> bool {
    entries(folder).any(|path| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => depth < 6 && is_used(&path, blob, depth + 1),
        Ok(_) => path.canonicalize().is_ok_and(|target| target == blob),
        Err(_) => false,
    })
}

fn holds_files(folder: &Path, depth: u8) -> bool {
    entries(folder).any(|path| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => depth >= 6 || holds_files(&path, depth + 1),
        _ => true,
    })
}
