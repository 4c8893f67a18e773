//! Where a template comes from, and what its text gives away.

use std::path::Path;

use serde_json::Value;

use super::TemplateError;
use super::watched::not_valid;
use crate::engine::weights::json;

/// Templates larger than this are refused; the largest known is 30 kB.
const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`; of several the one called `default`.
pub fn of_folder(folder: &Path) -> Result<Option<String>, TemplateError> {
    let path = folder.join("chat_template.jinja");
    if let Some(source) = read(&path, MAX_SOURCE_BYTES)? {
        return Ok(Some(source));
    }
    let path = folder.join("tokenizer_config.json");
    let Some(config) = read(&path, 64 << 20)? else { return Ok(None) };
    let config: Value =
        json::from_slice(config.as_bytes()).map_err(|error| TemplateError(format!("{}: {error}", path.display())))?;
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
        Ok(_) => return Err(TemplateError(format!("{} is not a file of a sensible size", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(error)),
    }
    std::fs::read_to_string(path).map(Some).map_err(problem)
}

/// Line ends become `\n`, as Jinja2's lexer has them. What is too large is refused.
pub fn clean(source: String) -> Result<String, TemplateError> {
    if source.len() as u64 > MAX_SOURCE_BYTES {
        let (size, limit) = (source.len() >> 10, MAX_SOURCE_BYTES >> 10);
        return Err(not_valid(&format!("it is {size} KiB large, and {limit} KiB is the most")));
    }
    Ok(if source.contains('\r') { source.replace("\r\n", "\n").replace('\r', "\n") } else { source })
}

/// Marks of reasoning, most specific first.
const MARKS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
];

/// The pair that the template names. The closing one alone is enough: some templates only strip reasoning.
pub fn reasoning_marks(source: &str) -> Option<(&'static str, &'static str)> {
    MARKS.into_iter().find(|(_, close)| source.contains(close))
}
