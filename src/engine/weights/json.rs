//! JSON as Python's `json` reads and writes it: with `NaN`, `Infinity`, `-Infinity` and numbers beyond the range of a
//! double.
//!
//! They are parsed as strings of those names: under an unused key they are harmless, and in place of a required number
//! they are a type error.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Parses `text`, with or without a byte order mark. If it has none of those values, error positions refer to `text`.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let error = match serde_json::from_slice(text) {
        Err(error) if error.is_syntax() => error,
        done => return done,
    };
    match spelled_out(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_slice(&text),
    }
}

/// Replaces those values by strings; borrowed if `text` has none.
fn spelled_out(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        if text[at] == b'"' {
            at = end_of_string(text, at);
            continue;
        }
        let word = &text[at..];
        let length = word.iter().position(|byte| !is_word(*byte)).unwrap_or(word.len());
        if let Some(name) = name_of(&word[..length]) {
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(name.as_bytes());
            copied = at + length;
        }
        at += length.max(1);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[copied..]);
    Cow::Owned(out)
}

/// Position behind the string that opens at `at`.
fn end_of_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_')
}

/// The JSON string that replaces `word`; `None` if it is not one of those values.
fn name_of(word: &[u8]) -> Option<&'static str> {
    match word {
        b"NaN" => Some("\"NaN\""),
        b"Infinity" => Some("\"Infinity\""),
        b"-Infinity" => Some("\"-Infinity\""),
        _ => {
            let digits = word.strip_prefix(b"-").unwrap_or(word);
            let number = digits.first().filter(|first| first.is_ascii_digit()).map(|_| str::from_utf8(word));
            match number?.ok()?.parse::<f64>() {
                Ok(f64::INFINITY) => Some("\"Infinity\""),
                Ok(f64::NEG_INFINITY) => Some("\"-Infinity\""),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::{Value, json};

    fn read(text: &str) -> Value {
        from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn nan_and_infinities_are_parsed_as_strings() {
        assert_eq!(read("NaN"), json!("NaN"));
        assert_eq!(read("[0.0, Infinity]"), json!([0.0, "Infinity"]));
        assert_eq!(read("{\"a\":-Infinity,\"b\": NaN }"), json!({"a": "-Infinity", "b": "NaN"}));
        assert_eq!(read("[1e999, -1e999, 1e5, 12345678901234567890123]")[0], json!("Infinity"));
        assert_eq!(read("\u{FEFF}{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(read(r#"{"a\"NaN": "x, NaN, Infinity \\", "b": NaN}"#)["a\"NaN"], json!("x, NaN, Infinity \\"));
    }

    #[test]
    fn invalid_json_is_an_error() {
        for text in ["", "{", "nan", "NaNs", "[Infinity", "{\"a\": +Infinity}", "\"", "\"\\", "[1e9e9]"] {
            assert!(from_slice::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
