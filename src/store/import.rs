//! Reads conversations from text: what [`super::json`] writes, as JSON or one a line, and the forms in `foreign`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Deserialize;
use serde_json::Value;

use super::change::settings_text;
use super::columns::{self, Columns, Question};
use super::imported::{Imported, Origin};
use super::{Result, Store, foreign, new_conversation_id, now_ms, read, timing};
use crate::conversation::{Answer, Attachment, Conversation, ConversationId, Ending, Turn, TurnId};
use crate::protocol::{DeviceInfo, FinishReason, SamplingParams, Served, Timing, Trace, Usage};

#[derive(Deserialize)]
struct Exported {
    conversation: Option<String>,
    title: Option<String>,
    system: Option<String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    draft: String,
    created_ms: Option<u64>,
    changed_ms: Option<u64>,
    head: Option<usize>,
    turns: Vec<ExportedTurn>,
}

#[derive(Deserialize)]
struct ExportedTurn {
    parent: Option<usize>,
    #[serde(default)]
    model: String,
    prompt: String,
    #[serde(default)]
    answer: String,
    reasoning: Option<String>,
    state: String,
    error: Option<String>,
    usage: Option<Usage>,
    timing_us: Option<Value>,
    #[serde(default)]
    files: Vec<Attachment>,
    #[serde(default)]
    removed: bool,
    asked_ms: Option<u64>,
    sampling: Option<SamplingParams>,
    #[serde(default)]
    gaps_us: Vec<u64>,
    #[serde(default)]
    trace: Option<Trace>,
    #[serde(default)]
    server: Option<DeviceInfo>,
}

/// Reads the conversations in a text: one JSON value, or one a line. The error says what is wrong, and where.
pub fn read_conversations(text: &str) -> std::result::Result<Vec<Imported>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let found = match serde_json::from_str::<Value>(text) {
        Ok(value) => read_value(value)?,
        Err(whole) => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let mut found = Vec::new();
            for (number, line) in lines {
                let value = match serde_json::from_str(line) {
                    Ok(value) => value,
                    // Not a file of lines: the error of the whole text says more.
                    Err(_) if number == 0 => return Err(format!("it is not JSON: {whole}")),
                    Err(error) => return Err(format!("line {} is not JSON: {error}", number + 1)),
                };
                found.extend(read_value(value).map_err(|why| format!("line {}: {why}", number + 1))?);
            }
            found
        }
    };
    if found.is_empty() { Err("it holds no conversation".into()) } else { Ok(found) }
}

fn read_value(value: Value) -> std::result::Result<Vec<Imported>, String> {
    match value {
        Value::Array(items) if items.iter().all(foreign::is_message) && !items.is_empty() => {
            Ok(vec![foreign::messages(&items)?])
        }
        Value::Array(items) => {
            let read = |(number, item)| read_one(item).map_err(|why| format!("conversation {}: {why}", number + 1));
            items.into_iter().enumerate().map(read).collect()
        }
        value => Ok(vec![read_one(value)?]),
    }
}

fn read_one(value: Value) -> std::result::Result<Imported, String> {
    if value.get("mapping").is_some() {
        return foreign::chatgpt(&value);
    }
    if let Some(messages) = value.get("messages") {
        return foreign::messages(messages.as_array().ok_or("\"messages\" is not a list")?);
    }
    if value.get("turns").is_none() {
        return Err("it is no conversation: an object with \"turns\", \"messages\" or \"mapping\" is wanted".into());
    }
    let exported: Exported = serde_json::from_value(value).map_err(|error| error.to_string())?;
    own(exported)
}

fn own(exported: Exported) -> std::result::Result<Imported, String> {
    let (mut turns, mut origins) = (Vec::new(), Vec::new());
    let count = exported.turns.len();
    for (number, turn) in exported.turns.into_iter().enumerate() {
        origins.push(Origin { asked_ms: turn.asked_ms, sampling: turn.sampling.clone(), ..Origin::default() });
        turns.push(own_turn(number, turn).map_err(|why| format!("turn {number}: {why}"))?);
    }
    if exported.head.is_some_and(|head| head >= count) {
        return Err("its \"head\" is no turn".into());
    }
    let first = turns.iter().find(|turn| !turn.removed).map(|turn| read::title(&turn.prompt)).unwrap_or_default();
    let id = exported.conversation.filter(|id| is_id(id)).unwrap_or_default();
    let mut conversation = Conversation::new(ConversationId(id), exported.system);
    conversation.title = exported.title.filter(|title| *title != first);
    (conversation.settings, conversation.draft) = (exported.settings, exported.draft);
    let conversation = conversation.restored(turns, exported.head.map(TurnId));
    Ok(Imported { conversation, created_ms: exported.created_ms, changed_ms: exported.changed_ms, origins })
}

