//! Python's `text % values` ("printf-style String Formatting" in its library reference), which is also Jinja2's filter
//! `format`.

use minijinja::formatting::{FormatStyle, format as printf};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::text;

/// Maximum width and precision of a field.
const MAX_WIDTH: usize = 100_000;

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// The right side of `%`.
pub enum Values {
    /// Positional values (`%s`).
    Listed(Vec<Value>),
    /// A mapping for `%(name)s`; also the value of a single `%s`.
    Mapped(Value),
}

impl Values {
    /// Only a tuple is several values; everything else is one.
    pub fn of(value: Value) -> Result<Self, Error> {
        if value.is_tuple() {
            return Ok(Self::Listed(value.try_iter()?.collect()));
        }
        match value.kind() {
            // Python accepts any container as a mapping, as long as no key is looked up.
            ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => Ok(Self::Mapped(value)),
            _ => Ok(Self::Listed(vec![value])),
        }
    }
}

/// `template % values`; an error if the result exceeds `limit` bytes.
pub fn format(template: &str, values: Values, limit: usize) -> Result<String, Error> {
    let mut fields = Fields { values, taken: 0 };
    let mut made = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let field = Field::read(&mut rest, &mut fields)?;
        if field.width.max(field.precision.unwrap_or(0)) > MAX_WIDTH {
            return Err(wrong(format!("a width above {MAX_WIDTH} is not supported")));
        }
        match field.conversion {
            '%' => made.push('%'),
            _ => made.push_str(&field.write(&mut fields)?),
        }
        if made.len() > limit {
            return Err(wrong("it makes more text than a prompt could need"));
        }
    }
    made.push_str(rest);
    match &fields.values {
        Values::Listed(values) if fields.taken < values.len() => {
            Err(wrong("not all arguments converted during string formatting"))
        }
        _ => Ok(made),
    }
}

struct Fields {
    values: Values,
    taken: usize,
}

impl Fields {
    fn next(&mut self) -> Result<Value, Error> {
        self.taken += 1;
        let value = match &self.values {
            Values::Listed(values) => values.get(self.taken - 1),
            Values::Mapped(value) => (self.taken == 1).then_some(value),
        };
        value.cloned().ok_or_else(|| wrong("not enough arguments for format string"))
    }

    fn named(&self, name: &str) -> Result<Value, Error> {
        match &self.values {
            Values::Mapped(values) if values.kind() == ValueKind::Map => {
                let value = values.get_item(&Value::from(name))?;
                if value.is_undefined() {
                    Err(wrong(format!("there is no value {name:?} to format")))
                } else {
                    Ok(value)
                }
            }
            _ => Err(wrong("format requires a mapping")),
        }
    }
}

/// `[(name)][flags][width][.precision][length]conversion`, the part after `%`.
struct Field {
    named: Option<Value>,
    flags: String,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

impl Field {
    fn read(rest: &mut &str, fields: &mut Fields) -> Result<Self, Error> {
        let named = match rest.strip_prefix('(') {
            Some(inside) => {
                let end = closing(inside).ok_or_else(|| wrong("incomplete format key"))?;
                *rest = &inside[end + 1..];
                Some(fields.named(&inside[..end])?)
            }
            None => None,
        };
        let mut flags = take(rest, |c| "#0- +".contains(c)).to_owned();
        let width = match number(rest, fields)? {
            Some(width) if width < 0 => {
                flags.push('-');
                width.unsigned_abs()
            }
            width => width.unwrap_or(0).unsigned_abs(),
        };
        let precision = match rest.strip_prefix('.') {
            Some(behind) => {
                *rest = behind;
                Some(number(rest, fields)?.unwrap_or(0).max(0).unsigned_abs())
            }
            None => None,
        };
        take(rest, |c| "hlL".contains(c));
        let conversion = rest.chars().next().ok_or_else(|| wrong("incomplete format"))?;
        *rest = &rest[conversion.len_utf8()..];
        Ok(Self { named, flags, width, precision, conversion })
    }

    fn write(self, fields: &mut Fields) -> Result<String, Error> {
        let value = match &self.named {
            Some(value) => value.clone(),
            None => fields.next()?,
        };
        let number = || {
            let number = if value.kind() == ValueKind::Bool { Some(f64::from(value.is_true())) } else { None };
            let number = number.or_else(|| f64::try_from(value.clone()).ok());
            number.ok_or_else(|| wrong(format!("%{} format: a number is required, not {value:?}", self.conversion)))
        };
        let (kind, value) = match self.conversion {
            's' => ('s', Value::from(text::str(&value))),
            'r' => ('s', Value::from(text::repr(&value))),
            'a' => ('s', Value::from(ascii(&text::repr(&value)))),
            'd' | 'i' | 'u' if value.is_integer() => ('d', value),
            'd' | 'i' | 'u' => match number()? {
                // Every float below 1e38 fits an i128.
                number if number.abs() < 1e38 => ('d', Value::from(number.trunc() as i128)),
                number => return Err(wrong(format!("cannot convert {} to an integer", text::float(number)))),
            },
            'o' | 'x' | 'X' if value.is_integer() || value.kind() == ValueKind::Bool => (self.conversion, value),
            'o' | 'x' | 'X' => return Err(wrong(format!("%{} format: an integer is required", self.conversion))),
            'c' if value.is_integer() || value.as_str().is_some_and(|text| text.chars().count() == 1) => ('c', value),
            'c' => return Err(wrong("%c requires an integer or a character")),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => (self.conversion, Value::from(number()?)),
            other => return Err(wrong(format!("unsupported format character {other:?}"))),
        };
        let width = if self.width > 0 { self.width.to_string() } else { String::new() };
        let precision = self.precision.map_or_else(String::new, |precision| format!(".{precision}"));
        // Zero padding applies to numbers only.
        let flags = if matches!(kind, 's' | 'c') { self.flags.replace('0', "") } else { self.flags };
        printf(FormatStyle::Printf, &format!("%{flags}{width}{precision}{kind}"), &[value])
    }
}

/// Byte offset of the bracket that closes the one before `inside`.
fn closing(inside: &str) -> Option<usize> {
    let mut depth = 1;
    inside.bytes().position(|byte| {
        depth += match byte {
            b'(' => 1,
            b')' => -1,
            _ => 0,
        };
        depth == 0
    })
}

fn take<'t>(rest: &mut &'t str, wanted: impl Fn(char) -> bool) -> &'t str {
    let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    let (taken, behind) = rest.split_at(end);
    *rest = behind;
    taken
}

/// Parses digits, or takes the next value for `*`.
fn number(rest: &mut &str, fields: &mut Fields) -> Result<Option<isize>, Error> {
    if let Some(behind) = rest.strip_prefix('*') {
        *rest = behind;
        let value = i64::try_from(fields.next()?).map_err(|_| wrong("* wants an integer"))?;
        return isize::try_from(value).map(Some).map_err(|_| wrong("the width is too large"));
    }
    let digits = take(rest, |c| c.is_ascii_digit());
    if digits.is_empty() {
        return Ok(None);
    }
    digits.parse().map(Some).map_err(|_| wrong("the width is too large"))
}

/// Python's `ascii`, for a text that is already a `repr`.
fn ascii(text: &str) -> String {
    let escape = |c: char| match u32::from(c) {
        code if code < 0x80 => c.to_string(),
        code if code < 0x100 => format!("\\x{code:02x}"),
        code if code < 0x10000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    text.chars().map(escape).collect()
}
