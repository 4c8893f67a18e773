//! From a sent prompt to the end of its answer: store it, apply the engine's events, then send the next queued prompt.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::conversation::{Attachment, Ending, TurnId, TurnRecord};
use crate::protocol::*;

use super::{Chat, Count, Effect, EngineState, Entry, Hint, NoteKind, command};

/// Save interval of a streaming answer, so that the disk is never a quarter of a second behind the screen.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);

/// How long storing a prompt may take before it is sent to the engine anyway.
const DISK_PATIENCE: Duration = Duration::from_millis(1500);

/// Whether an answer is in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// No answer is in progress.
    Idle,
    /// This answer is in progress.
    Busy(Answering),
}

/// An answer in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Answering {
    /// Id of the request to the engine.
    pub id: RequestId,
    /// The turn to which it belongs.
    pub turn: TurnId,
    /// Its progress.
    pub stage: Stage,
    /// When the prompt was sent.
    pub submitted: Timestamp,
    /// Time of the first token, time of the last token, and their number.
    pub tokens: Option<(Timestamp, Timestamp, usize)>,
    /// Gaps between the tokens so far.
    pub gaps: Vec<Duration>,
    /// When the current reasoning began.
    pub thinking_since: Option<Timestamp>,
    /// Time of the oldest token that is not stored; `None` if all of the answer is.
    unsaved_since: Option<Timestamp>,
}

/// Progress of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The prompt is being stored; the engine has no request yet.
    Saving,
    /// The model's files are not on disk, or not found yet; the engine has no request.
    Files,
    /// The engine has the request, but is loading or finishing another one.
    Waiting,
    /// The prompt is being evaluated.
    Prefill {
        /// Prompt tokens evaluated or cached.
        done: usize,
        /// Prompt tokens in total.
        total: usize,
    },
    /// Tokens are being generated.
    Decode,
    /// The user cancelled it; the engine has not confirmed that yet.
    Stopping,
}

/// The limit that cut an answer off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The maximum number of tokens was reached.
    MaxTokens,
    /// The context is full.
    Context {
        /// Context length, in positions.
        length: usize,
        /// Context length that the model was trained with, in positions.
        trained: usize,
    },
}

impl Activity {
    /// Whether an answer is in progress.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self, Self::Busy(answering) if answering.stage == Stage::Stopping)
    }

    pub(super) fn save_due(&self) -> Option<Timestamp> {
        match self {
            Self::Busy(answering) => answering.unsaved_since.map(|since| since + SAVE_INTERVAL),
            Self::Idle => None,
        }
    }

    /// The answer in progress.
    pub fn answering(&self) -> Option<&Answering> {
        match self {
            Self::Busy(answering) => Some(answering),
            Self::Idle => None,
        }
    }

    /// The answer in progress to this turn.
    pub fn on(&self, turn: TurnId) -> Option<&Answering> {
        match self {
            Self::Busy(answering) if answering.turn == turn => Some(answering),
            _ => None,
        }
    }

    fn request(&mut self, id: RequestId) -> Option<&mut Answering> {
        match self {
            Self::Busy(answering) if answering.id == id => Some(answering),
            _ => None,
        }
    }
}

impl Chat {
    pub(super) fn submit(&mut self, text: String) -> Vec<Effect> {
        if text.trim().is_empty() {
            return Vec::new();
        }
        self.hint = None;
        match command::parse(&text) {
            Ok(Some(command)) => self.run_command(command),
            Ok(None) if self.is_occupied() => {
                self.queue.push_back(text);
                Vec::new()
            }
            Ok(None) => self.ask(text),
            Err(why) => {
                self.show_hint(Hint::Message(why));
                vec![Effect::PutBack(text)]
            }
        }
    }

    pub(super) fn ask(&mut self, prompt: String) -> Vec<Effect> {
        let files = self.files_in(&prompt);
        self.ask_with(prompt, files)
    }

