//! Parses the forms of `--model`: catalogue names, repositories, addresses and paths.

use std::fmt;
use std::path::{Path, PathBuf};

use super::options::endpoint;
use super::{address, not_found};
use crate::catalogue::{CatalogueModel, Variant, catalogue};
use crate::protocol::*;
use crate::settings::expand_path;
use crate::wording::without_user_info;

/// Which files of a repository to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The safetensors folder if there is one, else the best GGUF.
    Best,
    /// The safetensors folder only.
    Safetensors,
    /// This file (any part of a split one).
    File(String),
    /// The GGUF of this quantization, for example `Q4_K_M`.
    Quantization(String),
}

/// A parsed model name.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelName {
    /// An entry of the catalogue.
    Catalogue(&'static CatalogueModel, &'static Variant),
    /// A repository of the hub, or a folder `owner/repo` below the current one.
    Repo {
        /// `owner/repo`.
        repo: String,
        /// Which of its files.
        pick: Pick,
    },
    /// A local file or folder.
    Path(PathBuf),
    /// A script file for the scripted model.
    Scripted(PathBuf),
    /// A bare word that is not in the catalogue, and the catalogue's error: a folder may still have that name.
    Unknown(String, String),
}

/// The name of a model, independent of the current folder: with an absolute path.
pub fn lasting_name(model: &str) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match ModelName::parse(model) {
        Ok(ModelName::Path(path)) => absolute(&path).display().to_string(),
        Ok(ModelName::Scripted(path)) => format!("scripted:{}", absolute(&path).display()),
        _ => model.to_owned(),
    }
}

impl ModelName {
    /// Parses one name from the text and the environment; checks the file system only if these are ambiguous.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        Self::parse_at(text, &endpoint())
    }

    /// As `parse`, with this endpoint instead of the environment's: its addresses are accepted too.
    pub(super) fn parse_at(text: &str, endpoint: &str) -> Result<Self, EngineError> {
        let text = without_user_info(text.trim());
        if text.is_empty() {
            return Err(not_found("The model's name is empty; `chatnap models list` shows what there is."));
        }
        if text.contains(char::is_control) {
            return Err(not_found(format!("The model's name {text:?} contains a control character.")));
        }
        if let Some(path) = text.strip_prefix("scripted:") {
            return Ok(Self::Scripted(expand_path(path.as_ref())));
        }
        if let Some(path) = address::file(&text) {
            return path.map(Self::Path);
        }
        if let Some(model) = address::model(&text, endpoint) {
            return model;
        }
        let text = without_last_slash(&text);
        if is_path(text) {
            return Ok(Self::Path(expand_path(text.as_ref())));
        }
        if text.contains('/') {
            return repo(text).or_else(|error| path_after_all(text, error));
        }
        match catalogue().find(text) {
            Ok((model, variant)) => Ok(Self::Catalogue(model, variant)),
            Err(unknown) => Ok(Self::Unknown(text.to_owned(), unknown.to_string())),
        }
    }
}

/// `owner/repo/` is a folder if it exists, else a repository.
fn without_last_slash(text: &str) -> &str {
    match text.strip_suffix('/') {
        Some(name) if name.matches('/').count() == 1 && !is_path(name) && !Path::new(text).is_dir() => name,
        _ => text,
    }
}

/// Text that is not a valid repository name (`error` is the reason) is a path if it exists.
fn path_after_all(text: &str, error: EngineError) -> Result<ModelName, EngineError> {
    if Path::new(text).exists() {
        return Ok(ModelName::Path(text.into()));
    }
    Err(not_found(format!("{} To mean a file or folder, write ./{text}.", error.message)))
}

/// Paths begin with `/`, `.` or `~`, end in `.gguf`, or have more than one `/` before a colon.
fn is_path(text: &str) -> bool {
    let before_colon = text.split(':').next().unwrap_or_default();
    text.starts_with(['/', '.', '~'])
        || before_colon.matches('/').count() > 1
        || (!text.contains(':') && text.to_ascii_lowercase().ends_with(".gguf"))
}

/// `owner/repo`, `owner/repo:file.gguf`, `owner/repo:Q4_K_M`.
pub(super) fn repo(text: &str) -> Result<ModelName, EngineError> {
    let (repo, tag) = text.split_once(':').map_or((text, None), |(repo, tag)| (repo, Some(tag)));
    let named_well = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !repo.split('/').all(named_well) {
        return Err(not_found(format!(
            "{repo} cannot be a repository of the hub: owner and name consist of letters, digits, `.`, `_` and `-`."
        )));
    }
    let pick = match tag {
        None => Pick::Best,
        Some(file) if file.to_ascii_lowercase().ends_with(".gguf") => {
            if !is_safe_file(file) {
                return Err(not_found(format!(
                    "{file} cannot be a file of a repository: it must be a plain relative name without `..`."
                )));
            }
            Pick::File(file.to_owned())
        }
        Some(tag) if !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) => {
            Pick::Quantization(tag.to_ascii_uppercase())
        }
        Some(tag) => {
            return Err(not_found(format!(
                "{tag:?} after {repo} is neither a .gguf file nor a quantization such as Q4_K_M."
            )));
        }
    };
    Ok(ModelName::Repo { repo: repo.to_owned(), pick })
}

