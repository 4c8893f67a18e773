//! A [`Model`] driven by a script, for tests: only its logits are made up; everything above them (lifecycle, sampler,
//! prefix reuse, chat template, tokenizer, detokeniser) is the product's code. Independent of lifecycle and requests.
//!
//! `-m scripted:FILE` runs FILE, TOML or (by its extension) JSON. Every key is optional; an unknown key is an
//! error. Times are in milliseconds and may be fractions.
//!
//! ```toml
//! load_ms = 300              # duration of a load
//! load_steps = 10            # steps of each phase, with a progress report after each
//! load_phases = ["read"]     # phases (download, verify, read, upload), equal shares of load_ms
//! load_bytes = 100_000_000   # bytes of each phase
//! ballast_mib = 64           # memory that a load allocates and writes, so that a release can be measured
//! prefill_token_ms = 0.5     # duration of a prompt token
//! prefill_chunk = 64         # prompt tokens of each forward pass
//! token_ms = 5               # duration of a token of the answer
//! context_length = 8192      # trained context length
//! cuts_cache = true          # false: truncating the KV cache clears it
//! device_decoder = false     # true: use the device decode loop, as on a GPU
//! device = "cpu"             # the device to report: cpu or cuda
//! fallback = "You said: {user}"   # the answer if none below matches
//!
//! [[answer]]                 # the n-th answer without `when` answers the n-th user message of a conversation
//! text = "Hello!"
//!
//! [[answer]]                 # an answer with `when` has priority if the last user message contains that text
//! when = "weather"
//! text = "<think>\nLook outside.\n</think>\n\nIt rains."
//! token_ms = 50              # overrides token_ms for this answer
//! pause_after = 10           # pause after this number of tokens
//! pause_ms = 5000            # duration of the pause
//!
//! [[answer]]                 # raw bytes, for invalid UTF-8
//! when = "bytes"
//! bytes = [104, 105, 255]
//!
//! [[failure]]
//! at = "token"               # load, prefill or token
//! after = 3                  # load: steps before it; prefill: prompt tokens evaluated; token: tokens written
//! kind = "out_of_memory"     # out_of_memory, device, fatal (sticky), invalid, panic
//! when = "break"             # prefill, token: only if the last user message contains this
//! times = 1                  # number of failures in this process; left out: unlimited
//! ```
//!
//! In `text` and `fallback`, `{user}` is the last user message, `{first}` the first one, `{system}` the system message,
//! `{turn}` the number of user messages in the prompt, `{nth}` the number of answers started since the load.
//! The answer ends with `<|im_end|>`. A literal `{` needs no escape.
//!
//! The vocabulary has one token for each byte (so text of n bytes is n tokens and every character beyond ASCII is
//! split), and `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`; the template is ChatML.

use std::path::Path;
use std::time::Duration;

use super::chat_template::{ChatTemplate, Chosen};
use super::error::ModelError;
use super::model::{DEFAULT_CONTEXT_LENGTH, DeviceDecoder, Model};
use super::source::CancelFlag;
use super::tokenizer::Tokenizer;
use crate::protocol::{DeviceInfo, EngineError, ErrorKind, LoadProgress, MemoryUse, ModelInfo, SamplingParams};

mod script;
mod vocabulary;

use script::{Moment, Script};
use vocabulary::{END_OF_TURN, VOCABULARY};

/// The logit of the next token; the others are 0. High enough that no temperature or penalty changes the choice.
const CERTAIN: f32 = 10_000.0;

/// Interval at which a wait checks the cancel flag.
const NAP: Duration = Duration::from_millis(10);

/// A parsed and checked script.
pub(super) struct ScriptParts<'a> {
    path: &'a Path,
    script: Script,
    context_length: usize,
}

impl<'a> ScriptParts<'a> {
    pub(super) fn open(path: &'a Path, context_length: Option<usize>) -> Result<Self, ModelError> {
        let script = Script::read(path)?;
        let context_length = self::context_length(&script, context_length)?;
        Ok(Self { path, script, context_length })
    }

    pub(super) fn device(&self) -> DeviceInfo {
        DeviceInfo { kind: self.script.device, name: "script".into() }
    }

    pub(super) fn info(&self) -> ModelInfo {
        ModelInfo {
            architecture: "scripted".into(),
            quantization: "none".into(),
            context_length: self.context_length,
            trained_context_length: self.script.context_length,
            ..ModelInfo::default()
        }
    }

