//! Settings: defaults < config file < environment < flags, read once.
//!
//! Contains the paths of the folders; opens no file except the config file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::logging::LogOptions;
use crate::protocol::*;
use crate::usage::Prices;

mod comfort;
mod duration;
mod environment;
mod expand;
mod facts;
mod file;
mod keys;
mod layers;
mod persona;
mod prices;
mod recommendation;
mod server;

pub use comfort::{Comfort, Notify};
pub use duration::{format_idle_window, parse_duration, parse_idle_window};
pub use environment::{cpu_warning, warnings as environment_warnings};
pub use expand::expand_path;
pub use facts::{Applies, Facts, named, unknown};
pub use keys::{KEYS, Key, check};
pub use layers::{DEFAULT, Layers};
pub use persona::{NO_PERSONA, PERSONA, Persona, find_persona};
pub use recommendation::Recommendation;
pub use server::Servers;

/// The commented config file that `chatnap config default` writes; it lists the defaults and changes none.
pub const DEFAULT_CONFIG: &str = include_str!("../assets/config.toml");

/// The config file's name in the config folder.
pub const CONFIG_FILE: &str = "config.toml";

/// The name that stands for a model that this machine has, and the model that is used if none is set.
pub const AUTO: &str = "auto";

/// Everything that the user can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Model name in any form that `--model` accepts.
    pub model: String,
    /// System message of new conversations.
    pub system: Option<String>,
    /// The chat template to use instead of the model's: a known form's name or a file.
    pub chat_template: Option<String>,
    /// Sampling values that are set; the model's recommendation decides about the others.
    pub sampling: SamplingChoice,
    /// Whether a model reasons before it answers; `None`: as its chat template does by itself.
    pub think: Option<bool>,
    /// Maximum number of tokens of an answer; `None`: until the model stops or the context is full.
    pub max_tokens: Option<usize>,
    /// KV cache positions; `None`: 8192, or the model's own limit if that is smaller.
    pub context_length: Option<usize>,
    /// How long an idle engine keeps its weights.
    pub idle_window: IdleWindow,
    /// Device that runs the model.
    pub device: DevicePreference,
    /// Share of the VRAM that may be used, above 0 and at most 1.
    pub gpu_memory_utilization: f32,
    /// CPU threads; `None`: one for each physical core.
    pub threads: Option<usize>,
    /// Never use the network.
    pub offline: bool,
    /// Servers that answer in place of a model in this process.
    pub servers: Servers,
    /// Print the stored answer to a one-shot request that was answered before, if it is reproducible.
    pub cache: bool,
    /// What to do with a conversation that outgrew the context.
    pub on_overflow: OverflowPolicy,
    /// Name of a built-in theme, of a file in the config folder's `themes/`, or `auto`: as the terminal's background is.
    pub theme: String,
    /// The composer's keys.
    pub keymap: Keymap,
    /// Whether the reasoning is shown when the chat starts; else it is folded.
    pub reasoning_open: bool,
    /// Notifications and the mouse.
    pub comfort: Comfort,
    /// Folder of conversations and state.
    pub data_dir: PathBuf,
    /// Folder of downloaded starter models.
    pub cache_dir: PathBuf,
    /// Folder of the config file and the user's themes.
    pub config_dir: PathBuf,
}

impl Settings {
    /// The built-in defaults, with these folders.
    pub fn defaults(folders: &Folders) -> Self {
        Self {
            model: AUTO.to_owned(),
            system: None,
            chat_template: None,
            sampling: SamplingChoice::default(),
            think: None,
            max_tokens: None,
            context_length: None,
            idle_window: IdleWindow::After(std::time::Duration::from_secs(120)),
            device: DevicePreference::Auto,
            gpu_memory_utilization: 0.9,
            threads: None,
            offline: false,
            servers: Servers::default(),
            cache: false,
            on_overflow: OverflowPolicy::Error,
            theme: "auto".to_owned(),
            keymap: Keymap::Emacs,
            reasoning_open: false,
            comfort: Comfort::default(),
            data_dir: folders.data.clone(),
            cache_dir: folders.cache.clone(),
            config_dir: folders.config.clone(),
        }
    }
}

/// The composer's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keymap {
    /// As in a shell.
    #[default]
    Emacs,
    /// As in vi: a normal mode and an insert mode.
    Vi,
}

/// The user's folders. None is created before a file is stored in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Conversations and state.
    pub data: PathBuf,
    /// Files that can be fetched again.
    pub cache: PathBuf,
    /// The config file and the user's themes.
    pub config: PathBuf,
    /// Log files.
    pub state: PathBuf,
}

impl Folders {
    /// The platform's standard folders (`XDG_*` on Linux).
    pub fn of_user() -> Result<Self, SettingsError> {
        let dirs = directories::ProjectDirs::from("", "", "chatnap")
            .ok_or_else(|| SettingsError("There is no home folder for chatnap's files: set HOME.".into()))?;
        Ok(Self {
            data: dirs.data_dir().to_path_buf(),
            cache: dirs.cache_dir().to_path_buf(),
            config: dirs.config_dir().to_path_buf(),
            state: dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_path_buf(),
        })
    }
}

