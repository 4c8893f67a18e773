//! The config file: TOML with known keys at the top level, each error with its line.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::SettingsError;
use super::keys::{self, Key};
use super::persona::{self, PERSONA, Persona};
use super::prices::{self, PRICES};
use super::server::{self, SERVER};
use crate::files;
use crate::protocol::Server;
use crate::usage::Prices;

/// Largest config file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The content of a config file.
#[derive(Default)]
pub(super) struct Config {
    /// Each key with its value as text and its line, counted from 1, in the file's order.
    pub entries: Vec<(&'static Key, String, usize)>,
    /// In alphabetical order.
    pub personas: Vec<Persona>,
    /// The tables `[server.NAME]`, in alphabetical order.
    pub servers: Vec<Server>,
    /// The table `[prices]`, or the built-in prices.
    pub prices: Prices,
}

/// Reads the config file. Empty if it does not exist; an error if the user named that file.
pub(super) fn read(path: &Path, named: bool) -> Result<Config, SettingsError> {
    let at = |line: usize, why: String| SettingsError(format!("{}:{line}: {why}", path.display()));
    let text = match files::read_text(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(Config::default()),
        Err(error) => {
            return Err(SettingsError(format!("{}: the config file cannot be read: {error}", path.display())));
        }
    };
    let line_of = |offset: usize| 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        at(line, error.message().trim().replace('\n', ", "))
    })?;
    let mut config = Config::default();
    let mut server_prices = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let start = name.span().start;
        let line = line_of(start);
        let name = name.get_ref().as_ref();
        if name == PERSONA {
            let read = persona::read(value.get_ref(), start);
            config.personas = read.map_err(|(offset, why)| at(line_of(offset), why))?;
            continue;
        }
        // A text is the key `server`.
        if name == SERVER && matches!(value.get_ref(), DeValue::Table(_)) {
            let read = server::read(value.get_ref(), start);
            for (server, price) in read.map_err(|(offset, why)| at(line_of(offset), why))? {
                server_prices.extend(price.map(|price| (server.name.clone(), price)));
                config.servers.push(server);
            }
            continue;
        }
        if name == PRICES {
            let read = prices::read(value.get_ref(), start);
            config.prices = read.map_err(|(offset, why)| at(line_of(offset), why))?;
            continue;
        }
        let key = keys::find(name).ok_or_else(|| at(line, unknown(name)))?;
        let text = keys::scalar(key, value.get_ref()).map_err(|why| at(line, format!("{name}: {why}")))?;
        config.entries.push((key, text, line));
    }
    config.prices.servers = server_prices;
    config.entries.sort_by_key(|(_, _, line)| *line);
    Ok(config)
}

fn unknown(name: &str) -> String {
    let plain = name.replace('-', "_").to_ascii_lowercase();
    match keys::find(&plain) {
        Some(key) => format!("unknown key {name:?}; did you mean {}?", key.name),
        None => {
            let known: Vec<_> = keys::KEYS.iter().map(|key| key.name).collect();
            format!("unknown key {name:?}; known are {}", known.join(", "))
        }
    }
}