    /// Asks a prompt with these files.
    pub(super) fn ask_with(&mut self, prompt: String, files: Vec<Attachment>) -> Vec<Effect> {
        let parent = self.branch.take().unwrap_or(self.conversation.head());
        (self.before, self.resumed) = (self.conversation.head(), None);
        let turn = self.conversation.ask(parent, prompt, self.options.model.clone());
        if let Some(turn) = self.conversation.turn_mut(turn) {
            turn.files = files;
        }
        self.feed.keep_turns(&self.conversation.path());
        self.feed.settle_notes();
        self.feed.push(Entry::Turn(turn));
        self.begin(turn)
    }

    /// Goes on with the text of an answer.
    pub(super) fn resume_answer(&mut self, turn: TurnId) -> Vec<Effect> {
        self.limits.remove(&turn);
        let old = self.conversation.turn_mut(turn).map(|turn| std::mem::take(&mut turn.answer.ending));
        self.resumed = old;
        self.begin(turn)
    }

    fn begin(&mut self, turn: TurnId) -> Vec<Effect> {
        self.last_request += 1;
        self.asked = Some((turn, self.sampling_of(self.last_request)));
        self.activity = Activity::Busy(Answering {
            id: RequestId(self.last_request),
            turn,
            stage: Stage::Saving,
            submitted: self.now,
            tokens: None,
            gaps: Vec::new(),
            thinking_since: None,
            unsaved_since: None,
        });
        self.record(turn)
    }

    pub(super) fn record(&self, id: TurnId) -> Vec<Effect> {
        let Some(turn) = self.conversation.turn(id).cloned() else { return Vec::new() };
        let (conversation, system) = (self.conversation.id.clone(), self.conversation.system.clone());
        let settings = self.conversation.settings.clone();
        let sampling = self.used_sampling(id);
        vec![Effect::Save(Box::new(TurnRecord { conversation, system, settings, id, turn, sampling, asked_ms: None }))]
    }

    /// The sampling parameters of the turn that was asked last; `None` for another turn. Before the model is loaded, its
    /// own recommendation is unknown: the end of the answer stores it.
    fn used_sampling(&self, turn: TurnId) -> Option<SamplingParams> {
        let (_, choice) = self.asked.as_ref().filter(|(asked, _)| *asked == turn)?;
        Some(choice.resolve(&self.engine.recommended()))
    }

    pub(super) fn saved(&mut self, turn: TurnId, result: Result<(), String>) -> Vec<Effect> {
        if let Err(why) = result
            && !std::mem::replace(&mut self.save_warned, true)
        {
            let why = why.trim_end_matches('.');
            self.note(
                NoteKind::Warning,
                format!("This conversation is not being saved: {why}. It goes on here, and is lost when you leave."),
            );
        }
        match &self.activity {
            Activity::Busy(answering) if answering.turn == turn => self.generate(),
            _ => Vec::new(),
        }
    }

    /// Sends the prompt to the engine if storing it takes too long.
    pub(super) fn ask_unsaved(&mut self) -> Vec<Effect> {
        let late = |answering: &Answering| self.now.since(answering.submitted) >= DISK_PATIENCE;
        match &self.activity {
            Activity::Busy(answering) if answering.stage == Stage::Saving && late(answering) => self.generate(),
            _ => Vec::new(),
        }
    }

    /// Sends the prompt to the engine, unless that was done already.
    fn generate(&mut self) -> Vec<Effect> {
        let Activity::Busy(answering) = &mut self.activity else { return Vec::new() };
        if answering.stage != Stage::Saving {
            return Vec::new();
        }
        if !self.supply.may_load() {
            answering.stage = Stage::Files;
            return Vec::new();
        }
        answering.stage = Stage::Waiting;
        let (id, turn) = (answering.id, answering.turn);
        if let Some(turn) = self.conversation.turn_mut(turn) {
            // The model may have been changed while the prompt waited.
            turn.model.clone_from(&self.options.model);
        }
        let messages = self.messages_of_request(turn);
        let sampling = self.sampling_of(id.0);
        self.asked = Some((turn, sampling.clone()));
        vec![Effect::Generate(self.request(id, messages, sampling))]
    }

