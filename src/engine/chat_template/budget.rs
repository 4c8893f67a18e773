//! The byte and time budget of a render. `instrument` inserts the calls of these functions into the template.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use minijinja::value::{Object, Rest, Tuple, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Expression, Output, State, escape_formatter};

use super::limited_thread::Deadline;
use super::{percent, text};
use crate::protocol::ChatMessage;

/// Prefix of all names below; templates must not use it.
pub const RESERVED: &str = "chatnap_";
/// Charges for the text that a block writes, and measures the variables that were set.
pub const PASS: &str = "chatnap_pass";
/// Charges for an operand of `+` or of a comparison.
pub const TERM: &str = "chatnap_term";
/// Charges for an operand of `~`.
pub const TEXT: &str = "chatnap_text";
/// `left * right`.
pub const TIMES: &str = "chatnap_times";
/// `left % right`.
pub const REMAINDER: &str = "chatnap_remainder";
/// Charges for the result of a filter.
pub const GROWN: &str = "chatnap_grown";
/// `value[from:to:step]`.
pub const SLICE: &str = "chatnap_slice";
/// Name of the context variable with the render's `Limits`.
pub const LIMITS: &str = "chatnap_limits";

/// Bytes that every render may allocate, whatever the size of its messages.
const BASE: u64 = 256 << 20;

/// Bytes charged for a value besides its text.
const NODE: u64 = 64;

/// Maximum nesting of lists and maps; JSON readers stop at 128.
const MAX_DEPTH: usize = 128;

/// Fuel of a render besides that for its bytes. The longest real conversations take a few hundred thousand steps.
const BASE_FUEL: u64 = 8_000_000;

/// Byte limit and deadline of a render.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    bytes: u64,
    until: Deadline,
}

impl Object for Limits {}

impl Limits {
    /// Limits for `messages`. Templates may scan all messages once or more per message, hence the product.
    pub fn new(messages: &[ChatMessage], until: Deadline) -> Self {
        let size = |message: &ChatMessage| message.content.len() + message.reasoning.as_ref().map_or(0, String::len);
        let bytes: u64 = messages.iter().map(|message| size(message) as u64).sum();
        Self { bytes: BASE.saturating_add(bytes.saturating_mul(64 + 16 * messages.len() as u64)), until }
    }

    /// Fuel in minijinja's unit: one per step; plus one per 64 bytes of the byte limit.
    pub fn fuel(&self) -> u64 {
        BASE_FUEL.saturating_add(self.bytes / 64)
    }
}

/// Remaining byte budget and deadline of a render, kept in minijinja's `State`.
struct Meter {
    budget: u64,
    left: u64,
    until: Deadline,
    payments: u32,
}

impl Meter {
    fn of<'s>(state: &'s mut State<'_, '_>) -> &'s mut Self {
        let given = state.lookup(LIMITS).and_then(|value| value.downcast_object_ref::<Limits>().copied());
        // A render without `Limits` in its context gets a budget and a time of 0.
        let Limits { bytes: budget, until } =
            given.unwrap_or_else(|| Limits { bytes: 0, until: Deadline::after(Duration::ZERO) });
        state.get_or_insert_extension_with(|| Self { budget, left: budget, until, payments: 0 })
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Error> {
        // Reading the clock is a system call: check at every eighth payment only.
        self.payments = self.payments.wrapping_add(1);
        if self.payments.is_multiple_of(8) {
            in_time(self.until)?;
        }
        self.left = self.left.checked_sub(bytes).ok_or_else(|| too_much("makes more text than a prompt could need"))?;
        Ok(())
    }
}

fn in_time(until: Deadline) -> Result<(), Error> {
    if until.is_over() { Err(too_much("takes too long")) } else { Ok(()) }
}

fn too_much(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("it {what}"))
}

/// Measures the written size of values, recursively.
struct Scale {
    left: u64,
    until: Deadline,
    steps: u32,
    /// Bytes of indentation per level.
    indent: u64,
}

impl Scale {
    fn new(left: u64, until: Deadline) -> Self {
        Self { left, until, steps: 0, indent: 0 }
    }

    /// Subtracts the written size of `value` from `left`.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let text = value.as_str().map_or(0, str::len) + value.as_bytes().map_or(0, <[u8]>::len);
        let left = self.left.checked_sub(NODE + text as u64 + self.indent * depth as u64);
        self.left = left.ok_or_else(|| too_much("makes more text than a prompt could need"))?;
        self.steps += 1;
        if self.steps.is_multiple_of(1024) {
            // Lazy iterables may be slow to iterate.
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

/// Charges for the written size of `value`.
pub fn pay_for(state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    pay_for_lines(state, value, 0)
}

/// As `pay_for`, with each item on its own line, indented by `indent` bytes per level.
pub fn pay_for_lines(state: &mut State<'_, '_>, value: &Value, indent: usize) -> Result<(), Error> {
    let meter = Meter::of(state);
    let mut scale = Scale { indent: indent as u64, ..Scale::new(meter.left, meter.until) };
    scale.weigh(value, 0)?;
    meter.spend(meter.left - scale.left)
}

/// Fails if fewer than `bytes` are left; charges nothing.
pub fn afford(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let meter = Meter::of(state);
    if bytes as u64 > meter.left { Err(too_much("makes more text than a prompt could need")) } else { meter.spend(0) }
}

/// Bytes of a text, or of a list's slots; the items are shared, so they are not counted.
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
            // Lists share their items, so a small list may be exponentially large when written.
            Scale::new(meter.budget, meter.until).weigh(value, 0)?;
        }
    }
    Ok(())
}

