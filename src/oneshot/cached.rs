//! The answer cache: a one-shot request that was answered before is answered from the store, without a model.
//!
//! Only reproducible requests have an entry: at temperature 0, or with a seed that the user gave. An entry is the hash of
//! everything that decides about the answer: the model's files, the chat template, the messages, the sampling values, the
//! limits, the build, and the date if the template writes it into the prompt. The answer itself is the stored turn, so
//! that the cache takes no space of its own, and an answer that is removed with its conversation leaves the cache too.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::answer::AnswerWriter;
use super::answer_recorder::AnswerRecorder;
use super::messages::Messages;
use super::report::Report;
use crate::cli::OneShot;
use crate::clock::Timestamp;
use crate::conversation::Ending;
use crate::engine::chat_template::Chosen;
use crate::engine::source::ModelSource;
use crate::engine::{fingerprint, generation};
use crate::failure::{Code, Failure};
use crate::hub::HubSource;
use crate::output::Reader;
use crate::protocol::{Channel, FinishReason, Timing};
use crate::store::{Cached, Store, now_ms};
use crate::wording::local;

/// A request whose answer can be repeated.
pub(super) struct Request {
    /// Everything but the date.
    text: String,
    /// Today.
    date: String,
}

impl Request {
    /// `None` if the answer depends on chance, or the model's files are not on this machine.
    pub(super) fn of(recorder: &AnswerRecorder, source: &HubSource, template: Option<&Chosen>) -> Option<Self> {
        let (settings, chosen) = (&recorder.settings, &recorder.chosen);
        let greedy = chosen.temperature == Some(0.0);
        if !greedy && chosen.seed.is_none() {
            return None;
        }
        let files = source.local().ok().flatten()?;
        let seed = chosen.seed.filter(|_| !greedy);
        let text = json!({
            "model": fingerprint::of(&files).ok()?,
            "template": template.map(|template| &template.source),
            "messages": recorder.messages(),
            "sampling": format!("{:?}", crate::protocol::SamplingChoice { seed, ..chosen.clone() }),
            "recommended": format!("{:?}", source.recommended()),
            "think": settings.think,
            "max_tokens": settings.max_tokens,
            "context_length": settings.context_length,
            "on_overflow": settings.on_overflow,
            "build": generation::BUILD,
        });
        let date = local(u64::try_from(now_ms()).unwrap_or_default()).chars().take(10).collect();
        Some(Self { text: text.to_string(), date })
    }

    /// The key of the entry; with the date if the prompt contains it.
    pub(super) fn hash(&self, dated: bool) -> String {
        match dated {
            true => fingerprint::of_text(&format!("{} {}", self.date, self.text)),
            false => fingerprint::of_text(&self.text),
        }
    }

    /// The stored answer and the key of its entry. A store that cannot be read has none.
    pub(super) fn find(&self, data_dir: &Path) -> Option<(String, Cached)> {
        let store = Store::open_to_read(data_dir).ok()??;
        let found = |dated| {
            let key = self.hash(dated);
            store.cached(&key).ok().flatten().map(|found| (key, found))
        };
        found(false).or_else(|| found(true))
    }
}

/// Prints a stored answer, and stores it as the answer to this question.
pub(super) fn print(
    (key, found): (String, Cached),
    mut recorder: AnswerRecorder,
    one_shot: &OneShot,
    messages: &Messages,
) -> Result<u8, Failure> {
    let begun = Instant::now();
    let mut writer = AnswerWriter::new(&recorder.settings.clone(), one_shot);
    let at = Timestamp::now();
    let mut reader = Reader::Listening;
    for (channel, text) in [(Channel::Reasoning, &found.reasoning), (Channel::Answer, &found.text)] {
        if !text.is_empty() {
            recorder.token(channel, text);
            reader = writer.token(channel, text, at)?;
        }
    }
    let reason = if found.complete { FinishReason::Stop } else { FinishReason::Length };
    let took = begun.elapsed();
    let timing = Timing { ttft: took, total: took, ..Timing::default() };
    if let Some(trace) = &found.trace {
        recorder.traced(Arc::new(trace.clone()));
    }
    recorder.end(Ending::Finished { reason, usage: found.usage, timing: Some(timing.clone()) }, messages);
    // The entry stays if the conversation of the first answer is removed.
    recorder.set_request(key);
    let report = Report {
        model: &found.model,
        answer: recorder.answer(),
        reason,
        conversation: recorder.conversation(),
        sampling: recorder.sampling(),
        chosen: &recorder.settings.sampling,
        usage: &found.usage,
        timing: &timing,
        device: found.trace.as_ref().map(|trace| (&trace.device, 0)),
        from_cache: true,
    };
    if reader == Reader::Listening {
        writer.finish(&report)?;
    }
    if one_shot.stats {
        messages.figures(&report.figures());
    }
    Ok(Code::Ok as u8)
}