    /// A request with the options of the conversation.
    pub(super) fn request(
        &self,
        id: RequestId,
        messages: Vec<ChatMessage>,
        sampling: SamplingChoice,
    ) -> GenerationRequest {
        GenerationRequest {
            sampling,
            think: self.options.think,
            max_tokens: self.options.max_tokens,
            on_overflow: self.options.on_overflow,
            conversation: Some(self.conversation.id.0.clone()),
            ..GenerationRequest::new(id, messages)
        }
    }

    /// Sends the prompt that waited for the model's files to the engine.
    pub(super) fn generate_waiting(&mut self) -> Vec<Effect> {
        if let Activity::Busy(answering) = &mut self.activity {
            answering.stage = Stage::Saving;
        }
        self.generate()
    }

    pub(super) fn stop_answer(&mut self) -> Vec<Effect> {
        let Activity::Busy(answering) = &mut self.activity else { return Vec::new() };
        let (id, stage) = (answering.id, answering.stage);
        match stage {
            Stage::Stopping => Vec::new(),
            Stage::Saving | Stage::Files => {
                let mut effects = if self.supply.change.is_none() { self.stop_fetch() } else { Vec::new() };
                let reason = FinishReason::Cancelled;
                effects.extend(self.end_answer(Ending::Finished { reason, usage: Usage::default(), timing: None }));
                effects
            }
            _ => {
                answering.stage = Stage::Stopping;
                vec![Effect::Cancel(id)]
            }
        }
    }

    fn traced(&mut self, id: RequestId, trace: Arc<Trace>) {
        let turn = self.activity.request(id).map(|answering| answering.turn);
        if let Some(turn) = turn.and_then(|turn| self.conversation.turn_mut(turn)) {
            turn.answer.trace = Some(trace);
        }
    }

    fn served(&mut self, id: RequestId, served: Served) {
        let turn = self.activity.request(id).map(|answering| answering.turn);
        if let Some(turn) = turn.and_then(|turn| self.conversation.turn_mut(turn)) {
            turn.model.clone_from(&served.model);
            turn.answer.served = Some(served);
        }
    }

    pub(super) fn engine_event(&mut self, event: EngineEvent) -> Vec<Effect> {
        if let Some(effects) = self.compacting_event(&event) {
            return effects;
        }
        // A failed attempt is reported before the next one; all else means that the wait is over.
        if !matches!(event, EngineEvent::Warning(_) | EngineEvent::Counted { .. } | EngineEvent::Waiting { .. }) {
            self.engine.waiting = None;
            self.engine.is_asleep = false;
        }
        match event {
            EngineEvent::Loading { .. } => self.engine.loading(),
            EngineEvent::Asleep(asleep) => self.engine.is_asleep = asleep,
            EngineEvent::Waiting { waited, why, .. } => self.engine.waiting = Some((waited, why)),
            EngineEvent::LoadProgress(progress) => self.engine.progress(progress, self.now),
            EngineEvent::Loaded { info, took, at } => {
                let total = info.memory.total();
                self.loaded(info);
                self.residency.loaded(at, took, self.engine.memory().unwrap_or(total));
            }
            EngineEvent::LoadFailed { error } => return self.load_failed(&error),
            EngineEvent::Prefill { id, done, total, trimmed_turns, .. } => {
                self.prefill(id, done, total, trimmed_turns);
            }
            EngineEvent::Token { id, channel, text, at } => return self.token(id, channel, &text, at),
            EngineEvent::Traced { id, trace } => self.traced(id, trace),
            EngineEvent::Served { id, served } => self.served(id, served),
            EngineEvent::Finished { id, reason, usage, timing, .. } => {
                if let Some(turn) = self.activity.request(id).map(|answering| answering.turn) {
                    self.engine.context_used = usage.total_tokens().max(self.engine.context_used);
                    if reason == FinishReason::Length {
                        let limit = self.limit_of(&usage);
                        self.limits.insert(turn, limit);
                    }
                    return self.end_answer(Ending::Finished { reason, usage, timing: Some(timing) });
                }
            }
            EngineEvent::Failed { id, error, .. } => {
                if self.activity.request(id).is_some() {
                    if let Some(effects) = self.withdraw(&error) {
                        return effects;
                    }
                    // The preload already added this error as a note; show it once, under the failed turn.
                    self.feed.forget_error(&error.message);
                    return self.end_answer(Ending::Failed { message: error.message });
                }
            }
            EngineEvent::Counted { id, prompt_tokens, cached_tokens, left_out, context_length } => {
                self.file_counted(id, prompt_tokens);
                self.counted(id, Count { prompt_tokens, cached_tokens, left_out, context_length });
            }
            EngineEvent::Idle { release_at, .. } => self.engine.state = EngineState::Idle { release_at },
            EngineEvent::Resident { bytes } => {
                self.engine.measured(bytes);
                self.residency.measured(self.now, self.engine.memory().unwrap_or(0));
            }
            EngineEvent::Releasing => self.engine.state = EngineState::Releasing,
            EngineEvent::Released { freed, at, .. } => {
                self.residency.released(at);
                self.engine.released(freed);
            }
            EngineEvent::Warning(text) => self.note(NoteKind::Warning, text),
        }
        Vec::new()
    }