/// An invalid setting: which one, where it was set and which values are valid. May quote unsanitised text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The built-in default, until the model is on disk and its own value is known.
    Unknown,
    /// The model's files or the catalogue.
    Recommended(SamplingSource),
    /// The config file.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A flag, as written on the command line: `--model`.
    Flag(&'static str),
    /// The persona of this name.
    Persona(String),
    /// `/set` in this run, until it ends.
    Session,
    /// `/set` in this conversation, which remembers it.
    Conversation,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Unknown => write!(f, "default, unless the model has its own"),
            Self::Recommended(source) => write!(f, "{source}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::Flag(flag) => write!(f, "flag, {flag}"),
            Self::Persona(name) => write!(f, "persona {name}"),
            Self::Session => f.write_str("this session"),
            Self::Conversation => f.write_str("this conversation"),
        }
    }
}

/// A setting given by a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The setting's key.
    pub key: &'static str,
    /// The flag, as written on the command line: `--model`.
    pub flag: &'static str,
    /// Its value as text.
    pub value: String,
}

/// The inputs of `resolve` besides the config file.
pub struct Sources<'a> {
    /// The user's folders.
    pub folders: Folders,
    /// `--config FILE`.
    pub config: Option<&'a Path>,
    /// Returns the value of an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// The settings given by flags.
    pub flags: Vec<Override>,
    /// `--log FILE`.
    pub log: Option<PathBuf>,
}

/// Settings, each with its origin.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The effective settings.
    pub settings: Settings,
    /// The config file that was read, or would have been if it existed.
    pub config_file: PathBuf,
    /// Log level and log file.
    pub log: LogOptions,
    /// The personas of the config file, in alphabetical order.
    pub personas: Vec<Persona>,
    /// The prices that `chatnap usage` counts with.
    pub prices: Prices,
    /// By key; a missing key has its default value.
    origins: BTreeMap<&'static str, Origin>,
}

impl Resolved {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// One `key = value` a line in the config file's syntax, each with its origin; unset keys as comments. What the user
    /// did not set and the model recommends is shown as recommended.
    pub fn show(&self, model: &Recommendation) -> String {
        let lines: Vec<(String, String)> = KEYS
            .iter()
            .map(|key| {
                let own = (key.get)(&self.settings).map(|value| (value, self.origin(key.name)));
                match own.or_else(|| model.of(key)) {
                    Some((value, origin)) => (format!("{} = {}", key.name, key.to_toml(&value)), origin.to_string()),
                    None => (format!("# {} =", key.name), self.origin(key.name).to_string()),
                }
            })
            .collect();
        let width = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0).min(48);
        lines.iter().map(|(text, origin)| format!("{text:width$}  # {origin}\n")).collect()
    }
}

/// The path of the config file: `--config`, else `CHATNAP_CONFIG`, else the default one; `true` if the user named it.
/// Expands `~`, which shells leave as it is in `--config=~/x`.
fn config_file(sources: &Sources<'_>) -> (PathBuf, bool) {
    let named = sources
        .config
        .map(|path| path.as_os_str().to_owned())
        .or_else(|| (sources.environment)("CHATNAP_CONFIG").filter(|value| !value.is_empty()));
    match named {
        Some(path) => (expand_path(&path), true),
        None => (sources.folders.config.join(CONFIG_FILE), false),
    }
}

/// Resolves all settings: defaults < config file < environment < flags.
pub fn resolve(sources: &Sources<'_>) -> Result<Resolved, SettingsError> {
    let (path, named) = config_file(sources);
    let mut settings = Settings::defaults(&sources.folders);
    let mut origins = BTreeMap::new();
    let file = file::read(&path, named)?;
    settings.servers.own = file.servers;
    for (key, value, line) in file.entries {
        let origin = Origin::File { path: path.clone(), line };
        (key.set)(&mut settings, &value)
            .map_err(|why| SettingsError(format!("{}:{line}: {}: {why}", path.display(), key.name)))?;
        origins.insert(key.name, origin);
    }
    if let Some(value) = (sources.environment)("HF_HUB_OFFLINE").and_then(|value| value.into_string().ok()) {
        // The values that huggingface_hub reads as true.
        if matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE") {
            settings.offline = true;
            origins.insert("offline", Origin::Environment("HF_HUB_OFFLINE".into()));
        }
    }
    for key in KEYS {
        let name = key.environment();
        let Some(value) = (sources.environment)(&name).filter(|value| !value.is_empty()) else { continue };
        let value = value.into_string().map_err(|_| SettingsError(format!("{name} is not UTF-8.")))?;
        (key.set)(&mut settings, &value).map_err(|why| SettingsError(format!("{name}: {why}")))?;
        origins.insert(key.name, Origin::Environment(name));
    }
    for given in &sources.flags {
        let key = keys::find(given.key).ok_or_else(|| SettingsError(format!("{} sets nothing.", given.flag)))?;
        (key.set)(&mut settings, &given.value).map_err(|why| SettingsError(format!("{}: {why}", given.flag)))?;
        origins.insert(key.name, Origin::Flag(given.flag));
    }
    if let Some(model) =
        settings.servers.name_of(&settings.model).map_err(|why| SettingsError(format!("server: {why}.")))?
    {
        settings.model = model;
        // What names the server names the model, too.
        let origin = origins.get("server").cloned().unwrap_or(Origin::Default);
        if !matches!(origins.get("model"), Some(Origin::Flag(_))) {
            origins.insert("model", origin);
        }
    }
    let log = LogOptions {
        level: (sources.environment)("CHATNAP_LOG").map(|level| level.to_string_lossy().into_owned()),
        file: sources.log.clone(),
        folder: sources.folders.state.clone(),
    };
    Ok(Resolved { settings, config_file: path, log, personas: file.personas, prices: file.prices, origins })
}

#[cfg(test)]
mod tests;
