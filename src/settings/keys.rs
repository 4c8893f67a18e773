//! The table of settings: for each one its key, its parser and validator, and its formatter.

use std::path::{Path, PathBuf};

use super::comfort::{parse_after, parse_notify, show_after, show_notify};
use toml::de::DeValue;

use super::duration::{format_idle_window, parse_idle_window};
use super::server::parse_wait;
use super::{Folders, Keymap, Settings, expand_path};
use crate::protocol::*;
use crate::wording::without_user_info;

/// The type of a key's value in the config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer or a float.
    Number,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Switch,
    /// `"on"` or `"off"`, or a flag.
    OnOff,
    /// A string with units, or 0.
    Duration,
}

impl Kind {
    /// The type's name in error messages.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Number => "a number",
            Self::Integer => "a whole number",
            Self::Switch => "true or false",
            Self::OnOff => "\"on\" or \"off\"",
            Self::Duration => "a duration such as \"2m\"",
        }
    }
}

/// One setting.
pub struct Key {
    /// Its key in the config file. The environment variable is `CHATNAP_` and the key in upper case.
    pub name: &'static str,
    /// Its type in the config file.
    pub kind: Kind,
    /// Parses its text into the settings; the error names the valid values.
    pub set: fn(&mut Settings, &str) -> Result<(), String>,
    /// Its text, which `set` parses back; `None` if it is not set.
    pub get: fn(&Settings) -> Option<String>,
}

impl Key {
    /// Name of its environment variable.
    pub fn environment(&self) -> String {
        format!("CHATNAP_{}", self.name.to_ascii_uppercase())
    }

    /// A value that `get` returned, as TOML.
    pub(super) fn to_toml(&self, value: &str) -> String {
        match self.kind {
            Kind::Text | Kind::OnOff | Kind::Duration => toml::Value::String(value.to_owned()).to_string(),
            Kind::Number | Kind::Integer | Kind::Switch => value.to_owned(),
        }
    }
}

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Validates a value for `key` without setting it; returns it unchanged.
pub fn check(key: &str, value: &str) -> Result<String, String> {
    let key = find(key).ok_or_else(|| format!("there is no setting {key:?}"))?;
    (key.set)(&mut Settings::defaults(&Folders::default()), value).map(|()| value.to_owned())
}

