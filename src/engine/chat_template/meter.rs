//! How much a render may make and how long it may take. `watched` puts the calls into the template.

use std::fmt;
use std::time::Instant;

use minijinja::value::{Object, Rest, Tuple, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, escape_formatter};

use crate::protocol::ChatMessage;

/// What the names of all calls begin with.
pub const RESERVED: &str = "chatnap_";
/// Pays for what a block writes, and looks at what was set.
pub const PASS: &str = "chatnap_pass";
/// Pays for an operand of `+` or of a comparison.
pub const TERM: &str = "chatnap_term";
/// Pays for an operand of `~`.
pub const TEXT: &str = "chatnap_text";
/// Checks an operand of `*`, and pays for what it can become.
pub const FACTOR: &str = "chatnap_factor";
/// Pays for what a filter made.
pub const GROWN: &str = "chatnap_grown";
/// `value[from:to:step]`.
pub const SLICE: &str = "chatnap_slice";
/// The context's entry with the render's `Limits`.
pub const LIMITS: &str = "chatnap_limits";

/// Bytes of a text that may be repeated.
pub const MAX_FACTOR_BYTES: usize = 256;

/// How often it may be.
const MAX_FACTOR: i64 = 100_000;

/// Items of a list that may be repeated.
const MAX_FACTOR_ITEMS: usize = 16;

/// Bytes that every render may make.
const BASE: u64 = 256 << 20;

/// What a value takes besides its text.
const NODE: u64 = 64;

/// Nesting of lists and maps; JSON readers stop at 128.
const MAX_DEPTH: usize = 128;

/// Steps of a render beside those that its bytes take. The longest real conversations take a few hundred thousand.
const BASE_FUEL: u64 = 8_000_000;

/// What a render may make, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    bytes: u64,
    until: Instant,
}

impl Object for Limits {}

impl Limits {
    /// For a render of `messages`. Templates look through all of them for each of them, some more than once.
    pub fn new(messages: &[ChatMessage], until: Instant) -> Self {
        let size = |message: &ChatMessage| message.content.len() + message.reasoning.as_ref().map_or(0, String::len);
        let bytes: u64 = messages.iter().map(|message| size(message) as u64).sum();
        Self { bytes: BASE.saturating_add(bytes.saturating_mul(64 + 16 * messages.len() as u64)), until }
    }

    /// minijinja's measure: a step takes one, and so do 64 bytes of what a step makes or reads.
    pub fn fuel(&self) -> u64 {
        BASE_FUEL.saturating_add(self.bytes / 64)
    }
}

/// What is left of a render's budget and time.
struct Meter {
    budget: u64,
    left: u64,
    until: Instant,
}

impl Meter {
    fn of<'s>(state: &'s mut State<'_, '_>) -> &'s mut Self {
        let given = state.lookup(LIMITS).and_then(|value| value.downcast_object_ref::<Limits>().copied());
        // What is rendered without limits gets none of either.
        let Limits { bytes: budget, until } = given.unwrap_or(Limits { bytes: 0, until: Instant::now() });
        state.get_or_insert_extension_with(|| Self { budget, left: budget, until })
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Error> {
        in_time(self.until)?;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| too_much("makes more text than a prompt could need"))?;
        Ok(())
    }
}

fn in_time(until: Instant) -> Result<(), Error> {
    if Instant::now() > until { Err(too_much("takes too long")) } else { Ok(()) }
}

fn too_much(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("it {what}"))
}

/// Measures values.
struct Scale {
    left: u64,
    until: Instant,
    steps: u32,
    /// Bytes of indentation for each level.
    indent: u64,
}

impl Scale {
    fn new(left: u64, until: Instant) -> Self {
        Self { left, until, steps: 0, indent: 0 }
    }

