//! Model files, the trait that locates them, and the flag that cancels long work. Independent of handle and device.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::{EngineError, LoadProgress, SamplingChoice, Server};

/// A flag that stops long work from another thread; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>, Option<Arc<CancelFlag>>);

impl CancelFlag {
    /// Requests that the work stop. The flag cannot be reset.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// A flag for a part of the work, which can also be cancelled alone.
    pub fn child(&self) -> Self {
        Self(Arc::default(), Some(Arc::new(self.clone())))
    }

    /// Whether `cancel` was called on any clone, or on the flag that this is a child of.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) || self.1.as_ref().is_some_and(|parent| parent.is_cancelled())
    }
}

/// The files of one model, found and complete on this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFiles {
    /// GGUF; a split model has several paths, in order.
    Gguf(Vec<PathBuf>),
    /// A folder with `config.json`, safetensors and a tokenizer.
    Safetensors(PathBuf),
    /// A script of answers in place of a model; for tests.
    Scripted(PathBuf),
}

/// Locates the files of an engine's model. `hub` implements it, so that the engine does not depend on the network.
pub trait ModelSource: Send {
    /// The model's name in events and messages.
    fn name(&self) -> String;

    /// Finds the files and downloads them if they are missing; blocks. Reports `Download` and `Verify` progress. Stops
    /// soon after `cancel` is raised, with an error of kind `Cancelled`.
    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError>;

    /// The server that answers instead of files, and the model's id there (`None`: the server's own); `None`: files do.
    fn server(&self) -> Option<(Server, Option<String>)> {
        None
    }

    /// Warnings for the user about the files that `locate` found last.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The commands that download damaged files again; `None` if chatnap did not download them.
    fn fetch_again(&self) -> Option<String> {
        None
    }

    /// Sampling values that are recommended for the model apart from its files.
    fn recommended(&self) -> SamplingChoice {
        SamplingChoice::default()
    }

    /// Smaller quantisations of the same model, largest first; suggested if the model does not fit into GPU memory.
    fn smaller(&self) -> Vec<Alternative> {
        Vec::new()
    }
}

/// A model that could be loaded instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// A value for `-m`.
    pub name: String,
    /// Size of its weights in bytes.
    pub bytes: u64,
}