/// A value as the text that `Key::set` parses, if it has the key's type.
pub(super) fn scalar(key: &Key, value: &DeValue<'_>) -> Result<String, String> {
    match (key.kind, value) {
        (Kind::Text | Kind::OnOff | Kind::Duration, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Switch | Kind::OnOff, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        (Kind::Number | Kind::Integer | Kind::Duration, DeValue::Integer(number)) if number.radix() == 10 => {
            Ok(number.as_str().to_owned())
        }
        (kind, other) => Err(format!("{} is wanted here, not a TOML {}", kind.wanted(), other.type_str())),
    }
}

macro_rules! key {
    ($name:literal, $kind:ident, $set:expr, $get:expr) => {
        Key { name: $name, kind: Kind::$kind, set: $set, get: $get }
    };
}

/// All settings, in the order of `chatnap config show`.
pub const KEYS: &[Key] = &[
    key!("model", Text, |s, v| nonempty(v).map(|v| s.model = without_user_info(&v)), |s| Some(s.model.clone())),
    key!("system", Text, |s, v| set_system(s, v), |s| s.system.clone()),
    key!("chat_template", Text, |s, v| nonempty(v).map(|v| s.chat_template = Some(v)), |s| s.chat_template.clone()),
    key!("temperature", Number, |s, v| at_least_zero(v).map(|v| s.sampling.temperature = Some(v)), |s| shown(
        s.sampling.temperature
    )),
    key!("top_k", Integer, |s, v| whole(v).map(|v| s.sampling.top_k = Some(v)), |s| shown(s.sampling.top_k)),
    key!("top_p", Number, |s, v| share(v).map(|v| s.sampling.top_p = Some(v)), |s| shown(s.sampling.top_p)),
    key!("min_p", Number, |s, v| share(v).map(|v| s.sampling.min_p = Some(v)), |s| shown(s.sampling.min_p)),
    key!("repeat_penalty", Number, |s, v| positive(v).map(|v| s.sampling.repeat_penalty = Some(v)), |s| shown(
        s.sampling.repeat_penalty
    )),
    key!("repeat_last_n", Integer, |s, v| whole(v).map(|v| s.sampling.repeat_last_n = Some(v)), |s| shown(
        s.sampling.repeat_last_n
    )),
    key!("frequency_penalty", Number, |s, v| number(v).map(|v| s.sampling.frequency_penalty = Some(v)), |s| shown(
        s.sampling.frequency_penalty
    )),
    key!("presence_penalty", Number, |s, v| number(v).map(|v| s.sampling.presence_penalty = Some(v)), |s| shown(
        s.sampling.presence_penalty
    )),
    key!("seed", Integer, |s, v| seed(v).map(|v| s.sampling.seed = Some(v)), |s| shown(s.sampling.seed)),
    key!("think", OnOff, |s, v| on_off(v).map(|v| s.think = Some(v)), |s| s.think.map(|on| if on {
        "on".to_owned()
    } else {
        "off".to_owned()
    })),
    key!("max_tokens", Integer, |s, v| at_least_one(v).map(|v| s.max_tokens = Some(v)), |s| s
        .max_tokens
        .map(|v| v.to_string())),
    key!("context_length", Integer, |s, v| at_least_one(v).map(|v| s.context_length = Some(v)), |s| s
        .context_length
        .map(|v| v.to_string())),
    key!("on_overflow", Text, |s, v| overflow(v).map(|v| s.on_overflow = v), |s| Some(show_overflow(s.on_overflow))),
    key!("idle_window", Duration, |s, v| parse_idle_window(v).map(|v| s.idle_window = v), |s| Some(
        format_idle_window(s.idle_window)
    )),
    key!("device", Text, |s, v| device(v).map(|v| s.device = v), |s| Some(show_device(s.device))),
    key!("gpu_memory_utilization", Number, |s, v| utilization(v).map(|v| s.gpu_memory_utilization = v), |s| text(
        s.gpu_memory_utilization
    )),
    key!("threads", Integer, |s, v| threads(v).map(|v| s.threads = Some(v)), |s| s.threads.map(|v| v.to_string())),
    key!("server", Text, |s, v| nonempty(v).map(|v| s.servers.chosen = Some(without_user_info(&v))), |s| s
        .servers
        .chosen
        .clone()),
    key!("server_wait", Duration, |s, v| parse_wait(v).map(|v| s.servers.wait = Some(v)), |s| s
        .servers
        .wait
        .map(|v| format_idle_window(IdleWindow::After(v)))),
    key!("offline", Switch, |s, v| switch(v).map(|v| s.offline = v), |s| Some(s.offline.to_string())),
    key!("cache", Switch, |s, v| switch(v).map(|v| s.cache = v), |s| Some(s.cache.to_string())),
    key!("theme", Text, |s, v| nonempty(v).map(|v| s.theme = v), |s| Some(s.theme.clone())),
    key!("keymap", Text, |s, v| keymap(v).map(|v| s.keymap = v), |s| text(match s.keymap {
        Keymap::Emacs => "emacs",
        Keymap::Vi => "vi",
    })),
    key!("reasoning", Text, |s, v| reasoning(v).map(|v| s.reasoning_open = v), |s| text(match s.reasoning_open {
        true => "show",
        false => "fold",
    })),
    key!("notify", Text, |s, v| parse_notify(v).map(|v| s.comfort.notify = v), |s| show_notify(s.comfort.notify)),
    key!("notify_after", Duration, |s, v| parse_after(v).map(|v| s.comfort.notify_after = v), |s| show_after(
        s.comfort.notify_after
    )),
    key!("mouse", Switch, |s, v| switch(v).map(|v| s.comfort.mouse = v), |s| Some(s.comfort.mouse.to_string())),
    key!("inline", Switch, |s, v| switch(v).map(|v| s.comfort.inline = v), |s| Some(s.comfort.inline.to_string())),
    key!("data_dir", Text, |s, v| folder(v).map(|v| s.data_dir = v), |s| path_text(&s.data_dir)),
    key!("cache_dir", Text, |s, v| folder(v).map(|v| s.cache_dir = v), |s| path_text(&s.cache_dir)),
];

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn shown<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn path_text(path: &Path) -> Option<String> {
    Some(path.display().to_string())
}

fn nonempty(value: &str) -> Result<String, String> {
    if value.trim().is_empty() { Err("a name is wanted, not an empty text".into()) } else { Ok(value.to_owned()) }
}

fn folder(value: &str) -> Result<PathBuf, String> {
    let path = expand_path(value.as_ref());
    if path.is_absolute() { Ok(path) } else { Err(format!("an absolute path is wanted, not {value:?}")) }
}

fn number(value: &str) -> Result<f32, String> {
    match value.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("a number is wanted, not {value:?}")),
    }
}

