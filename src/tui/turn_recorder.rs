//! Stores the conversation on a background thread, so that the interface never waits for the disk.

use std::io::Write;

use tokio::sync::mpsc::UnboundedSender;

use super::completion::ConversationChoice;
use super::input::Input;
use crate::chat::{Event, Note, NoteKind};
use crate::conversation::{Change, Conversation, ConversationId, TurnId, TurnRecord};
use crate::protocol::EngineEvent;
use crate::sanitize::{sanitize, sanitize_line};
use crate::settings::Settings;
use crate::store::{self, LoadLog, Resume, Standing, Store, StoreError, StoreHandle, Told};
use crate::wording::{local, plural};

/// An id for a new conversation.
pub fn new_id() -> ConversationId {
    store::new_conversation_id()
}

/// Writes turns to the store, if it could be opened.
pub struct TurnRecorder {
    store: Option<StoreHandle>,
    loads: LoadLog,
}

impl TurnRecorder {
    /// Opens the store on a background thread and loads the conversation to resume. Errors become notes in the
    /// transcript; the chat continues without a store.
    pub fn start(settings: &Settings, resume: Option<Resume>, sender: &UnboundedSender<Input>) -> Self {
        let told = sender.clone();
        let tell_what = move |what: Told| {
            let (kind, text) = match what {
                Told::Notice(notice) => (NoteKind::Warning, notice),
                // The first turn that cannot be stored reports the reason.
                Told::Refused => return,
                Told::Delayed(why, path) => (
                    NoteKind::Warning,
                    format!(
                        "This conversation is not stored yet. {why} It goes on here, is kept in {}, and is stored as \
                         soon as that is possible.",
                        path.display()
                    ),
                ),
                Told::Continued(id) => return tell(&told, Event::ContinuedElsewhere(id)),
                Told::CaughtUp => (NoteKind::Info, "The conversation is stored now.".to_owned()),
            };
            tell(&told, Event::Noted(Note { kind, text }));
        };
        let store = StoreHandle::start(settings.data_dir.clone(), tell_what);
        let store = store.inspect_err(|error| {
            tell(sender, Event::Noted(Note::warning(format!("Conversations cannot be stored: {error}."))));
        });
        let keeper = Self { store: store.ok(), loads: LoadLog::default() };
        if let Some(resume) = resume {
            keeper.take_up(resume, settings.system.clone(), "A new conversation was begun.", sender);
        }
        keeper
    }

    /// Loads another conversation; sends `Opened`, or `NotOpened` with the error followed by `otherwise`.
    pub fn take_up(
        &self,
        resume: Resume,
        system: Option<String>,
        otherwise: &'static str,
        sender: &UnboundedSender<Input>,
    ) {
        let sender = sender.clone();
        let Some(store) = &self.store else {
            return tell(&sender, Event::NotOpened(format!("No conversation can be read. {otherwise}")));
        };
        store.run(move |store| match store.map_err(|error| error.to_string()).and_then(|store| load(store, &resume)) {
            Ok(mut conversation) => {
                conversation.system = system.or(conversation.system);
                tell(&sender, Event::Opened(conversation));
            }
            Err(why) => tell(&sender, Event::NotOpened(format!("{why} {otherwise}"))),
        });
    }

    /// Lists the other conversations, most recently changed first; sends `Talks` if the store can be read.
    pub fn list(&self, current: ConversationId, sender: &UnboundedSender<Input>) {
        let sender = sender.clone();
        self.read_list(current, move |talks| {
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(Input::Talks(talks));
        });
    }

    /// Passes the other conversations to `done`, most recently changed first, if the store can be read.
    pub fn read_list(&self, current: ConversationId, done: impl FnOnce(Vec<ConversationChoice>) + Send + 'static) {
        let Some(store) = &self.store else { return };
        store.run(move |store| {
            let Some(found) = store.ok().and_then(|store| store.list().ok()) else { return };
            done(found.into_iter().filter(|talk| talk.id != current).map(talk).collect());
        });
    }

    /// Runs `job` on the store's thread, if the store can be opened; false if there is none.
    pub fn with_store(&self, job: impl FnOnce(&mut Store) + Send + 'static) -> bool {
        let Some(store) = &self.store else { return false };
        store.run(move |store| {
            if let Ok(store) = store {
                job(store);
            }
        });
        true
    }