/// Whether a repository's file name is a safe relative path: no `..`, no `\`, no `:`, no control characters.
pub(super) fn is_safe_file(name: &str) -> bool {
    let part_is_safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    name.len() <= 512 && !name.contains(char::is_control) && name.split('/').all(part_is_safe)
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalogue(model, variant) => f.write_str(&model.name_of(variant)),
            Self::Repo { repo, pick: Pick::Best | Pick::Safetensors } => f.write_str(repo),
            Self::Repo { repo, pick: Pick::File(tag) | Pick::Quantization(tag) } => write!(f, "{repo}:{tag}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Scripted(path) => write!(f, "scripted:{}", path.display()),
            Self::Unknown(word, _) => f.write_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn pick_of(text: &str) -> Pick {
        match ModelName::parse(text).unwrap() {
            ModelName::Repo { repo, pick } => {
                assert_eq!(repo, "owner/repo-1.5");
                pick
            }
            other => panic!("{text} became {other:?}"),
        }
    }

    #[test]
    fn repository_names_parse_with_file_or_quantization() {
        assert_eq!(pick_of("owner/repo-1.5"), Pick::Best);
        assert_eq!(pick_of("owner/repo-1.5:a/b-Q8_0.gguf"), Pick::File("a/b-Q8_0.gguf".into()));
        assert_eq!(pick_of("owner/repo-1.5:q4_k_m"), Pick::Quantization("Q4_K_M".into()));
    }

    #[test]
    fn malformed_and_traversing_names_are_rejected() {
        for text in [
            "",
            " ",
            "a\0b",
            "owner/repo:../x.gguf",
            "owner/repo:/etc/x.gguf",
            "owner/repo:a/../x.gguf",
            "owner/..",
            "ow ner/repo",
            "owner/repo:",
            "owner/repo:Q4 K",
            "owner/repo:a\\b.gguf",
            "owner/repo@main",
            "owner/repo:Q4/K",
        ] {
            let error = ModelName::parse(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ModelNotFound, "{text}");
        }
    }

    #[test]
    fn paths_are_distinguished_from_names() {
        for text in ["/x/y", "./x", "../x/y.gguf", "x.gguf", "models/x.gguf", "a/b/c", "x.GGUF"] {
            assert_eq!(ModelName::parse(text).unwrap(), ModelName::Path(text.into()));
        }
        let home = std::env::home_dir().unwrap();
        assert_eq!(ModelName::parse("~/m.gguf").unwrap(), ModelName::Path(home.join("m.gguf")));
        assert!(matches!(ModelName::parse("SmolLM2-135M").unwrap(), ModelName::Catalogue(..)));
        assert!(matches!(ModelName::parse("nosuch").unwrap(), ModelName::Unknown(..)));
        assert_eq!(ModelName::parse("file:///a%20b.gguf").unwrap(), ModelName::Path("/a b.gguf".into()));
        assert_eq!(ModelName::parse("scripted:a b.toml").unwrap(), ModelName::Scripted("a b.toml".into()));
    }

    #[test]
    fn urls_are_distinguished_from_paths() {
        let at_mirror = |text: &str| ModelName::parse_at(text, "https://hub.example/x").unwrap().to_string();
        assert_eq!(at_mirror("https://hub.example/x/owner/repo-1.5/blob/main/a.gguf"), "owner/repo-1.5:a.gguf");
        assert_eq!(pick_of("hf.co/owner/repo-1.5:q4_k_m"), Pick::Quantization("Q4_K_M".into()));
        assert_eq!(pick_of("owner/repo-1.5/"), Pick::Best);
        assert_eq!(pick_of(" https://huggingface.co/owner/repo-1.5 "), Pick::Best);
        let error = ModelName::parse("https://me:secret@host/owner/repo").unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        let error = ModelName::parse("my folder/sha256-abc").unwrap_err();
        assert!(error.message.contains("write ./my folder/sha256-abc"), "{error}");
    }

    #[test]
    fn displayed_name_parses_back() {
        for text in ["smollm2-135m", "llama-3.1-8b:q8_0", "owner/repo-1.5:Q4_K_M", "owner/repo-1.5", "/x/y.gguf"] {
            assert_eq!(ModelName::parse(text).unwrap().to_string(), text);
        }
    }
}