    /// The limit that an answer with this usage has reached.
    fn limit_of(&self, usage: &Usage) -> Limit {
        match self.engine.info.as_ref().filter(|info| info.is_filled_by(usage)) {
            Some(info) => Limit::Context { length: info.context_length, trained: info.trained_context_length },
            None => Limit::MaxTokens,
        }
    }

    fn loaded(&mut self, info: ModelInfo) {
        // A reload does not repeat the warnings.
        let known = self.engine.info.as_ref().is_some_and(|old| old.warnings == info.warnings);
        for warning in info.warnings.iter().filter(|_| !known) {
            self.note(NoteKind::Warning, warning.clone());
        }
        self.engine.loaded(info);
        self.recount_files(false);
        self.settle_change();
    }

    fn load_failed(&mut self, error: &EngineError) -> Vec<Effect> {
        self.engine.load_failed(error.kind);
        // A waiting request gets its own `Failed` event and shows the error under its turn.
        if !self.activity.is_busy() && error.kind != ErrorKind::Cancelled {
            self.note(NoteKind::Error, error.message.clone());
        }
        self.after_failed_load(error)
    }

    fn prefill(&mut self, id: RequestId, done: usize, total: usize, trimmed: usize) {
        let Some(answering) = self.activity.request(id) else { return };
        let first = !matches!(answering.stage, Stage::Prefill { .. });
        if answering.stage != Stage::Stopping {
            answering.stage = Stage::Prefill { done, total };
        }
        self.engine.state = EngineState::Warm;
        self.engine.context_used = total;
        if trimmed > 0 && first {
            let turns = if trimmed == 1 { "turn was" } else { "turns were" };
            self.note(NoteKind::Warning, format!("The context is full: the oldest {trimmed} {turns} left out."));
        }
    }

    fn token(&mut self, id: RequestId, channel: Channel, text: &str, at: Timestamp) -> Vec<Effect> {
        let now = self.now;
        let Some(answering) = self.activity.request(id) else { return Vec::new() };
        if answering.stage != Stage::Stopping {
            answering.stage = Stage::Decode;
        }
        if let Some((_, last, _)) = answering.tokens {
            answering.gaps.push(at.since(last));
        }
        let (first, _, count) = answering.tokens.unwrap_or((at, at, 0));
        answering.tokens = Some((first, at, count + 1));
        answering.unsaved_since.get_or_insert(now);
        match channel {
            Channel::Reasoning => {
                answering.thinking_since.get_or_insert(at);
            }
            Channel::Answer => {
                if let Some(since) = answering.thinking_since.take() {
                    self.thought.insert(answering.turn, at.since(since));
                }
            }
        }
        self.engine.context_used += 1;
        if let Some(turn) = self.conversation.turn_mut(answering.turn) {
            turn.answer.push(channel, text);
        }
        self.save_partial()
    }

