//! Whether a model's files are on disk, and if not, what would be downloaded and from where. No network access.

use std::path::Path;

use super::{HubSource, ModelName, pip};
use crate::catalogue::{CatalogueModel, Source, Variant};
use crate::engine::source::ModelFiles;
use crate::protocol::{EngineError, Offer};

/// Where the files of a model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All of them are on disk.
    Here {
        /// Their size in bytes; 0 for a script.
        bytes: u64,
    },
    /// At least one must be downloaded.
    Elsewhere(Offer),
}

impl HubSource {
    /// Looks for the files on disk. An error if the model cannot exist, or is not on disk and nothing may be fetched.
    pub fn place(&self) -> Result<Place, EngineError> {
        if self.remote.is_some() {
            return Ok(Place::Here { bytes: 0 });
        }
        if let Some(files) = self.local()? {
            return Ok(Place::Here { bytes: bytes_of(&files) });
        }
        self.refuse_offline(&self.name.to_string())?;
        Ok(Place::Elsewhere(match &self.name {
            ModelName::Catalogue(model, variant) => self.offer_of(model, variant),
            _ => Offer { size: None, from: self.host(), warning: None },
        }))
    }

    /// Whether the model has no GPU code, as far as the catalogue knows.
    pub fn is_cpu_only(&self) -> bool {
        matches!(&self.name, ModelName::Catalogue(model, _) if model.cpu_only)
    }

    /// The model's licence, if the catalogue has it.
    pub fn licence(&self) -> Option<&str> {
        match &self.name {
            ModelName::Catalogue(model, _) => Some(&model.licence),
            _ => None,
        }
    }

    fn offer_of(&self, model: &CatalogueModel, variant: &Variant) -> Offer {
        let mut hosts: Vec<String> = Vec::new();
        for source in &variant.sources {
            let host = match source {
                Source::Hub { .. } => self.host(),
                Source::Pip { .. } => pip::INDEX.to_owned(),
            };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Offer { size: model.size_of(variant), from: hosts.join(" or "), warning: None }
    }

    /// The hub's host name, without user info.
    fn host(&self) -> String {
        let host = self.options.address().ok().and_then(|(url, _)| url.host_str().map(str::to_owned));
        host.unwrap_or_else(|| "the address in HF_ENDPOINT".to_owned())
    }
}

/// Bytes of the files that the engine reads as weights.
fn bytes_of(files: &ModelFiles) -> u64 {
    let len = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    match files {
        ModelFiles::Gguf(parts) => parts.iter().map(|part| len(part)).sum(),
        ModelFiles::Safetensors(folder) => {
            let weights = super::cache::entries(folder);
            let weights = weights.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
            weights.map(|path| len(&path)).sum()
        }
        ModelFiles::Scripted(_) => 0,
    }
}
