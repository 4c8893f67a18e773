//! Python's and Jinja2's methods, filters and tests that minijinja lacks or implements differently. Each charges the
//! budget for its result.

use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

use super::budget::{self, afford, pay_for, pay_for_lines};
use super::{percent, text};

/// Limit for the width of padding and of format fields, in characters.
const MAX_WIDTH: usize = 100_000;

/// For minijinja's own filters, called by the replacements here.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// Adds the methods, filters and tests.
pub fn install(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment
        .add_filter("center", |text: String, width: Option<usize>| pad(&text, width.unwrap_or(80), " ", true, true));
    environment.add_filter("wordcount", |text: String| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
    });
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    // Not in Jinja2. Their results are views of lists, and nested views could overflow the stack.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.add_filter("string", |state: &mut State<'_, '_>, value: &Value| {
        pay_for(state, value)?;
        Ok(text::str(value))
    });
    environment.add_filter("pprint", |state: &mut State<'_, '_>, value: &Value| {
        pay_for_lines(state, value, 4)?;
        PLAIN.empty_state().apply_filter("pprint", std::slice::from_ref(value))
    });
    environment.add_filter("join", join);
    environment.add_filter("truncate", truncate);
    environment.add_filter("format", format);
}

fn too_wide<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("a width or a number above {MAX_WIDTH} is not supported")))
}

/// Rejects a `str.format` template with a field wider than `MAX_WIDTH`.
fn narrow(format: &str) -> Result<(), Error> {
    let wide = |digits: &str| digits.parse::<usize>().map_or(!digits.is_empty(), |width| width > MAX_WIDTH);
    if format.split(|c: char| !c.is_ascii_digit()).any(wide) || format.contains('*') { too_wide() } else { Ok(()) }
}

/// minijinja's own filter, with floats formatted as Python does.
fn join(state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    let missing = || Error::from(ErrorKind::MissingArgument);
    let items = args.first().ok_or_else(missing)?.clone();
    joined(state, &items, args.get(1).and_then(Value::as_str).unwrap_or_default())?;
    let is_float = |item: &Value| item.kind() == ValueKind::Number && !item.is_integer();
    if items.try_iter().is_ok_and(|mut items| items.any(|item| is_float(&item))) {
        let written = |item: Value| if is_float(&item) { Value::from(text::str(&item)) } else { item };
        args[0] = items.try_iter()?.map(written).collect();
    }
    PLAIN.empty_state().apply_filter("join", &args)
}

/// Jinja2's `format`: `text % (keywords or args)`.
fn format(state: &mut State<'_, '_>, template: String, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    let values = match args.pop_if(|last| last.is_kwargs()) {
        None => percent::Values::Listed(args),
        Some(keywords) if args.is_empty() => percent::Values::Mapped(keywords),
        Some(_) => {
            let what = "positional and keyword arguments of format cannot be mixed";
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
    };
    percent::format(&template, values, budget::left(state))
}

/// Jinja2's filter: at most `length` characters, `end` included, cut between words; `leeway` more are not cut.
fn truncate(
    text: &str,
    length: Option<usize>,
    killwords: Option<bool>,
    args: Rest<ValueOrKwargs>,
) -> Result<String, Error> {
    let args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    let (end, leeway, keywords): (Option<String>, Option<usize>, Kwargs) = from_args(&args)?;
    let length = length.or(keywords.get("length")?).unwrap_or(255);
    let killwords = killwords.or(keywords.get("killwords")?).unwrap_or(false);
    let end = end.or(keywords.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = leeway.or(keywords.get("leeway")?).unwrap_or(5);
    keywords.assert_all_used()?;
    let short = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_owned());
    let kept =
        length.checked_sub(end.chars().count()).ok_or_else(|| short("the length is less than that of the end"))?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(kept).collect();
    let whole = if killwords { &cut } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words) };
    Ok(format!("{whole}{end}"))
}

fn joined(state: &mut State<'_, '_>, items: &Value, separator: &str) -> Result<(), Error> {
    pay_for(state, items)?;
    afford(state, separator.len().saturating_mul(items.len().unwrap_or(0)))
}

fn default(value: &Value, other: Option<Value>, boolean: Option<bool>, keywords: Kwargs) -> Result<Value, Error> {
    let other = other.or(keywords.get("default_value")?).unwrap_or_else(|| Value::from(""));
    let boolean = boolean.or(keywords.get("boolean")?).unwrap_or(false);
    keywords.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value.clone() })
}

