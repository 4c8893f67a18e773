//! The interface's calls to the engine: start, generate, switch the model.

use super::{App, Input};
use crate::chat::Event;
use crate::clock::Timestamp;
use crate::engine::chat_template::{Chosen, TemplateError};
use crate::engine::{Engine, EngineOptions};
use crate::hub::{self, HubSource, lasting_name};
use crate::protocol::{ChatMessage, CountRequest, EngineError, EngineEvent, ErrorKind, GenerationRequest, RequestId};
use crate::settings::Settings;
use crate::wording::without_user_info;

impl App {
    pub(super) fn with_engine(&self, f: impl FnOnce(&Engine)) {
        if let Some(engine) = &self.engine {
            f(engine);
        }
    }

    pub(super) fn generate(&mut self, request: GenerationRequest) {
        if let Some(engine) = &self.engine {
            return engine.generate(request);
        }
        let error =
            EngineError::new(ErrorKind::Failed, "There is no engine: see the error above. /model NAME tries again.");
        self.chat_event(Event::Engine(EngineEvent::Failed { id: request.id, error, at: Timestamp::now() }));
    }

    /// Has the engine count the tokens of a prompt.
    pub(super) fn count(&self, id: RequestId, messages: Vec<ChatMessage>) {
        let options = &self.chat.options;
        let request = CountRequest { id, messages, max_tokens: options.max_tokens, think: options.think };
        self.with_engine(|engine| engine.count(request));
    }

    pub(super) fn start_engine(&mut self) {
        let sender = self.answers.0.clone();
        let sink = move |event| {
            // The receiver is dropped only when the interface ends.
            let _ = sender.send(Input::Chat(Event::Engine(event)));
        };
        match engine_options(&self.settings).and_then(|options| Engine::start(options, sink)) {
            Ok(engine) => {
                engine.wake();
                self.engine = Some(engine);
            }
            Err(error) => {
                self.chat_event(Event::Engine(EngineEvent::LoadFailed { error }));
                // No other event may follow that triggers a redraw.
                self.dirty = true;
            }
        }
    }

    /// Uses the model that `auto` stands for. The conversation does not remember it as a choice.
    pub(super) fn use_automatic(&mut self, model: String) {
        self.settings.model.clone_from(&model);
        self.automatic = Some(model.clone());
        self.start_engine();
        self.locate(model);
    }

    pub(super) fn switch_model(&mut self, model: String) {
        let model = without_user_info(&model);
        let settings = Settings { model: model.clone(), ..self.settings.clone() };
        match engine_options(&settings) {
            Ok(options) => {
                self.settings = settings;
                match &self.engine {
                    Some(engine) => engine.switch(options),
                    None => self.start_engine(),
                }
                self.chat_event(Event::Switched { model: model.clone() });
                if model != self.layers.effective().model {
                    self.layers.remember_model(lasting_name(&model));
                    self.tell_tuned(false);
                }
            }
            Err(error) => self.chat_event(Event::NotSwitched(error.message)),
        }
    }
}

/// The model's source; an error if it is already known not to exist.
pub(super) fn model_source(settings: &Settings) -> Result<HubSource, EngineError> {
    let source = HubSource::new(settings)?;
    source.check().map(|()| source)
}

/// The chat template of the settings, which replaces the model's own.
pub(super) fn chosen_template(settings: &Settings) -> Result<Option<Chosen>, EngineError> {
    hub::chosen_template(settings).map_err(template_failure)
}

fn template_failure(error: TemplateError) -> EngineError {
    EngineError::new(ErrorKind::Failed, error.to_string())
}

pub(super) fn engine_options(settings: &Settings) -> Result<EngineOptions, EngineError> {
    // Downloads need the user's consent: they are `supply`'s.
    let source = model_source(settings)?.on_disk_only();
    source.engine_options(settings, settings.idle_window).map_err(template_failure)
}
