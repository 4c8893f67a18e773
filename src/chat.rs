//! The pure core of the interactive chat: `update(&mut Chat, Event) -> Vec<Effect>`.
//!
//! Events and effects are plain data. No I/O, clock or threads, so that a test can drive any sequence of events.
//! Independent of the terminal and of the engine's implementation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::conversation::{Attachment, Change, Conversation, ConversationId, Ending, TurnId, TurnRecord};
use crate::protocol::*;
use crate::stats::Residency;

mod answering;
mod assignment;
mod attaching;
pub mod branches;
pub mod command;
mod commands;
mod compact;
mod comparing;
mod copying;
mod drafting;
mod elsewhere;
mod engine_view;
mod events;
mod feed;
mod marks;
mod overflow;
mod rework;
mod seeds;
mod setting;
mod supply;

pub use answering::{Activity, Answering, Limit, Stage};
pub use attaching::Attached;
pub use compact::Compact;
pub use drafting::Count;
pub use engine_view::{EngineState, EngineView, Loading, Transfer};
pub use events::{Cause, Effect, Event, View};
pub use feed::{Entry, EntryKey, Feed, Note, NoteKind};
pub use marks::{Kept, Mark, Part, Step, TurnAction};
pub use overflow::Remedy;
pub use setting::Tuned;
pub use supply::{Advice, Fetch, Files, Located, RecommendedModel, Supply, Switch, SwitchStage};

/// How long a hint such as "press Ctrl-C again" is shown.
const HINT_TIME: Duration = Duration::from_secs(3);

/// Redraw interval of the spinner.
const ANIMATION: Duration = Duration::from_millis(125);

/// Settings of a chat.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// The model's name as the user gave it.
    pub model: String,
    /// Sampling values that are set; the model's recommendation decides about the others.
    pub sampling: SamplingChoice,
    /// Whether the model reasons before it answers; `None`: as its template does.
    pub think: Option<bool>,
    /// Maximum tokens of an answer.
    pub max_tokens: Option<usize>,
    /// What to do if the conversation exceeds the context.
    pub on_overflow: OverflowPolicy,
}

/// A message that is shown for a few seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// The next Ctrl-C quits.
    QuitArmed,
    /// The next Esc edits the last prompt.
    EditArmed,
    /// Any other message.
    Message(String),
}

/// The state of an interactive chat.
#[derive(Clone, Debug)]
pub struct Chat {
    /// The conversation, with all branches.
    pub conversation: Conversation,
    /// The entries of the transcript, in order.
    pub feed: Feed,
    /// The engine's state, derived from its events.
    pub engine: EngineView,
    /// The answer in progress.
    pub activity: Activity,
    /// Prompts that are queued behind the current answer.
    pub queue: VecDeque<String>,
    /// Whether the help is open.
    pub help: bool,
    /// Whether reasoning is shown.
    pub reasoning_open: bool,
    /// Duration of the reasoning, by turn.
    pub thought: BTreeMap<TurnId, Duration>,
    /// The limit that cut an answer off, by turn; only for answers of this run.
    pub limits: BTreeMap<TurnId, Limit>,
    /// The engine's memory over time.
    pub residency: Residency,
    /// The model's files, downloads, and the change to another model.
    pub supply: Supply,
    /// The name of the persona in use.
    pub persona: Option<String>,
    /// Settings for the next prompt.
    pub options: ChatOptions,
    hint: Option<(Hint, Timestamp)>,
    drafting: drafting::Drafting,
    attaching: attaching::Attaching,
    /// A conversation is being loaded.
    opening: bool,
    /// Parent of the next prompt, if it is not the head.
    branch: Option<Option<TurnId>>,
    /// The turn that the next prompt replaces, if the user edits one.
    edited: Option<TurnId>,
    marking: marks::Marking,
    /// The summary that the model is writing.
    compacting: Option<compact::Compacting>,
    /// The comparison with another model.
    comparing: Option<comparing::Comparing>,
    /// How the answer that goes on had ended before.
    resumed: Option<Ending>,
    /// The last turn before the current prompt was asked.
    before: Option<TurnId>,
    /// Deleted turns, the last one last; those of earlier runs come first, in the order in which they were asked.
    deleted: Vec<TurnId>,
    /// Turns of another process that are not read yet.
    elsewhere: elsewhere::Elsewhere,
    save_warned: bool,
    seeds: Option<u64>,
    /// The turn that was asked last, and how it is sampled.
    asked: Option<(TurnId, SamplingChoice)>,
    now: Timestamp,
    last_request: u64,
}

