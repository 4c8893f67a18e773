//! What the chat is told, and what its caller must do.

use super::*;

/// An input of [`super::update`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The current time. Precedes the events that have happened by then.
    Tick(Timestamp),
    /// The user edited a draft that is not a command.
    Typed,
    /// The draft's text changed.
    DraftChanged {
        /// Whether it could be sent as a prompt.
        prompt: bool,
    },
    /// The user sent this text: a prompt or a command.
    Submit(String),
    /// A word of the draft names this file.
    Attached {
        /// The word, with its `@`.
        word: String,
        /// The file.
        file: Attachment,
    },
    /// This word is no longer in the draft.
    Detached(String),
    /// Esc: stop the answer or load, or close the help.
    Stop,
    /// Esc in an empty composer: the same; if there is nothing to stop, a second Esc edits the last prompt.
    StopOrEdit,
    /// Ctrl-C: stop the answer, else clear the draft, else quit on the second press.
    Interrupt {
        /// Whether the composer is empty.
        draft_empty: bool,
    },
    /// Show or hide the help.
    ToggleHelp,
    /// Fold or unfold the reasoning.
    ToggleReasoning,
    /// An event of the engine.
    Engine(EngineEvent),
    /// A turn was stored, or could not be.
    Saved {
        /// The turn's id.
        turn: TurnId,
        /// The error as text.
        result: Result<(), String>,
    },
    /// A conversation is being loaded from disk; prompts sent meanwhile are queued.
    Opening,
    /// A conversation was created or loaded.
    Opened(Conversation),
    /// A conversation could not be loaded: the error, and which conversation continues.
    NotOpened(String),
    /// Another process continued this conversation, so that the last question began a branch.
    ContinuedElsewhere(ConversationId),
    /// Move the selection of a turn.
    Mark(Step),
    /// Do this with the selected turn.
    Marked(TurnAction),
    /// Select this turn.
    MarkTurn(TurnId),
    /// The user sent a draft that is known not to fit; it stays in the composer.
    Refused,
    /// Show the branch through this turn.
    ShowBranch(TurnId),
    /// The copy of a conversation, with its new id.
    Forked(Conversation),
    /// The requested model is used from now on.
    Switched {
        /// The model's name.
        model: String,
    },
    /// The requested model cannot be used, for this reason; the current one stays.
    NotSwitched(String),
    /// The files of the current model are being looked for; `Located` follows.
    Checking,
    /// What this machine has for models.
    Advised(Box<Advice>),
    /// Download what is offered.
    AcceptOffer,
    /// Where the files of a model are.
    Located {
        /// The model's name, as in the request.
        model: String,
        /// The result.
        found: Located,
    },
    /// Progress of a download.
    FetchProgress {
        /// The model's name.
        model: String,
        /// The progress.
        progress: LoadProgress,
    },
    /// A download ended.
    Fetched {
        /// The model's name.
        model: String,
        /// The reason if it failed or was stopped.
        result: Result<(), EngineError>,
    },
    /// The settings have changed.
    Tuned(Box<Tuned>),
    /// A persona brings this system message; an empty one is none.
    System(String),
    /// Add a note to the transcript.
    Noted(Note),
    /// Show a temporary hint.
    Hinted(String),
    /// End the program, even during an answer.
    Quit(Cause),
}

/// A list that can be opened over the transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Commands, models, conversations, themes and settings.
    Palette,
    /// Stored conversations.
    Conversations,
    /// Models.
    Models,
    /// Themes.
    Themes,
    /// Branches of this conversation.
    Branches,
    /// The turns with their tokens.
    Context,
    /// What helps if a prompt does not fit.
    Overflow,
    /// Personas of the config file.
    Personas,
    /// Settings and their values.
    Settings,
}

/// Why the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The user quit.
    User,
    /// A signal of this number; SIGHUP's if the terminal was closed.
    Signal(i32),
}

/// An action that the caller of [`super::update`] must perform.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this request to the engine.
    Generate(GenerationRequest),
    /// Cancel this request.
    Cancel(RequestId),
    /// Count the prompt tokens with the draft; `EngineEvent::Counted` follows if the model is loaded.
    Count(RequestId),
    /// Count the tokens of these messages; `EngineEvent::Counted` follows if the model is loaded.
    CountMessages(RequestId, Vec<ChatMessage>),
    /// Attach the file of this name to the draft.
    Attach(String),
    /// Begin the mention of a file in the draft, at the cursor.
    BeginMention,
    /// Load the model now.
    Load,
    /// Release the model's memory now, or cancel a load.
    Release,
    /// Look for the files of the model of this name; `Located` follows.
    Locate(String),
    /// Use the model of this name, for which the name `auto` stood; `Located` follows.
    UseModel(String),
    /// Download the files of the model of this name, in place of any other download; `Fetched` follows.
    Fetch(String),
    /// Stop the download; what was downloaded so far is kept.
    StopFetch,
    /// Switch to the model of this name; `Switched` or `NotSwitched` follows.
    SwitchModel(String),
    /// Store this turn; `Saved` follows.
    Save(Box<TurnRecord>),
    /// Create a conversation; `Opened` follows.
    NewConversation {
        /// Its system message.
        system: Option<String>,
    },
    /// Give this copy of a conversation an id; `Forked` follows.
    Fork(Box<Conversation>),
    /// Store that this turn is the last one of the branch that is shown.
    Select(ConversationId, TurnId),
    /// Store this change of a conversation.
    Change(ConversationId, Change),
    /// Change the setting of this name to this value, or show it; `Tuned` or a hint follows.
    Set(String, Option<String>),
    /// Use the persona of this name; `Tuned` or a hint follows.
    SetPersona(String),
    /// Load the stored conversation whose id begins with this; `Opened` or `NotOpened` follows.
    Resume(String),
    /// Clear the composer; the draft goes to its history.
    ClearDraft,
    /// Insert this text into the composer, before the draft.
    PutBack(String),
    /// Queued prompts that were not answered, oldest first: add each to the composer's history.
    ReturnPrompts(Vec<String>),
    /// Copy this text to the clipboard.
    Copy(String),
    /// Show the figures of the conversation: in the panel, or this text if there is no room for it.
    ShowStats(String),
    /// Sum up all stored answers and loads; `Noted` follows.
    ShowUsage,
    /// Write this conversation into this file, which must not exist.
    Export(ConversationId, String),
    /// Open a list over the transcript, filtered by this query.
    Open(View, String),
    /// Switch to the theme of this name; an error note follows if it cannot be loaded.
    SetTheme(String),
    /// Restore the terminal and exit.
    Quit(Cause),
}
