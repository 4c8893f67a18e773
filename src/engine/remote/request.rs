//! The body of a request: messages, the sampling values that the user set and the server knows, further fields.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::protocol::{ChatMessage, Dialect, GenerationRequest, Role, Server};

/// What is known about one server and changes its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The model's id, which the server gets.
    pub model: String,
    /// The dialect.
    pub dialect: Dialect,
    /// Fields that the server refused.
    pub refused: BTreeSet<String>,
}

/// Fields that a request can do without.
const OPTIONAL: [&str; 14] = [
    "stream_options",
    "seed",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "chat_template_kwargs",
    "reasoning_effort",
    "reasoning",
    "return_progress",
    "max_completion_tokens",
];

/// The body that answers `request`.
pub fn body(request: &GenerationRequest, server: &Server, known: &Known) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(known.model));
    body.insert("messages".into(), messages(&request.messages));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({"include_usage": true}));
    add_sampling(&mut body, request, known.dialect);
    if let Some(limit) = request.max_tokens {
        let name = if known.refused.contains("max_tokens") || known.dialect == Dialect::OpenAi {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body.insert(name.into(), json!(limit));
    }
    if let Some(think) = request.think {
        add_think(&mut body, think, known.dialect);
    }
    if continues(request) && matches!(known.dialect, Dialect::Vllm | Dialect::Sglang) {
        body.insert("continue_final_message".into(), json!(true));
        body.insert("add_generation_prompt".into(), json!(false));
    }
    if known.dialect == Dialect::LlamaServer {
        body.insert("return_progress".into(), json!(true));
    }
    body.retain(|name, _| !known.refused.contains(name) || name == "max_completion_tokens");
    body.extend(server.extra.clone());
    Value::Object(body)
}

/// The body that counts the tokens of `messages`, without an answer.
pub fn count_body(messages_of: &[ChatMessage], known: &Known) -> Value {
    json!({"model": known.model, "messages": messages(messages_of)})
}

/// Whether the last message is the beginning of the answer.
pub fn continues(request: &GenerationRequest) -> bool {
    request.messages.last().is_some_and(|message| message.role == Role::Assistant)
}

/// The field of `body` that a server with this error text does not know; `None` if it names none that can be left out.
pub fn refused_field(body: &Value, text: &str) -> Option<String> {
    let sent = |name: &&&str| body.get(**name).is_some();
    if body.get("max_tokens").is_some() && names(text, "max_tokens") && names(text, "max_completion_tokens") {
        return Some("max_tokens".into());
    }
    OPTIONAL.iter().filter(sent).find(|name| names(text, name)).map(|name| (*name).to_owned())
}

/// Whether `name` stands in `text` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(name)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + name.len()..].chars().next()))
}

fn messages(all: &[ChatMessage]) -> Value {
    all.iter().map(|message| json!({"role": message.role.as_str(), "content": message.content})).collect()
}

/// Only what the user set is sent: the server knows its model's own values better.
fn add_sampling(body: &mut Map<String, Value>, request: &GenerationRequest, dialect: Dialect) {
    let sampling = &request.sampling;
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("temperature", sampling.temperature.map(number));
    set("top_p", sampling.top_p.map(number));
    set("frequency_penalty", sampling.frequency_penalty.map(number));
    set("presence_penalty", sampling.presence_penalty.map(number));
    set("seed", sampling.seed.map(Value::from));
    if dialect == Dialect::OpenAi {
        return;
    }
    set("top_k", sampling.top_k.map(|k| top_k(k, dialect)));
    set("min_p", sampling.min_p.map(number));
    match dialect {
        Dialect::Vllm | Dialect::Sglang | Dialect::OpenRouter => {
            set("repetition_penalty", sampling.repeat_penalty.map(number));
        }
        _ => {
            set("repeat_penalty", sampling.repeat_penalty.map(number));
            set("repeat_last_n", sampling.repeat_last_n.map(Value::from));
        }
    }
}

/// chatnap's 0 keeps all tokens, which is -1 for vLLM and SGLang.
fn top_k(k: usize, dialect: Dialect) -> Value {
    match (k, dialect) {
        (0, Dialect::Vllm | Dialect::Sglang) => Value::from(-1),
        _ => Value::from(k),
    }
}

