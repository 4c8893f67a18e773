//! Parses pasted addresses (a page of the hub, a clone address, a file) into model names. Pure functions.

use std::ffi::OsString;
use std::path::PathBuf;

use percent_encoding::{percent_decode, percent_decode_str};
use reqwest::Url;

use super::name::{ModelName, Pick, repo};
use super::not_found;
use crate::protocol::*;
use crate::settings::expand_path;

/// Hosts that serve the hub itself, not a mirror.
const HOSTS: &[&str] = &["huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co"];

/// First path segments of the hub's addresses that are not the owner of a model.
const OTHER_PAGES: &[&str] =
    &["blog", "buckets", "collections", "datasets", "docs", "kernels", "learn", "papers", "posts", "spaces"];

/// Path segments after `owner/repo` that select a view; a revision and a file may follow.
const VIEWS: &[&str] = &["blame", "blob", "commit", "commits", "edit", "raw", "resolve", "tree"];

/// Path segments after `owner/repo` of pages that do not show files.
const TABS: &[&str] = &["activity", "discussions", "settings"];

/// The path in `file:///a%20b`, `file://localhost/a`, `file:a`; `None` if the text has another form.
pub(super) fn file(text: &str) -> Option<Result<PathBuf, EngineError>> {
    let (scheme, rest) = text.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("file"))?;
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest),
        None => rest,
    };
    let bytes: Vec<u8> = percent_decode(rest.as_bytes()).collect();
    if bytes.is_empty() || bytes.iter().any(u8::is_ascii_control) {
        return Some(Err(not_found(format!("{text} names no file; example: {scheme}:///home/me/model.gguf."))));
    }
    #[cfg(unix)]
    let path: OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    #[cfg(not(unix))]
    let path: OsString = String::from_utf8_lossy(&bytes).into_owned().into();
    Some(Ok(expand_path(&path)))
}

/// The model that an address of the hub, or of the mirror at `endpoint`, names; `None` if the text is not an address.
pub(super) fn model(text: &str, endpoint: &str) -> Option<Result<ModelName, EngineError>> {
    let mirror = Url::parse(endpoint).ok();
    let url = match absolute(text, mirror.as_ref())? {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => return Some(Err(not_found(format!("{text} is not the address of a model; {FORMS}.")))),
    };
    let parts = parts(&url, mirror.as_ref())?;
    Some(parts.and_then(|parts| by_parts(&url, &parts)))
}

/// The accepted forms, for error messages.
const FORMS: &str = "write owner/repo, owner/repo:file.gguf, or the path of a file";

/// `text` as a URL, if it is one; for hosts of the hub and of its mirror `https://` is optional.
fn absolute(text: &str, mirror: Option<&Url>) -> Option<Result<Url, ()>> {
    let parse = |text: &str| Some(Url::parse(text).map_err(drop));
    if let Some(path) = text.strip_prefix("git@hf.co:") {
        return parse(&format!("https://hf.co/{path}"));
    }
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    {
        // The URL scheme of huggingface_hub's `HfFileSystem`.
        let is_hf = scheme.eq_ignore_ascii_case("hf");
        return if is_hf { parse(&format!("https://hf.co/{rest}")) } else { parse(text) };
    }
    let (host, _) = text.split_once('/')?;
    let host = host.to_ascii_lowercase();
    let is_mirror = mirror.is_some_and(|mirror| mirror.has_host() && authority(mirror) == host);
    (HOSTS.contains(&host.as_str()) || is_mirror).then(|| Url::parse(&format!("https://{text}")).map_err(drop))
}