    /// The tokenizer and the template of every script; `chosen` replaces the template.
    pub(super) fn read_text(chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), ModelError> {
        vocabulary::open(chosen).map_err(ModelError::Invalid)
    }

    /// Like [`Self::read_text`]; an error if `path` is not a valid script.
    pub(super) fn open_text(path: &Path, chosen: Option<&Chosen>) -> Result<(Tokenizer, ChatTemplate), EngineError> {
        Script::read(path).map_err(|error| EngineError::new(ErrorKind::ModelNotFound, error.to_string()))?;
        Ok(Self::read_text(chosen)?)
    }

    pub(super) fn load(
        &self,
        cancel: &CancelFlag,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Model>, ModelError> {
        play_load(&self.script, self.path, cancel, progress)?;
        Ok(Box::new(ScriptedModel::new(self.script.clone(), self.path, self.context_length)))
    }
}

fn context_length(script: &Script, wanted: Option<usize>) -> Result<usize, ModelError> {
    match wanted {
        Some(wanted) if wanted > script.context_length => Err(ModelError::Unsupported(format!(
            "a context of {wanted} tokens was asked for and the model was made for {}; ask for at most that",
            script.context_length
        ))),
        Some(wanted) => Ok(wanted),
        None => Ok(script.context_length.min(DEFAULT_CONTEXT_LENGTH)),
    }
}

/// Simulates the load: waits, reports progress and fails as the script specifies.
fn play_load(
    script: &Script,
    path: &Path,
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), ModelError> {
    let steps = script.load_steps.max(1);
    let phases = script.load_phases.len().max(1) * steps;
    let mut taken = 0;
    for &phase in &script.load_phases {
        for step in 0..=steps {
            script.fail_if_due(path, Moment::Load, taken, "")?;
            let done = script.load_bytes * step as u64 / steps as u64;
            progress(LoadProgress { phase, done, total: Some(script.load_bytes), detail: None });
            if step < steps {
                wait(script.load_ms / phases as f64, Some(cancel))?;
                taken += 1;
            }
        }
    }
    if cancel.is_cancelled() { Err(ModelError::Cancelled) } else { Ok(()) }
}

/// Sleeps; with `cancel` in short intervals, with an error if it is raised.
fn wait(milliseconds: f64, cancel: Option<&CancelFlag>) -> Result<(), ModelError> {
    let mut left = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
    loop {
        if cancel.is_some_and(CancelFlag::is_cancelled) {
            return Err(ModelError::Cancelled);
        }
        if left.is_zero() {
            return Ok(());
        }
        let nap = if cancel.is_some() { left.min(NAP) } else { left };
        std::thread::sleep(nap);
        left = left.saturating_sub(nap);
    }
}

/// The model: its "KV cache" is the list of evaluated tokens.
struct ScriptedModel {
    script: Script,
    path: std::path::PathBuf,
    context_length: usize,
    /// Every byte is written, so that the memory is resident.
    ballast: Vec<u8>,
    shown: Vec<u32>,
    answer: Answer,
    begun: usize,
    /// The last token that the device decode loop returned; it is not evaluated yet.
    in_flight: Option<u32>,
    logits: Vec<f32>,
}

/// The answer that the model is writing.
#[derive(Default)]
struct Answer {
    tokens: Vec<u32>,
    token_ms: f64,
    /// Number of tokens before a pause, and its milliseconds.
    pause: Option<(usize, f64)>,
    /// The user message that it answers.
    user: String,
}

impl ScriptedModel {
    fn new(script: Script, path: &Path, context_length: usize) -> Self {
        let ballast = (0..script.ballast_bytes()).map(|n| n as u8 | 1).collect();
        Self {
            script,
            path: path.to_path_buf(),
            context_length,
            ballast,
            shown: Vec::new(),
            answer: Answer::default(),
            begun: 0,
            in_flight: None,
            logits: Vec::new(),
        }
    }

