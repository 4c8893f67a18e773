//! Why a model could not be loaded or run, and what that means for the user.

use crate::protocol::{EngineError, ErrorKind};

/// Why a model could not be loaded or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// `CancelFlag` was raised.
    #[error("stopped")]
    Cancelled,
    /// A file is damaged, truncated, or not what it says it is.
    #[error("{0}")]
    Invalid(String),
    /// A file ends before what it says that it holds.
    #[error("{0}")]
    Truncated(String),
    /// The file is sound but this program cannot run it (architecture, quantisation, option).
    #[error("{0}")]
    Unsupported(String),
    /// Host or device memory ran out. The model stays usable or can be loaded again.
    #[error("{0}")]
    OutOfMemory(String),
    /// The model's own numbers are no numbers any more.
    #[error(
        "the model's numbers are not finite (NaN or infinity), so it says nothing: its file is damaged; fetch it again"
    )]
    NotFinite,
    /// Reading failed.
    #[error("{0}")]
    Io(String),
    /// The device failed; `sticky` where this process cannot use it any more.
    #[error("{message}")]
    Device {
        /// What happened.
        message: String,
        /// Whether it is lost for this process.
        sticky: bool,
    },
}

impl ModelError {
    /// The exit code and the retry behaviour that belong to this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled => ErrorKind::Cancelled,
            Self::OutOfMemory(_) => ErrorKind::OutOfMemory,
            Self::Device { sticky: true, .. } => ErrorKind::Fatal,
            _ => ErrorKind::Failed,
        }
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
