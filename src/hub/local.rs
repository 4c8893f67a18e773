//! The user's own files and folders: their type is checked before they are read.

use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{not_found, regular_file};
use crate::engine::source::ModelFiles;
use crate::engine::weights::file_kind;
use crate::protocol::*;

/// The script of `scripted:FILE`; an error unless it is a regular file.
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
            "name the folder that contains it instead"
        } else {
            file_kind::describe(path).unwrap_or("a model is a .gguf file or a folder with config.json and safetensors")
        };
        return Err(not_found(format!("{} is not a model: {hint}.", path.display())));
    }
    Ok(ModelFiles::Gguf(split_parts(path)?))
}

/// A name in repository form may be a file below the current folder (for example a cache's blob, `dir/sha256-abc`) or a
/// safetensors folder there; `None` if it is neither.
pub(super) fn written_as_repo(text: &str) -> Result<Option<ModelFiles>, EngineError> {
    let own = Path::new(text);
    if own.is_file() {
        return path(own).map(Some);
    }
    Ok(is_safetensors_folder(own).then(|| ModelFiles::Safetensors(own.to_owned())))
}

/// Advice for a failed fetch if a folder of the repository's name exists locally; else empty.
pub(super) fn folder_hint(text: &str) -> String {
    let is_folder = Path::new(text).is_dir();
    if is_folder {
        format!(" To mean the folder of that name in the current one, write ./{text}.")
    } else {
        String::new()
    }
}

/// A word that is not in the catalogue (`why` is its error) may be a folder below the current one.
pub(super) fn word(word: &str, why: &str) -> Result<ModelFiles, EngineError> {
    if is_safetensors_folder(Path::new(word)) {
        return Ok(ModelFiles::Safetensors(PathBuf::from(word)));
    }
    Err(not_found(format!("Model not found: {} {}", super::sentence(why), advice(word))))
}

/// What to write instead of a word that is not a model name.
fn advice(word: &str) -> String {
    let here = Path::new(".").join(word);
    match here.metadata() {
        Ok(meta) if meta.is_dir() => format!("To mean the folder of that name in the current one, write ./{word}."),
        Ok(meta) if meta.is_file() && is_gguf(&here) => {
            format!("To mean the file of that name in the current folder, write ./{word}.")
        }
        Ok(_) => format!("The current folder has a {word}, but it is not a GGUF file. {ELSEWHERE}"),
        Err(_) => ELSEWHERE.to_owned(),
    }
}

/// The valid forms of a model name, for error messages.
const ELSEWHERE: &str = "`chatnap models list` shows the catalogue; owner/repo, a .gguf file or a folder works too.";

/// Whether a regular file is GGUF, by its extension or by its magic bytes (a cache's blob has no extension).
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
        Some(file) => format!("it holds GGUF files; name one of them, for example {}", file.display()),
        None if path.join("adapter_config.json").is_file() => {
            "it holds a LoRA adapter, which is not a model by itself; merge it with its base model first".to_owned()
        }
        None => match entries(path).find(|file| ["bin", "pt", "pth"].iter().any(|end| has_extension(file, end))) {
            Some(file) => format!(
                "its weights are in {}, a pickle, which chatnap does not read; take a safetensors or GGUF file of the model",
                file.display()
            ),
            None => "a model folder needs config.json and at least one .safetensors file".to_owned(),
        },
    };
    Err(not_found(format!("{} is not a model folder: {hint}.", path.display())))
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

/// The parts of a split model in order, given any of them; the file itself if it is not split.
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
    // No published model has a thousand parts; a forged name must not cause a search for 99,999 files.
    (1 <= index && index <= count && count <= 1000).then_some((stem, count))
}

/// The name of part `index` (from 1) of `count`.
pub(super) fn part_name(stem: &str, index: u32, count: u32) -> String {
    format!("{stem}-{index:05}-of-{count:05}.gguf")
}
