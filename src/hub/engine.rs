//! The options of an engine for the model of the settings.

use super::HubSource;
use crate::engine::EngineOptions;
use crate::engine::chat_template::{Chosen, TemplateError};
use crate::protocol::IdleWindow;
use crate::settings::Settings;

/// The chat template of the settings, which replaces the model's own. The error is a sentence for the user.
pub fn chosen_template(settings: &Settings) -> Result<Option<Chosen>, TemplateError> {
    Chosen::of(settings.chat_template.as_deref())
}

impl HubSource {
    /// The options of an engine that loads from this source, as the settings say, and releases after `idle_window`.
    pub fn engine_options(self, settings: &Settings, idle_window: IdleWindow) -> Result<EngineOptions, TemplateError> {
        Ok(EngineOptions {
            source: Box::new(self),
            idle_window,
            context_length: settings.context_length,
            device: settings.device,
            gpu_memory_utilization: settings.gpu_memory_utilization,
            threads: settings.threads,
            chat_template: chosen_template(settings)?,
        })
    }
}