    /// Stores the partial answer if that is due.
    pub(super) fn save_partial(&mut self) -> Vec<Effect> {
        if self.activity.save_due().is_some_and(|due| self.now >= due) { self.save_now() } else { Vec::new() }
    }

    /// Stores the partial answer if any of it is not stored yet.
    fn save_now(&mut self) -> Vec<Effect> {
        let Activity::Busy(answering) = &mut self.activity else { return Vec::new() };
        if answering.unsaved_since.take().is_none() {
            return Vec::new();
        }
        let turn = answering.turn;
        self.record(turn)
    }

    /// Stores the answer in progress and the queued prompts as interrupted.
    pub(super) fn break_off(&mut self) -> Vec<Effect> {
        let mut effects = match std::mem::replace(&mut self.activity, Activity::Idle) {
            Activity::Busy(answering) => self.interrupted(answering.turn),
            Activity::Idle => Vec::new(),
        };
        while let Some(prompt) = self.queue.pop_front() {
            let files = self.files_in(&prompt);
            let turn = self.conversation.ask(self.conversation.head(), prompt, self.options.model.clone());
            if let Some(turn) = self.conversation.turn_mut(turn) {
                turn.files = files;
            }
            effects.extend(self.interrupted(turn));
        }
        effects
    }

    fn interrupted(&mut self, id: TurnId) -> Vec<Effect> {
        if let Some(turn) = self.conversation.turn_mut(id) {
            turn.answer.ending = Ending::Interrupted;
        }
        self.record(id)
    }

    pub(super) fn end_answer(&mut self, ending: Ending) -> Vec<Effect> {
        let Activity::Busy(answering) = std::mem::replace(&mut self.activity, Activity::Idle) else {
            return Vec::new();
        };
        if let (Some(since), Some((_, last, _))) = (answering.thinking_since, answering.tokens) {
            self.thought.insert(answering.turn, last.since(since));
        }
        let goes_on = matches!(&ending, Ending::Finished { reason, .. } if *reason != FinishReason::Cancelled);
        if let Some(turn) = self.conversation.turn_mut(answering.turn) {
            turn.answer.ending = ending;
        }
        self.recount();
        let mut effects = self.record(answering.turn);
        let mut change = self.change_if_ready();
        let back = self.end_comparison(answering.turn, !change.is_empty());
        change.extend(back);
        effects.extend(match (goes_on, change.is_empty()) {
            // The next queued prompt is for the new model: it follows the change.
            (true, false) => Vec::new(),
            (true, true) => self.next_in_queue(),
            (false, _) => self.return_queue(),
        });
        effects.extend(change);
        // No request needs the load in progress any more: cancel it. The next keystroke starts another.
        if !self.activity.is_busy() && matches!(self.engine.state, EngineState::Loading(_)) {
            effects.push(Effect::Release);
        }
        effects
    }

    pub(super) fn next_in_queue(&mut self) -> Vec<Effect> {
        self.queue.pop_front().map(|prompt| self.ask(prompt)).unwrap_or_default()
    }

    /// After a stop or a failure, returns the queued prompts to the user instead of sending them.
    pub(super) fn return_queue(&mut self) -> Vec<Effect> {
        if self.queue.is_empty() {
            return Vec::new();
        }
        let waiting: Vec<_> = self.queue.drain(..).collect();
        let text = match waiting.len() {
            1 => "The prompt that waited was not sent: find it in the composer, or with Up.".to_owned(),
            count => {
                format!("The {count} prompts that waited were not sent: find them in the composer and with Up.")
            }
        };
        self.note(NoteKind::Info, text);
        vec![Effect::ReturnPrompts(waiting)]
    }
}
