//! Where a model comes from: its files, who finds them, and the flag that stops long work. Knows no handle and no device.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::{EngineError, LoadProgress};

/// A flag that stops long work from another thread; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the work to stop. There is no way back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The files of one model, found and complete on this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelFiles {
    /// GGUF; more than one path where the model is split, in order.
    Gguf(Vec<PathBuf>),
    /// A folder with `config.json`, safetensors and a tokenizer.
    Safetensors(PathBuf),
    /// A script that plays a model; for tests.
    Scripted(PathBuf),
}

/// Where an engine gets its model from. Implemented by the shell (`hub`), so that the engine knows no network.
pub trait ModelSource: Send {
    /// The name that the user knows the model by.
    fn name(&self) -> String;

    /// Finds the files, fetching them if need be; blocks. Reports `Download` and `Verify` progress and stops soon
    /// after `cancel` is raised, with an error of kind `Cancelled`.
    fn locate(
        &mut self,
        progress: &mut dyn FnMut(LoadProgress),
        cancel: &CancelFlag,
    ) -> Result<ModelFiles, EngineError>;

    /// What the user should know about the files that `locate` found last.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the user types to fetch files anew that turned out to be damaged; `None` where nobody fetched them.
    fn fetch_again(&self) -> Option<String> {
        None
    }

    /// Smaller forms of the same model, the largest first, for the advice where it does not fit a card.
    fn smaller(&self) -> Vec<Alternative> {
        Vec::new()
    }
}

/// A model that could be loaded instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The name that `-m` takes.
    pub name: String,
    /// Bytes of its weights.
    pub bytes: u64,
}
