//! Where the model's files are, what is fetched, and the change to another model. Nothing is fetched before the user
//! agrees, and the working model stays until the new one is on disk, fits and is loaded.

use crate::conversation::Ending;
use crate::protocol::*;
use crate::wording::short_name;

use super::{Activity, Chat, Effect, EngineState, Hint, Loading, NoteKind, Stage};

/// The argument of `/model` that stops a download or a change of model.
const CANCEL: &str = "cancel";

/// The result of a look for a model's files.
#[derive(Clone, Debug, PartialEq)]
pub enum Located {
    /// They are on disk, and the model fits as far as can be known.
    Here,
    /// The name `auto` stands for the model of this name, whose files are to be looked for.
    Automatic(String),
    /// They must be downloaded.
    Missing(Offer),
    /// The model cannot be used; the reason is a message for the user.
    Refused(String),
}

/// What this machine has for models and which one to take. Said on the start screen if only the starter is in sight.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Devices and memory. Not sanitised.
    pub machine: String,
    /// The models on disk; empty if there are none.
    pub on_disk: String,
    /// The model that fits this machine best, if it must be fetched.
    pub recommended: Option<RecommendedModel>,
}

/// A model of the catalogue that can be fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct RecommendedModel {
    /// Its name.
    pub model: String,
    /// Its licence.
    pub licence: String,
    /// What would be fetched.
    pub offer: Offer,
}

/// Where the files of the current model are.
#[derive(Clone, Debug, PartialEq)]
pub enum Files {
    /// Not known yet; `wanted`: the model is to be loaded as soon as they are found.
    Checking {
        /// The user has typed.
        wanted: bool,
    },
    /// On disk, or about to fail with the load's own error.
    Here,
    /// Not on disk: the user is offered the download.
    Missing(Offer),
}

/// A change to another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// The model's name as the user gave it.
    pub model: String,
    /// Its progress.
    pub stage: SwitchStage,
}

/// Progress of a change to another model.
#[derive(Clone, Debug, PartialEq)]
pub enum SwitchStage {
    /// The files are being looked for.
    Checking,
    /// They are not on disk: the user is offered the download.
    Offered(Offer),
    /// They are being downloaded.
    Fetching,
    /// They are here: the change follows the answer in progress.
    Ready,
}

/// A download.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// The model's name.
    pub model: String,
    /// Its progress.
    pub loading: Loading,
}

/// The model before a change, until the new one is loaded.
#[derive(Clone, Debug, PartialEq)]
struct Previous {
    model: String,
    /// Whether it was in memory.
    loaded: bool,
}

/// The model's files, downloads, and the change in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Supply {
    /// The current model's files.
    pub files: Files,
    /// The change to another model.
    pub change: Option<Switch>,
    /// The download in progress.
    pub fetch: Option<Fetch>,
    /// What the start screen says about models.
    pub advice: Option<Advice>,
    /// The model that is fetched after the current one.
    then: Option<String>,
    previous: Option<Previous>,
    /// The previous model is being taken back; whether to load it.
    pub(super) returning: Option<bool>,
}

impl Default for Supply {
    fn default() -> Self {
        Self {
            files: Files::Here,
            change: None,
            fetch: None,
            advice: None,
            then: None,
            previous: None,
            returning: None,
        }
    }
}

impl Supply {
    /// Whether the engine may load the current model: its files are on disk.
    pub(super) fn may_load(&mut self) -> bool {
        if let Files::Checking { wanted } = &mut self.files {
            *wanted = true;
        }
        self.files == Files::Here
    }

    /// Whether the current model's files are being downloaded.
    pub fn fetches(&self, model: &str) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| fetch.model == model)
    }
}

impl Chat {
    /// The offer that Enter in an empty composer accepts, and its model's name.
    pub fn offer(&self) -> Option<(&str, &Offer)> {
        match (&self.supply.change, &self.supply.files) {
            (Some(Switch { model, stage: SwitchStage::Offered(offer) }), _) => Some((model, offer)),
            (None, Files::Missing(offer)) if !self.supply.fetches(&self.options.model) => {
                Some((&self.options.model, offer))
            }
            (None, Files::Here) => self.recommended().map(|found| (found.model.as_str(), &found.offer)),
            _ => None,
        }
    }

    /// The model that the start screen recommends. Enter fetches it, after the current model if that is missing, too.
    pub fn recommended(&self) -> Option<&RecommendedModel> {
        let supply = &self.supply;
        let idle = supply.change.is_none() && supply.fetch.is_none() && self.feed.entries().is_empty();
        supply.advice.as_ref().filter(|_| idle).and_then(|advice| advice.recommended.as_ref())
    }

    /// The models of this machine were looked at.
    pub(super) fn advised(&mut self, advice: Advice) {
        self.supply.advice = Some(advice);
    }

