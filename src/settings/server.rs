//! Servers: the tables `[server.NAME]` of the config file, the built-in names, and which server a model's name means.

use std::time::Duration;

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::duration::parse_idle_window;
use super::prices::price;
use crate::protocol::{Dialect, HeaderSource, IdleWindow, KeySource, Server};
use crate::usage::TokenPrices;
use crate::wording::nearest;

/// The key of the config file's table of servers.
pub(super) const SERVER: &str = "server";

/// How long a server may take to wake, and how long it may be silent, unless that is set.
const PATIENCE: Duration = Duration::from_secs(600);

/// The variable with the key of a server that is given by its address only.
const KEY_VARIABLE: &str = "CHATNAP_SERVER_KEY";

/// Names that need no table: name, address, variable of the key, dialect.
const BUILT_IN: [(&str, &str, Option<&str>, Dialect); 7] = [
    ("llama-server", "http://127.0.0.1:8080/v1", Some("LLAMA_API_KEY"), Dialect::LlamaServer),
    ("lmstudio", "http://127.0.0.1:1234/v1", None, Dialect::LmStudio),
    ("ollama", "http://127.0.0.1:11434/v1", Some("OLLAMA_API_KEY"), Dialect::Ollama),
    ("openai", "https://api.openai.com/v1", Some("OPENAI_API_KEY"), Dialect::OpenAi),
    ("openrouter", "https://openrouter.ai/api/v1", Some("OPENROUTER_API_KEY"), Dialect::OpenRouter),
    ("sglang", "http://127.0.0.1:30000/v1", None, Dialect::Sglang),
    ("vllm", "http://127.0.0.1:8000/v1", Some("VLLM_API_KEY"), Dialect::Vllm),
];

const KEYS: [&str; 12] = [
    "url",
    "model",
    "key_env",
    "key_command",
    "headers",
    "header_env",
    "certificate",
    "wait",
    "silence",
    "extra",
    "input_tokens",
    "output_tokens",
];

/// A table: the server, and what it takes, if that is set.
pub(super) type Table = (Server, Option<TokenPrices>);

/// What the user set about servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Servers {
    /// `--server`: a name or an address.
    pub chosen: Option<String>,
    /// `--server-wait`; zero: the server has to be awake.
    pub wait: Option<Duration>,
    /// The tables of the config file, in alphabetical order.
    pub own: Vec<Server>,
}

impl Servers {
    /// The server called `name`, or the one at the address `name`. The error is advice for the user.
    pub fn find(&self, name: &str) -> Result<Server, String> {
        let own = self.own.iter().find(|server| server.name == name).cloned();
        let mut server = match own.or_else(|| built_in(name)) {
            Some(server) => server,
            None if is_address(name) => Server { name: name.to_owned(), ..at(name, Some(KEY_VARIABLE)) },
            None => return Err(self.unknown(name)),
        };
        server.wait = self.wait.unwrap_or(server.wait);
        Ok(server)
    }

    /// The server that a model's name means, `MODEL@SERVER` or `@SERVER`, and the model's id there; `None`: it means none.
    pub fn of_model(&self, model: &str) -> Option<(Server, Option<String>)> {
        let (model, name) = model.trim().rsplit_once('@')?;
        let server = self.find(name).ok()?;
        Some((server, Some(model.to_owned()).filter(|model| !model.is_empty())))
    }

    /// The name of `model` on the chosen server; `model` itself if none is chosen or it names a server. `auto` is the
    /// server's own model.
    pub(super) fn name_of(&self, model: &str) -> Result<Option<String>, String> {
        let Some(chosen) = &self.chosen else { return Ok(None) };
        self.find(chosen)?;
        if self.of_model(model).is_some() {
            return Ok(None);
        }
        let model = if model == super::AUTO { "" } else { model };
        Ok(Some(format!("{model}@{chosen}")))
    }

    /// The names that `--server` knows with their addresses, those of the config file first.
    pub fn names(&self) -> Vec<(&str, &str)> {
        let own = self.own.iter().map(|server| (server.name.as_str(), server.url.as_str()));
        let built_in = BUILT_IN.iter().map(|(name, url, ..)| (*name, *url));
        let other = built_in.filter(|(name, _)| self.own.iter().all(|server| server.name != *name));
        own.chain(other).collect()
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<_> = self.names().into_iter().map(|(name, _)| name).collect();
        match nearest(name, known.iter().copied()) {
            Some(near) => format!("there is no server {name:?}; did you mean {near}?"),
            None => format!("there is no server {name:?}: write its address, or one of {}", known.join(", ")),
        }
    }
}

fn at(url: &str, key: Option<&str>) -> Server {
    Server {
        url: url.to_owned(),
        key: key.map_or(KeySource::None, |name| KeySource::Variable(name.to_owned())),
        wait: PATIENCE,
        silence: Some(PATIENCE),
        ..Server::default()
    }
}

