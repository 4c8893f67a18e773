//! JSON output in which control characters and invisible characters are escaped, also those that JSON leaves raw.

use std::fmt::Write;

use serde_json::Value;

use super::{is_harmful, is_ignorable};

/// `value` as JSON on one line.
pub fn json(value: &Value) -> String {
    escape(&value.to_string())
}

/// `value` as indented JSON.
pub fn json_pretty(value: &Value) -> String {
    escape(&format!("{value:#}"))
}

/// Writes every such character of a JSON text as `\uXXXX` (above U+FFFF as two, RFC 8259 section 7). They occur only in
/// strings, so the parsed value stays the same.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !must_be_escaped(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Control characters (except the newlines between JSON tokens), bidi controls, line separators and invisible
/// characters.
fn must_be_escaped(c: char) -> bool {
    let marks = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}');
    c != '\n' && (is_harmful(c) || is_ignorable(c) || marks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_parse_back_unchanged() {
        let text = "a\u{9b}31m\u{85}\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{feff}\u{e0041}\x1b[0m\n日本 👩\u{200d}🚀 \u{fffd}";
        let value = serde_json::json!({ text: [text] });
        for written in [json(&value), json_pretty(&value)] {
            assert!(!written.contains(|c| c != '\n' && must_be_escaped(c)), "{written:?}");
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
        assert!(json(&value).contains(r"\u009b31m\u0085\u007f\u202e"));
        assert!(json(&value).contains(r"\udb40\udc41"));
        assert!(json(&value).contains("日本 👩\u{200d}🚀"), "text stays readable");
    }

    proptest! {
        #[test]
        fn any_text_parses_back_unchanged(text in any::<String>()) {
            let value = Value::String(text);
            prop_assert_eq!(serde_json::from_str::<Value>(&json(&value)).unwrap(), value);
        }
    }
}
