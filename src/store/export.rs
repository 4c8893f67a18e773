//! Exports a conversation: Markdown with the shown branch, JSON with all stored data.

use serde_json::{Value, json};

use super::Summary;
use super::imported::Origin;
use super::timing;
use crate::conversation::{Conversation, Ending, Turn};
use crate::protocol::{FinishReason, Role};

/// The branch that is shown, as Markdown. The text is unchanged: sanitise it before printing it to a terminal.
pub fn markdown(summary: &Summary, conversation: &Conversation) -> String {
    let mut out = format!("# {}\n", summary.title);
    let mut section = |head: &str, text: &str| out += &format!("\n## {head}\n\n{}\n", text.trim_end());
    if let Some(system) = conversation.system.as_deref().filter(|text| !text.is_empty()) {
        section(Role::System.as_str(), system);
    }
    for turn in conversation.path().into_iter().filter_map(|id| conversation.turn(id)) {
        section(Role::User.as_str(), &turn.question());
        let note = ending_note(turn);
        section(&format!("{} ({}{note})", Role::Assistant.as_str(), turn.model), &turn.answer.text);
    }
    out
}

fn ending_note(turn: &Turn) -> String {
    match &turn.answer.ending {
        Ending::Finished { reason: FinishReason::Stop, .. } => String::new(),
        Ending::Finished { reason: FinishReason::Length, .. } => ", cut at the limit".into(),
        Ending::Finished { reason: FinishReason::Cancelled, .. } => ", stopped".into(),
        Ending::Failed { message } => format!(", failed: {message}"),
        Ending::Interrupted => ", interrupted".into(),
        Ending::Pending => ", not finished".into(),
    }
}

/// All branches with all stored data. `origins`: of each turn.
pub fn json(summary: &Summary, conversation: &Conversation, origins: &[Origin]) -> Value {
    let turn = |(index, turn)| turn_json(index, turn, origins.get(index));
    let turns: Vec<_> = conversation.turns().iter().enumerate().map(turn).collect();
    json!({
        "conversation": summary.id.0,
        "title": summary.title,
        "system": conversation.system,
        "settings": conversation.settings,
        "draft": conversation.draft,
        "created_ms": summary.created_ms,
        "changed_ms": summary.changed_ms,
        "head": conversation.head().map(|head| head.0),
        "turns": turns,
    })
}

/// The sampling parameters, with the digits of 32-bit numbers.
fn sampling_of(origin: &Origin) -> Option<Value> {
    serde_json::from_str(&super::columns::sampling(origin.sampling.as_ref())?).ok()
}

fn turn_json(index: usize, turn: &Turn, origin: Option<&Origin>) -> Value {
    let answer = &turn.answer;
    let mut object = json!({
        "turn": index,
        "parent": turn.parent.map(|parent| parent.0),
        "model": turn.model,
        "prompt": turn.prompt,
        "files": turn.files,
        "removed": turn.removed,
        "asked_ms": origin.and_then(|origin| origin.asked_ms),
        "sampling": origin.and_then(sampling_of),
        "answer": answer.text,
        "reasoning": if answer.reasoning.is_empty() { Value::Null } else { json!(answer.reasoning) },
    });
    if let Some(origin) = origin {
        object["gaps_us"] = json!(origin.gaps_us);
        object["trace"] = json!(origin.trace);
        object["server"] = json!(origin.server);
    }
    match &answer.ending {
        Ending::Finished { reason, usage, timing } => {
            object["state"] = json!(reason);
            object["usage"] = json!(usage);
            let micros =
                timing.as_ref().map(timing::to_json).and_then(|text| serde_json::from_str::<Value>(&text).ok());
            object["timing_us"] = micros.unwrap_or(Value::Null);
        }
        Ending::Failed { message } => {
            object["state"] = json!("failed");
            object["error"] = json!(message);
        }
        Ending::Interrupted => object["state"] = json!("interrupted"),
        Ending::Pending => object["state"] = json!("pending"),
    }
    object
}