fn term(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    Meter::of(state).spend(own_bytes(&value))?;
    Ok(value)
}

/// Python's slice: negative indices count from the end, and the result is a new list. minijinja's slices are views of
/// their source, so that a slice of a slice of a slice … could overflow the stack.
fn slice(state: &mut State<'_, '_>, value: Value, from: Value, to: Value, step: Value) -> Result<Value, Error> {
    Meter::of(state).spend(own_bytes(&value))?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let place = |given: Value| if given.is_none() { Ok(None) } else { i64::try_from(given).map(Some) };
    let (from, to, step) = (place(from)?, place(to)?, place(step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "slice step cannot be zero"));
    }
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(places(chars.len(), from, to, step).map(|at| chars[at]).collect::<String>()));
    }
    if value.is_none() {
        // As in Jinja2: undefined, which is an error only when it is used.
        return Ok(Value::UNDEFINED);
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let items: Vec<Value> = places(items.len(), from, to, step).map(|at| items[at].clone()).collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
}

/// The indices of a slice of `length` items (CPython's `PySlice_AdjustIndices`).
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

/// Charges for `value` and converts it to a string as Python does.
fn text(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    pay_for(state, &value)?;
    Ok(if value.kind() == ValueKind::String { value } else { Value::from(text::str(&value)) })
}

/// Bytes left in the budget.
pub fn left(state: &mut State<'_, '_>) -> usize {
    usize::try_from(Meter::of(state).left).unwrap_or(usize::MAX)
}

/// Python's `*`: a repeated list is a new list, not a view; see `slice`.
fn times(state: &mut State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let is_many = |value: &Value| matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable);
    let (many, count) = if is_many(&left) { (&left, &right) } else { (&right, &left) };
    if !is_many(many) || !count.is_integer() {
        return arithmetic(&TIMES_EXPRESSION, left, right);
    }
    let count = usize::try_from(i128::try_from(count.clone())?.max(0)).unwrap_or(usize::MAX);
    Meter::of(state).spend(own_bytes(many).saturating_mul(count as u64))?;
    if let Some(text) = many.as_str() {
        return Ok(Value::from(text.repeat(count)));
    }
    let items: Vec<Value> = many.try_iter()?.collect();
    let items: Vec<Value> = std::iter::repeat_n(items, count).flatten().collect();
    Ok(if many.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
}

/// Python's `%`, which formats if the left side is a string.
fn remainder(state: &mut State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let Some(template) = left.as_str() else { return arithmetic(&REMAINDER_EXPRESSION, left, right) };
    pay_for(state, &right)?;
    let limit = self::left(state);
    let made = Value::from(percent::format(template, percent::Values::of(right)?, limit)?);
    pay_for(state, &made)?;
    Ok(made)
}

type Compiled = Option<Expression<'static, 'static>>;

static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
static TIMES_EXPRESSION: LazyLock<Compiled> = LazyLock::new(|| PLAIN.compile_expression("a * b").ok());
static REMAINDER_EXPRESSION: LazyLock<Compiled> = LazyLock::new(|| PLAIN.compile_expression("a % b").ok());

/// Evaluates minijinja's own operator, for operands that are numbers.
fn arithmetic(expression: &Compiled, left: Value, right: Value) -> Result<Value, Error> {
    let expression = expression.as_ref().ok_or_else(|| Error::from(ErrorKind::InvalidOperation))?;
    expression.eval(Value::from_pairs([("a", left), ("b", right)]))
}

/// The formatter of `{{ … }}`: writes a value as Python does, and charges for it while writing.
fn emit(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::None) {
        pay_for(state, value)?;
        return escape_formatter(out, state, value);
    }
    let meter = Meter::of(state);
    let mut counted = Counted { out, left: meter.left };
    let written = match value.as_str() {
        Some(text) => fmt::Write::write_str(&mut counted, text),
        None => text::write(&mut counted, value),
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

/// Adds the functions that instrumented templates call, and the formatter.
pub fn install(environment: &mut Environment<'static>) {
    environment.add_function(PASS, pass);
    environment.add_function(TERM, term);
    environment.add_function(TEXT, text);
    environment.add_function(GROWN, grown);
    environment.add_function(TIMES, times);
    environment.add_function(REMAINDER, remainder);
    environment.add_function(SLICE, slice);
    environment.set_formatter(emit);
}