    /// Takes what `value` would be, written out, from `left`.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let text = value.as_str().map_or(0, str::len) + value.as_bytes().map_or(0, <[u8]>::len);
        let left = self.left.checked_sub(NODE + text as u64 + self.indent * depth as u64);
        self.left = left.ok_or_else(|| too_much("makes more text than a prompt could need"))?;
        self.steps += 1;
        if self.steps.is_multiple_of(1024) {
            // Lists that are made while one goes through them may be slow.
            in_time(self.until)?;
        }
        if depth > MAX_DEPTH {
            return Err(too_much("nests lists too deeply"));
        }
        let is_map = value.kind() == ValueKind::Map;
        if is_map || matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            for item in value.try_iter()? {
                if is_map {
                    self.weigh(&value.get_item(&item)?, depth + 1)?;
                }
                self.weigh(&item, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Pays for all of `value`.
pub fn pay_for(state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    pay_for_lines(state, value, 0)
}

/// Pays for all of `value` on lines of their own, each with `indent` bytes for each level.
pub fn pay_for_lines(state: &mut State<'_, '_>, value: &Value, indent: usize) -> Result<(), Error> {
    let meter = Meter::of(state);
    let mut scale = Scale { indent: indent as u64, ..Scale::new(meter.left, meter.until) };
    scale.weigh(value, 0)?;
    meter.spend(meter.left - scale.left)
}

/// Fails where `bytes` more cannot be paid for.
pub fn afford(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let meter = Meter::of(state);
    if bytes as u64 > meter.left { Err(too_much("makes more text than a prompt could need")) } else { meter.spend(0) }
}

/// Bytes of a text, or of a list's places; what they hold is shared.
fn own_bytes(value: &Value) -> u64 {
    match value.kind() {
        ValueKind::String => NODE + value.as_str().map_or(0, str::len) as u64,
        ValueKind::Seq | ValueKind::Iterable => NODE + NODE.saturating_mul(value.len().unwrap_or(0) as u64),
        _ => NODE,
    }
}

fn pass(state: &mut State<'_, '_>, written: u64, set: Rest<Value>) -> Result<(), Error> {
    let meter = Meter::of(state);
    meter.spend(written + NODE)?;
    for value in set.iter() {
        if value.kind() == ValueKind::String {
            meter.spend(own_bytes(value))?;
        } else {
            // Lists share what they hold, and may hold it twice and again.
            Scale::new(meter.budget, meter.until).weigh(value, 0)?;
        }
    }
    Ok(())
}

fn term(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    Meter::of(state).spend(own_bytes(&value))?;
    Ok(value)
}

/// As in Python, which counts from the end where a place is negative, and makes a list at once: minijinja's slices look
/// into what they were made from, so that a slice of a slice of a slice … could become deeper than the stack.
fn slice(state: &mut State<'_, '_>, value: Value, from: Value, to: Value, step: Value) -> Result<Value, Error> {
    Meter::of(state).spend(own_bytes(&value))?;
    let place = |given: Value| if given.is_none() { Ok(None) } else { i64::try_from(given).map(Some) };
    let (from, to, step) = (place(from)?, place(to)?, place(step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "slice step cannot be zero"));
    }
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(places(chars.len(), from, to, step).map(|at| chars[at]).collect::<String>()));
    }
    let items: Vec<Value> = if value.is_undefined() { Vec::new() } else { value.try_iter()?.collect() };
    let items: Vec<Value> = places(items.len(), from, to, step).map(|at| items[at].clone()).collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
}

/// The places that a slice of `length` items takes (CPython's `PySlice_AdjustIndices`).
fn places(length: usize, from: Option<i64>, to: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i64;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |given: Option<i64>, default: i64| match given {
        None => default,
        Some(at) if at < 0 => at.saturating_add(length).max(lowest),
        Some(at) => at.min(highest),
    };
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (first, end) = (place(from, first), place(to, last));
    std::iter::successors(Some(first), move |at| at.checked_add(step))
        .take_while(move |at| if step > 0 { *at < end } else { *at > end })
        .filter_map(|at| usize::try_from(at).ok())
}

fn grown(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    pay_for(state, &value)?;
    Ok(value)
}

fn factor(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    let refused = |what: &str| Err(Error::new(ErrorKind::InvalidOperation, format!("it multiplies {what}")));
    match value.kind() {
        ValueKind::String if value.as_str().is_some_and(|text| text.len() > MAX_FACTOR_BYTES) => refused("a long text"),
        ValueKind::Seq | ValueKind::Iterable if value.len().is_none_or(|len| len > MAX_FACTOR_ITEMS) => {
            refused("a long list")
        }
        // What was repeated looks into what it was made from; see `slice`.
        ValueKind::Iterable => Ok(Value::from(value.try_iter()?.collect::<Vec<Value>>())),
        ValueKind::Number if value.as_i64().is_some_and(|number| number > MAX_FACTOR) => refused("by a large number"),
        _ => {
            let times = value.as_i64().map_or(0, |number| number.max(0) as u64);
            Meter::of(state).spend(NODE + times * MAX_FACTOR_BYTES.max(MAX_FACTOR_ITEMS * NODE as usize) as u64)?;
            Ok(value)
        }
    }
}

/// Writes a value as minijinja does, and pays for it while it is written.
fn emit(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::None) {
        pay_for(state, value)?;
        return escape_formatter(out, state, value);
    }
    let meter = Meter::of(state);
    let mut counted = Counted { out, left: meter.left };
    let written = match value.as_str() {
        Some(text) => fmt::Write::write_str(&mut counted, text),
        None => fmt::write(&mut counted, format_args!("{value}")),
    };
    let left = counted.left;
    meter.spend((meter.left - left).saturating_add(1))?;
    written.map_err(|_| too_much("makes more text than a prompt could need"))
}

struct Counted<'o, 'w> {
    out: &'o mut Output<'w>,
    left: u64,
}

impl fmt::Write for Counted<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len() as u64).ok_or(fmt::Error)?;
        self.out.write_str(text)
    }
}

/// Gives `environment` what watched templates call.
pub fn install(environment: &mut Environment<'static>) {
    environment.add_function(PASS, pass);
    environment.add_function(TERM, term);
    environment.add_function(TEXT, grown);
    environment.add_function(GROWN, grown);
    environment.add_function(FACTOR, factor);
    environment.add_function(SLICE, slice);
    environment.set_formatter(emit);
}
