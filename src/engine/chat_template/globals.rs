//! Jinja2's global functions that minijinja lacks or implements differently.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

/// Maximum length of a range, the same as minijinja's.
const MAX_RANGE: i64 = 100_000;

/// Adds the functions to `environment`.
pub fn install(environment: &mut Environment<'static>) {
    environment.add_function("range", range);
    environment.add_function("cycler", cycler);
    environment.add_function("joiner", |separator: Option<Value>, keywords: Kwargs| {
        let separator = separator.or(keywords.get("sep")?);
        keywords.assert_all_used()?;
        Ok(minijinja_contrib::globals::joiner(separator))
    });
    environment.add_function("lipsum", |_: Rest<Value>| -> Result<Value, Error> {
        Err(wrong("lipsum is not supported: a prompt of random text is of no use to a model"))
    });
    // minijinja's own, and of no use in a prompt.
    environment.remove_global("debug");
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// Python's `range`, rendered as `range(start, stop)` and not as its items.
#[derive(Debug)]
struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: usize,
}

fn range(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = second.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    let away = match step.signum() {
        0 => return Err(wrong("range() arg 3 must not be zero")),
        1 => i128::from(stop) - i128::from(start),
        _ => i128::from(start) - i128::from(stop),
    };
    let length = (away.max(0) as u128).div_ceil(step.unsigned_abs().into());
    if length > MAX_RANGE as u128 {
        return Err(wrong(&format!("a range of more than {MAX_RANGE} numbers is not supported")));
    }
    Ok(Value::from_object(Range { start, stop, step, length: length as usize }))
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_usize().filter(|index| *index < self.length)?;
        Some(Value::from(self.start + self.step * index as i64))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            1 => write!(f, "range({}, {})", self.start, self.stop),
            step => write!(f, "range({}, {}, {step})", self.start, self.stop),
        }
    }
}

/// Jinja2's `Cycler`: `next()` advances and wraps around, `current` does not advance, `reset()` returns to the start.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.0.is_empty() {
        return Err(wrong("at least one item has to be provided"));
    }
    Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) }))
}

impl Cycler {
    fn current(&self) -> Value {
        self.items.get(self.at.load(Ordering::Relaxed)).cloned().unwrap_or_default()
    }
}

impl Object for Cycler {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())
    }

    fn call_method(self: &Arc<Self>, _state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        let current = self.current();
        match name {
            "next" => {
                let next = (self.at.load(Ordering::Relaxed) + 1) % self.items.len();
                self.at.store(next, Ordering::Relaxed);
                Ok(current)
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
