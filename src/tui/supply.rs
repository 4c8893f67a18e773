//! Looks for model files and downloads them, on threads of their own: the interface does not wait for disk or network.

use std::thread::JoinHandle;

use super::engine::model_source;
use super::{App, Input};
use crate::chat::{Advice, Event, Located, Note, RecommendedModel};
use crate::engine::room;
use crate::engine::source::{CancelFlag, ModelSource};
use crate::hub::{HubSource, Place};
use crate::protocol::{EngineError, ErrorKind, Offer};
use crate::settings::{AUTO, Settings};
use crate::survey::{self, Machine};
use crate::wording::{bytes, plural, without_user_info};

/// The download in progress. Dropping it stops the download and waits for its thread.
#[derive(Debug, Default)]
pub(super) struct Fetcher(Option<(CancelFlag, JoinHandle<()>)>);

impl Fetcher {
    /// Stops the download, if there is one.
    pub(super) fn stop(&self) {
        if let Some((cancel, _)) = &self.0 {
            cancel.cancel();
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop();
        if let Some((_, thread)) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl App {
    /// Looks for the files of `model`; `Event::Located` follows.
    pub(super) fn locate(&self, model: String) {
        let settings = Settings { model: without_user_info(&model), ..self.settings.clone() };
        let (sender, name, is_change) = (self.sender.clone(), model.clone(), model != self.settings.model);
        let looking = std::thread::Builder::new().name("models".into()).spawn(move || {
            // The receiver is dropped only when the interface ends.
            let tell = |event| drop(sender.send(Input::Chat(event)));
            if settings.model != AUTO {
                return tell(Event::Located { model: name, found: located(&settings, is_change) });
            }
            let automatic = survey::automatic(&settings);
            tell(Event::Located { model: name, found: Located::Automatic(automatic.model) });
            if automatic.is_starter && !is_change {
                tell(Event::Advised(Box::new(advice(&settings))));
            }
        });
        if let Err(error) = looking {
            let found = Located::Refused(format!("The system cannot start a thread: {error}."));
            let _ = self.sender.send(Input::Chat(Event::Located { model, found }));
        }
    }

    /// Downloads the files of `model`; `Event::Fetched` follows.
    pub(super) fn fetch(&mut self, model: String) {
        self.fetcher.stop();
        let settings = Settings { model: without_user_info(&model), ..self.settings.clone() };
        let (sender, name, cancel) = (self.sender.clone(), model.clone(), CancelFlag::default());
        let flag = cancel.clone();
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let tell = |event| {
                let _ = sender.send(Input::Chat(event));
            };
            let result = HubSource::new(&settings).and_then(|mut source| {
                let mut progress = |progress| tell(Event::FetchProgress { model: name.clone(), progress });
                source.locate(&mut progress, &flag)?;
                Ok(source.warnings())
            });
            let result = result.map(|warnings| {
                warnings.into_iter().for_each(|warning| tell(Event::Noted(Note::warning(warning))));
            });
            // The chat knows of a stop already, and a new download of the same model may have begun.
            if !flag.is_cancelled() {
                tell(Event::Fetched { model: name, result });
            }
        });
        match thread {
            Ok(thread) => self.fetcher.0 = Some((cancel, thread)),
            Err(error) => {
                let message = format!("The system cannot start a thread: {error}.");
                let result = Err(EngineError::new(ErrorKind::Failed, message));
                let _ = self.sender.send(Input::Chat(Event::Fetched { model, result }));
            }
        }
    }
}

/// What the start screen says about this machine if only the starter is in sight.
fn advice(settings: &Settings) -> Advice {
    let machine = Machine::look(settings);
    let rows = survey::rows(settings);
    let count = |program: Option<&str>| rows.iter().filter(|row| row.here && row.program == program).count();
    let counts =
        [("", count(None)), (" of ollama", count(Some("ollama"))), (" of LM Studio", count(Some("LM Studio")))];
    let on_disk: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(of, count)| format!("{count} {}{of}", plural(*count, "model")))
        .collect();
    Advice {
        machine: machine.describe(),
        on_disk: on_disk.join(", "),
        recommended: recommended(settings, machine.rooms),
    }
}

/// The recommended model, if it must and may be fetched.
fn recommended(settings: &Settings, rooms: survey::Rooms) -> Option<RecommendedModel> {
    let model = survey::recommended(rooms)?.model.clone();
    let source = HubSource::new(&Settings { model: model.clone(), ..settings.clone() }).ok()?;
    let licence = source.licence()?.to_owned();
    match source.place() {
        Ok(Place::Elsewhere(offer)) => Some(RecommendedModel { model, licence, offer }),
        Ok(Place::Here { .. }) | Err(_) => None,
    }
}

/// Where the files are. A change to a model that is too large is refused; for the model of the start it is a warning.
fn located(settings: &Settings, is_change: bool) -> Located {
    let source = match model_source(settings) {
        Ok(source) => source,
        Err(error) => return Located::Refused(error.message),
    };
    let (size, offer) = match source.place() {
        Err(error) => return Located::Refused(error.message),
        Ok(Place::Here { bytes }) => (Some(bytes), None),
        Ok(Place::Elsewhere(offer)) => (offer.size.map(|(size, _)| size), Some(offer)),
    };
    let room = room::room(settings.device, settings.gpu_memory_utilization, source.is_cpu_only());
    let lack = size.zip(room).filter(|(size, room)| !room.holds(*size));
    let warning = lack.map(|(size, room)| format!("It takes {}, and {} can be used.", bytes(size), room.describe()));
    match (warning, offer) {
        (Some(warning), _) if is_change => {
            Located::Refused(format!("{} is too large for this machine. {warning}", source.name()))
        }
        (warning, Some(offer)) => Located::Missing(Offer { warning, ..offer }),
        (_, None) => Located::Here,
    }
}
