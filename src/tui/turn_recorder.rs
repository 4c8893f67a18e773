//! Keeps the conversation on disk without ever making the interface wait.

use tokio::sync::mpsc::UnboundedSender;

use super::completion::ConversationChoice;
use super::input::Input;
use crate::chat::{Event, Note, NoteKind, TurnRecord};
use crate::conversation::{Conversation, ConversationId, TurnId};
use crate::protocol::SamplingParams;
use crate::sanitize::sanitize_line;
use crate::settings::Settings;
use crate::store::{self, Resume, Standing, Store, StoreHandle, Told};
use crate::wording::{plural, utc};

/// A name for a conversation that begins now.
pub fn new_id() -> ConversationId {
    store::new_conversation_id()
}

/// Whoever writes turns down.
pub struct TurnRecorder {
    store: Option<StoreHandle>,
}

impl TurnRecorder {
    /// Opens the store on a thread of its own, and takes up the conversation that is to go on. What went wrong stands
    /// in the transcript; the chat goes on without a disk, and says so.
    pub fn start(settings: &Settings, resume: Option<Resume>, sender: &UnboundedSender<Input>) -> Self {
        let told = sender.clone();
        let tell_what = move |what: Told| {
            let (kind, text) = match what {
                Told::Notice(notice) => (NoteKind::Warning, notice),
                // Why nothing can be stored is said at the first turn that is not.
                Told::Refused => return,
                Told::Delayed(why, path) => (
                    NoteKind::Warning,
                    format!(
                        "This conversation is not stored yet. {why} It goes on here, is kept in {}, and is stored as \
                         soon as that is possible.",
                        path.display()
                    ),
                ),
                Told::CaughtUp => (NoteKind::Info, "The conversation is stored now.".to_owned()),
            };
            tell(&told, Event::Noted(Note { kind, text }));
        };
        let store = StoreHandle::start(settings.data_dir.clone(), tell_what);
        let store = store.inspect_err(|error| {
            tell(sender, Event::Noted(Note::warning(format!("Conversations cannot be stored: {error}."))));
        });
        let keeper = Self { store: store.ok() };
        if let Some(resume) = resume {
            keeper.take_up(resume, settings.system.clone(), "A new conversation was begun.", sender);
        }
        keeper
    }

    /// Takes up another conversation; `Opened` follows, or `NotOpened`, which ends with `otherwise`.
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

    /// Lists what can be taken up, the last changed first; `Talks` follows, where the store can be read.
    pub fn list(&self, current: ConversationId, sender: &UnboundedSender<Input>) {
        let Some(store) = &self.store else { return };
        let sender = sender.clone();
        store.run(move |store| {
            let Some(found) = store.ok().and_then(|store| store.list().ok()) else { return };
            let talks = found.into_iter().filter(|talk| talk.id != current).map(talk).collect();
            // The receiver is gone only where the interface has ended.
            let _ = sender.send(Input::Talks(talks));
        });
    }

    /// Notes which branch is shown; what cannot be noted is told.
    pub fn select(&self, conversation: ConversationId, turn: TurnId, sender: &UnboundedSender<Input>) {
        let Some(store) = &self.store else { return };
        let sender = sender.clone();
        store.run(move |store| {
            let selected = store.map_err(|error| error.to_string());
            let selected =
                selected.and_then(|store| store.select(&conversation, turn).map_err(|error| error.to_string()));
            if let Err(why) = selected {
                tell(&sender, Event::Hinted(format!("the branch is not noted: {why}")));
            }
        });
    }

    /// Writes a turn down; `Saved` follows.
    pub fn save(&self, record: TurnRecord, sampling: &SamplingParams, sender: &UnboundedSender<Input>) {
        let (sampling, sender) = (sampling.clone(), sender.clone());
        let turn = record.id;
        let Some(store) = &self.store else {
            return tell(&sender, Event::Saved { turn, result: Err("there is no store".into()) });
        };
        let row = store::TurnRecord {
            conversation: record.conversation,
            system: record.system,
            id: record.id,
            turn: record.turn,
            sampling: Some(sampling),
            asked_ms: store::now_ms(),
        };
        store.save(row, move |saved| {
            tell(&sender, Event::Saved { turn, result: saved.map_err(|error| error.to_string()) });
        });
    }

    /// Where the turns of a conversation are, which can be asked also after this is gone; `None`: none was saved.
    pub fn standings(&self) -> impl Fn(&ConversationId) -> Option<Standing> + use<> {
        let standings = self.store.as_ref().map(StoreHandle::standings);
        move |conversation| standings.as_ref().and_then(|standing| standing(conversation))
    }
}

fn talk(summary: store::Summary) -> ConversationChoice {
    let turns = format!("{} {}", summary.turns, plural(summary.turns, "turn"));
    let turns = if summary.answers == 0 { format!("{turns}, no answer") } else { turns };
    let about = format!("{}, {turns}", utc(summary.changed_ms));
    ConversationChoice { id: summary.id.0, title: sanitize_line(&summary.title), about }
}

fn load(store: &mut Store, resume: &Resume) -> Result<Conversation, String> {
    let id = resume.find(store).map_err(|error| error.to_string())?;
    store.load(&id).map_err(|error| error.to_string())
}

fn tell(sender: &UnboundedSender<Input>, event: Event) {
    // The receiver is gone only where the interface has ended.
    let _ = sender.send(Input::Chat(event));
}
