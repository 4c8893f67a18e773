//! The settings of a running chat: what it started with < the persona < this session's and this conversation's changes.
//! A flag beats what a conversation remembers from an earlier run, and gives way to what is chosen in this one.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Key;
use super::persona::{NO_PERSONA, PERSONA, Persona, find_persona};
use super::{Origin, Resolved, Settings};

/// The value that takes a change back.
pub const DEFAULT: &str = "default";

/// The layers, from the lowest to the highest.
#[derive(Clone, Debug)]
pub struct Layers {
    start: Resolved,
    persona: Option<Persona>,
    session: BTreeMap<String, String>,
    conversation: BTreeMap<String, String>,
    /// Keys that were chosen since the conversation was opened.
    chosen: BTreeSet<String>,
    /// Values of the conversation that a persona replaced.
    replaced: BTreeMap<String, String>,
}

impl Layers {
    /// Only what the program started with.
    pub fn new(start: Resolved) -> Self {
        let empty = BTreeMap::new();
        Self {
            start,
            persona: None,
            session: empty.clone(),
            conversation: empty.clone(),
            chosen: BTreeSet::new(),
            replaced: empty,
        }
    }

    /// The personas of the config file.
    pub fn personas(&self) -> &[Persona] {
        &self.start.personas
    }

    /// The settings that the program started with, and their origins.
    pub fn start(&self) -> &Resolved {
        &self.start
    }

    /// The persona in use.
    pub fn persona(&self) -> Option<&Persona> {
        self.persona.as_ref()
    }

    /// What the conversation remembers: values by key, and its persona.
    pub fn remembered(&self) -> &BTreeMap<String, String> {
        &self.conversation
    }

    /// Uses what another conversation remembers. The error is a warning that its persona is gone; all else applies.
    pub fn open(&mut self, remembered: BTreeMap<String, String>) -> Result<(), String> {
        self.chosen.clear();
        self.replaced.clear();
        self.persona = None;
        self.conversation = Self::own(remembered);
        let Some(name) = self.conversation.get(PERSONA) else { return Ok(()) };
        self.persona = Some(find_persona(&self.start.personas, name)?.clone());
        Ok(())
    }

    /// The entries that are settings or the persona; a conversation may remember more.
    pub fn own(mut remembered: BTreeMap<String, String>) -> BTreeMap<String, String> {
        remembered.retain(|name, _| name == PERSONA || super::KEYS.iter().any(|key| key.name == name));
        remembered
    }

    /// Changes a setting; the value `default` takes the change back. The error names the valid values.
    pub fn set(&mut self, key: &'static Key, value: &str) -> Result<(), String> {
        let layer = if key.facts().remembered { &mut self.conversation } else { &mut self.session };
        if value == DEFAULT {
            layer.remove(key.name);
            self.chosen.remove(key.name);
            return Ok(());
        }
        apply(&mut self.start.settings.clone(), key, value)?;
        layer.insert(key.name.to_owned(), value.to_owned());
        self.chosen.insert(key.name.to_owned());
        Ok(())
    }

    /// Remembers the model that was chosen for the conversation, by a name that does not depend on the current folder.
    pub fn remember_model(&mut self, model: String) {
        self.conversation.insert("model".to_owned(), model);
        self.chosen.insert("model".to_owned());
    }

    /// The model that a flag names, which a conversation of this run remembers.
    pub fn model_of_flag(&self) -> Option<&str> {
        let given = matches!(self.start.origin("model"), Origin::Flag(_));
        given.then_some(self.start.settings.model.as_str())
    }

    /// Chooses a persona, or none with the name `none`. What it sets replaces what was set in this conversation, until there
    /// is no persona.
    pub fn choose_persona(&mut self, name: &str) -> Result<Option<&Persona>, String> {
        if name == NO_PERSONA {
            self.conversation.remove(PERSONA);
            self.persona = None;
            for (key, value) in std::mem::take(&mut self.replaced) {
                self.conversation.entry(key).or_insert(value);
            }
            return Ok(None);
        }
        let persona = find_persona(&self.start.personas, name)?.clone();
        for key in persona.values.keys() {
            if let Some((key, value)) = self.conversation.remove_entry(*key) {
                self.replaced.entry(key).or_insert(value);
            }
        }
        self.conversation.insert(PERSONA.to_owned(), persona.name.clone());
        self.chosen.insert(PERSONA.to_owned());
        Ok(Some(self.persona.insert(persona)))
    }

    /// The layer that decides about `key`, and its value there; `None`: the start's.
    fn top(&self, key: &str) -> Option<(Origin, &str)> {
        let flag = matches!(self.start.origin(key), Origin::Flag(_));
        let beats = |choice: &str| !flag || self.chosen.contains(choice);
        if let Some(value) = self.conversation.get(key).filter(|_| beats(key)) {
            return Some((Origin::Conversation, value));
        }
        if let Some(value) = self.session.get(key) {
            return Some((Origin::Session, value));
        }
        let persona = self.persona.as_ref().filter(|_| beats(PERSONA))?;
        persona.values.get(key).map(|value| (Origin::Persona(persona.name.clone()), value.as_str()))
    }