fn at_least_zero(value: &str) -> Result<f32, String> {
    number(value)
        .and_then(|v| if v >= 0.0 { Ok(v.abs()) } else { Err(format!("a number of 0 or more is wanted, not {value}")) })
}

fn positive(value: &str) -> Result<f32, String> {
    number(value).and_then(|v| if v > 0.0 { Ok(v) } else { Err(format!("a number above 0 is wanted, not {value}")) })
}

fn share(value: &str) -> Result<f32, String> {
    number(value).and_then(|v| {
        if (0.0..=1.0).contains(&v) { Ok(v) } else { Err(format!("a number from 0 to 1 is wanted, not {value}")) }
    })
}

fn utilization(value: &str) -> Result<f32, String> {
    share(value).and_then(|v| if v > 0.0 { Ok(v) } else { Err("a share above 0 is wanted".into()) })
}

fn whole(value: &str) -> Result<usize, String> {
    value.trim().parse().map_err(|_| format!("a whole number of 0 or more is wanted, not {value:?}"))
}

fn at_least_one(value: &str) -> Result<usize, String> {
    match whole(value) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("a whole number of 1 or more is wanted, not {value:?}")),
    }
}

fn threads(value: &str) -> Result<usize, String> {
    match at_least_one(value) {
        Ok(number) if number <= 1024 => Ok(number),
        _ => Err(format!("a whole number from 1 to 1024 is wanted, not {value:?}")),
    }
}

fn seed(value: &str) -> Result<u64, String> {
    value.trim().parse().map_err(|_| format!("a whole number from 0 to {} is wanted, not {value:?}", u64::MAX))
}

fn switch(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("true or false is wanted, not {value:?}")),
    }
}

fn on_off(value: &str) -> Result<bool, String> {
    switch(value).map_err(|_| format!("\"on\" or \"off\" is wanted, not {value:?}"))
}

fn overflow(value: &str) -> Result<OverflowPolicy, String> {
    match value {
        "error" => Ok(OverflowPolicy::Error),
        "trim" => Ok(OverflowPolicy::Trim),
        _ => Err(format!("\"error\" or \"trim\" is wanted, not {value:?}")),
    }
}

fn keymap(value: &str) -> Result<Keymap, String> {
    match value {
        "emacs" => Ok(Keymap::Emacs),
        "vi" | "vim" => Ok(Keymap::Vi),
        _ => Err(format!("\"emacs\" or \"vi\" is wanted, not {value:?}")),
    }
}

fn reasoning(value: &str) -> Result<bool, String> {
    match value {
        "show" => Ok(true),
        "fold" => Ok(false),
        _ => Err(format!("\"fold\" or \"show\" is wanted, not {value:?}")),
    }
}

fn show_overflow(policy: OverflowPolicy) -> String {
    match policy {
        OverflowPolicy::Error => "error".into(),
        OverflowPolicy::Trim => "trim".into(),
    }
}

fn device(value: &str) -> Result<DevicePreference, String> {
    match value {
        "auto" => Ok(DevicePreference::Auto),
        "cpu" => Ok(DevicePreference::Cpu),
        "cuda" => Ok(DevicePreference::Cuda(GpuList::one(0))),
        _ => gpus(value).map(DevicePreference::Cuda),
    }
}

/// Parses `cuda:0,1`.
fn gpus(value: &str) -> Result<GpuList, String> {
    let wrong = || format!("auto, cpu, cuda or cuda:N[,M…] is wanted, not {value:?}");
    let numbers = value.strip_prefix("cuda:").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let ordinals: Vec<_> = numbers.split(',').map(number).collect::<Option<_>>().ok_or_else(wrong)?;
    if let Some(large) = ordinals.iter().find(|ordinal| **ordinal > usize::from(u8::MAX)) {
        return Err(format!("GPUs have numbers from 0 to {}, not {large}", u8::MAX));
    }
    let mut earlier = ordinals.iter().enumerate();
    if let Some((_, twice)) = earlier.find(|(place, ordinal)| ordinals[..*place].contains(ordinal)) {
        return Err(format!("GPU {twice} is named twice in {value:?}"));
    }
    let count = ordinals.len();
    GpuList::new(&ordinals).ok_or_else(|| format!("a model runs on at most {MOST_GPUS} GPUs, not on {count}"))
}

fn show_device(device: DevicePreference) -> String {
    match device {
        DevicePreference::Auto => "auto".into(),
        DevicePreference::Cpu => "cpu".into(),
        DevicePreference::Cuda(gpus) => gpus.to_string(),
    }
}

fn set_system(settings: &mut Settings, text: &str) -> Result<(), String> {
    settings.system = Some(text.to_owned());
    Ok(())
}
