//! The script file: parses it and selects the answer or failure for a conversation. [`super`] describes the format.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::Deserialize;

use super::Answer;
use super::vocabulary::{Conversation, encode};
use crate::engine::error::ModelError;
use crate::protocol::{DeviceKind, LoadPhase};

/// A script in the layout of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Script {
    pub load_ms: f64,
    pub load_steps: usize,
    pub load_phases: Vec<LoadPhase>,
    pub load_bytes: u64,
    pub ballast_mib: usize,
    pub prefill_token_ms: f64,
    pub prefill_chunk: usize,
    pub token_ms: f64,
    pub context_length: usize,
    pub cuts_cache: bool,
    pub device_decoder: bool,
    pub device: DeviceKind,
    pub fallback: String,
    #[serde(rename = "answer")]
    answers: Vec<ScriptedAnswer>,
    #[serde(rename = "failure")]
    failures: Vec<Failure>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            load_ms: 0.0,
            load_steps: 10,
            load_phases: vec![LoadPhase::Read],
            load_bytes: 100_000_000,
            ballast_mib: 0,
            prefill_token_ms: 0.0,
            prefill_chunk: 64,
            token_ms: 0.0,
            context_length: 8192,
            cuts_cache: true,
            device_decoder: false,
            device: DeviceKind::Cpu,
            fallback: "You said: {user}".into(),
            answers: Vec::new(),
            failures: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedAnswer {
    when: Option<String>,
    #[serde(default)]
    text: String,
    bytes: Option<Vec<u8>>,
    token_ms: Option<f64>,
    pause_after: Option<usize>,
    #[serde(default)]
    pause_ms: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    at: Moment,
    #[serde(default)]
    after: usize,
    kind: FailureKind,
    when: Option<String>,
    times: Option<u64>,
}

/// When a failure can occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Moment {
    Load,
    Prefill,
    Token,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureKind {
    OutOfMemory,
    Device,
    Fatal,
    Invalid,
    Panic,
}

/// How often each failure (by its index in its file) has occurred in this process. It outlives a load, so that
/// `times = 1` means once and not once for each load.
static STRUCK: LazyLock<Mutex<HashMap<(PathBuf, usize), u64>>> = LazyLock::new(Mutex::default);

impl Script {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ModelError::Io(format!("the script {} cannot be read: {error}", path.display())))?;
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let parsed = if json {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        parsed.map_err(|error| ModelError::Invalid(format!("the script {} is not valid: {error}", path.display())))
    }

    pub fn ballast_bytes(&self) -> usize {
        self.ballast_mib << 20
    }

    /// The answer to `conversation`; `nth` counts the answers since the load.
    pub fn answer(&self, conversation: &Conversation, nth: usize) -> Answer {
        let user = conversation.last_user();
        let turn = conversation.users.len();
        let fits = |answer: &&ScriptedAnswer| answer.when.as_ref().is_some_and(|when| user.contains(when.as_str()));
        let mut in_order = self.answers.iter().filter(|answer| answer.when.is_none());
        let chosen =
            self.answers.iter().find(fits).or_else(|| turn.checked_sub(1).and_then(|index| in_order.nth(index)));
        let text = chosen.map_or(self.fallback.as_str(), |answer| answer.text.as_str());
        let tokens = match chosen.and_then(|answer| answer.bytes.as_deref()) {
            Some(bytes) => encode(bytes),
            None => encode(fill(text, conversation, nth).as_bytes()),
        };
        let token_ms = chosen.and_then(|answer| answer.token_ms).unwrap_or(self.token_ms);
        let pause = chosen.and_then(|answer| answer.pause_after.map(|after| (after, answer.pause_ms)));
        Answer { tokens, token_ms, pause, user }
    }

    /// Fails or panics if the script specifies a failure for `at` with this `count`.
    pub fn fail_if_due(&self, path: &Path, at: Moment, count: usize, user: &str) -> Result<(), ModelError> {
        for (index, failure) in self.failures.iter().enumerate() {
            let meant = failure.at == at && failure.when.as_ref().is_none_or(|when| user.contains(when.as_str()));
            // A prefill reaches `after` somewhere within a chunk; load steps and tokens are counted one by one.
            let due = if at == Moment::Prefill { count >= failure.after } else { count == failure.after };
            if meant && due && strike(path, index, failure.times) {
                return failure.kind.strike();
            }
        }
        Ok(())
    }
}

/// Counts an occurrence; false if the failure has already occurred `times` times.
fn strike(path: &Path, index: usize, times: Option<u64>) -> bool {
    let mut struck = STRUCK.lock().unwrap_or_else(PoisonError::into_inner);
    let count = struck.entry((path.to_path_buf(), index)).or_default();
    let strikes = times.is_none_or(|times| *count < times);
    *count += u64::from(strikes);
    strikes
}

impl FailureKind {
    #[allow(clippy::panic, reason = "a script requests a panic to test that the engine survives one")]
    fn strike(self) -> Result<(), ModelError> {
        Err(match self {
            Self::OutOfMemory => ModelError::OutOfMemory("the script ran out of memory".into()),
            Self::Device => ModelError::Device { message: "the script's device failed".into(), sticky: false },
            Self::Fatal => ModelError::Device { message: "the script's device is lost".into(), sticky: true },
            Self::Invalid => ModelError::Invalid("the script's file is damaged".into()),
            Self::Panic => panic!("the script requested a panic"),
        })
    }
}

/// Replaces `{user}` and the other placeholders, but none within the inserted text.
fn fill(text: &str, conversation: &Conversation, nth: usize) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        let value = after.find('}').and_then(|close| Some((value(&after[1..close], conversation, nth)?, close)));
        match value {
            Some((value, close)) => {
                filled.push_str(&value);
                rest = &after[close + 1..];
            }
            None => {
                filled.push('{');
                rest = &after[1..];
            }
        }
    }
    filled + rest
}

fn value(name: &str, conversation: &Conversation, nth: usize) -> Option<String> {
    match name {
        "user" => Some(conversation.last_user()),
        "first" => Some(conversation.users.first().cloned().unwrap_or_default()),
        "system" => Some(conversation.system.clone()),
        "turn" => Some(conversation.users.len().to_string()),
        "nth" => Some(nth.to_string()),
        _ => None,
    }
}
