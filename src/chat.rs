//! The pure core of the interactive chat: `update(&mut Chat, Event) -> Vec<Effect>`.
//!
//! What happened comes in as data, what is to be done goes out as data. Does no I/O, reads no clock and spawns
//! nothing, so that every story of a chat can be told in a test; knows no terminal and no tensor.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::conversation::{Conversation, ConversationId, Turn, TurnId};
use crate::protocol::*;

mod answering;
pub mod command;
mod commands;
mod drafting;
mod engine_view;
mod feed;

pub use answering::{Activity, Answering, Limit, Stage};
pub use drafting::Count;
pub use engine_view::{EngineState, EngineView, Loading, Transfer};
pub use feed::{Entry, EntryKey, Feed, Note, NoteKind};

/// How long "press Ctrl-C again" and its like stay.
const HINT_TIME: Duration = Duration::from_secs(3);

/// How often something that turns is drawn anew.
const ANIMATION: Duration = Duration::from_millis(125);

/// Everything that can happen to a chat.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The time is now this. Comes before the events that happened by then.
    Tick(Timestamp),
    /// The user writes something that is not a command.
    Typed,
    /// What is written is another text now.
    DraftChanged {
        /// Whether it could be sent as a prompt.
        prompt: bool,
    },
    /// The user sends this.
    Submit(String),
    /// Esc: stop what runs, close what is open.
    Stop,
    /// Esc on an empty line: the same; where there is nothing to stop, the second time changes the last prompt.
    StopOrEdit,
    /// Ctrl-C: stop the answer, else clear the line, else quit at the second time.
    Interrupt {
        /// Whether there is nothing to clear.
        draft_empty: bool,
    },
    /// Show or hide the help.
    ToggleHelp,
    /// Fold or unfold what the models thought.
    ToggleReasoning,
    /// From the engine.
    Engine(EngineEvent),
    /// A turn was written to disk, or could not be.
    Saved {
        /// Which.
        turn: TurnId,
        /// Why not.
        result: Result<(), String>,
    },
    /// A conversation is on its way from the disk: what is sent meanwhile waits for it.
    Opening,
    /// A conversation was begun or taken up.
    Opened(Conversation),
    /// None was: this is why, and what becomes of the one that there is.
    NotOpened(String),
    /// The model that was asked for is the one from now on.
    Switched {
        /// Its name.
        model: String,
    },
    /// The shell has something to say in the transcript.
    Noted(Note),
    /// The shell has something to say for a moment.
    Hinted(String),
    /// Leave, whatever is going on.
    Quit(Cause),
}

/// Why the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The user wants to.
    User,
    /// A signal of this number, or a terminal that went away (SIGHUP's).
    Signal(i32),
}

/// Everything that a chat can want done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer this.
    Generate(GenerationRequest),
    /// Stop answering.
    Cancel(RequestId),
    /// Count what the draft would take of the context; `EngineEvent::Counted` follows where the model is loaded.
    Count(RequestId),
    /// Load the model, for a prompt is being written.
    Load,
    /// Give the memory back now, or stop a load that nobody waits for.
    Release,
    /// Use another model from now on; `Switched` or an error note follows.
    SwitchModel(String),
    /// Write this down; `Saved` follows.
    Save(Box<TurnRecord>),
    /// Begin a new conversation; `Opened` follows.
    NewConversation {
        /// Its system message.
        system: Option<String>,
    },
    /// From now on this turn is the last one of the branch that is shown.
    Select(ConversationId, TurnId),
    /// Take up the stored conversation whose id begins so; `Opened` or `NotOpened` follows.
    Resume(String),
    /// Empty the composer; what it held can be had back.
    ClearDraft,
    /// Give this text back to the composer, before what it holds.
    PutBack(String),
    /// These prompts were not sent, the oldest first: offer each of them again.
    ReturnPrompts(Vec<String>),
    /// Put this on the clipboard.
    Copy(String),
    /// Draw with another theme; an error note follows where there is none of that name.
    SetTheme(String),
    /// Restore the terminal and end.
    Quit(Cause),
}

/// What the store keeps of one turn: insert it or replace what is there.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnRecord {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The conversation's system message.
    pub system: Option<String>,
    /// Which turn.
    pub id: TurnId,
    /// All of it.
    pub turn: Turn,
}

/// What a chat is begun with.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// The model's name as the user gave it.
    pub model: String,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens an answer may have.
    pub max_tokens: Option<usize>,
    /// What to do with a conversation that outgrew the context.
    pub on_overflow: OverflowPolicy,
}

/// A line that goes away by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// The next Ctrl-C quits.
    QuitArmed,
    /// The next Esc changes the last prompt.
    EditArmed,
    /// Something to know.
    Message(String),
}