/// A number with the digits that the user wrote: 0.2, not 0.20000000298.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn add_think(body: &mut Map<String, Value>, think: bool, dialect: Dialect) {
    match dialect {
        Dialect::OpenRouter => body.insert("reasoning".into(), json!({"enabled": think})),
        Dialect::Ollama if !think => body.insert("reasoning_effort".into(), json!("none")),
        Dialect::Ollama | Dialect::OpenAi => None,
        _ => body.insert("chat_template_kwargs".into(), json!({"enable_thinking": think})),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RequestId, SamplingChoice};

    fn request() -> GenerationRequest {
        let messages = vec![ChatMessage::new(Role::System, "Be short."), ChatMessage::new(Role::User, "Hi")];
        GenerationRequest::new(RequestId(1), messages)
    }

    fn known(dialect: Dialect) -> Known {
        Known { model: "org/m:latest".into(), dialect, refused: BTreeSet::new() }
    }

    #[test]
    fn plain_request_has_nothing_that_the_user_did_not_set() {
        let expected = json!({
            "model": "org/m:latest",
            "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        assert_eq!(body(&request(), &Server::default(), &known(Dialect::Unknown)), expected);
    }

    #[test]
    fn sampling_values_have_the_names_of_each_server() {
        let mut request = request();
        request.sampling = SamplingChoice {
            temperature: Some(0.2),
            top_k: Some(0),
            min_p: Some(0.05),
            repeat_penalty: Some(1.1),
            seed: Some(7),
            ..SamplingChoice::default()
        };
        request.max_tokens = Some(9);
        let of = |dialect| body(&request, &Server::default(), &known(dialect));
        let vllm = of(Dialect::Vllm);
        assert_eq!(vllm["temperature"], json!(0.2));
        assert_eq!((&vllm["top_k"], &vllm["repetition_penalty"], &vllm["seed"]), (&json!(-1), &json!(1.1), &json!(7)));
        let llama = of(Dialect::LlamaServer);
        assert_eq!(
            (&llama["top_k"], &llama["repeat_penalty"], &llama["max_tokens"]),
            (&json!(0), &json!(1.1), &json!(9))
        );
        assert_eq!(llama["return_progress"], json!(true));
        let openai = of(Dialect::OpenAi);
        assert_eq!(openai["max_completion_tokens"], json!(9));
        for name in ["top_k", "min_p", "repeat_penalty", "repetition_penalty", "max_tokens"] {
            assert!(openai.get(name).is_none(), "{name}");
        }
    }

    #[test]
    fn switch_for_reasoning_and_a_continued_answer_are_asked_for_as_each_server_knows_them() {
        let mut request = request();
        request.think = Some(false);
        request.messages.push(ChatMessage::new(Role::Assistant, "Well,"));
        let of = |dialect| body(&request, &Server::default(), &known(dialect));
        assert_eq!(of(Dialect::Vllm)["chat_template_kwargs"], json!({"enable_thinking": false}));
        assert_eq!(of(Dialect::Vllm)["continue_final_message"], json!(true));
        assert_eq!(of(Dialect::OpenRouter)["reasoning"], json!({"enabled": false}));
        assert_eq!(of(Dialect::Ollama)["reasoning_effort"], json!("none"));
        assert!(of(Dialect::Unknown).get("continue_final_message").is_none());
    }

    #[test]
    fn fields_of_the_user_replace_all_others() {
        let extra = json!({"ttl": 300, "stream_options": null});
        let server = Server { extra: extra.as_object().cloned().unwrap_or_default(), ..Server::default() };
        let body = body(&request(), &server, &known(Dialect::LmStudio));
        assert_eq!((&body["ttl"], &body["stream_options"]), (&json!(300), &Value::Null));
    }

    /// A4.19.
    #[test]
    fn refused_field_is_found_and_left_out() {
        let mut request = request();
        request.sampling.top_k = Some(40);
        request.sampling.seed = Some(1);
        request.max_tokens = Some(5);
        let mut known = known(Dialect::Unknown);
        let sent = body(&request, &Server::default(), &known);
        let cases = [
            ("Unrecognized request argument supplied: top_k", Some("top_k")),
            ("body.stream_options: Extra inputs are not permitted", Some("stream_options")),
            ("'seed' is not supported", Some("seed")),
            ("seeds are fine, my_seed too", None),
            ("min_p: Extra inputs", None),
            ("'max_tokens' is not supported. Use 'max_completion_tokens' instead.", Some("max_tokens")),
            ("max_tokens is too large: 5", None),
            ("messages: too many", None),
        ];
        for (text, expected) in cases {
            assert_eq!(refused_field(&sent, text).as_deref(), expected, "{text}");
        }
        known.refused = ["top_k", "stream_options", "max_tokens"].map(str::to_owned).into();
        let again = body(&request, &Server::default(), &known);
        assert!(again.get("top_k").is_none() && again.get("stream_options").is_none());
        assert_eq!((again.get("max_tokens"), &again["max_completion_tokens"]), (None, &json!(5)));
    }
}