    /// The files of the current model are being looked for.
    pub(super) fn checking(&mut self) {
        self.supply.files = Files::Checking { wanted: false };
    }

    /// Enter in an empty composer: accepts the offer.
    pub(super) fn accept_offer(&mut self) -> Vec<Effect> {
        let Some((model, _)) = self.offer() else { return Vec::new() };
        let model = model.to_owned();
        let recommended = self.recommended().map(|found| found.model.clone());
        if recommended.is_some()
            && let Some(advice) = &mut self.supply.advice
        {
            advice.recommended = None;
        }
        match recommended {
            Some(recommended) if recommended == model => return self.fetch_and_change(model),
            recommended => self.supply.then = recommended,
        }
        if let Some(change) = &mut self.supply.change {
            change.stage = SwitchStage::Fetching;
        }
        self.start_fetch(model)
    }

    /// Fetches a model, to change to it then.
    fn fetch_and_change(&mut self, model: String) -> Vec<Effect> {
        self.supply.change = Some(Switch { model: model.clone(), stage: SwitchStage::Fetching });
        self.start_fetch(model)
    }

    fn start_fetch(&mut self, model: String) -> Vec<Effect> {
        self.supply.fetch = Some(Fetch { model: model.clone(), loading: Loading::default() });
        vec![Effect::Fetch(model)]
    }

    /// `/model NAME`: looks for the model; the current one goes on until the other is ready.
    pub(super) fn change_model(&mut self, model: String) -> Vec<Effect> {
        if model == CANCEL {
            return self.give_up_change().unwrap_or_else(|| {
                self.show_hint(Hint::Message("nothing is being fetched".into()));
                Vec::new()
            });
        }
        self.forget_comparison();
        let mut effects = self.stop_fetch();
        self.supply.change = Some(Switch { model: model.clone(), stage: SwitchStage::Checking });
        effects.push(Effect::Locate(model));
        effects
    }

    pub(super) fn located(&mut self, model: &str, found: Located) -> Vec<Effect> {
        match &mut self.supply.change {
            Some(change) if change.model == model && change.stage == SwitchStage::Checking => match found {
                Located::Automatic(name) if name == self.options.model => {
                    self.supply.change = None;
                    self.forget_comparison();
                    self.show_hint(Hint::Message(format!("{} is in use already", short_name(&name))));
                    Vec::new()
                }
                Located::Automatic(name) => {
                    change.model.clone_from(&name);
                    vec![Effect::Locate(name)]
                }
                Located::Here => {
                    change.stage = SwitchStage::Ready;
                    self.change_if_ready()
                }
                Located::Missing(offer) => {
                    change.stage = SwitchStage::Offered(offer);
                    Vec::new()
                }
                Located::Refused(why) => self.keep_model(&why),
            },
            _ if model == self.options.model => self.located_own(found),
            _ => Vec::new(),
        }
    }

    fn located_own(&mut self, found: Located) -> Vec<Effect> {
        let wanted = self.supply.files == Files::Checking { wanted: true };
        self.supply.files = match found {
            Located::Automatic(name) => {
                self.options.model.clone_from(&name);
                self.engine.switched(name.clone());
                return vec![Effect::UseModel(name)];
            }
            Located::Missing(offer) => Files::Missing(offer),
            // The load reports why the model cannot be used.
            Located::Here | Located::Refused(_) => Files::Here,
        };
        if self.supply.files != Files::Here {
            return Vec::new();
        }
        if self.is_waiting_for_files() {
            return self.generate_waiting();
        }
        if wanted { self.typed() } else { Vec::new() }
    }

    /// Whether a prompt waits for the model's files.
    pub(super) fn is_waiting_for_files(&self) -> bool {
        matches!(&self.activity, Activity::Busy(answering) if answering.stage == Stage::Files)
    }

    /// Changes the model if the other one is ready and no answer is in progress.
    pub(super) fn change_if_ready(&mut self) -> Vec<Effect> {
        let busy = self.activity.is_busy() && !self.is_waiting_for_files();
        match self.supply.change.take_if(|change| change.stage == SwitchStage::Ready && !busy) {
            Some(change) => vec![Effect::SwitchModel(change.model)],
            None => Vec::new(),
        }
    }

    /// Ends the change without effect.
    pub(super) fn keep_model(&mut self, why: &str) -> Vec<Effect> {
        (self.supply.change, self.supply.returning) = (None, None);
        self.forget_comparison();
        self.note(NoteKind::Error, format!("The model stays {}. {why}", short_name(&self.options.model)));
        if self.is_occupied() { Vec::new() } else { self.next_in_queue() }
    }

    pub(super) fn fetch_progress(&mut self, model: &str, progress: LoadProgress) {
        if let Some(fetch) = self.supply.fetch.as_mut().filter(|fetch| fetch.model == model) {
            fetch.loading.progress(progress, self.now);
        }
    }