impl Chat {
    /// A chat that shows `conversation`, at time `now`.
    pub fn new(options: ChatOptions, conversation: Conversation, now: Timestamp) -> Self {
        let mut chat = Self {
            conversation: Conversation::default(),
            feed: Feed::default(),
            engine: EngineView::new(options.model.clone()),
            activity: Activity::Idle,
            queue: VecDeque::new(),
            help: false,
            reasoning_open: false,
            thought: BTreeMap::new(),
            limits: BTreeMap::new(),
            residency: Residency::new(now),
            supply: Supply::default(),
            persona: None,
            options,
            hint: None,
            drafting: drafting::Drafting::default(),
            attaching: attaching::Attaching::default(),
            opening: false,
            branch: None,
            edited: None,
            marking: marks::Marking::default(),
            compacting: None,
            comparing: None,
            resumed: None,
            before: None,
            deleted: Vec::new(),
            elsewhere: elsewhere::Elsewhere::default(),
            save_warned: false,
            seeds: None,
            asked: None,
            now,
            last_request: 0,
        };
        chat.open(conversation);
        chat
    }

    /// The time of the last tick.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The hint to show, if any.
    pub fn hint(&self) -> Option<&Hint> {
        self.hint.as_ref().map(|(hint, _)| hint)
    }

    /// When the next tick is due, for a redraw, a save or a count; `None`: not before another event.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let hint = self.hint.as_ref().map(|(_, until)| *until);
        let answers = self.activity.is_busy() && !self.is_waiting_for_files();
        let moves = answers || self.engine.is_moving() || self.supply.fetch.is_some();
        let turning = moves.then(|| self.now + ANIMATION);
        let (second, save) = (self.engine.next_change(self.now), self.activity.save_due());
        [hint, turning, second, save, self.count_due(), self.files_due()].into_iter().flatten().min()
    }

    /// Whether the next prompt replaces the last one, on a new branch.
    pub fn is_editing(&self) -> bool {
        self.branch.is_some()
    }

    /// The turn that the next prompt replaces: its number on the visible branch, and the number of turns there.
    pub fn edited(&self) -> Option<(usize, usize)> {
        self.branch?;
        self.edited.and_then(|id| self.place_of(id))
    }

    fn show_hint(&mut self, hint: Hint) {
        self.show_hint_for(hint, HINT_TIME);
    }

    fn show_hint_for(&mut self, hint: Hint, time: Duration) {
        self.hint = Some((hint, self.now + time));
    }

    fn note(&mut self, kind: NoteKind, text: impl Into<String>) {
        self.feed.push_note(Note { kind, text: text.into() });
    }

    fn open(&mut self, conversation: Conversation) {
        self.feed.clear();
        for turn in conversation.path() {
            self.feed.push(Entry::Turn(turn));
        }
        self.thought.clear();
        self.limits.clear();
        self.branch = None;
        self.marking = marks::Marking::default();
        self.deleted = conversation.removed();
        self.asked = None;
        self.compacting = None;
        self.comparing = None;
        self.conversation = conversation;
        self.engine.context_used = self.stored_context();
        self.recount();
    }

    /// Whether a new prompt must be queued.
    fn is_occupied(&self) -> bool {
        self.activity.is_busy() || self.opening || self.is_compacting()
    }

    /// Ends the loading of a conversation and sends the next queued prompt.
    fn go_on(&mut self) -> Vec<Effect> {
        self.opening = false;
        if self.activity.is_busy() { Vec::new() } else { self.next_in_queue() }
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.hint.as_ref().is_some_and(|(_, until)| self.now >= *until) {
            self.hint = None;
        }
        let mut effects = self.save_partial();
        effects.extend(self.ask_unsaved());
        effects.extend(self.count_draft());
        effects.extend(self.count_files());
        effects
    }

    fn typed(&mut self) -> Vec<Effect> {
        if matches!(self.hint(), Some(Hint::QuitArmed | Hint::EditArmed)) {
            self.hint = None;
        }
        if self.supply.may_load() && self.engine.wants_loading() { vec![Effect::Load] } else { Vec::new() }
    }

    fn escape(&mut self) -> Vec<Effect> {
        if self.help {
            self.help = false;
            return Vec::new();
        }
        if self.marked().is_some() && !self.activity.is_busy() {
            return self.set_mark(None);
        }
        self.stop_work()
    }

    fn stop_or_edit(&mut self) -> Vec<Effect> {
        let something = self.help
            || self.is_compacting()
            || self.activity.is_busy()
            || matches!(self.engine.state, EngineState::Loading(_));
        let something = something || self.supply.change.is_some() || self.supply.fetch.is_some();
        if something || self.conversation.head().is_none() || self.is_editing() {
            return self.escape();
        }
        if self.hint() == Some(&Hint::EditArmed) {
            return self.numbered(None).map(|turn| self.edit_turn(turn)).unwrap_or_default();
        }
        self.show_hint(Hint::EditArmed);
        Vec::new()
    }

    /// Cancels the answer, or a load without a request.
    fn stop_work(&mut self) -> Vec<Effect> {
        if let Some(stop) = self.stop_compacting() {
            return vec![stop];
        }
        if self.is_offering_change()
            && let Some(effects) = self.give_up_change()
        {
            return effects;
        }
        if self.activity.is_busy() {
            return self.stop_answer();
        }
        if let Some(effects) = self.give_up_change() {
            return effects;
        }
        if matches!(self.engine.state, EngineState::Loading(_)) {
            self.show_hint(Hint::Message("loading stopped".into()));
            return vec![Effect::Release];
        }
        Vec::new()
    }

    fn interrupt(&mut self, draft_empty: bool) -> Vec<Effect> {
        if self.help {
            self.help = false;
            return Vec::new();
        }
        if self.activity.is_busy() && !self.activity.is_stopping() {
            return self.stop_answer();
        }
        if let Some(stop) = self.stop_compacting() {
            return vec![stop];
        }
        if self.marked().is_some() {
            return self.set_mark(None);
        }
        if self.branch.take().is_some() {
            self.recount();
            self.show_hint(Hint::Message("the prompt stays as it is; Up brings back what you wrote".into()));
            return vec![Effect::ClearDraft];
        }
        if !draft_empty {
            return vec![Effect::ClearDraft];
        }
        if self.hint() == Some(&Hint::QuitArmed) {
            return self.quit(Cause::User);
        }
        self.show_hint(Hint::QuitArmed);
        Vec::new()
    }

    fn quit(&mut self, cause: Cause) -> Vec<Effect> {
        let mut effects = self.break_off();
        effects.push(Effect::Quit(cause));
        effects
    }
}

