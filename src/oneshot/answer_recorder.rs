//! Stores question and answer during the run. An answer is printed even if nothing can be stored, and waits for the
//! store at most [`PATIENCE`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::messages::Messages;
use crate::cli::OneShot;
use crate::conversation::{Answer, Attachment, Conversation, Ending, TurnId, TurnRecord};
use crate::failure::Failure;
use crate::hub::lasting_name;
use crate::protocol::{
    Channel, ChatMessage, EngineEvent, Recommended, SamplingChoice, SamplingParams, Served, Trace, random_seed,
};
use crate::settings::{AUTO, Layers, Resolved, Settings};
use crate::store::{LoadLog, Resume, SAVE_EVERY, Standing, Store, StoreError, StoreHandle, Told, new_conversation_id};
use crate::survey;

/// How long an answer waits for its question to be on disk. A locked store returns an error earlier; this limit is for
/// a disk that does not respond.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long to wait for the conversation to continue: without it there is no answer.
const RESUME_PATIENCE: Duration = Duration::from_secs(10);

/// Interval between attempts to load that conversation from a locked store.
const RETRY: Duration = Duration::from_millis(250);

/// The warning when another process continued the conversation.
const CONTINUED: &str = "this conversation was continued by another program meanwhile; this turn begins a branch, and \
                         chatnap -c followed by /branch shows both.";

/// Stores one turn.
pub(super) struct AnswerRecorder {
    /// `None` if its thread could not be started.
    store: Option<StoreHandle>,
    told: Receiver<Told>,
    refused: bool,
    conversation: Conversation,
    turn: TurnId,
    /// The settings of this run and of the conversation.
    pub(super) settings: Settings,
    loads: LoadLog,
    /// The sampling values that are set, before a seed is drawn.
    pub(super) chosen: SamplingChoice,
    /// The sampling values that the model recommends; none before it is loaded.
    pub(super) recommended: Recommended,
    saved: Instant,
    /// Whether any part of the answer is not queued for the disk yet.
    unsaved: bool,
    errors: (Sender<StoreError>, Receiver<StoreError>),
}

impl AnswerRecorder {
    /// Loads the conversation to continue, and appends the question.
    pub(super) fn open(
        resolved: &Resolved,
        one_shot: &OneShot,
        files: Vec<Attachment>,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let settings = &resolved.settings;
        let (sender, told) = channel();
        let store = StoreHandle::start(settings.data_dir.clone(), move |what| {
            // The receiver is dropped only when the run is over.
            let _ = sender.send(what);
        });
        let store = store.map_err(|error| StoreError::Io(error.to_string()));
        let mut conversation = match &one_shot.resume {
            None => Conversation::new(new_conversation_id(), settings.system.clone()),
            // An error: without the earlier turns the answer would be a different one.
            Some(resume) => resume_from(store.as_ref().map_err(Clone::clone)?, resume, messages)?,
        };
        if one_shot.system.is_some() {
            conversation.system = one_shot.system.clone();
        }
        let mut layers = layers(resolved, &conversation, messages);
        let mut settings = survey::settled(&layers.effective());
        if let Some(model) = layers.model_of_flag().filter(|model| *model != AUTO).map(lasting_name) {
            layers.remember_model(model);
            conversation.replace_settings(layers.remembered().clone());
        }
        let chosen = settings.sampling.clone();
        settings.sampling.seed.get_or_insert_with(random_seed);
        let turn = conversation.ask(conversation.head(), one_shot.prompt.clone(), settings.model.clone());
        if let Some(turn) = conversation.turn_mut(turn) {
            turn.files = files;
        }
        let errors = channel();
        let store = store.map_err(|error| errors.0.send(error)).ok().filter(|_| !one_shot.no_save);
        let recorder = Self {
            refused: store.is_none() && !one_shot.no_save,
            store,
            told,
            conversation,
            turn,
            settings,
            chosen,
            loads: LoadLog::default(),
            recommended: Recommended::default(),
            saved: Instant::now(),
            unsaved: false,
            errors,
        };
        Ok(recorder)
    }

    /// The messages for the engine.
    pub(super) fn messages(&self) -> Vec<ChatMessage> {
        self.conversation.messages_for(self.turn)
    }

    /// The sampling parameters of this answer.
    pub(super) fn sampling(&self) -> SamplingParams {
        if let Some(trace) = &self.answer().trace {
            return trace.sampling.clone();
        }
        self.settings.sampling.resolve(&self.recommended)
    }

    /// The conversation's id, if it is in the store.
    pub(super) fn conversation(&self) -> Option<&str> {
        let standing = self.store.as_ref().and_then(|store| store.standing(&self.conversation.id));
        (standing == Some(Standing::Stored)).then_some(self.conversation.id.0.as_str())
    }

    /// The answer so far.
    pub(super) fn answer(&self) -> &Answer {
        static NONE: Answer = Answer {
            reasoning: String::new(),
            text: String::new(),
            ending: Ending::Pending,
            trace: None,
            served: None,
        };
        self.conversation.turn(self.turn).map_or(&NONE, |turn| &turn.answer)
    }

