//! Mutations of valid inputs: bytes, words and numbers are inserted, removed and repeated; in parts that are JSON,
//! values are changed.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::targets::SEPARATOR;

/// An input; its `Debug` form prints at most 2,000 bytes.
#[derive(Clone)]
pub struct Input(pub Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(2000)];
        write!(f, "{} bytes: \"{}\"", self.0.len(), shown.escape_ascii())
    }
}

/// One change of an input.
#[derive(Clone, Debug)]
pub enum Mutation {
    Byte(Index, u8),
    Remove(Index, u16),
    /// Position, length in bytes and number of additional copies.
    Repeat(Index, u8, u8),
    /// A word of the target; the flag overwrites bytes instead of inserting.
    Word(Index, Index, bool),
    /// A word, repeated 2 to this power times, for deep nesting and long chains.
    Flood(Index, Index, u8),
    /// A little-endian integer of 1, 2, 4 or 8 bytes that overwrites bytes.
    Number(Index, Index, Index),
    /// Target and source position in the input, and length in bytes.
    Copy(Index, Index, u8),
    /// A change of one value in a part that is JSON.
    Json(Index, Index, Change),
}

/// One change of a JSON value.
#[derive(Clone, Debug)]
pub enum Change {
    Number(Index),
    Word(Index),
    Plain(Index),
    Remove,
    /// Replaced by another value of the same document.
    Copy(Index),
    /// Wrapped in this many arrays.
    Nest(u8),
}

const NUMBERS: [i128; 20] = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    65_535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 8,
    (1 << 64) - 1,
];

/// The most bytes that a flood inserts.
const MOST_FLOODED: usize = 64 << 10;

/// A strategy: one of `seeds` with 1 to 5 mutations.
pub fn inputs(seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> impl Strategy<Value = Input> {
    let changed = move |(seed, mutations): (Index, Vec<Mutation>)| {
        let seed = seed.get(&seeds);
        Input(mutations.iter().fold(seed.clone(), |input, mutation| apply(input, mutation, words)))
    };
    (any::<Index>(), mutations()).prop_map(changed)
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec(mutation(), 1..6)
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let change = prop_oneof![
        3 => index().prop_map(Change::Number),
        3 => index().prop_map(Change::Word),
        2 => index().prop_map(Change::Plain),
        2 => Just(Change::Remove),
        2 => index().prop_map(Change::Copy),
        1 => any::<u8>().prop_map(Change::Nest),
    ];
    prop_oneof![
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        1 => (index(), 1..64_u16).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => (index(), any::<u16>()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => (index(), any::<u8>(), any::<u8>()).prop_map(|(at, length, times)| Mutation::Repeat(at, length, times)),
        3 => (index(), index(), any::<bool>()).prop_map(|(at, word, over)| Mutation::Word(at, word, over)),
        1 => (index(), index(), 4..15_u8).prop_map(|(at, word, power)| Mutation::Flood(at, word, power)),
        2 => (index(), index(), index()).prop_map(|(at, number, width)| Mutation::Number(at, number, width)),
        1 => (index(), index(), any::<u8>()).prop_map(|(at, from, length)| Mutation::Copy(at, from, length)),
        6 => (index(), index(), change).prop_map(|(part, node, change)| Mutation::Json(part, node, change)),
    ]
}

/// Applies one mutation to `input`.
pub fn apply(mut input: Vec<u8>, mutation: &Mutation, words: &[&str]) -> Vec<u8> {
    let place = |index: &Index| index.index(input.len() + 1);
    let end = |from: usize, length: usize| input.len().min(from.saturating_add(length));
    match mutation {
        Mutation::Byte(at, byte) => {
            let at = place(at);
            input.splice(at..end(at, 1), [*byte]);
        }
        Mutation::Remove(at, length) => {
            let at = place(at);
            input.drain(at..end(at, usize::from(*length)));
        }
        Mutation::Repeat(at, length, times) => {
            let at = place(at);
            let more = input[at..end(at, usize::from(*length))].repeat(usize::from(*times));
            input.splice(at..at, more);
        }
        Mutation::Word(..) | Mutation::Flood(..) if words.is_empty() => {}
        Mutation::Word(at, word, over) => {
            let (at, word) = (place(at), word.get(words).as_bytes());
            input.splice(at..end(at, if *over { word.len() } else { 0 }), word.iter().copied());
        }
        Mutation::Flood(at, word, power) => {
            let (at, word) = (place(at), word.get(words).as_bytes());
            input.splice(at..at, word.repeat((1 << power).min(MOST_FLOODED / word.len().max(1))));
        }
        Mutation::Number(at, number, width) => {
            let (at, width) = (place(at), 1 << width.index(4));
            input.splice(at..end(at, width), number.get(&NUMBERS).to_le_bytes()[..width].iter().copied());
        }
        Mutation::Copy(at, from, length) => {
            let (at, from) = (place(at), place(from));
            let copied = input[from..end(from, usize::from(*length))].to_vec();
            input.splice(at..at, copied);
        }
        Mutation::Json(part, node, change) => return change_json(input, part, node, change, words),
    }
    input
}

/// Changes a JSON value in one of the parts; the bytes before its first bracket are kept.
fn change_json(input: Vec<u8>, part: &Index, node: &Index, change: &Change, words: &[&str]) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = input.split(|&byte| byte == SEPARATOR).map(<[u8]>::to_vec).collect();
    let index = part.index(parts.len());
    let chosen = &mut parts[index];
    let Some(brace) = chosen.iter().position(|&byte| byte == b'{' || byte == b'[') else { return input };
    let Ok(mut json) = serde_json::from_slice::<Value>(&chosen[brace..]) else { return input };
    change_value(&mut json, node, change, words);
    chosen.truncate(brace);
    chosen.extend(json.to_string().into_bytes());
    parts.join(&SEPARATOR)
}

fn change_value(json: &mut Value, node: &Index, change: &Change, words: &[&str]) {
    let mut pointers = Vec::new();
    collect_pointers(json, &mut String::new(), &mut pointers);
    let pointer = node.get(&pointers);
    let plain = [json!(null), json!(true), json!(""), json!([]), json!({}), json!(-1), json!(0.5), json!(1e300)];
    let value = match change {
        Change::Number(index) => u64::try_from(*index.get(&NUMBERS)).map_or(Value::Null, Value::from),
        Change::Word(index) if !words.is_empty() => json!(index.get(words)),
        Change::Plain(index) => index.get(&plain).clone(),
        Change::Copy(index) => json.pointer(index.get::<String>(&pointers)).cloned().unwrap_or_default(),
        Change::Nest(depth) => {
            let inner = json.pointer(pointer).cloned().unwrap_or_default();
            (0..*depth).fold(inner, |inner, _| Value::Array(vec![inner]))
        }
        Change::Remove | Change::Word(_) => return remove(json, pointer),
    };
    if let Some(place) = json.pointer_mut(pointer) {
        *place = value;
    }
}

fn remove(json: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    match json.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&key.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(list)) => {
            if let Ok(index) = key.parse::<usize>() {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// The JSON pointers (RFC 6901) of all values within `json`.
fn collect_pointers(json: &Value, path: &mut String, pointers: &mut Vec<String>) {
    pointers.push(path.clone());
    let length = path.len();
    let mut inner = |key: &str, value: &Value| {
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        collect_pointers(value, path, pointers);
        path.truncate(length);
    };
    match json {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value)),
        _ => {}
    }
}
