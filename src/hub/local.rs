//! Files and folders of the user's own: checked for what they are before anything reads them.

use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{not_found, regular_file};
use crate::engine::source::ModelFiles;
use crate::engine::weights::file_kind;
use crate::protocol::*;

/// `scripted:FILE`.
pub(super) fn scripted(path: &Path) -> Result<ModelFiles, EngineError> {
    let meta = metadata(path)?;
    if !meta.is_file() {
        return Err(not_found(format!("{} is not a regular file; a script must be one.", path.display())));
    }
    Ok(ModelFiles::Scripted(path.to_owned()))
}

/// A `.gguf` file (with its split siblings) or a folder with `config.json` and safetensors.
pub(super) fn path(path: &Path) -> Result<ModelFiles, EngineError> {
    let meta = metadata(path)?;
    if meta.is_dir() {
        return folder(path);
    }
    if !meta.is_file() {
        return Err(not_found(format!(
            "{} is a pipe, socket or device; a model must be a regular file or a folder.",
            path.display()
        )));
    }
    if !is_gguf(path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hint = if name.ends_with(".safetensors") || name == "config.json" {
            "name the folder that it lies in instead"
        } else {
            file_kind::describe(path).unwrap_or("a model is a .gguf file or a folder with config.json and safetensors")
        };
        return Err(not_found(format!("{} is no model: {hint}.", path.display())));
    }
    Ok(ModelFiles::Gguf(split_parts(path)?))
}

/// What is written like a repository may be a file below the current folder (a blob of some cache, `dir/sha256-abc`,
/// say), or a folder there, which must then be a model for sure; `None` where there is neither.
pub(super) fn written_as_repo(text: &str) -> Result<Option<ModelFiles>, EngineError> {
    let own = Path::new(text);
    if own.is_file() {
        return path(own).map(Some);
    }
    Ok(is_safetensors_folder(own).then(|| ModelFiles::Safetensors(own.to_owned())))
}

/// What to write where a folder of the user's bears the name of a repository that cannot be had.
pub(super) fn folder_hint(text: &str) -> String {
    let is_folder = Path::new(text).is_dir();
    if is_folder {
        format!(" To mean the folder of that name in the current one, write ./{text}.")
    } else {
        String::new()
    }
}

/// A word that the catalogue does not know, for the reason `why`, may be a folder below the current one.
pub(super) fn word(word: &str, why: &str) -> Result<ModelFiles, EngineError> {
    if is_safetensors_folder(Path::new(word)) {
        return Ok(ModelFiles::Safetensors(PathBuf::from(word)));
    }
    Err(not_found(format!("Model not found: {} {}", super::sentence(why), advice(word))))
}

/// What to write instead of a word that is no model's name.
fn advice(word: &str) -> String {
    let here = Path::new(".").join(word);
    match here.metadata() {
        Ok(meta) if meta.is_dir() => format!("To mean the folder of that name in the current one, write ./{word}."),
        Ok(meta) if meta.is_file() && is_gguf(&here) => {
            format!("To mean the file of that name in the current folder, write ./{word}.")
        }
        Ok(_) => format!("The current folder has a {word}, but it is no GGUF file. {ELSEWHERE}"),
        Err(_) => ELSEWHERE.to_owned(),
    }
}

/// Where names of models are found.
const ELSEWHERE: &str = "`chatnap models list` shows the catalogue; owner/repo, a .gguf file or a folder works too.";

/// Whether a regular file is GGUF by its name or, where that says nothing (a blob of a cache, say), by its first bytes.
fn is_gguf(path: &Path) -> bool {
    let magic = || {
        let mut first = [0; 4];
        regular_file::open_to_read(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && &first == b"GGUF"
    };
    has_extension(path, "gguf") || magic()
}

fn folder(path: &Path) -> Result<ModelFiles, EngineError> {
    if has_extension(path, "gguf") {
        return Err(not_found(format!("{} is a folder, not a GGUF file; name the file in it.", path.display())));
    }
    if is_safetensors_folder(path) {
        return Ok(ModelFiles::Safetensors(path.to_owned()));
    }
    let hint = match first_gguf(path) {
        Some(file) => format!("it holds GGUF files; name one of them, {} say", file.display()),
        None if path.join("adapter_config.json").is_file() => {
            "it holds a LoRA adapter, which changes a model and is none; merge it with its model first".to_owned()
        }
        None => match entries(path).find(|file| ["bin", "pt", "pth"].iter().any(|end| has_extension(file, end))) {
            Some(file) => format!(
                "its weights are in {}, a pickle, which chatnap does not read; take a safetensors or GGUF file of the model",
                file.display()
            ),
            None => "a model folder needs config.json and at least one .safetensors file".to_owned(),
        },
    };
    Err(not_found(format!("{} is no model folder: {hint}.", path.display())))
}

/// Whether a folder has `config.json` and at least one `.safetensors` file.
fn is_safetensors_folder(path: &Path) -> bool {
    path.join("config.json").is_file() && entries(path).any(|file| has_extension(&file, "safetensors"))
}

fn first_gguf(folder: &Path) -> Option<PathBuf> {
    entries(folder).filter(|file| has_extension(file, "gguf")).min()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn metadata(path: &Path) -> Result<Metadata, EngineError> {
    path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => not_found(format!("There is no file or folder {}.", path.display())),
        _ => not_found(format!("Cannot read {}: {error}.", path.display())),
    })
}

/// The parts of a split model in order, whichever of them was named; the file alone where it is not split.
fn split_parts(path: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((stem, count)) = split_name(&name) else { return Ok(vec![path.to_owned()]) };
    let parts: Vec<_> = (1..=count).map(|i| path.with_file_name(part_name(stem, i, count))).collect();
    let missing: Vec<_> = parts.iter().filter(|part| !part.is_file()).collect();
    match missing.first() {
        None => Ok(parts),
        Some(first) => Err(not_found(format!(
            "{} has {count} parts and {} of them {} missing, {} first; put them side by side.",
            path.display(),
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" },
            first.display()
        ))),
    }
}

/// `stem-00001-of-00003.gguf` → (`stem`, 3): the naming of `llama-gguf-split`.
pub(super) fn split_name(name: &str) -> Option<(&str, u32)> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let number = |digits: &str| (digits.len() == 5).then(|| digits.parse::<u32>().ok()).flatten();
    let (index, count) = (number(index)?, number(count)?);
    // A thousand parts are more than anybody made; a forged name must not make us look for 99,999 files.
    (1 <= index && index <= count && count <= 1000).then_some((stem, count))
}

/// The name of part `index` (from 1) of `count`.
pub(super) fn part_name(stem: &str, index: u32, count: u32) -> String {
    format!("{stem}-{index:05}-of-{count:05}.gguf")
}