    /// The effective settings.
    pub fn effective(&self) -> Settings {
        let mut settings = self.start.settings.clone();
        for key in super::KEYS {
            if let Some((_, value)) = self.top(key.name) {
                // Another version may have stored a value that is not valid here: it does not apply.
                let _ = apply(&mut settings, key, value);
            }
        }
        settings
    }

    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.top(key).map_or_else(|| self.start.origin(key), |(origin, _)| origin)
    }
}

/// Sets `value`; `none` unsets a setting that has no default.
fn apply(settings: &mut Settings, key: &Key, value: &str) -> Result<(), String> {
    match (value, key.name) {
        ("none", "seed") => settings.sampling.seed = None,
        ("none", "think") => settings.think = None,
        ("none", "max_tokens") => settings.max_tokens = None,
        ("none", "context_length") => settings.context_length = None,
        ("none", "chat_template") => settings.chat_template = None,
        _ => return (key.set)(settings, value),
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::keys::find;
    use super::super::tests::Case;
    use super::*;

    const CONFIG: &str = "temperature = 0.1\n[persona.coder]\nsystem = \"Code.\"\ntemperature = 0.3\ntop_k = 7\n";

    fn set(layers: &mut Layers, key: &str, value: &str) -> Result<(), String> {
        layers.set(find(key).unwrap(), value)
    }

    #[test]
    fn conversation_beats_persona_beats_file_and_default_takes_it_back() {
        let mut layers = Layers::new(Case::new(CONFIG).resolve().unwrap());
        assert!(matches!(layers.origin("temperature"), Origin::File { line: 1, .. }));
        layers.choose_persona("coder").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.3));
        assert_eq!(layers.origin("temperature"), Origin::Persona("coder".into()));
        set(&mut layers, "temperature", "0.9").unwrap();
        assert_eq!((layers.effective().sampling.temperature, layers.effective().sampling.top_k), (Some(0.9), Some(7)));
        assert_eq!(layers.origin("temperature"), Origin::Conversation);
        set(&mut layers, "temperature", "default").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.3));
        layers.choose_persona("none").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.1));
        assert!(set(&mut layers, "temperature", "hot").unwrap_err().contains("a number is wanted"));
        assert_eq!(layers.effective().sampling.temperature, Some(0.1));
    }

    #[test]
    fn what_a_persona_replaces_comes_back_after_it() {
        let mut layers = Layers::new(Case::new(CONFIG).resolve().unwrap());
        set(&mut layers, "temperature", "0.9").unwrap();
        layers.choose_persona("coder").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.3));
        layers.choose_persona("none").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.9));
    }

    #[test]
    fn flag_beats_what_is_remembered_but_not_what_is_chosen_now() {
        let case = Case::new(CONFIG).flag("temperature", "--temperature", "0");
        let mut layers = Layers::new(case.resolve().unwrap());
        let remembered = [("temperature", "0.7"), ("persona", "coder"), ("top_p", "never valid")];
        let remembered = remembered.map(|(key, value)| (key.to_owned(), value.to_owned()));
        layers.open(BTreeMap::from(remembered)).unwrap();
        let now = layers.effective().sampling;
        assert_eq!((now.temperature, now.top_k, now.top_p), (Some(0.0), Some(7), None));
        set(&mut layers, "temperature", "0.5").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.5));
        layers.choose_persona("coder").unwrap();
        assert_eq!(layers.effective().sampling.temperature, Some(0.3));
    }

    #[test]
    fn session_changes_outlive_a_conversation_and_its_own_do_not() {
        let mut layers = Layers::new(Case::new("").resolve().unwrap());
        set(&mut layers, "keymap", "vi").unwrap();
        set(&mut layers, "seed", "7").unwrap();
        assert_eq!(layers.remembered().get("seed").map(String::as_str), Some("7"));
        assert!(layers.open(BTreeMap::from([("persona".into(), "gone".into())])).unwrap_err().contains("gone"));
        let now = layers.effective();
        assert_eq!((now.keymap, now.sampling.seed), (super::super::Keymap::Vi, None));
        assert_eq!(layers.origin("keymap"), Origin::Session);
    }

    #[test]
    fn none_unsets_a_setting_without_a_default() {
        let mut layers = Layers::new(Case::new("seed = 4").resolve().unwrap());
        set(&mut layers, "seed", "none").unwrap();
        assert_eq!(layers.effective().sampling.seed, None);
        set(&mut layers, "seed", "default").unwrap();
        assert_eq!(layers.effective().sampling.seed, Some(4));
        assert!(set(&mut layers, "top_k", "none").is_err());
    }
}
