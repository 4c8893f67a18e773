//! Keeps question and answer in the store while they happen. An answer is given even where nothing can be stored.

use std::sync::mpsc::channel;
use std::time::Instant;

use super::messages::Messages;
use crate::cli::{Failure, OneShot, Resume};
use crate::conversation::{Answer, Conversation, Ending, Turn, TurnId};
use crate::protocol::{Channel, ChatMessage, SamplingParams};
use crate::settings::Settings;
use crate::store::{SAVE_EVERY, Store, StoreError, StoreHandle, TurnRecord, new_conversation_id};

/// One turn on its way to the disk.
pub(super) struct Keeper {
    /// `None` where nothing can be stored.
    store: Option<StoreHandle>,
    conversation: Conversation,
    turn: TurnId,
    sampling: SamplingParams,
    saved: Instant,
    errors: (std::sync::mpsc::Sender<StoreError>, std::sync::mpsc::Receiver<StoreError>),
}

impl Keeper {
    /// Finds the conversation to go on with, appends the question, and commits it.
    pub(super) fn open(settings: &Settings, one_shot: &OneShot, messages: &Messages) -> Result<Self, Failure> {
        let (sender, opened) = channel();
        let store = StoreHandle::start(settings.data_dir.clone(), move |result| {
            let _ = sender.send(result.map_err(Clone::clone));
        });
        let store = match store.map_err(|error| StoreError::Io(error.to_string())).and_then(|store| {
            let notice = opened.recv().unwrap_or(Ok(None))?;
            Ok((store, notice))
        }) {
            Ok((store, notice)) => {
                notice.iter().for_each(|notice| messages.warn(notice));
                Some(store)
            }
            // There is nothing to go on with, and an answer without it would be another one.
            Err(error) if one_shot.resume.is_some() => return Err(error.into()),
            Err(error) => {
                messages.warn(&format!("this conversation will not be kept. {error}"));
                None
            }
        };
        let mut conversation = match &one_shot.resume {
            None => Conversation::new(new_conversation_id(), settings.system.clone()),
            Some(resume) => resume_from(store.as_ref(), resume)?,
        };
        if one_shot.system.is_some() {
            conversation.system = one_shot.system.clone();
        }
        let turn = conversation.ask(conversation.head(), one_shot.prompt.clone(), settings.model.clone());
        let sampling = settings.sampling.clone();
        let mut keeper = Self { store, conversation, turn, sampling, saved: Instant::now(), errors: channel() };
        keeper.commit(messages);
        Ok(keeper)
    }

    /// What the engine reads.
    pub(super) fn messages(&self) -> Vec<ChatMessage> {
        self.conversation.messages_for(self.turn)
    }

    /// The conversation's id, where it is kept.
    pub(super) fn conversation(&self) -> Option<&str> {
        self.store.as_ref().map(|_| self.conversation.id.0.as_str())
    }

    /// The answer so far.
    pub(super) fn answer(&self) -> &Answer {
        static NONE: Answer = Answer { reasoning: String::new(), text: String::new(), ending: Ending::Pending };
        self.conversation.turn(self.turn).map_or(&NONE, |turn| &turn.answer)
    }

    /// Adds a piece of the answer, and saves it where that is due.
    pub(super) fn token(&mut self, channel: Channel, text: &str) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            match channel {
                Channel::Answer => turn.answer.text.push_str(text),
                Channel::Reasoning => turn.answer.reasoning.push_str(text),
            }
        }
        if self.saved.elapsed() >= SAVE_EVERY {
            self.save();
        }
    }

    /// Saves how it ended, and waits until that is on disk.
    pub(super) fn end(&mut self, ending: Ending, messages: &Messages) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            turn.answer.ending = ending;
        }
        self.commit(messages);
    }

    /// Saves, waits, and says what went wrong.
    fn commit(&mut self, messages: &Messages) {
        self.save();
        let (sender, done) = channel();
        if let Some(store) = &self.store {
            store.run(move |_| {
                let _ = sender.send(());
            });
            let _ = done.recv();
        }
        if let Some(error) = self.errors.1.try_iter().last() {
            messages.warn(&format!("this turn could not be kept. {error}"));
        }
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        let (Some(store), Some(turn)) = (&self.store, self.conversation.turn(self.turn)) else { return };
        let (id, system, turn): (_, _, Turn) =
            (self.conversation.id.clone(), self.conversation.system.clone(), turn.clone());
        let (place, sampling, errors) = (self.turn, self.sampling.clone(), self.errors.0.clone());
        store.run(move |store| {
            let record = TurnRecord {
                conversation: &id,
                system: system.as_deref(),
                id: place,
                turn: &turn,
                sampling: Some(&sampling),
            };
            let result = store.map_err(|error| error.clone()).and_then(|store: &mut Store| store.save(&record));
            if let Err(error) = result {
                let _ = errors.send(error);
            }
        });
    }
}

/// Loads the conversation to go on with.
fn resume_from(store: Option<&StoreHandle>, resume: &Resume) -> Result<Conversation, Failure> {
    let (sender, found) = channel();
    let resume = resume.clone();
    if let Some(store) = store {
        store.run(move |store| {
            let load = |store: &mut Store| resume.find(store).and_then(|id| store.load(&id));
            let _ = sender.send(store.map_err(|error| error.clone()).and_then(load));
        });
    }
    let found = found.recv().map_err(|_| Failure::failed("The stored conversations cannot be read."))?;
    Ok(found?)
}