/// `host:port`, or `host` if the port is the scheme's default.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The decoded path segments below the hub's root; an error for any other host.
fn parts(url: &Url, mirror: Option<&Url>) -> Option<Result<Vec<String>, EngineError>> {
    let below_root = |url: &Url| -> Vec<String> {
        let parts = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty());
        parts.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
    };
    let host = authority(url);
    let mut found = below_root(url);
    match mirror.filter(|mirror| mirror.has_host() && authority(mirror) == host) {
        Some(mirror) => {
            let root = below_root(mirror);
            if found.starts_with(&root) {
                found.drain(..root.len());
            }
        }
        None if HOSTS.contains(&host.as_str()) => {}
        None => {
            return Some(Err(not_found(format!(
                "{host} is neither the hub nor the mirror that HF_ENDPOINT names: if it is a mirror, set HF_ENDPOINT=https://{host}; else fetch the file and name its path."
            ))));
        }
    }
    if found.iter().any(|part| part.contains(char::is_control)) {
        return Some(Err(not_found("The model's address contains a control character.")));
    }
    if found.starts_with(&["api".to_owned(), "models".to_owned()]) {
        found.drain(..2);
    }
    Some(Ok(found))
}

/// The model that the path segments `owner/repo/…` name.
fn by_parts(url: &Url, parts: &[String]) -> Result<ModelName, EngineError> {
    let host = authority(url);
    let (owner, name, rest) = match parts {
        [first, ..] if OTHER_PAGES.contains(&first.as_str()) => {
            return Err(not_found(format!("{host}/{first}/… is not a model's page; {FORMS}.")));
        }
        [owner, name, rest @ ..] => (owner, name, rest),
        _ => return Err(not_found(format!("This address of {host} names no repository; {FORMS}."))),
    };
    let (name, tag) = name.split_once(':').map_or((name.as_str(), None), |(name, tag)| (name, Some(tag)));
    let id = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name));
    let shown = url.query_pairs().find(|(key, _)| key == "show_file_info").map(|(_, file)| file.into_owned());
    let file = match rest {
        [] => match tag {
            // ollama's default tag.
            None | Some("latest") => shown,
            Some(tag) => return repo(&format!("{id}:{tag}")),
        },
        [view, revision, file @ ..] if VIEWS.contains(&view.as_str()) => {
            refuse_revision(&id, revision, file)?;
            let file = if view == "commits" { String::new() } else { file.join("/") };
            Some(file).filter(|file| !file.is_empty())
        }
        [page, ..] if VIEWS.contains(&page.as_str()) || TABS.contains(&page.as_str()) => None,
        file => Some(file.join("/")),
    };
    match file {
        None => repo(&id),
        Some(file) => repo_file(&id, &file),
    }
}

/// Only the newest revision can be fetched: an address of another one is an error, not silently ignored.
fn refuse_revision(id: &str, revision: &str, file: &[String]) -> Result<(), EngineError> {
    if matches!(revision, "main" | "HEAD") {
        return Ok(());
    }
    let newest = if file.is_empty() { id.to_owned() } else { format!("{id}:{}", file.join("/")) };
    Err(not_found(format!(
        "The address names the revision {revision} of {id}, and chatnap fetches only the newest one, main: write {newest} for that, or fetch the file and name its path."
    )))
}

