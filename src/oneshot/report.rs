//! The figures of an answer, as the JSON object and as lines of text.

use std::time::Duration;

use serde_json::{Value, json};

use crate::conversation::Answer;
use crate::protocol::{DeviceInfo, DeviceKind, FinishReason, SamplingChoice, SamplingParams, Timing, Usage};
use crate::stats::AnswerStats;
use crate::wording::is_on_server;

/// The data of one answer's report.
pub(super) struct Report<'a> {
    pub model: &'a str,
    pub answer: &'a Answer,
    pub reason: FinishReason,
    pub conversation: Option<&'a str>,
    /// The values that the answer was sampled with.
    pub sampling: SamplingParams,
    /// The values that the user set.
    pub chosen: &'a SamplingChoice,
    pub usage: &'a Usage,
    pub timing: &'a Timing,
    /// The device and the model's memory on it; `None` if the model was never loaded.
    pub device: Option<(&'a DeviceInfo, u64)>,
    /// Whether it is a stored answer.
    pub from_cache: bool,
}

/// Milliseconds, to the microsecond.
pub(super) fn ms(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

/// `rate` rounded to two decimals; 0 if it is unknown.
fn rounded(rate: Option<f64>) -> f64 {
    (rate.unwrap_or(0.0) * 100.0).round() / 100.0
}

/// The sampling parameters except for the seed, with the digits of 32-bit numbers.
fn sampling_json(sampling: &SamplingParams) -> Value {
    let number = |value: f32| json!(value.to_string().parse::<f64>().unwrap_or_default());
    json!({
        "temperature": number(sampling.temperature),
        "top_k": sampling.top_k,
        "top_p": number(sampling.top_p),
        "min_p": number(sampling.min_p),
        "repeat_penalty": number(sampling.repeat_penalty),
        "repeat_last_n": sampling.repeat_last_n,
        "frequency_penalty": number(sampling.frequency_penalty),
        "presence_penalty": number(sampling.presence_penalty),
    })
}

/// Replaces figures that only a model in this process has, or that the server did not tell.
fn of_server(times: &mut Value, stats: &AnswerStats, timing: &Timing) {
    times["wait_ms"] = json!(ms(timing.load));
    if timing.prefill.is_zero() {
        times["prefill_ms"] = Value::Null;
    }
    let rates =
        [("prompt_tokens_per_second", stats.prompt_tokens_per_second), ("tokens_per_second", stats.tokens_per_second)];
    for (name, rate) in rates.into_iter().filter(|(_, rate)| rate.is_none()) {
        times[name] = json!(rate);
    }
}

/// Replaces the sampling values that the user did not set: the server decides about them, and does not tell.
fn unset(values: &mut Value, chosen: &SamplingChoice) {
    let set = [
        ("temperature", chosen.temperature.is_some()),
        ("top_k", chosen.top_k.is_some()),
        ("top_p", chosen.top_p.is_some()),
        ("min_p", chosen.min_p.is_some()),
        ("repeat_penalty", chosen.repeat_penalty.is_some()),
        ("repeat_last_n", chosen.repeat_last_n.is_some()),
        ("frequency_penalty", chosen.frequency_penalty.is_some()),
        ("presence_penalty", chosen.presence_penalty.is_some()),
    ];
    for (name, _) in set.into_iter().filter(|(_, set)| !set) {
        values[name] = Value::Null;
    }
}

impl Report<'_> {
    /// The object of `--format json`. An undefined figure (the speed of a single token) is 0.
    pub(super) fn json(&self) -> Value {
        let (usage, timing) = (self.usage, self.timing);
        let stats = AnswerStats::new(usage, timing);
        let [prompt, cached, completion] = usage.known();
        let mut object = json!({
            "model": self.model,
            "answer": self.answer.text,
            "finish_reason": self.reason,
            "conversation": self.conversation,
            "seed": self.sampling.seed,
            "model_hash": self.answer.trace.as_ref().map(|trace| &trace.model_hash),
            "template_hash": self.answer.trace.as_ref().map(|trace| &trace.template_hash),
            "from_cache": self.from_cache,
            "sampling": sampling_json(&self.sampling),
            "usage": {
                "prompt_tokens": prompt,
                "cached_tokens": cached,
                "completion_tokens": completion,
                "total_tokens": prompt.and(completion).map(|_| usage.total_tokens()),
            },
            "timing": {
                "load_ms": ms(timing.load),
                "ttft_ms": ms(timing.ttft),
                "prefill_ms": ms(timing.prefill),
                "decode_ms": ms(timing.decode),
                "total_ms": ms(timing.total),
                "prompt_tokens_per_second": rounded(stats.prompt_tokens_per_second),
                "tokens_per_second": rounded(stats.tokens_per_second),
                "inter_token_p50_ms": ms(stats.inter_token_p50.unwrap_or_default()),
                "inter_token_p95_ms": ms(stats.inter_token_p95.unwrap_or_default()),
            },
            "device": self.device.map(|(device, memory)| json!({
                "kind": device.kind,
                "name": device.name,
                "vram_bytes": if device.kind == DeviceKind::Cuda { memory } else { 0 },
            })),
        });
        if self.device.is_some_and(|(device, _)| device.kind == DeviceKind::Server) {
            of_server(&mut object["timing"], &stats, timing);
            unset(&mut object["sampling"], self.chosen);
        }
        if !self.answer.reasoning.is_empty() {
            object["reasoning"] = json!(self.answer.reasoning);
        }
        object
    }

    /// The lines of `--stats`.
    pub(super) fn figures(&self) -> String {
        let (usage, timing) = (self.usage, self.timing);
        let stats = AnswerStats::new(usage, timing);
        let [prompt, cached, completion] = usage.known();
        let known = |count: Option<usize>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let speed = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1} tokens/s"));
        let span = |span: Option<Duration>| span.map_or("-".to_owned(), |span| format!("{:.1} ms", ms(span)));
        let device = self.device.map_or("-", |(device, _)| device.name.as_str());
        let finish = match self.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        };
        let origin = if self.from_cache { " (stored answer; no model was loaded)" } else { "" };
        format!(
            "{model} on {device}, finish reason {finish}{origin}\n\
             tokens: {prompt} prompt ({cached} cached) + {completion} completion = {total}\n\
             {wait} {load:.2} s, TTFT {ttft}, prefill {prefill}, decode {decode}, total {all:.2} s\n\
             inter-token latency p50 {p50}, p95 {p95}",
            model = self.model,
            wait = if is_on_server(self.model) { "wait" } else { "load" },
            prompt = known(prompt),
            cached = known(cached),
            completion = known(completion),
            total = known(prompt.and(completion).map(|_| usage.total_tokens())),
            load = timing.load.as_secs_f64(),
            ttft = span(stats.ttft),
            prefill = speed(stats.prompt_tokens_per_second),
            decode = speed(stats.tokens_per_second),
            all = timing.total.as_secs_f64(),
            p50 = span(stats.inter_token_p50),
            p95 = span(stats.inter_token_p95),
        )
    }
}