    /// Stores which branch is shown; shows a hint if that fails.
    pub fn select(&self, conversation: ConversationId, turn: TurnId, sender: &UnboundedSender<Input>) {
        self.attempt("the branch is not noted", sender, move |store| store.select(&conversation, turn));
    }

    /// Stores a change of a conversation; shows a hint if that fails.
    pub fn change(&self, conversation: ConversationId, change: Change, sender: &UnboundedSender<Input>) {
        let what = match &change {
            Change::Title(_) => "the title is not stored",
            Change::System(_) => "the system message is not stored",
            Change::Settings(_) => "the settings are not stored",
            Change::Draft(_) => "the draft is not stored",
            Change::Removed(..) => "the deleted turn is not noted",
            Change::Trash => "the conversation is not deleted",
            Change::Restore => "the conversation is not brought back",
        };
        self.attempt(what, sender, move |store| store.apply(&conversation, change));
    }

    /// Runs `job` on the store's thread, after all that is queued; not at all if there is no store.
    pub fn aside(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(store) = &self.store {
            store.run(move |_| job());
        }
    }

    fn attempt(
        &self,
        failed: &'static str,
        sender: &UnboundedSender<Input>,
        job: impl FnOnce(&mut Store) -> Result<(), StoreError> + Send + 'static,
    ) {
        let Some(store) = &self.store else { return };
        let sender = sender.clone();
        store.run(move |store| {
            if let Err(why) = store.and_then(job) {
                tell(&sender, Event::Hinted(format!("{failed}: {why}")));
            }
        });
    }

    /// Notes loads and releases for `chatnap usage`.
    pub fn note(&self, event: &EngineEvent) {
        if let Some(store) = &self.store {
            self.loads.note(store, event);
        }
    }

    /// Stores a turn; sends `Saved`.
    pub fn save(&self, record: TurnRecord, sender: &UnboundedSender<Input>) {
        let sender = sender.clone();
        let turn = record.id;
        let Some(store) = &self.store else {
            return tell(&sender, Event::Saved { turn, result: Err("there is no store".into()) });
        };
        store.save(record, move |saved| {
            tell(&sender, Event::Saved { turn, result: saved.map_err(|error| error.to_string()) });
        });
    }

    /// A lookup of where a conversation's turns are, valid after `self` is dropped; `None`: none was saved.
    pub fn standings(&self) -> impl Fn(&ConversationId) -> Option<Standing> + use<> {
        let standings = self.store.as_ref().map(StoreHandle::standings);
        move |conversation| standings.as_ref().and_then(|standing| standing(conversation))
    }
}

impl Drop for TurnRecorder {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            // The process ends now, and with it the model.
            self.loads.released(store, None);
        }
    }
}

fn talk(summary: store::Summary) -> ConversationChoice {
    let turns = format!("{} {}", summary.turns, plural(summary.turns, "turn"));
    let turns = summary.lack().map_or_else(|| turns.clone(), |lack| format!("{turns}, {lack}"));
    let about = format!("{}, {turns}", local(summary.changed_ms));
    ConversationChoice { id: summary.id.0, title: sanitize_line(&summary.title), about }
}

fn load(store: &mut Store, resume: &Resume) -> Result<Conversation, String> {
    let id = resume.find(store).map_err(|error| error.to_string())?;
    store.load(&id).map_err(|error| error.to_string())
}

fn tell(sender: &UnboundedSender<Input>, event: Event) {
    // The receiver is dropped only when the interface ends.
    let _ = sender.send(Input::Chat(event));
}

/// Prints how to continue the conversation, or why it was not stored. `standing` is `None` if this run saved no turn of
/// it.
pub fn print_how_to_continue(conversation: &Conversation, standing: Option<Standing>) {
    if conversation.head().is_none() {
        return;
    }
    let line = match standing {
        None | Some(Standing::Stored) => {
            format!("chatnap --conversation {} goes on with this conversation.", conversation.id.0)
        }
        Some(Standing::Aside(path)) => format!(
            "This conversation could not be stored yet. It is kept in {} and stored when chatnap starts the next time.",
            path.display()
        ),
        Some(Standing::Lost(why)) => format!("This conversation, or its end, could not be stored. {why}"),
        Some(Standing::Queued) => "This conversation may not be stored: the disk does not answer.".to_owned(),
    };
    // stdout may be closed.
    let _ = writeln!(std::io::stdout(), "{}", sanitize(&line));
}
