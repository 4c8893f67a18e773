//! Reads conversations of other programs: ChatGPT's `conversations.json`, and lists of messages with roles, as the APIs
//! of OpenAI and others have them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::imported::{Imported, Origin};
use crate::conversation::{Answer, Conversation, ConversationId, Ending, Turn, TurnId};
use crate::protocol::{FinishReason, Usage};

type Read<T> = Result<T, String>;

/// Turns in the order in which they are read; each follows its parent.
#[derive(Default)]
struct Reader {
    system: Option<String>,
    turns: Vec<Turn>,
    origins: Vec<Origin>,
}

/// The place in a branch: the last turn, and a question that has no answer yet.
#[derive(Clone, Default)]
struct Place {
    parent: Option<TurnId>,
    question: Option<String>,
    asked_ms: Option<u64>,
}

impl Reader {
    /// Takes the next message of the branch; returns the place after it.
    fn message(&mut self, place: Place, role: &str, text: String, model: &str, at_ms: Option<u64>) -> Place {
        if text.trim().is_empty() {
            return place;
        }
        match role {
            "system" | "developer" if place.parent.is_none() && place.question.is_none() => {
                self.system.get_or_insert(text);
                place
            }
            "user" => {
                let question = place.question.map_or_else(String::new, |earlier| earlier + "\n\n") + &text;
                Place { question: Some(question), asked_ms: place.asked_ms.or(at_ms), ..place }
            }
            "assistant" => match (place.question, place.parent) {
                // An answer in several messages, for example around a call of a tool.
                (None, Some(last)) => {
                    let answer = &mut self.turns[last.0].answer.text;
                    answer.push_str("\n\n");
                    answer.push_str(&text);
                    Place { parent: place.parent, ..Place::default() }
                }
                (question, parent) => {
                    let ending = Ending::Finished { reason: FinishReason::Stop, usage: Usage::default(), timing: None };
                    let answer = Answer { text, ending, ..Answer::default() };
                    self.turn(parent, question.unwrap_or_default(), model, answer, place.asked_ms.or(at_ms))
                }
            },
            // Tool output and the like is no part of a conversation here.
            _ => place,
        }
    }

    fn turn(
        &mut self,
        parent: Option<TurnId>,
        prompt: String,
        model: &str,
        answer: Answer,
        asked_ms: Option<u64>,
    ) -> Place {
        self.turns.push(Turn { parent, prompt, model: model.to_owned(), answer, ..Turn::default() });
        self.origins.push(Origin { asked_ms, ..Origin::default() });
        Place { parent: Some(TurnId(self.turns.len() - 1)), ..Place::default() }
    }

    /// Ends a branch: a question without an answer becomes a turn. Returns the last turn.
    fn end(&mut self, place: Place) -> Option<TurnId> {
        let Some(question) = place.question else { return place.parent };
        let answer = Answer { ending: Ending::Interrupted, ..Answer::default() };
        self.turn(place.parent, question, "", answer, place.asked_ms).parent
    }

    fn conversation(self, head: Option<TurnId>) -> Read<Imported> {
        if self.turns.is_empty() {
            return Err("it has no question and no answer".into());
        }
        let head = head.or(Some(TurnId(self.turns.len() - 1)));
        let conversation = Conversation::new(ConversationId::default(), self.system).restored(self.turns, head);
        Ok(Imported { conversation, origins: self.origins, ..Imported::default() })
    }
}

/// Whether it is an object with a role and content.
pub(super) fn is_message(value: &Value) -> bool {
    value.get("role").is_some_and(Value::is_string) && value.get("content").is_some()
}

/// A list of messages.
pub(super) fn messages(messages: &[Value]) -> Read<Imported> {
    let mut reader = Reader::default();
    let mut place = Place::default();
    for (number, message) in messages.iter().enumerate() {
        if !is_message(message) {
            return Err(format!("message {} has no role or no content", number + 1));
        }
        let role = message["role"].as_str().unwrap_or_default();
        place = reader.message(place, role, content(&message["content"]), model(message), None);
    }
    let head = reader.end(place);
    reader.conversation(head)
}

fn model(value: &Value) -> &str {
    value["model"].as_str().unwrap_or_default()
}

/// A text, or the texts of a list of parts; other parts are left out.
fn content(value: &Value) -> String {
    let part = |part: &Value| part.as_str().or_else(|| part["text"].as_str()).map(str::to_owned);
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(part).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// One conversation of `conversations.json`: a tree of messages in `mapping`.
pub(super) fn chatgpt(value: &Value) -> Read<Imported> {
    let nodes = value["mapping"].as_object().ok_or("\"mapping\" is not an object")?;
    let current = value["current_node"].as_str().unwrap_or_default();
    let mut reader = Reader::default();
    let mut head = None;
    let mut seen = HashSet::new();
    let mut stack: Vec<(&str, Place)> = roots(nodes).map(|id| (id, Place::default())).collect();
    while let Some((id, place)) = stack.pop() {
        let Some(node) = nodes.get(id).filter(|_| seen.insert(id)) else { continue };
        let children = || node["children"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut place = node_message(&mut reader, place, &node["message"]);
        if id == current || children().next().is_none() {
            let last = reader.end(place);
            if id == current {
                head = last;
            }
            place = Place { parent: last, ..Place::default() };
        }
        // The stack is taken from its end: the first child comes first.
        stack.extend(children().map(|child| (child, place.clone())).collect::<Vec<_>>().into_iter().rev());
    }
    let mut imported = reader.conversation(head)?;
    imported.conversation.title = value["title"].as_str().filter(|title| !title.trim().is_empty()).map(str::to_owned);
    (imported.created_ms, imported.changed_ms) = (millis(&value["create_time"]), millis(&value["update_time"]));
    Ok(imported)
}

fn roots(nodes: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let is_root = |node: &Value| node["parent"].as_str().is_none_or(|parent| !nodes.contains_key(parent));
    nodes.iter().filter(move |(_, node)| is_root(node)).map(|(id, _)| id.as_str())
}

fn node_message(reader: &mut Reader, place: Place, message: &Value) -> Place {
    let role = message["author"]["role"].as_str().unwrap_or_default();
    let kind = message["content"]["content_type"].as_str().unwrap_or("text");
    if !matches!(kind, "text" | "multimodal_text" | "code") {
        return place;
    }
    let text = match &message["content"]["parts"] {
        Value::Null => content(&message["content"]["text"]),
        parts => content(parts),
    };
    let model = message["metadata"]["model_slug"].as_str().unwrap_or_default();
    reader.message(place, role, text, model, millis(&message["create_time"]))
}

/// Seconds since 1970 as milliseconds.
fn millis(seconds: &Value) -> Option<u64> {
    seconds.as_f64().filter(|seconds| (0.0..1e11).contains(seconds)).map(|seconds| (seconds * 1000.0) as u64)
}
