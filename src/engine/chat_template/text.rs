//! Formats values as Python does if minijinja differs: floats, also inside lists and maps.

use std::fmt::{self, Write};

use minijinja::value::{Value, ValueKind};

/// Values nested deeper than this are formatted by minijinja.
const MAX_DEPTH: usize = 256;

/// Python's `repr` of a float.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    let text = format!("{number:?}");
    // Rust switches to exponents at the same values, but writes them without sign and padding.
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

fn as_float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer()).then(|| f64::try_from(value.clone()).ok())?
}

/// Whether minijinja's output for `value` differs from Python's.
fn holds_float(value: &Value, depth: usize) -> bool {
    match value.kind() {
        ValueKind::Number => !value.is_integer(),
        _ if depth > MAX_DEPTH => false,
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().is_ok_and(|mut items| items.any(|item| holds_float(&item, depth + 1)))
        }
        ValueKind::Map => value.try_iter().is_ok_and(|mut keys| {
            keys.any(|key| {
                holds_float(&key, depth + 1) || value.get_item(&key).is_ok_and(|item| holds_float(&item, depth + 1))
            })
        }),
        _ => false,
    }
}

/// Writes Python's `str(value)`.
pub fn write(out: &mut dyn Write, value: &Value) -> fmt::Result {
    if holds_float(value, 0) { write_quoted(out, value) } else { write!(out, "{value}") }
}

/// Python's `str(value)`.
pub fn str(value: &Value) -> String {
    let mut text = String::new();
    // Writing to a String never fails.
    let _ = write(&mut text, value);
    text
}

/// Python's `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut text = String::new();
    let _ = if holds_float(value, 0) { write_quoted(&mut text, value) } else { write!(text, "{value:?}") };
    text
}

fn write_quoted(out: &mut dyn Write, value: &Value) -> fmt::Result {
    if let Some(number) = as_float(value) {
        return out.write_str(&float(number));
    }
    let items = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.try_iter().map_err(|_| fmt::Error)?,
        _ => return write!(out, "{value:?}"),
    };
    let is_map = value.kind() == ValueKind::Map;
    let (open, close) = if is_map {
        ("{", "}")
    } else if value.is_tuple() {
        ("(", ")")
    } else {
        ("[", "]")
    };
    out.write_str(open)?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_quoted(out, &item)?;
        if is_map {
            out.write_str(": ")?;
            write_quoted(out, &value.get_item(&item).unwrap_or_default())?;
        }
    }
    if value.is_tuple() && value.len() == Some(1) {
        out.write_str(",")?;
    }
    out.write_str(close)
}
