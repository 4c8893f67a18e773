//! One JSON value of an answer → text, counts, the reason of the end, or an error. No field is required, and none has to
//! have the type that it should have.

use serde_json::Value;

use super::problem;
use super::sse::Event;
use super::usage::Counts;
use crate::protocol::Channel;

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `[DONE]`.
    Done,
    /// The server failed.
    Problem(String),
    /// A part of the answer.
    Part(Box<Part>),
    /// Nothing about the answer.
    Other,
}

/// A part of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Texts in order; none is empty.
    pub texts: Vec<(Channel, String)>,
    /// Why the answer ended.
    pub finish: Option<String>,
    /// Counts so far.
    pub counts: Counts,
    /// Pieces of tool calls, which nobody asked for.
    pub tools: Vec<ToolPiece>,
    /// Prompt tokens that are evaluated, and their total.
    pub prefill: Option<(usize, usize)>,
}

/// A piece of a tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolPiece {
    /// Which call.
    pub index: u64,
    /// The function's name, in the first piece.
    pub name: String,
    /// A piece of its arguments.
    pub arguments: String,
}

/// What `event` of a stream says. Data of several lines that are no JSON together count line by line: some servers leave
/// out the empty line.
pub fn of_event(event: &Event) -> Vec<Frame> {
    match of_data(event.data.trim(), event.name == "error") {
        Some(frame) => vec![frame],
        None => event.data.lines().filter_map(|line| of_data(line.trim(), event.name == "error")).collect(),
    }
}

/// What a whole answer says, a JSON value without a stream.
pub fn of_whole(text: &str) -> Option<Frame> {
    serde_json::from_str(text.trim()).ok().map(|value: Value| of_value(&value, false))
}

fn of_data(data: &str, is_error: bool) -> Option<Frame> {
    if data == "[DONE]" {
        return Some(Frame::Done);
    }
    if data.is_empty() {
        return Some(Frame::Other);
    }
    match serde_json::from_str(data) {
        Ok(value) => Some(of_value(&value, is_error)),
        Err(_) if is_error => Some(Frame::Problem(problem::of_body(data).unwrap_or_default())),
        Err(_) => None,
    }
}

fn of_value(value: &Value, is_error: bool) -> Frame {
    if let Some(text) = problem::of_json(value) {
        return Frame::Problem(text);
    }
    if is_error {
        // llama-server of 2025 writes the error itself, without the key around it.
        let text = problem::of_body(&value.to_string());
        return Frame::Problem(text.unwrap_or_else(|| "the server reported an error without a text".into()));
    }
    if !value.is_object() {
        return Frame::Other;
    }
    let mut part = Part { counts: Counts::read(value), prefill: prefill(&value["prompt_progress"]), ..Part::default() };
    if let Some(choice) = first_choice(value) {
        part.finish = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned);
        for key in ["delta", "message"] {
            read_delta(&choice[key], &mut part);
        }
        push_text(&mut part.texts, Channel::Answer, &choice["text"]);
    }
    Frame::Part(Box::new(part))
}

fn first_choice(value: &Value) -> Option<&Value> {
    let choices = value["choices"].as_array()?;
    choices.iter().find(|choice| choice["index"].as_u64().is_none_or(|index| index == 0))
}

fn prefill(progress: &Value) -> Option<(usize, usize)> {
    let count = |key: &str| progress[key].as_u64().and_then(|count| usize::try_from(count).ok());
    count("processed").zip(count("total"))
}

fn read_delta(delta: &Value, part: &mut Part) {
    // Servers that changed the name write both.
    let reasoning = ["reasoning", "reasoning_content"].iter().find(|key| is_text(&delta[**key]));
    if let Some(key) = reasoning {
        push_text(&mut part.texts, Channel::Reasoning, &delta[*key]);
    }
    match &delta["content"] {
        Value::Array(pieces) => pieces.iter().for_each(|piece| push_piece(&mut part.texts, piece)),
        content => push_text(&mut part.texts, Channel::Answer, content),
    }
    push_text(&mut part.texts, Channel::Answer, &delta["refusal"]);
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        part.tools.push(tool(call["index"].as_u64().unwrap_or(0), &call["function"]));
    }
    if delta["function_call"].is_object() {
        part.tools.push(tool(0, &delta["function_call"]));
    }
}

fn tool(index: u64, function: &Value) -> ToolPiece {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    ToolPiece { index, name: text(&function["name"]), arguments: text(&function["arguments"]) }
}

