//! A server that answers in place of a model in this process, as the user describes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

/// The dialect of a server: which fields beyond the common ones it knows, and which addresses it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Not known yet; the server's list of models may tell.
    #[default]
    Unknown,
    /// llama.cpp's own server.
    LlamaServer,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// LM Studio.
    LmStudio,
    /// OpenRouter.
    OpenRouter,
    /// OpenAI.
    OpenAi,
}

/// Where a server's key comes from. The key itself is never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// The server wants none.
    #[default]
    None,
    /// The environment variable of this name, if it is set.
    Variable(String),
    /// What this command of the shell prints.
    Command(String),
}

/// A server with an OpenAI-compatible interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// Its name for the user: of the config file, a built-in name, or its address.
    pub name: String,
    /// Its address, with or without `/v1`.
    pub url: String,
    /// The model that answers if the user names none; `None`: the only one that the server lists.
    pub model: Option<String>,
    /// Its key, sent as `Authorization: Bearer`.
    pub key: KeySource,
    /// Further headers.
    pub headers: Vec<(String, HeaderSource)>,
    /// A PEM file with certificates that are trusted besides the system's.
    pub certificate: Option<PathBuf>,
    /// How long it may take to wake; zero: it has to be awake.
    pub wait: Duration,
    /// How long it may be silent during an answer; `None`: for ever.
    pub silence: Option<Duration>,
    /// Fields that each request gets; they replace chatnap's own.
    pub extra: Map<String, Value>,
    /// Its dialect.
    pub dialect: Dialect,
}

/// The value of a header; like keys, it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderSource {
    /// As written.
    Text(String),
    /// The value of this environment variable; without it the header is not sent.
    Variable(String),
}

impl fmt::Debug for HeaderSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "a text",
            Self::Variable(_) => "a variable",
        })
    }
}
