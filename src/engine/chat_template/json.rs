//! `tojson` as transformers defines it: Python's `json.dumps(value, ensure_ascii=False, …)`.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State};

use super::budget::pay_for_lines;

/// Values nested deeper than this are an error.
const MAX_DEPTH: usize = 64;

/// The options of `json.dumps`.
struct Layout {
    ensure_ascii: bool,
    indent: Option<String>,
    between: String,
    after_key: String,
    sort_keys: bool,
}

/// The filter. `ensure_ascii`, `indent` and `separators` may be positional or keywords; `sort_keys` is a keyword.
pub fn tojson(state: &mut State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    let (ensure_ascii, indent, separators, keywords): (Option<bool>, Option<Value>, Option<Value>, Kwargs) =
        from_args(&args)?;
    let ensure_ascii = ensure_ascii.or(keywords.get("ensure_ascii")?).unwrap_or(false);
    let indent = indent.or(keywords.get("indent")?).filter(|value| !value.is_none());
    let separators = separators.or(keywords.get("separators")?).filter(|value| !value.is_none());
    let sort_keys = keywords.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    keywords.assert_all_used()?;
    let indent = match indent {
        Some(value) if value.as_str().is_some() => Some(short(value.as_str().unwrap_or_default())?),
        Some(value) => Some(" ".repeat(usize::try_from(value)?.min(32))),
        None => None,
    };
    pay_for_lines(state, value, indent.as_ref().map_or(0, String::len))?;
    let (between, after_key) = match separators {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let layout = Layout { ensure_ascii, indent, between, after_key, sort_keys };
    let mut text = String::new();
    write(value, &layout, 0, &mut text)?;
    Ok(text)
}

fn separator(pair: &Value, index: usize) -> Result<String, Error> {
    let item = pair.get_item(&Value::from(index))?;
    let no_text = || Error::new(ErrorKind::InvalidOperation, "separators must be two strings");
    short(item.as_str().ok_or_else(no_text)?)
}

/// Limits indentation and separators to 32 bytes, since they are repeated for each item.
fn short(text: &str) -> Result<String, Error> {
    const MAX_BYTES: usize = 32;
    if text.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::InvalidOperation, "the indentation or a separator is too long"));
    }
    Ok(text.to_owned())
}

fn write(value: &Value, layout: &Layout, depth: usize, text: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply for JSON"));
    }
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, text)?,
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), layout, text),
        ValueKind::Map => write_map(value, layout, depth, text)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(('[', ']'), layout, depth, items.len(), text, |index, text| {
                write(&items[index], layout, depth + 1, text)
            })?;
        }
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("a value of type {kind} is not JSON"))),
    }
    Ok(())
}

fn write_map(value: &Value, layout: &Layout, depth: usize, text: &mut String) -> Result<(), Error> {
    let mut entries = Vec::new();
    for key in value.try_iter()? {
        let name = match key.kind() {
            // Python writes these keys as JSON literals.
            ValueKind::Bool => key.is_true().to_string(),
            ValueKind::None => "null".to_owned(),
            _ => key.as_str().map_or_else(|| key.to_string(), str::to_owned),
        };
        entries.push((name, value.get_item(&key)?));
    }
    if layout.sort_keys {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    write_items(('{', '}'), layout, depth, entries.len(), text, |index, text| {
        let (name, value) = &entries[index];
        write_string(name, layout, text);
        text.push_str(&layout.after_key);
        write(value, layout, depth + 1, text)
    })
}

/// Writes the brackets, separators and line breaks around `count` items.
fn write_items(
    (open, close): (char, char),
    layout: &Layout,
    depth: usize,
    count: usize,
    text: &mut String,
    mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |depth: usize, text: &mut String| {
        if let Some(indent) = &layout.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    };
    text.push(open);
    for index in 0..count {
        if index > 0 {
            text.push_str(&layout.between);
        }
        line(depth + 1, text);
        item(index, text)?;
    }
    if count > 0 {
        line(depth, text);
    }
    text.push(close);
    Ok(())
}

/// Writes integers in decimal, floats as Python's `repr` does.
fn write_number(value: &Value, text: &mut String) -> Result<(), Error> {
    if value.is_integer() {
        text.push_str(&value.to_string());
        return Ok(());
    }
    let number = f64::try_from(value.clone())?;
    if number.is_nan() {
        text.push_str("NaN");
    } else if number.is_infinite() {
        text.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        text.push_str(&super::text::float(number));
    }
    Ok(())
}

fn write_string(string: &str, layout: &Layout, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            c if (c as u32) < 0x20 => text.push_str(&format!("\\u{:04x}", c as u32)),
            c if layout.ensure_ascii && !c.is_ascii() && c != '\u{7f}' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
