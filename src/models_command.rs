//! `chatnap models`: the catalogue and what of it is on this machine, fetching, finding and removing.
//!
//! Plain data in and out; knows no terminal and no command line.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::catalogue::catalogue;
use crate::engine::{CancelFlag, ModelFiles, ModelSource};
use crate::hub::{HubSource, ModelName, Stored, StoredModel, human};
use crate::protocol::*;
use crate::settings::Settings;

/// One line of `models list`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedModel {
    /// What `--model` takes.
    pub name: String,
    /// One line for a person who chooses; empty for a repository that is no entry of the catalogue.
    pub description: String,
    /// The licence, where the catalogue says it.
    pub licence: String,
    /// Positions that the model was made for, where the catalogue says it.
    pub context: Option<usize>,
    /// Bytes, and whether they are exact.
    pub size: Option<(u64, bool)>,
    /// Where it lies, where it was fetched.
    pub stored: Option<StoredModel>,
}

impl ListedModel {
    /// Cells: name, size, on disk, context, licence, description.
    pub fn cells(&self) -> [String; 6] {
        let size = match self.size {
            Some((size, true)) => human(size),
            Some((size, false)) => format!("about {}", human(size)),
            None => String::new(),
        };
        [
            self.name.clone(),
            size,
            self.stored.as_ref().map_or_else(String::new, |stored| human(stored.size)),
            self.context.map_or_else(String::new, |context| context.to_string()),
            self.licence.clone(),
            self.description.clone(),
        ]
    }

    /// The same for programs; unknown figures are `null`.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "licence": self.licence,
            "context_length": self.context,
            "size": self.size.map(|(size, _)| size),
            "size_is_exact": self.size.map(|(_, exact)| exact),
            "on_disk": self.stored.as_ref().map(|stored| stored.size),
            "path": self.stored.as_ref().map(|stored| stored.path.display().to_string()),
        })
    }
}

/// Headings of [`ListedModel::cells`].
pub const HEAD: [&str; 6] = ["name", "size", "on disk", "context", "licence", "description"];

/// The catalogue with all its variants, then the other models in the hub's cache.
pub fn list(settings: &Settings) -> Vec<ListedModel> {
    listed(&Stored::new(settings))
}

fn listed(stored: &Stored) -> Vec<ListedModel> {
    let mut rows: Vec<ListedModel> = Vec::new();
    for model in &catalogue().models {
        rows.extend(model.variants.iter().map(|variant| ListedModel {
            name: model.name_of(variant),
            description: model.description.clone(),
            licence: model.licence.clone(),
            context: Some(model.context),
            size: model.size_of(variant),
            stored: stored.variant(variant),
        }));
    }
    for (name, found) in stored.repos() {
        let is_listed = rows.iter().any(|row| row.stored.as_ref().is_some_and(|known| known.path == found.path));
        if !is_listed {
            rows.push(ListedModel {
                name,
                description: String::new(),
                licence: String::new(),
                context: None,
                size: Some((found.size, true)),
                stored: Some(found),
            });
        }
    }
    rows
}

/// Fetches the model that `settings.model` names, where it is not here yet; gives its file or folder.
pub fn pull(
    settings: &Settings,
    progress: &mut dyn FnMut(LoadProgress),
    cancel: &CancelFlag,
) -> Result<PathBuf, EngineError> {
    HubSource::new(settings)?.locate(progress, cancel).map(main_path)
}

/// Where the model that `settings.model` names lies; fetches nothing.
pub fn path(settings: &Settings) -> Result<PathBuf, EngineError> {
    let source = HubSource::new(settings)?;
    source.local()?.map(main_path).ok_or_else(|| {
        let name = source.name();
        EngineError::new(
            ErrorKind::ModelNotFound,
            format!("{name} is not on this machine; `chatnap models pull {name}` fetches it."),
        )
    })
}

/// Removes what was fetched of the model that `settings.model` names; gives the bytes that became free.
pub fn remove(settings: &Settings) -> Result<u64, EngineError> {
    Stored::new(settings).remove(&ModelName::parse(&settings.model)?)
}

/// The first part of a split model stands for all of them.
fn main_path(files: ModelFiles) -> PathBuf {
    match files {
        ModelFiles::Gguf(parts) => parts.into_iter().next().unwrap_or_default(),
        ModelFiles::Safetensors(path) | ModelFiles::Scripted(path) => path,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(size: Option<(u64, bool)>) -> ListedModel {
        ListedModel {
            name: "m".into(),
            description: "a model".into(),
            licence: "MIT".into(),
            context: Some(8192),
            size,
            stored: None,
        }
    }

    #[test]
    fn a_guess_is_labelled_and_the_unknown_is_empty() {
        assert_eq!(row(Some((4_920_739_232, true))).cells()[1], "4.9 GB");
        assert_eq!(row(Some((16_060_522_496, false))).cells()[1], "about 16.1 GB");
        assert_eq!(row(None).cells()[1], "");
        assert_eq!(row(None).json()["on_disk"], Value::Null);
    }
}