/// Applies an event to the chat and returns the effects to perform.
pub fn update(chat: &mut Chat, event: Event) -> Vec<Effect> {
    match event {
        Event::Tick(now) => chat.tick(now),
        Event::Typed => chat.typed(),
        Event::DraftChanged { prompt } => {
            chat.draft_changed(prompt);
            Vec::new()
        }
        Event::Submit(text) => chat.submit(text),
        Event::Attached { word, file } => {
            chat.attach(word, file);
            Vec::new()
        }
        Event::Detached(word) => {
            chat.detach(&word);
            Vec::new()
        }
        Event::Stop => chat.escape(),
        Event::StopOrEdit => chat.stop_or_edit(),
        Event::Interrupt { draft_empty } => chat.interrupt(draft_empty),
        Event::ToggleHelp => {
            chat.help = !chat.help;
            Vec::new()
        }
        Event::ToggleReasoning => {
            chat.toggle_reasoning();
            Vec::new()
        }
        Event::Engine(event) => chat.engine_event(event),
        Event::Saved { turn, result } => chat.saved(turn, result),
        Event::Opening => {
            chat.opening = true;
            Vec::new()
        }
        Event::Opened(conversation) => {
            chat.open(conversation);
            let mut effects = chat.open_branches();
            effects.extend(chat.go_on());
            effects
        }
        Event::NotOpened(why) => {
            chat.branches_not_read();
            chat.note(NoteKind::Error, why);
            chat.go_on()
        }
        Event::ContinuedElsewhere(id) => {
            chat.continued_elsewhere(&id);
            Vec::new()
        }
        Event::Mark(step) => chat.step(step),
        Event::Marked(action) => chat.on_marked(action),
        Event::MarkTurn(turn) => chat.set_mark(Some(Mark { turn, part: Part::Prompt })),
        Event::Refused => chat.refused(),
        Event::ShowBranch(turn) => chat.show_branch(turn),
        Event::Forked(conversation) => chat.forked(conversation),
        Event::Switched { model } => chat.switched(model),
        Event::NotSwitched(why) => chat.keep_model(&why),
        Event::Checking => {
            chat.checking();
            Vec::new()
        }
        Event::Advised(advice) => {
            chat.advised(*advice);
            Vec::new()
        }
        Event::AcceptOffer => chat.accept_offer(),
        Event::Located { model, found } => chat.located(&model, found),
        Event::FetchProgress { model, progress } => {
            chat.fetch_progress(&model, progress);
            Vec::new()
        }
        Event::Fetched { model, result } => chat.fetched(&model, result),
        Event::Tuned(tuned) => chat.tuned(*tuned),
        Event::System(text) => chat.use_system(text),
        Event::Noted(note) => {
            chat.feed.push_note(note);
            Vec::new()
        }
        Event::Hinted(text) => {
            chat.show_hint(Hint::Message(text));
            Vec::new()
        }
        Event::Quit(cause) => chat.quit(cause),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
