//! Reads template sources from model folders and files, and finds reasoning marks in them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::TemplateError;
use super::lexer::not_valid;
use crate::engine::weights::json;

/// Larger templates are rejected; the largest known one is 30 kB.
const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// Limit for `tokenizer_config.json`, which may list thousands of added tokens.
const MAX_CONFIG_BYTES: u64 = 64 << 20;

/// `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`; in a list, the entry named `default`.
pub fn of_folder(folder: &Path) -> Result<Option<String>, TemplateError> {
    let path = folder.join("chat_template.jinja");
    if let Some(source) = read(&path, MAX_SOURCE_BYTES)? {
        return Ok(Some(source));
    }
    let path = folder.join("tokenizer_config.json");
    match read(&path, MAX_CONFIG_BYTES)? {
        Some(text) => of_config(&path, &text),
        None => Ok(None),
    }
}

/// The template in a file given by the user (for JSON: its `chat_template`); `None` if there is no such file.
pub fn of_file(name: &str) -> Result<Option<String>, TemplateError> {
    let home = name.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    let path = home.unwrap_or_else(|| PathBuf::from(name));
    if path.extension().is_some_and(|extension| extension == "json") {
        let Some(text) = read(&path, MAX_CONFIG_BYTES)? else { return Ok(None) };
        let missing = || TemplateError(format!("{} has no chat_template", path.display()));
        return of_config(&path, &text)?.ok_or_else(missing).map(Some);
    }
    Ok(read(&path, MAX_SOURCE_BYTES)?.map(|source| source.trim_start_matches('\u{feff}').to_owned()))
}

/// `chat_template` in the text of a JSON file; in a list, the entry named `default`.
fn of_config(path: &Path, text: &str) -> Result<Option<String>, TemplateError> {
    let config: Value =
        json::from_slice(text.as_bytes()).map_err(|error| TemplateError(format!("{}: {error}", path.display())))?;
    let template = &config["chat_template"];
    let named = |name: &str| {
        template.as_array()?.iter().find(|entry| entry["name"].as_str() == Some(name))?["template"].as_str()
    };
    Ok(template.as_str().or_else(|| named("default")).map(str::to_owned))
}

fn read(path: &Path, limit: u64) -> Result<Option<String>, TemplateError> {
    let problem = |error: std::io::Error| TemplateError(format!("{}: {error}", path.display()));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= limit => {}
        Ok(meta) if meta.is_file() => {
            let (size, limit) = (meta.len() >> 10, limit >> 10);
            return Err(TemplateError(format!("{} has {size} KiB; the limit is {limit} KiB", path.display())));
        }
        Ok(_) => return Err(TemplateError(format!("{} is not a regular file", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(error)),
    }
    std::fs::read_to_string(path).map(Some).map_err(problem)
}

/// Normalises line ends to `\n`, as Jinja2's lexer does. Rejects sources above the size limit.
pub fn clean(source: String) -> Result<String, TemplateError> {
    if source.len() as u64 > MAX_SOURCE_BYTES {
        let (size, limit) = (source.len() >> 10, MAX_SOURCE_BYTES >> 10);
        return Err(not_valid(&format!("it has {size} KiB; the limit is {limit} KiB")));
    }
    Ok(if source.contains('\r') { source.replace("\r\n", "\n").replace('\r', "\n") } else { source })
}

/// Opening and closing marks of reasoning blocks, most specific first.
const MARKS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
];

/// The first pair whose closing mark is in `source`: some templates only strip reasoning and lack the opening one.
pub fn reasoning_marks(source: &str) -> Option<(&'static str, &'static str)> {
    MARKS.into_iter().find(|(_, close)| source.contains(close))
}