/// The state of an interactive chat.
#[derive(Clone, Debug)]
pub struct Chat {
    /// What was said.
    pub conversation: Conversation,
    /// What the transcript shows, in order.
    pub feed: Feed,
    /// What is known of the engine.
    pub engine: EngineView,
    /// What is being answered.
    pub activity: Activity,
    /// Prompts that wait for the answer before them.
    pub queue: VecDeque<String>,
    /// Whether the help is open.
    pub help: bool,
    /// Whether reasoning is shown.
    pub reasoning_open: bool,
    /// How long the models thought, by turn.
    pub thought: BTreeMap<TurnId, Duration>,
    /// What cut answers of this run off, by turn; of earlier runs' answers it is not known.
    pub limits: BTreeMap<TurnId, Limit>,
    /// What is begun with.
    pub options: ChatOptions,
    hint: Option<(Hint, Timestamp)>,
    drafting: drafting::Drafting,
    /// A conversation is on its way.
    opening: bool,
    /// Where the next prompt branches off, if it does not follow the head.
    branch: Option<Option<TurnId>>,
    save_warned: bool,
    now: Timestamp,
    last_request: u64,
}

impl Chat {
    /// A chat that has not begun, at time `now`.
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
            options,
            hint: None,
            drafting: drafting::Drafting::default(),
            opening: false,
            branch: None,
            save_warned: false,
            now,
            last_request: 0,
        };
        chat.open(conversation);
        chat
    }

    /// The time as this chat knows it.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The hint to show, if any.
    pub fn hint(&self) -> Option<&Hint> {
        self.hint.as_ref().map(|(hint, _)| hint)
    }

    /// When something will look different, or be due, although nothing happens; `None`: never.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let hint = self.hint.as_ref().map(|(_, until)| *until);
        let turning = (self.activity.is_busy() || self.engine.is_moving()).then(|| self.now + ANIMATION);
        let (second, save) = (self.engine.next_change(self.now), self.activity.save_due());
        [hint, turning, second, save, self.count_due()].into_iter().flatten().min()
    }

    /// Whether the next prompt takes the place of the last one, on a branch of its own.
    pub fn is_editing(&self) -> bool {
        self.branch.is_some()
    }

    fn show_hint(&mut self, hint: Hint) {
        self.hint = Some((hint, self.now + HINT_TIME));
    }

    fn note(&mut self, kind: NoteKind, text: impl Into<String>) {
        self.feed.push(Entry::Note(Note { kind, text: text.into() }));
    }

    fn open(&mut self, conversation: Conversation) {
        self.feed.clear();
        for turn in conversation.path() {
            self.feed.push(Entry::Turn(turn));
        }
        self.thought.clear();
        self.limits.clear();
        self.branch = None;
        self.conversation = conversation;
        self.engine.context_used = 0;
        self.recount();
    }

    /// Whether a prompt has to wait for something before it.
    fn is_occupied(&self) -> bool {
        self.activity.is_busy() || self.opening
    }

    /// The conversation is there: what waited for it is asked.
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
        effects
    }

    fn typed(&mut self) -> Vec<Effect> {
        if matches!(self.hint(), Some(Hint::QuitArmed | Hint::EditArmed)) {
            self.hint = None;
        }
        if self.engine.wants_loading() { vec![Effect::Load] } else { Vec::new() }
    }

    fn escape(&mut self) -> Vec<Effect> {
        if self.help {
            self.help = false;
            return Vec::new();
        }
        self.stop_work()
    }

    fn stop_or_edit(&mut self) -> Vec<Effect> {
        let something = self.help || self.activity.is_busy() || matches!(self.engine.state, EngineState::Loading(_));
        if something || self.conversation.head().is_none() || self.is_editing() {
            return self.escape();
        }
        if self.hint() == Some(&Hint::EditArmed) {
            return self.edit();
        }
        self.show_hint(Hint::EditArmed);
        Vec::new()
    }

    /// Stops the answer, or a load that nobody waits for.
    fn stop_work(&mut self) -> Vec<Effect> {
        if self.activity.is_busy() {
            return self.stop_answer();
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
        if self.branch.take().is_some() {
            self.recount();
            self.show_hint(Hint::Message("the last prompt stays as it is; Up brings back what you wrote".into()));
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

/// Takes one event and says what is to be done about it.
pub fn update(chat: &mut Chat, event: Event) -> Vec<Effect> {
    match event {
        Event::Tick(now) => chat.tick(now),
        Event::Typed => chat.typed(),
        Event::DraftChanged { prompt } => {
            chat.draft_changed(prompt);
            Vec::new()
        }
        Event::Submit(text) => chat.submit(text),
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
            chat.go_on()
        }
        Event::NotOpened(why) => {
            chat.note(NoteKind::Error, why);
            chat.go_on()
        }
        Event::Switched { model } => chat.switched(model),
        Event::Noted(note) => {
            chat.feed.push(Entry::Note(note));
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
