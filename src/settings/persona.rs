//! Personas: named groups of settings in the config file, one table `[persona.NAME]` each.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::keys::{self, Key, find};
use super::{Folders, Settings};
use crate::wording::nearest;

/// The key of the config file's table of personas, and of a conversation's persona among its settings.
pub const PERSONA: &str = "persona";

/// The name that takes a persona away.
pub const NO_PERSONA: &str = "none";

/// A named group of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persona {
    /// Its name, as in the config file.
    pub name: String,
    /// Valid values by key; only settings that a conversation remembers.
    pub values: BTreeMap<&'static str, String>,
}

impl Persona {
    /// Its system message.
    pub fn system(&self) -> Option<&str> {
        self.values.get("system").map(String::as_str)
    }

    /// Its model.
    pub fn model(&self) -> Option<&str> {
        self.values.get("model").map(String::as_str)
    }
}

/// The persona called `name`; the error is advice for the user.
pub fn find_persona<'a>(personas: &'a [Persona], name: &str) -> Result<&'a Persona, String> {
    if let Some(found) = personas.iter().find(|persona| persona.name == name) {
        return Ok(found);
    }
    let lower = name.to_lowercase();
    let begins = personas.iter().find(|persona| persona.name.to_lowercase().starts_with(&lower));
    let near = begins.map(|persona| persona.name.as_str());
    let near = near.or_else(|| nearest(name, personas.iter().map(|persona| persona.name.as_str())));
    Err(match near {
        Some(near) => format!("there is no persona {name:?}; did you mean {near}?"),
        None if personas.is_empty() => {
            format!("there is no persona {name:?}; [persona.{name}] in the config file makes it, with the next start")
        }
        None => format!("there is no persona {name:?}; /persona lists those that were there at the start"),
    })
}

/// Reads the table `persona`. An error is the offset in the file and the message, without the file's name.
pub(super) fn read(value: &DeValue<'_>, at: usize) -> Result<Vec<Persona>, (usize, String)> {
    let DeValue::Table(table) = value else {
        let why = format!("persona: tables [persona.NAME] are wanted here, not a TOML {}", value.type_str());
        return Err((at, why));
    };
    let personas = table.iter().map(|(name, value)| {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        let DeValue::Table(entries) = value.get_ref() else {
            return Err((at, format!("persona.{name}: a table [persona.{name}] is wanted here")));
        };
        if name == NO_PERSONA || name.trim() != name || name.is_empty() {
            return Err((at, format!("persona.{name}: a persona cannot have the name {name:?}")));
        }
        let mut persona = Persona { name: name.to_owned(), ..Persona::default() };
        for (key, value) in entries {
            let (at, text) = (key.span().start, key.get_ref().as_ref());
            let (key, value) =
                entry(text, value.get_ref()).map_err(|why| (at, format!("persona.{name}.{text}: {why}")))?;
            persona.values.insert(key.name, value);
        }
        Ok(persona)
    });
    personas.collect()
}

fn entry(name: &str, value: &DeValue<'_>) -> Result<(&'static Key, String), String> {
    let key = find(name).ok_or_else(|| unknown(name))?;
    if !key.facts().remembered {
        return Err(format!("a persona cannot set this; it can set {}", allowed().collect::<Vec<_>>().join(", ")));
    }
    let text = keys::scalar(key, value)?;
    (key.set)(&mut Settings::defaults(&Folders::default()), &text)?;
    Ok((key, text))
}

fn allowed() -> impl Iterator<Item = &'static str> {
    keys::KEYS.iter().filter(|key| key.facts().remembered).map(|key| key.name)
}

fn unknown(name: &str) -> String {
    match nearest(&name.replace('-', "_"), allowed()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; known are {}", allowed().collect::<Vec<_>>().join(", ")),
    }
}