fn built_in(name: &str) -> Option<Server> {
    let (name, url, key, dialect) = BUILT_IN.into_iter().find(|(known, ..)| *known == name)?;
    Some(Server { name: name.to_owned(), dialect, ..at(url, key) })
}

/// Whether `text` is an address and no name: it has a scheme, a port or a dot.
fn is_address(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let port = host.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    text.starts_with("http://") || text.starts_with("https://") || port || host == "localhost"
}

/// Parses a wait: `never` and `0` end at once.
pub(super) fn parse_wait(text: &str) -> Result<Duration, String> {
    match parse_idle_window(text) {
        Ok(IdleWindow::After(time)) => Ok(time),
        Ok(IdleWindow::Never) => Ok(Duration::ZERO),
        Err(_) => Err(format!("{text:?} is not a duration of at most a year: write 90s, 10m, or never (ends at once)")),
    }
}

/// Reads the table `server`. An error is the offset in the file and the message, without the file's name.
pub(super) fn read(value: &DeValue<'_>, at: usize) -> Result<Vec<Table>, (usize, String)> {
    let DeValue::Table(table) = value else {
        let why = format!("server: tables [server.NAME] are wanted here, not a TOML {}", value.type_str());
        return Err((at, why));
    };
    let servers = table.iter().map(|(name, value)| {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        let DeValue::Table(entries) = value.get_ref() else {
            return Err((at, format!("server.{name}: a table [server.{name}] is wanted here")));
        };
        if name.is_empty() || name.contains(['@', '/', ' ']) {
            return Err((at, format!("server.{name}: a server cannot have the name {name:?}")));
        }
        let mut server = built_in(name).unwrap_or_else(|| Server { name: name.to_owned(), ..self::at("", None) });
        let mut prices: Option<TokenPrices> = None;
        for (key, value) in entries {
            let (at, key) = (key.span().start, key.get_ref().as_ref());
            set(&mut server, &mut prices, key, value.get_ref())
                .map_err(|why| (at, format!("server.{name}.{key}: {why}")))?;
        }
        if server.url.is_empty() {
            return Err((at, format!("server.{name}: its address is missing: url = \"http://…\"")));
        }
        Ok((server, prices))
    });
    servers.collect()
}

fn set(server: &mut Server, prices: &mut Option<TokenPrices>, key: &str, value: &DeValue<'_>) -> Result<(), String> {
    match key {
        "input_tokens" => prices.get_or_insert_default().input = price(value)?,
        "output_tokens" => prices.get_or_insert_default().output = price(value)?,
        "url" => server.url = text(value)?,
        "model" => server.model = Some(text(value)?),
        "key_env" => server.key = KeySource::Variable(text(value)?),
        "key_command" => server.key = KeySource::Command(text(value)?),
        "headers" => server.headers.extend(texts(value)?.into_iter().map(|(n, v)| (n, HeaderSource::Text(v)))),
        "header_env" => server.headers.extend(texts(value)?.into_iter().map(|(n, v)| (n, HeaderSource::Variable(v)))),
        "certificate" => server.certificate = Some(super::expand::expand_path(text(value)?.as_ref())),
        "wait" => server.wait = parse_wait(&text(value)?)?,
        "silence" => {
            server.silence = match parse_idle_window(&text(value)?)? {
                IdleWindow::After(time) if !time.is_zero() => Some(time),
                _ => None,
            }
        }
        "extra" => server.extra = fields(value)?,
        _ => {
            return Err(match nearest(&key.replace('-', "_"), KEYS.into_iter()) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; known are {}", KEYS.join(", ")),
            });
        }
    }
    Ok(())
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if !text.trim().is_empty() => Ok(text.to_string()),
        DeValue::String(_) => Err("a text is wanted here, not an empty one".into()),
        other => Err(format!("a text in quotes is wanted here, not a TOML {}", other.type_str())),
    }
}

fn texts(value: &DeValue<'_>) -> Result<Vec<(String, String)>, String> {
    let DeValue::Table(table) = value else {
        return Err(format!("a table is wanted here, not a TOML {}", value.type_str()));
    };
    let pair = |name: &str, value| Ok((name.to_owned(), text(value)?));
    table.iter().map(|(name, value)| pair(name.get_ref().as_ref(), value.get_ref())).collect()
}

fn fields(value: &DeValue<'_>) -> Result<Map<String, Value>, String> {
    match json(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(format!("a table is wanted here, not a TOML {}", value.type_str())),
    }
}

