//! A server's list of models: which one answers, how large its context is, and whose dialect the server speaks.

use serde_json::Value;

use crate::protocol::{Dialect, EngineError, ErrorKind};

/// Most names in a message.
const MOST_NAMES: usize = 12;

/// The list, as far as the server has one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing(Vec<Listed>);

/// A model of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Positions of its context, if the list has them.
    pub context_length: Option<usize>,
    owner: String,
}

impl Listing {
    /// Reads the answer to `/v1/models`; servers write the list as `data`, as `models` or alone.
    pub fn read(list: &Value) -> Self {
        let all = [&list["data"], &list["models"], list].into_iter().find_map(Value::as_array);
        Self(all.into_iter().flatten().filter_map(listed).collect())
    }

    /// The models.
    pub fn models(&self) -> &[Listed] {
        &self.0
    }

    /// The model `wanted`, or the only one.
    pub fn choose(&self, wanted: Option<String>, server: &str) -> Result<String, EngineError> {
        match (wanted, &self.0[..]) {
            (Some(wanted), _) => Ok(wanted),
            (None, [only]) => Ok(only.id.clone()),
            (None, []) => Err(not_found(format!("{server} lists no models: name one with -m."))),
            (None, _) => Err(not_found(format!("{server} has several models: name one with -m: {}.", self.names()))),
        }
    }

    /// The error for a model that the server does not have.
    pub fn missing(&self, model: &str, server: &str, why: &str) -> EngineError {
        let end = if self.0.is_empty() { String::new() } else { format!(" It has {}.", self.names()) };
        not_found(format!("{server} has no model {model}: {why}.{end}"))
    }

    /// Positions of the context of `model`.
    pub fn context_length(&self, model: &str) -> Option<usize> {
        let found = self.0.iter().find(|listed| listed.id == model);
        found
            .or(match &self.0[..] {
                [only] => Some(only),
                _ => None,
            })?
            .context_length
    }

    /// The dialect that the owner of the models tells.
    pub fn dialect(&self) -> Dialect {
        match self.0.first().map(|listed| listed.owner.as_str()) {
            Some("vllm") => Dialect::Vllm,
            Some("sglang") => Dialect::Sglang,
            Some("llamacpp") => Dialect::LlamaServer,
            Some("library") => Dialect::Ollama,
            Some("organization_owner") => Dialect::LmStudio,
            _ => Dialect::Unknown,
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().take(MOST_NAMES).map(|listed| listed.id.as_str()).collect();
        match self.0.len() - names.len() {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }
}

/// Positions of one slot, of llama-server's `/props`.
pub fn slot(props: &Value) -> Option<usize> {
    count(&props["default_generation_settings"]["n_ctx"]).or_else(|| count(&props["n_ctx"]))
}

/// Whether llama-server's `/props`, vLLM's `/is_sleeping` or Ollama's `/api/ps` say that `model` is out of memory.
pub fn is_asleep(told: &Value, model: &str) -> Option<bool> {
    if let Some(asleep) = told["is_sleeping"].as_bool() {
        return Some(asleep);
    }
    let loaded = told["models"].as_array()?;
    // Ollama adds `:latest` to a name without a tag.
    let is_it = |name: &str| name == model || name.strip_suffix(":latest") == Some(model);
    Some(!loaded.iter().any(|entry| entry["name"].as_str().is_some_and(is_it)))
}

fn listed(model: &Value) -> Option<Listed> {
    const NAMES: [&str; 5] =
        ["max_model_len", "loaded_context_length", "context_length", "max_context_length", "context_window"];
    let id = ["id", "name", "model"].iter().find_map(|name| model[*name].as_str()).or(model.as_str())?;
    Some(Listed {
        id: id.to_owned(),
        context_length: NAMES.iter().find_map(|name| count(&model[*name])),
        owner: model["owned_by"].as_str().unwrap_or_default().to_owned(),
    })
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|count| *count > 0).and_then(|count| usize::try_from(count).ok())
}

fn not_found(message: String) -> EngineError {
    EngineError::new(ErrorKind::ModelNotFound, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;
    use serde_json::json;

    /// A4.20.
    #[test]
    fn model_is_the_one_that_is_named_or_the_only_one() {
        let one = Listing::read(&json!({"data": [{"id": "org/m:1", "owned_by": "vllm", "max_model_len": 4096}]}));
        assert_eq!(one.choose(None, "s"), Ok("org/m:1".into()));
        assert_eq!(one.choose(Some("x".into()), "s"), Ok("x".into()));
        let many = Listing::read(&json!({"data": [{"id": "a"}, {"id": "b/c"}, {}]}));
        assert_eq!(
            many.choose(None, "s").expect_err("several").message,
            "s has several models: name one with -m: a, b/c."
        );
        let none = Listing::read(&json!({"object": "list"}));
        assert_eq!(none.choose(None, "s").expect_err("none").message, "s lists no models: name one with -m.");
        assert_eq!(many.missing("x", "s", "not found").message, "s has no model x: not found. It has a, b/c.");
        let crowd = Listing::read(&json!((0..15).map(|n| n.to_string()).collect::<Vec<_>>()));
        assert!(crowd.missing("x", "s", "no").message.ends_with("10, 11 and 3 more."));
    }

    /// A4.21.
    #[test]
    fn context_is_what_the_server_says_or_unknown() {
        for name in ["max_model_len", "context_length", "max_context_length"] {
            let list = Listing::read(&json!({"data": [{"id": "a", name: 4096}, {"id": "b"}]}));
            assert_eq!((list.context_length("a"), list.context_length("b")), (Some(4096), None), "{name}");
        }
        assert_eq!(Listing::read(&json!({"data": [{"id": "a", "max_model_len": null}]})).context_length("a"), None);
        assert_eq!(slot(&json!({"default_generation_settings": {"n_ctx": 2048}})), Some(2048));
        assert_eq!(slot(&json!({})), None);
    }

    /// A4.24.
    #[test]
    fn sleep_is_told_or_unknown() {
        assert_eq!(is_asleep(&json!({"is_sleeping": true}), "m"), Some(true));
        assert_eq!(is_asleep(&json!({"is_sleeping": false, "n_ctx": 1}), "m"), Some(false));
        assert_eq!(is_asleep(&json!({"models": [{"name": "m:latest"}]}), "m"), Some(false));
        assert_eq!(is_asleep(&json!({"models": [{"name": "other"}]}), "m"), Some(true));
        assert_eq!(is_asleep(&json!({"detail": "Not Found"}), "m"), None);
    }

    #[test]
    fn owner_tells_the_dialect() {
        let of = |owner: &str| Listing::read(&json!({"data": [{"id": "a", "owned_by": owner}]})).dialect();
        assert_eq!(of("vllm"), Dialect::Vllm);
        assert_eq!(of("llamacpp"), Dialect::LlamaServer);
        assert_eq!(of("library"), Dialect::Ollama);
        assert_eq!(of("someone"), Dialect::Unknown);
    }
}