/// As in Python, `none` is not iterable; in minijinja it is.
fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None => false,
        ValueKind::Undefined | ValueKind::String => true,
        _ => value.try_iter().is_ok(),
    }
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let made = match value.as_str() {
        Some(text) => string_method(state, text, name, args)?,
        None => other_method(value, name, args)?,
    };
    let made = match made {
        Some(made) => made,
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?,
    };
    // Methods of lists and maps return existing items, already charged for.
    if value.as_str().is_some() {
        pay_for(state, &made)?;
    }
    Ok(made)
}

/// Methods of `str` that minijinja-contrib lacks or implements differently; `None` for all others.
fn string_method(state: &mut State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, name == "rpartition")?
        }
        "split" | "rsplit" => {
            let (separator, most, keywords): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.or(keywords.get("sep")?);
            let most = most.or(keywords.get("maxsplit")?).and_then(|most| usize::try_from(most).ok());
            keywords.assert_all_used()?;
            split(text, separator, most, name == "rsplit")?
        }
        "index" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let found = if name == "index" { text.find(what) } else { text.rfind(what) };
            let missing = || Error::new(ErrorKind::InvalidOperation, "substring not found");
            Value::from(text[..found.ok_or_else(missing)?].chars().count())
        }
        "center" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            Value::from(pad(text, width, fill.unwrap_or(" "), name != "ljust", name != "rjust")?)
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let digits = pad(digits, width.saturating_sub(sign.len()), "0", true, false)?;
            Value::from(format!("{sign}{digits}"))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "join" => {
            if let Some(items) = args.first() {
                joined(state, items, text)?;
            }
            return Ok(None);
        }
        "format" => {
            narrow(text)?;
            return Ok(None);
        }
        _ => return Ok(None),
    }))
}

/// Methods of `list` and `dict`; `None` as above.
fn other_method(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match (value.kind(), name) {
        (ValueKind::Seq | ValueKind::Iterable, "index") => {
            let (what,): (&Value,) = from_args(args)?;
            let missing = || Error::new(ErrorKind::InvalidOperation, format!("{what:?} is not in the list"));
            Value::from(value.try_iter()?.position(|item| item == *what).ok_or_else(missing)?)
        }
        (ValueKind::Map, "copy") => {
            let () = from_args(args)?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

fn needs_separator() -> Error {
    Error::new(ErrorKind::InvalidOperation, "empty separator")
}

/// The text before the first or last `separator`, the separator, and the text after it.
fn partition(text: &str, separator: &str, last: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(needs_separator());
    }
    let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, behind)) => [before, separator, behind],
        None if last => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(minijinja::value::Tuple::from(parts.map(Value::from))))
}

/// Splits at `separator` or, without one, at runs of white space; at most `most` cuts, from one end.
fn split(text: &str, separator: Option<&str>, most: Option<usize>, from_right: bool) -> Result<Value, Error> {
    let most = most.unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(needs_separator()),
        // `splitn` counts parts, Python counts cuts.
        Some(separator) if from_right => text.rsplitn(most.saturating_add(1), separator).collect(),
        Some(separator) => text.splitn(most.saturating_add(1), separator).collect(),
        None => words(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(Value::from_iter(parts))
}

/// Words from one end; the rest after `most` of them is one more, with the white space at its far end.
fn words(mut text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    loop {
        text = if from_right { text.trim_end() } else { text.trim_start() };
        let cut = if from_right {
            text.rsplit_once(char::is_whitespace).map(|(rest, part)| (part, rest))
        } else {
            text.split_once(char::is_whitespace)
        };
        match cut {
            _ if text.is_empty() => return parts,
            Some((part, rest)) if parts.len() < most => {
                parts.push(part);
                text = rest;
            }
            _ => {
                parts.push(text);
                return parts;
            }
        }
    }
}

/// Pads `text` with `fill` before (`left`) and after it (`right`) to `width` characters.
fn pad(text: &str, width: usize, fill: &str, left: bool, right: bool) -> Result<String, Error> {
    if width > MAX_WIDTH || fill.chars().count() != 1 {
        return too_wide();
    }
    let missing = width.saturating_sub(text.chars().count());
    // CPython's rounding: the odd fill character goes to the left if the width is odd.
    let before = match (left, right) {
        (true, true) => missing / 2 + (missing & width & 1),
        (true, false) => missing,
        _ => 0,
    };
    Ok(format!("{}{text}{}", fill.repeat(before), fill.repeat(missing - before)))
}

/// Python's `title`: the first letter of each run of letters in upper case, all others in lower case.
fn title(text: &str) -> String {
    let mut follows = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if follows {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        follows = c.is_alphabetic();
    }
    titled
}