fn json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Integer(number) if number.radix() == 10 => {
            Value::from(number.as_str().parse::<i64>().map_err(|_| format!("{} is too large", number.as_str()))?)
        }
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().map_err(|error| error.to_string())?),
        DeValue::Array(all) => all.iter().map(|value| json(value.get_ref())).collect::<Result<_, _>>()?,
        DeValue::Table(table) => {
            let pair = |name: &str, value| Ok::<_, String>((name.to_owned(), json(value)?));
            let pairs = table.iter().map(|(name, value)| pair(name.get_ref().as_ref(), value.get_ref()));
            Value::Object(pairs.collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a TOML {} has no form in JSON", other.type_str())),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;
    use toml::de::DeTable;

    fn read_text(text: &str) -> Result<Vec<Table>, String> {
        let table = DeTable::parse(text).expect("TOML");
        let (_, value) = table.get_ref().iter().next().expect("one key");
        read(value.get_ref(), 0).map_err(|(_, why)| why)
    }

    #[test]
    fn table_describes_a_server() {
        let text = r#"
            [server.work]
            url = "https://work.modal.run"
            model = "org/m"
            key_env = "WORK_KEY"
            headers = { X-Title = "chat" }
            header_env = { Modal-Key = "MODAL_KEY" }
            wait = "20m"
            silence = "never"
            input_tokens = 0.5
            output_tokens = 2
            extra = { ttl = 300, provider = { order = ["a", "b"], quick = true }, share = 0.5 }
        "#;
        let (server, prices) = read_text(text).expect("a server").remove(0);
        assert_eq!(prices, Some(TokenPrices { input: 0.5, output: 2.0 }));
        assert_eq!((server.name.as_str(), server.model.as_deref()), ("work", Some("org/m")));
        assert_eq!(server.key, KeySource::Variable("WORK_KEY".into()));
        assert_eq!((server.wait, server.silence), (Duration::from_secs(1200), None));
        let extra = serde_json::json!({"ttl": 300, "provider": {"order": ["a", "b"], "quick": true}, "share": 0.5});
        assert_eq!(Value::Object(server.extra), extra);
        let headers = [
            ("Modal-Key".to_owned(), HeaderSource::Variable("MODAL_KEY".into())),
            ("X-Title".to_owned(), HeaderSource::Text("chat".into())),
        ];
        assert!(server.headers == headers);
    }

    #[test]
    fn built_in_server_can_be_changed_in_part() {
        let (server, prices) = read_text("[server.ollama]\nurl = \"http://box:11434\"").expect("a server").remove(0);
        assert_eq!(prices, None);
        assert_eq!((server.url.as_str(), server.dialect), ("http://box:11434", Dialect::Ollama));
    }

    #[test]
    fn mistake_in_a_table_is_named() {
        let cases = [
            ("[server.a]\nmodel = \"m\"", "server.a: its address is missing: url = \"http://…\""),
            ("[server.a]\nurl = 3", "server.a.url: a text in quotes is wanted here, not a TOML integer"),
            ("[server.a]\nkey = \"k\"", "server.a.key: unknown key; did you mean key_env?"),
            ("[server.\"a@b\"]\nurl = \"x\"", "server.a@b: a server cannot have the name \"a@b\""),
            ("server = 3", "server: tables [server.NAME] are wanted here, not a TOML integer"),
        ];
        for (text, expected) in cases {
            let found = read_text(text).expect_err(text);
            let start = expected.split("did you").next().unwrap_or(expected);
            assert!(found.starts_with(start), "{text}: {found}");
        }
    }

    /// A4.20.
    #[test]
    fn model_name_may_name_a_server() {
        let servers = Servers::default();
        let of = |name: &str| servers.of_model(name).map(|(server, model)| (server.url, model));
        assert_eq!(of("llama3:8b@ollama"), Some(("http://127.0.0.1:11434/v1".into(), Some("llama3:8b".into()))));
        assert_eq!(of("org/m@localhost:9000"), Some(("localhost:9000".into(), Some("org/m".into()))));
        assert_eq!(of("@http://box/v1"), Some(("http://box/v1".into(), None)));
        assert_eq!(of("owner/repo@main"), None);
        assert_eq!(of("llama-3.1-8b"), None);
        assert_eq!(servers.find("olama").expect_err("no server"), "there is no server \"olama\"; did you mean ollama?");
    }

    #[test]
    fn chosen_server_answers_for_every_name() {
        let servers = Servers { chosen: Some("vllm".into()), ..Servers::default() };
        assert_eq!(servers.name_of("auto"), Ok(Some("@vllm".into())));
        assert_eq!(servers.name_of("org/m"), Ok(Some("org/m@vllm".into())));
        assert_eq!(servers.name_of("m@ollama"), Ok(None));
        assert!(Servers { chosen: Some("nothing".into()), ..Servers::default() }.name_of("m").is_err());
        assert_eq!(Servers::default().name_of("m"), Ok(None));
    }

    #[test]
    fn wait_of_never_ends_at_once() {
        let servers = Servers { wait: parse_wait("never").ok(), ..Servers::default() };
        assert_eq!(servers.find("vllm").map(|server| server.wait), Ok(Duration::ZERO));
        assert_eq!(Servers::default().find("vllm").map(|server| server.wait), Ok(PATIENCE));
        assert_eq!(parse_wait("90s"), Ok(Duration::from_secs(90)));
        assert!(parse_wait("soon").is_err());
    }
}