    /// Evaluates `tokens` from `position` on and returns the token that follows.
    fn evaluate(&mut self, tokens: &[u32], position: usize) -> Result<u32, ModelError> {
        if position > self.shown.len() || position + tokens.len() > self.context_length {
            return Err(ModelError::Invalid(format!(
                "{} tokens at position {position}, {} were shown and {} fit",
                tokens.len(),
                self.shown.len(),
                self.context_length
            )));
        }
        self.shown.truncate(position);
        self.shown.extend_from_slice(tokens);
        let conversation = vocabulary::read(&self.shown);
        match conversation.written {
            // The prompt ends before the assistant's turn: a chunk of a prefill.
            None => {
                self.prefill(tokens.len(), &conversation.last_user())?;
                Ok(END_OF_TURN)
            }
            Some(0) => {
                self.prefill(tokens.len(), &conversation.last_user())?;
                self.begun += 1;
                self.answer = self.script.answer(&conversation, self.begun);
                self.say(0)
            }
            Some(written) => {
                // An answer that an earlier load or another conversation began is continued.
                if self.answer.tokens.is_empty() || self.answer.user != conversation.last_user() {
                    self.prefill(tokens.len(), &conversation.last_user())?;
                    self.answer = self.script.answer(&conversation, self.begun);
                }
                self.say(written)
            }
        }
    }

    fn prefill(&self, tokens: usize, user: &str) -> Result<(), ModelError> {
        self.script.fail_if_due(&self.path, Moment::Prefill, self.shown.len(), user)?;
        wait(self.script.prefill_token_ms * tokens as f64, None)
    }

    /// The token after `written` tokens of the answer.
    fn say(&self, written: usize) -> Result<u32, ModelError> {
        if written > 0 {
            let pause = self.answer.pause.filter(|(after, _)| *after == written).map_or(0.0, |(_, time)| time);
            wait(self.answer.token_ms + pause, None)?;
        }
        self.script.fail_if_due(&self.path, Moment::Token, written, &self.answer.user)?;
        Ok(self.answer.tokens.get(written).copied().unwrap_or(END_OF_TURN))
    }
}

impl Model for ScriptedModel {
    fn vocab_size(&self) -> usize {
        VOCABULARY
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn prefill_chunk(&self) -> usize {
        self.script.prefill_chunk.max(1)
    }

    fn truncate_cache(&mut self, positions: usize) -> usize {
        if self.script.cuts_cache || positions >= self.shown.len() {
            self.shown.truncate(positions);
        } else {
            self.shown.clear();
        }
        self.shown.len()
    }

    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<(), ModelError> {
        let next = self.evaluate(tokens, position)?;
        logits.clear();
        logits.resize(VOCABULARY, 0.0);
        logits[next as usize] = CERTAIN;
        Ok(())
    }

    fn forward_rows(
        &mut self,
        tokens: &[u32],
        position: usize,
        last: usize,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let first = tokens.len().saturating_sub(last);
        let mut row = Vec::new();
        logits.clear();
        if first > 0 {
            self.forward(&tokens[..first], position, &mut row)?;
        }
        for at in first..tokens.len() {
            self.forward(&tokens[at..=at], position + at, &mut row)?;
            logits.extend_from_slice(&row);
        }
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { weights: self.ballast.len() as u64, kv_cache: 0, workspace: 0 }
    }

    fn device_decoder(&mut self) -> Option<&mut dyn DeviceDecoder> {
        if self.script.device_decoder { Some(self) } else { None }
    }
}

impl DeviceDecoder for ScriptedModel {
    fn begin(
        &mut self,
        tokens: &[u32],
        position: usize,
        _recent: &[u32],
        _sampling: &SamplingParams,
        _seed: u64,
    ) -> Result<(), ModelError> {
        let mut logits = std::mem::take(&mut self.logits);
        self.in_flight = None;
        let result = self.forward(tokens, position, &mut logits);
        self.logits = logits;
        result
    }

    fn next_token(&mut self) -> Result<u32, ModelError> {
        if let Some(token) = self.in_flight.take() {
            let mut logits = std::mem::take(&mut self.logits);
            let result = self.forward(&[token], self.shown.len(), &mut logits);
            self.logits = logits;
            result?;
        }
        let next = self.logits.iter().position(|&logit| logit == CERTAIN).unwrap_or(END_OF_TURN as usize) as u32;
        self.in_flight = Some(next);
        Ok(next)
    }

    fn end(&mut self) -> Result<usize, ModelError> {
        self.in_flight = None;
        Ok(self.shown.len())
    }
}

#[cfg(test)]
mod tests;
