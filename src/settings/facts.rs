//! What is said about each setting: a description, the values to offer, and when a change takes effect.

use super::Key;

/// When a change with `/set` takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// With the next prompt.
    NextPrompt,
    /// At once.
    AtOnce,
    /// The model must be loaded again.
    Reload,
    /// Only when the program starts.
    AtStart,
}

/// A description of one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The key.
    pub name: &'static str,
    /// Heading of its group.
    pub section: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// All valid values, if they are few.
    pub choices: &'static [&'static str],
    /// When a change takes effect.
    pub applies: Applies,
    /// Whether a conversation remembers it, so that a persona may set it; otherwise a change ends with the program.
    pub remembered: bool,
}

impl Key {
    /// Its description.
    pub fn facts(&self) -> Facts {
        let unknown = Facts { name: self.name, ..facts("", "interface", "", &[], Applies::AtStart, false) };
        FACTS.iter().find(|facts| facts.name == self.name).copied().unwrap_or(unknown)
    }
}

const fn facts(
    name: &'static str,
    section: &'static str,
    about: &'static str,
    choices: &'static [&'static str],
    applies: Applies,
    remembered: bool,
) -> Facts {
    Facts { name, section, about, choices, applies, remembered }
}

const CHAT: &str = "conversation";
const SAMPLING: &str = "sampling";
const ENGINE: &str = "engine";
const INTERFACE: &str = "interface";
const FOLDERS: &str = "folders";

use Applies::{AtOnce, AtStart, NextPrompt, Reload};

const NOTIFY: &[&str] = &["auto", "bell", "osc", "off"];

/// The descriptions, by key.
const FACTS: &[Facts] = &[
    facts("model", CHAT, "the model that answers; /model lists them", &[], AtOnce, true),
    facts("system", CHAT, "the system message", &[], NextPrompt, true),
    facts("chat_template", CHAT, "a template's name or file instead of the model's own", &[], Reload, true),
    facts("max_tokens", CHAT, "most tokens of an answer; none: no limit", &[], NextPrompt, true),
    facts("context_length", CHAT, "tokens that a conversation may take", &[], Reload, true),
    facts("on_overflow", CHAT, "a full context: refuse, or leave out old turns", &["error", "trim"], NextPrompt, true),
    facts("temperature", SAMPLING, "0 always takes the likeliest token", &[], NextPrompt, true),
    facts("top_k", SAMPLING, "keep the N likeliest tokens; 0 keeps all", &[], NextPrompt, true),
    facts("top_p", SAMPLING, "keep the likeliest tokens up to this share", &[], NextPrompt, true),
    facts("min_p", SAMPLING, "keep tokens this likely, next to the likeliest", &[], NextPrompt, true),
    facts("repeat_penalty", SAMPLING, "make recent tokens less likely; 1: off", &[], NextPrompt, true),
    facts("repeat_last_n", SAMPLING, "how many recent tokens the penalties see", &[], NextPrompt, true),
    facts("frequency_penalty", SAMPLING, "less likely with each occurrence; 0: off", &[], NextPrompt, true),
    facts("presence_penalty", SAMPLING, "less likely after one occurrence; 0: off", &[], NextPrompt, true),
    facts("seed", SAMPLING, "the same seed, the same answer; none: a fresh one", &[], NextPrompt, true),
    facts("think", SAMPLING, "reason before the answer, where the template can", &["on", "off"], NextPrompt, true),
    facts("idle_window", ENGINE, "how long memory is kept after an answer", &[], AtOnce, false),
    facts("device", ENGINE, "auto, cpu, cuda or cuda:N[,M…]", &[], Reload, false),
    facts("gpu_memory_utilization", ENGINE, "share of the GPU's memory that may be used", &[], Reload, false),
    facts("threads", ENGINE, "CPU threads", &[], Reload, false),
    facts("server", ENGINE, "a server that answers instead; /model NAME@SERVER changes it", &[], AtStart, false),
    facts("server_wait", ENGINE, "how long a server may take to wake", &[], Reload, false),
    facts("offline", ENGINE, "never use the network", &["true", "false"], Reload, false),
    facts("cache", ENGINE, "one-shot: print a stored answer to the same request", &["true", "false"], AtStart, false),
    facts("theme", INTERFACE, "the look; /theme lists them", &[], AtOnce, false),
    facts("keymap", INTERFACE, "keys of the composer", &["emacs", "vi"], AtOnce, false),
    facts("reasoning", INTERFACE, "what a model thinks", &["fold", "show"], AtOnce, false),
    facts("notify", INTERFACE, "announce the end of a long answer", NOTIFY, AtOnce, false),
    facts("notify_after", INTERFACE, "which answer is long: 10s, 1m or never", &[], AtOnce, false),
    facts("mouse", INTERFACE, "take the mouse for wheel and clicks", &["true", "false"], AtOnce, false),
    facts("inline", INTERFACE, "stay in the normal screen", &["true", "false"], AtStart, false),
    facts("data_dir", FOLDERS, "conversations and drafts", &[], AtStart, false),
    facts("cache_dir", FOLDERS, "downloaded models", &[], AtStart, false),
];

/// The setting that a user means by `name`: its key, with dashes for underscores, or the name that Ollama gives it.
pub fn named(name: &str) -> Option<&'static Key> {
    let plain = name.trim().replace('-', "_").to_ascii_lowercase();
    let known = match plain.as_str() {
        "num_ctx" | "context" => "context_length",
        "num_predict" => "max_tokens",
        "num_thread" => "threads",
        "keep_alive" | "idle_timeout" => "idle_window",
        "template" => "chat_template",
        "repetition_penalty" => "repeat_penalty",
        other => other,
    };
    super::keys::find(known)
}

/// The advice for a `name` that [`named`] does not know.
pub fn unknown(name: &str) -> String {
    let plain = name.replace('-', "_").to_ascii_lowercase();
    match crate::wording::nearest(&plain, super::KEYS.iter().map(|key| key.name)) {
        Some(near) => format!("there is no setting {name:?}; did you mean {near}?"),
        None => format!("there is no setting {name:?}; /set lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{KEYS, check};

    #[test]
    fn every_setting_has_a_description_and_valid_choices() {
        for key in KEYS {
            let facts = key.facts();
            assert!(!facts.about.is_empty(), "{} has no line in FACTS", key.name);
            for choice in facts.choices {
                assert_eq!(check(key.name, choice).as_deref(), Ok(*choice), "{}", key.name);
            }
        }
        for facts in FACTS {
            assert!(KEYS.iter().any(|key| key.name == facts.name), "{} is no setting", facts.name);
            assert_eq!(FACTS.iter().filter(|other| other.name == facts.name).count(), 1, "{} twice", facts.name);
        }
    }

    #[test]
    fn names_of_other_programs_and_dashes_are_understood() {
        let name = |text: &str| named(text).map(|key| key.name);
        assert_eq!(name("num_ctx"), Some("context_length"));
        assert_eq!(name("On-Overflow"), Some("on_overflow"));
        assert_eq!(name("temprature"), None);
        assert_eq!(unknown("temprature"), "there is no setting \"temprature\"; did you mean temperature?");
        assert_eq!(unknown("x"), "there is no setting \"x\"; /set lists them");
    }
}