/// A part of a content that is a list: text, or Mistral's `thinking`.
fn push_piece(texts: &mut Vec<(Channel, String)>, piece: &Value) {
    push_text(texts, Channel::Answer, piece);
    push_text(texts, Channel::Answer, &piece["text"]);
    match &piece["thinking"] {
        Value::Array(thoughts) => {
            thoughts.iter().for_each(|thought| push_text(texts, Channel::Reasoning, &thought["text"]));
        }
        thought => push_text(texts, Channel::Reasoning, thought),
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn push_text(texts: &mut Vec<(Channel, String)>, channel: Channel, value: &Value) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        texts.push((channel, text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic)]

    use super::*;

    fn part(data: &str) -> Part {
        match of_event(&Event { name: String::new(), data: data.to_owned() }).pop() {
            Some(Frame::Part(part)) => *part,
            other => panic!("{data}: {other:?}"),
        }
    }

    fn answer(text: &str) -> (Channel, String) {
        (Channel::Answer, text.to_owned())
    }

    fn reasoning(text: &str) -> (Channel, String) {
        (Channel::Reasoning, text.to_owned())
    }

    /// A4.13 and A4.14.
    #[test]
    fn texts_are_found_in_every_form_of_a_delta() {
        let cases = [
            (r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, vec![]),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, vec![]),
            (r#"{"choices":[{"delta":{}}]}"#, vec![]),
            (r#"{"choices":[{"delta":null}]}"#, vec![]),
            (r#"{"choices":[]}"#, vec![]),
            (r#"{"choices":null}"#, vec![]),
            (r#"{"cost":"0.1"}"#, vec![]),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, vec![answer("a")]),
            (
                r#"{"choices":[{"index":1,"delta":{"content":"b"}},{"index":0,"delta":{"content":"a"}}]}"#,
                vec![answer("a")],
            ),
            (
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}}]}"#,
                vec![reasoning("hm"), answer("a")],
            ),
            (r#"{"choices":[{"delta":{"content":["a","b"]}}]}"#, vec![answer("a"), answer("b")]),
            (r#"{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r","content":""}}]}"#, vec![reasoning("r")]),
            (r#"{"choices":[{"delta":{"reasoning":null,"reasoning_content":"r"}}]}"#, vec![reasoning("r")]),
            (r#"{"choices":[{"delta":{"reasoning":{"x":1},"content":7}}]}"#, vec![]),
            (r#"{"choices":[{"delta":{"refusal":"I will not."}}]}"#, vec![answer("I will not.")]),
            (r#"{"choices":[{"message":{"reasoning":"r","content":"a"}}]}"#, vec![reasoning("r"), answer("a")]),
            (r#"{"choices":[{"text":"a"}]}"#, vec![answer("a")]),
        ];
        for (data, expected) in cases {
            assert_eq!(part(data).texts, expected, "{data}");
        }
    }

    /// A4.14.
    #[test]
    fn tool_calls_are_read() {
        let data =
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"name":"f","arguments":"{\"a\""}}]}}]}"#;
        let expected = ToolPiece { index: 1, name: "f".into(), arguments: "{\"a\"".into() };
        assert_eq!(part(data).tools, [expected]);
        let old = r#"{"choices":[{"delta":{"function_call":{"name":"g","arguments":{"x":1}}}}]}"#;
        assert_eq!(part(old).tools, [ToolPiece { index: 0, name: "g".into(), arguments: "{\"x\":1}".into() }]);
    }

    /// A4.11.
    #[test]
    fn reason_is_read_unless_it_is_null_or_empty() {
        let cases = [("null", None), ("\"\"", None), ("\"stop\"", Some("stop")), ("\"eos\"", Some("eos")), ("3", None)];
        for (reason, expected) in cases {
            let data = format!(r#"{{"choices":[{{"delta":{{"content":"end"}},"finish_reason":{reason}}}]}}"#);
            let part = part(&data);
            assert_eq!((part.finish.as_deref(), part.texts.len()), (expected, 1), "{data}");
        }
    }

    /// A4.15.
    #[test]
    fn errors_are_read_in_every_place() {
        let of = |name: &str, data: &str| of_event(&Event { name: name.into(), data: data.into() });
        let problem = |text: &str| vec![Frame::Problem(text.into())];
        assert_eq!(of("", r#"{"error":{"message":"boom"},"choices":[{"finish_reason":"error"}]}"#), problem("boom"));
        assert_eq!(of("error", r#"{"code":500,"message":"boom","type":"server_error"}"#), problem("boom"));
        assert_eq!(of("error", "boom"), problem("boom"));
        assert_eq!(of("", "[DONE]"), [Frame::Done]);
        assert_eq!(of("keepalive", ""), [Frame::Other]);
        assert_eq!(of("", "not JSON"), []);
    }

    /// A4.9.
    #[test]
    fn frames_without_an_empty_line_between_them_count_one_by_one() {
        let data =
            "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n[DONE]";
        let frames = of_event(&Event { name: String::new(), data: data.into() });
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[2], Frame::Done);
    }

    #[test]
    fn progress_of_the_prefill_is_read() {
        assert_eq!(
            part(r#"{"prompt_progress":{"total":10,"cache":2,"processed":4,"time_ms":1}}"#).prefill,
            Some((4, 10))
        );
        assert_eq!(part(r#"{"prompt_progress":{"total":10}}"#).prefill, None);
    }
}
