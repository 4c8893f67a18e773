//! The text of an error in the shapes that servers use. All of it is foreign text.

use serde_json::Value;

/// Most characters of a server's text in a message.
const MAX_CHARS: usize = 400;

/// The error that a JSON value reports; `None` if it reports none.
pub fn of_json(value: &Value) -> Option<String> {
    match &value["error"] {
        Value::String(text) if !text.trim().is_empty() => return Some(clip(text)),
        Value::Object(error) => return Some(of_object(error)),
        Value::Array(_) | Value::Number(_) | Value::Bool(true) => return Some(clip(&value["error"].to_string())),
        Value::Null | Value::Bool(false) | Value::String(_) => {}
    }
    let is_error = value["object"] == "error" || value["type"] == "error";
    if !is_error && (value.get("choices").is_some() || value.get("usage").is_some()) {
        return None;
    }
    let text = detail(&value["detail"]).or_else(|| text_of(&value["message"]));
    text.or_else(|| is_error.then(|| "the server reported an error without a text".to_owned()))
}

/// The text of the body of a failed request; `None` if it has none that helps.
pub fn of_body(body: &str) -> Option<String> {
    let text = body.trim();
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return of_json(&value).or_else(|| text_of(&value)).or_else(|| value.is_object().then(|| clip(text)));
    }
    let start: String = text.chars().take(200).collect::<String>().to_ascii_lowercase();
    if start.starts_with('<') {
        return title(text).map(|title| format!("a web page: {title}")).or_else(|| Some("a web page".to_owned()));
    }
    (!text.is_empty()).then(|| clip(text))
}

/// Whether `text` says that the prompt is longer than the context.
pub fn is_overflow(text: &str) -> bool {
    const SIGNS: [&str; 7] = [
        "context length",
        "context size",
        "context window",
        "context_length",
        "exceed_context",
        "maximum context",
        "prompt is too long",
    ];
    let text = text.to_ascii_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

fn of_object(error: &serde_json::Map<String, Value>) -> String {
    let field = |key: &str| error.get(key).and_then(text_of);
    let text = field("message").or_else(|| field("msg")).or_else(|| field("detail")).or_else(|| field("type"));
    let text = text.or_else(|| error.get("code").filter(|code| !code.is_null()).map(|code| format!("code {code}")));
    let cause = error.get("metadata").and_then(|metadata| text_of(&metadata["raw"]));
    let text = text.unwrap_or_else(|| "the server reported an error without a text".to_owned());
    match cause {
        Some(cause) if cause != text => clip(&format!("{text}: {cause}")),
        _ => text,
    }
}

/// FastAPI's `detail`: a text, or a list of what is wrong with which field.
fn detail(value: &Value) -> Option<String> {
    let Value::Array(all) = value else { return text_of(value) };
    let one = |item: &Value| {
        let place: Vec<_> = item["loc"].as_array().into_iter().flatten().map(plain).collect();
        let text = text_of(&item["msg"])?;
        Some(if place.is_empty() { text } else { format!("{}: {text}", place.join(".")) })
    };
    let texts: Vec<String> = all.iter().filter_map(one).collect();
    (!texts.is_empty()).then(|| clip(&texts.join("; ")))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.trim().is_empty()).map(clip)
}

fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    text_of(&Value::String(page.get(start..end)?.trim().to_owned()))
}

fn clip(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    /// A4.15.
    #[test]
    fn every_shape_of_an_error_is_read() {
        let cases = [
            (r#"{"error":{"message":"no","type":"x","param":null,"code":400}}"#, Some("no")),
            (r#"{"error":{"code":503,"type":"unavailable_error"}}"#, Some("unavailable_error")),
            (r#"{"error":{"code":7}}"#, Some("code 7")),
            (r#"{"error":{}}"#, Some("the server reported an error without a text")),
            (r#"{"error":"no such model"}"#, Some("no such model")),
            (
                r#"{"error":{"message":"Provider returned error","metadata":{"raw":"busy"}}}"#,
                Some("Provider returned error: busy"),
            ),
            (r#"{"object":"error","message":"too long","code":400}"#, Some("too long")),
            (r#"{"detail":"Not Found"}"#, Some("Not Found")),
            (r#"{"detail":[{"loc":["body","min_p",0],"msg":"Extra inputs"}]}"#, Some("body.min_p.0: Extra inputs")),
            (r#"{"message":"no key"}"#, Some("no key")),
            (r#""just a text""#, Some("just a text")),
            (r#"{"strange":1}"#, Some(r#"{"strange":1}"#)),
            ("<!DOCTYPE html>\n<html><head><TITLE> 503 Warming up </TITLE>", Some("a web page: 503 Warming up")),
            ("<html></html>", Some("a web page")),
            ("upstream connect error\n", Some("upstream connect error")),
            ("  \n", None),
        ];
        for (body, expected) in cases {
            assert_eq!(of_body(body).as_deref(), expected, "{body}");
        }
        let long = of_body(&"é".repeat(9000)).expect("a text");
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn frame_without_an_error_is_none() {
        let frames = [
            r#"{"choices":[],"error":null}"#,
            r#"{"choices":[{"delta":{}}],"message":"hello"}"#,
            r#"{"usage":{"cost":1},"message":"x"}"#,
            r#"{"error":""}"#,
            "{}",
            "[]",
        ];
        for frame in frames {
            let value: Value = serde_json::from_str(frame).expect("JSON");
            assert_eq!(of_json(&value), None, "{frame}");
        }
    }

    /// A4.16.
    #[test]
    fn overflow_is_recognised_by_its_text() {
        assert!(is_overflow("This model's maximum context length is 8192 tokens."));
        assert!(is_overflow("the request exceeds the available context size"));
        assert!(!is_overflow("no such model"));
    }
}