/// The model that a file of a repository belongs to.
fn repo_file(id: &str, file: &str) -> Result<ModelName, EngineError> {
    let lower = file.to_ascii_lowercase();
    if lower.ends_with(".gguf") {
        return repo(&format!("{id}:{file}"));
    }
    let of_folder = !file.contains('/') && (lower.ends_with(".safetensors") || lower.ends_with(".json"));
    if of_folder && let ModelName::Repo { repo, .. } = repo(id)? {
        return Ok(ModelName::Repo { repo, pick: Pick::Safetensors });
    }
    Err(not_found(format!("{file} of {id} is neither a .gguf file nor a folder's weights; {FORMS}.")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIRROR: &str = "http://me:secret@127.0.0.1:8080/hub/";

    fn shown(text: &str) -> String {
        model(text, MIRROR).unwrap().unwrap().to_string()
    }

    #[test]
    fn repository_page_urls_parse_to_owner_and_repo() {
        for text in [
            "https://huggingface.co/o/r",
            "https://huggingface.co/o/r/",
            "HTTP://www.HuggingFace.co/o/r?library=transformers#readme",
            "https://me:secret@hf.co/o/r",
            "huggingface.co/o/r",
            "HF.co/o/r/",
            "hf.co/o/r:latest",
            "hf://o/r",
            "git@hf.co:o/r",
            "https://huggingface.co/o/r.git",
            "https://huggingface.co/api/models/o/r",
            "https://huggingface.co/o/r/tree/main",
            "https://huggingface.co/o/r/tree/main/?x",
            "https://huggingface.co/o/r/commits/main/x.bin",
            "https://huggingface.co/o/r/discussions/7",
            "https://huggingface.co/o/r/blob/main/model-00001-of-00002.safetensors",
            "http://127.0.0.1:8080/hub/o/r",
            "127.0.0.1:8080/hub/o/r/tree/main",
            "https://127.0.0.1:8080/o/r",
        ] {
            assert_eq!(shown(text), "o/r", "{text}");
        }
    }

    #[test]
    fn file_urls_parse_to_repo_and_file() {
        for text in [
            "https://huggingface.co/o/r/blob/main/a%20b/x%2By.gguf",
            "https://huggingface.co/o/r/resolve/main/a%20b/x+y.gguf?download=true",
            "hf://o/r/a b/x+y.gguf",
            "http://127.0.0.1:8080/hub/o/r/raw/main/a b/x+y.gguf",
            "huggingface.co/o/r?show_file_info=a%20b%2Fx%2By.gguf",
        ] {
            assert_eq!(shown(text), "o/r:a b/x+y.gguf", "{text}");
        }
        assert_eq!(shown("hf.co/o/r:q4_k_m"), "o/r:Q4_K_M");
        assert_eq!(shown("https://hf.co/o/r:UD-Q4_K_XL"), "o/r:UD-Q4_K_XL");
        assert_eq!(shown("hf.co/o/r:x.gguf"), "o/r:x.gguf");
    }

    #[test]
    fn other_urls_are_rejected_with_advice() {
        for (text, part) in [
            ("https://huggingface.co/", "names no repository"),
            ("https://huggingface.co/gpt2", "names no repository"),
            ("https://huggingface.co/datasets/o/r", "not a model's page"),
            ("https://huggingface.co/o/r/blob/0123abc/x.gguf", "write o/r:x.gguf for that"),
            ("https://huggingface.co/o/r/tree/refs%2Fpr%2F1", "revision refs/pr/1"),
            ("https://huggingface.co/o/r/blob/main/README.md", "README.md of o/r is neither"),
            ("https://huggingface.co/o/r/tree/main/Q8_0", "Q8_0 of o/r is neither"),
            ("https://huggingface.co/o/r/blob/main/a%2F..%2F..%2Fx.gguf", "without `..`"),
            ("https://huggingface.co/o%20/r", "cannot be a repository"),
            ("https://huggingface.co/o/r%00", "control character"),
            ("https://me:secret@example.com/x.gguf?sig=secret", "HF_ENDPOINT=https://example.com"),
            ("http://127.0.0.1:9090/o/r", "127.0.0.1:9090 is neither"),
            ("ftp://huggingface.co/o/r", "is not the address of a model"),
            ("https://", "is not the address of a model"),
        ] {
            let error = model(text, MIRROR).unwrap().unwrap_err();
            assert!(error.message.contains(part) && !error.message.contains("secret"), "{text}: {error}");
            assert_eq!(error.kind, ErrorKind::ModelNotFound);
        }
        for text in ["o/r", "o/r:x.gguf", "./huggingface.co/o", "/hf.co/o/r", "a/b/c.gguf", "huggingface.co", "x"] {
            assert!(model(text, MIRROR).is_none(), "{text}");
        }
    }

    #[test]
    fn file_scheme_urls_parse_to_local_paths() {
        for text in ["file:///a%20b/x.gguf", "file://localhost/a%20b/x.gguf", "FILE:/a b/x.gguf"] {
            assert_eq!(file(text).unwrap().unwrap(), PathBuf::from("/a b/x.gguf"), "{text}");
        }
        assert_eq!(file("file://a/x.gguf").unwrap().unwrap(), PathBuf::from("a/x.gguf"));
        assert_eq!(file("file://~/x.gguf").unwrap().unwrap(), std::env::home_dir().unwrap().join("x.gguf"));
        assert!(file("file://").unwrap().is_err() && file("file:///a%00b").unwrap().is_err());
        assert!(file("files/x.gguf").is_none() && file("profile:x").is_none());
    }
}
