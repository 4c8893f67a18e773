//! Times of a turn as JSON, in microseconds; the gaps between tokens apart from them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::Timing;

#[derive(Serialize, Deserialize)]
struct Micros {
    load: u64,
    ttft: u64,
    prefill: u64,
    decode: u64,
    total: u64,
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds between consecutive tokens.
pub(super) fn gaps(timing: &Timing) -> Vec<u64> {
    timing.inter_token.iter().copied().map(us).collect()
}

pub(super) fn to_json(timing: &Timing) -> String {
    let micros = Micros {
        load: us(timing.load),
        ttft: us(timing.ttft),
        prefill: us(timing.prefill),
        decode: us(timing.decode),
        total: us(timing.total),
    };
    serde_json::to_string(&micros).unwrap_or_default()
}

pub(super) fn from_json(text: &str) -> Option<Timing> {
    let micros: Micros = serde_json::from_str(text).ok()?;
    let span = Duration::from_micros;
    Some(Timing {
        load: span(micros.load),
        ttft: span(micros.ttft),
        prefill: span(micros.prefill),
        decode: span(micros.decode),
        total: span(micros.total),
        inter_token: Vec::new(),
    })
}