    pub(super) fn fetched(&mut self, model: &str, result: Result<(), EngineError>) -> Vec<Effect> {
        if !self.supply.fetches(model) {
            return Vec::new();
        }
        self.supply.fetch = None;
        let changes = self.supply.change.as_ref().is_some_and(|change| change.model == model);
        match (result, changes) {
            (Ok(()), true) => {
                self.supply.change = Some(Switch { model: model.to_owned(), stage: SwitchStage::Checking });
                vec![Effect::Locate(model.to_owned())]
            }
            (Ok(()), false) => {
                self.supply.files = Files::Checking { wanted: true };
                let mut effects = vec![Effect::Locate(model.to_owned())];
                effects.extend(self.supply.then.take().map(|next| self.fetch_and_change(next)).unwrap_or_default());
                effects
            }
            (Err(error), true) => self.keep_model(&error.message),
            (Err(error), false) if self.is_waiting_for_files() => {
                self.end_answer(Ending::Failed { message: error.message })
            }
            (Err(error), false) => {
                self.note(NoteKind::Error, error.message);
                Vec::new()
            }
        }
    }

    /// Whether an offer for another model is open, which Esc closes first.
    pub fn is_offering_change(&self) -> bool {
        matches!(&self.supply.change, Some(Switch { stage: SwitchStage::Offered(_), .. }))
    }

    /// Esc: gives up the change to another model, or the download. `None`: there is neither.
    pub(super) fn give_up_change(&mut self) -> Option<Vec<Effect>> {
        let (change, fetches) = (self.supply.change.take(), self.supply.fetch.is_some());
        if change.is_some() {
            self.forget_comparison();
        }
        let model = short_name(&self.options.model);
        let told = match (change, fetches) {
            (None, false) => return None,
            (Some(_), false) => format!("the model stays {model}"),
            (Some(_), true) => format!("the model stays {model}; the part that was fetched is kept"),
            (None, true) => "stopped; the part that was fetched is kept, and Enter goes on".into(),
        };
        self.show_hint(Hint::Message(told));
        Some(self.stop_fetch())
    }

    /// Stops the download, if there is one.
    pub(super) fn stop_fetch(&mut self) -> Vec<Effect> {
        self.supply.then = None;
        self.supply.fetch.take().map(|_| Effect::StopFetch).into_iter().collect()
    }

    pub(super) fn switched(&mut self, model: String) -> Vec<Effect> {
        let loaded = self.engine.is_loaded();
        let failed = self.engine.state == EngineState::Failed;
        let compares = self.is_changing_to_compare() && self.supply.returning.is_none();
        let old = std::mem::replace(&mut self.options.model, model.clone());
        self.engine.switched(model.clone());
        self.recount_files(true);
        self.supply.files = Files::Here;
        let load = match self.supply.returning.take() {
            Some(load) => load,
            None => {
                self.supply.previous = (old != model && !failed).then_some(Previous { model: old, loaded });
                if !compares {
                    self.note(NoteKind::Info, format!("The next prompt is answered by {}.", short_name(&model)));
                }
                loaded
            }
        };
        if compares && !self.is_occupied() {
            return self.ask_other();
        }
        if self.is_waiting_for_files() {
            return self.generate_waiting();
        }
        let mut effects = if load && self.engine.wants_loading() { vec![Effect::Load] } else { Vec::new() };
        if !self.is_occupied() {
            effects.extend(self.next_in_queue());
        }
        effects
    }

    /// The model was loaded: a failure from now on does not bring back the one before.
    pub(super) fn settle_change(&mut self) {
        self.supply.previous = None;
    }

    /// A load failed. After a change of model the one before is taken back; files that are gone are offered again.
    pub(super) fn after_failed_load(&mut self, error: &EngineError) -> Vec<Effect> {
        if error.kind == ErrorKind::Cancelled {
            return Vec::new();
        }
        if let Some(Previous { model, loaded }) = self.supply.previous.take() {
            // The model before is taken back already.
            self.comparing = None;
            let new = short_name(&self.engine.model);
            self.feed.forget_error(&error.message);
            let again = if loaded { " and is loaded again" } else { "" };
            // A waiting request shows the reason under its turn.
            let why = if self.activity.is_busy() { String::new() } else { format!(" {}", error.message) };
            let old = short_name(&model);
            self.note(NoteKind::Error, format!("{new} could not be loaded, so the model stays {old}{again}.{why}"));
            self.supply.returning = Some(loaded);
            return vec![Effect::SwitchModel(model)];
        }
        if error.kind == ErrorKind::ModelNotFound {
            return vec![Effect::Locate(self.options.model.clone())];
        }
        Vec::new()
    }
}