    /// Adds a piece of the answer, and saves it if that is due.
    pub(super) fn token(&mut self, channel: Channel, text: &str) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            turn.answer.push(channel, text);
        }
        self.unsaved = true;
        self.save_if_due();
    }

    /// Adds what the answer was computed from; it is saved with the ending.
    pub(super) fn traced(&mut self, trace: Arc<Trace>) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            turn.answer.trace = Some(trace);
        }
    }

    /// Adds where the answer comes from; it is saved with the next piece.
    pub(super) fn served(&mut self, served: Served) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            turn.model.clone_from(&served.model);
            turn.answer.served = Some(served);
        }
    }

    /// The time until [`Self::save_if_due`] saves; `None`: everything is saved.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.unsaved.then(|| SAVE_EVERY.saturating_sub(self.saved.elapsed()))
    }

    /// Saves the answer so far if that is due, even if no further token arrives.
    pub(super) fn save_if_due(&mut self) {
        if self.due_in() == Some(Duration::ZERO) {
            self.save();
        }
    }

    /// Saves the answer so far if any of it is not saved: the caller may be blocked for long.
    pub(super) fn save_now(&mut self) {
        if self.unsaved {
            self.save();
        }
    }

    /// Prints the store's notices and errors since the last call.
    pub(super) fn tell(&mut self, messages: &Messages) {
        for told in self.told.try_iter() {
            match told {
                Told::Notice(notice) => messages.warn(&notice),
                Told::Refused => self.refused = true,
                Told::Delayed(why, path) => messages.warn(&delayed(&why, &path)),
                Told::CaughtUp => {}
                Told::Continued(_) => messages.warn(CONTINUED),
            }
        }
        if let Some(error) = self.errors.1.try_iter().last() {
            let what = if self.refused { "this conversation will not be kept" } else { "this turn could not be kept" };
            messages.warn(&format!("{what}. {error}"));
        }
    }

    /// Saves the ending, and waits until it is on disk.
    pub(super) fn end(&mut self, ending: Ending, messages: &Messages) {
        if let Some(turn) = self.conversation.turn_mut(self.turn) {
            turn.answer.ending = ending;
        }
        self.commit(messages);
    }

    /// Notes loads and releases for `usage`.
    pub(super) fn note(&self, event: &EngineEvent) {
        if let Some(store) = &self.store {
            self.loads.note(store, event);
        }
    }

    /// Stores that the answer belongs to the request with this hash.
    pub(super) fn set_request(&self, request: String) {
        let (Some(store), conversation, turn) = (&self.store, self.conversation.id.clone(), self.turn) else { return };
        // Without it, the answer is computed again the next time.
        store.run(move |store| drop(store.and_then(|store| store.set_request(&conversation, turn, &request))));
    }

    /// Saves, waits until the turn is on disk, and prints errors as warnings.
    pub(super) fn commit(&mut self, messages: &Messages) {
        let done = self.save();
        if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            messages.warn("the disk takes long to store this turn; the answer does not wait for it.");
        }
        self.tell(messages);
    }

    /// Queues the turn as it is; the receiver gets a message when it is on disk, or on an error.
    fn save(&mut self) -> Receiver<()> {
        (self.saved, self.unsaved) = (Instant::now(), false);
        let (sender, done) = channel();
        if let (Some(store), Some(turn)) = (&self.store, self.conversation.turn(self.turn)) {
            let record = TurnRecord {
                conversation: self.conversation.id.clone(),
                system: self.conversation.system.clone(),
                settings: self.conversation.settings.clone(),
                id: self.turn,
                turn: turn.clone(),
                sampling: Some(self.sampling()),
                asked_ms: None,
            };
            let errors = self.errors.0.clone();
            store.save(record, move |result| {
                if let Err(error) = result {
                    let _ = errors.send(error);
                }
                // The receiver of a partial answer's save is dropped.
                let _ = sender.send(());
            });
        }
        done
    }
}

impl Drop for AnswerRecorder {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            // The process ends now, and with it the model.
            self.loads.released(&store, None);
            store.close(PATIENCE);
        }
    }
}

/// The warning when turns are kept beside the database.
fn delayed(why: &StoreError, path: &std::path::Path) -> String {
    format!(
        "this turn is not stored yet. {why} The answer does not wait for it: the turn is kept in {} and stored as soon as \
         that is possible, at the latest when chatnap starts the next time.",
        path.display()
    )
}

/// The settings of this run and what the conversation remembers.
fn layers(resolved: &Resolved, conversation: &Conversation, messages: &Messages) -> Layers {
    let mut layers = Layers::new(resolved.clone());
    if let Err(why) = layers.open(conversation.settings.clone()) {
        messages.warn(&format!("this conversation goes on without its persona: {why}."));
    }
    layers
}

/// Loads the conversation to continue; waits for a locked store, with a warning.
fn resume_from(store: &StoreHandle, resume: &Resume, messages: &Messages) -> Result<Conversation, Failure> {
    let start = Instant::now();
    loop {
        let (sender, found) = channel();
        let wanted = resume.clone();
        store.run(move |store| {
            let load = |store: &mut Store| wanted.find(store).and_then(|id| store.load(&id));
            // The receiver is dropped after `RESUME_PATIENCE`.
            let _ = sender.send(store.and_then(load));
        });
        match found.recv_timeout(RESUME_PATIENCE.saturating_sub(start.elapsed())) {
            Ok(Err(StoreError::Busy)) if start.elapsed() < RESUME_PATIENCE => {
                messages
                    .warn("another program has locked the stored conversations; waiting for the one to go on with.");
                std::thread::sleep(RETRY);
            }
            Ok(found) => return Ok(found?),
            Err(_) => {
                return Err(Failure::failed("The stored conversations cannot be read: the disk does not answer."));
            }
        }
    }
}