fn own_turn(number: usize, turn: ExportedTurn) -> std::result::Result<Turn, String> {
    if turn.parent.is_some_and(|parent| parent >= number) {
        return Err("its \"parent\" does not come before it".into());
    }
    let finished = |reason| Ending::Finished {
        reason,
        usage: turn.usage.unwrap_or_default(),
        timing: turn.timing_us.as_ref().and_then(|times| timing::from_json(&times.to_string())).map(|timing| Timing {
            inter_token: turn.gaps_us.iter().copied().map(Duration::from_micros).collect(),
            ..timing
        }),
    };
    let ending = match turn.state.as_str() {
        "stop" => finished(FinishReason::Stop),
        "length" => finished(FinishReason::Length),
        "cancelled" => finished(FinishReason::Cancelled),
        "failed" => Ending::Failed { message: turn.error.unwrap_or_default() },
        // The program that wrote it does not go on with it here.
        "interrupted" | "pending" => Ending::Interrupted,
        state => return Err(format!("its \"state\" is {state:?}")),
    };
    let model = turn.model.clone();
    Ok(Turn {
        parent: turn.parent.map(TurnId),
        prompt: turn.prompt,
        model: turn.model,
        answer: Answer {
            reasoning: turn.reasoning.unwrap_or_default(),
            text: turn.answer,
            ending,
            trace: turn.trace.map(Arc::new),
            served: turn.server.map(|device| Served { model, device }),
        },
        files: turn.files,
        removed: turn.removed,
    })
}

/// Whether it looks like an id of this program.
fn is_id(id: &str) -> bool {
    (8..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Store {
    /// Stores conversations, all or none. Returns the id of each, and whether it is new: one whose id is stored already
    /// is left as it is.
    pub fn import(&mut self, found: &[Imported]) -> Result<Vec<(ConversationId, bool)>> {
        let imported = import(&mut self.db, found);
        self.noted(imported)
    }

    /// When and how each turn of a conversation was asked.
    pub fn origins(&self, id: &ConversationId) -> Result<Vec<Origin>> {
        self.noted(read::origins(&self.db, id))
    }
}

fn import(db: &mut rusqlite::Connection, found: &[Imported]) -> Result<Vec<(ConversationId, bool)>> {
    db.busy_timeout(super::open::PATIENCE)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut ids = Vec::new();
    for one in found {
        let id = &one.conversation.id;
        let known = tx.query_row("SELECT 1 FROM conversations WHERE id = ?1", [&id.0], |_| Ok(())).optional()?;
        if known.is_some() {
            ids.push((id.clone(), false));
            continue;
        }
        let id = if id.0.is_empty() { new_conversation_id() } else { id.clone() };
        insert(&tx, &id, one)?;
        ids.push((id, true));
    }
    tx.commit()?;
    Ok(ids)
}

fn insert(tx: &Transaction<'_>, id: &ConversationId, one: &Imported) -> Result<()> {
    let Imported { conversation, origins, .. } = one;
    let ms = |ms: Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok());
    let created = ms(one.created_ms).unwrap_or_else(now_ms);
    let mut rows: Vec<i64> = Vec::new();
    for (number, turn) in conversation.turns().iter().enumerate() {
        let origin = origins.get(number).cloned().unwrap_or_default();
        let sampling = columns::sampling(origin.sampling.as_ref());
        let question = Question {
            conversation: id,
            system: conversation.system.as_deref(),
            settings: settings_text(&conversation.settings),
            parent: turn.parent.and_then(|parent| rows.get(parent.0).copied()),
            prompt: &turn.prompt,
            model: &turn.model,
            sampling: sampling.as_deref(),
            files: columns::files_text(&turn.files),
            asked: ms(origin.asked_ms).unwrap_or(created),
            writer: "import",
        };
        let row = question.insert(tx)?;
        Columns::of(&turn.answer).write(tx, row, None)?;
        if turn.removed {
            tx.execute("UPDATE turns SET removed = 1 WHERE key = ?1", [row])?;
        }
        rows.push(row);
    }
    let head = conversation.head().and_then(|head| rows.get(head.0).copied());
    let changed = ms(one.changed_ms).unwrap_or(created);
    tx.execute(
        "INSERT INTO conversations (id, created, changed) VALUES (?1, ?2, ?2) ON CONFLICT (id) DO NOTHING",
        params![id.0, created],
    )?;
    tx.execute(
        "UPDATE conversations SET title = ?2, system = ?3, settings = ?4, draft = ?5, created = ?6, changed = ?7,
           head = ?8 WHERE id = ?1",
        params![
            id.0,
            conversation.title,
            conversation.system,
            settings_text(&conversation.settings),
            conversation.draft,
            created,
            changed,
            head
        ],
    )?;
    Ok(())
}
