//! Errors of loading and running a model, and the [`ErrorKind`] of each.

use crate::protocol::{EngineError, ErrorKind};

/// An error of loading or running a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// `CancelFlag` was raised.
    #[error("stopped")]
    Cancelled,
    /// A file is damaged or contradicts its own header.
    #[error("{0}")]
    Invalid(String),
    /// A file ends before the data that its header declares.
    #[error("{0}")]
    Truncated(String),
    /// The file is valid but this program cannot run it (architecture, quantisation, option).
    #[error("{0}")]
    Unsupported(String),
    /// Host or device memory ran out. The model stays usable or can be loaded again.
    #[error("{0}")]
    OutOfMemory(String),
    /// All logits are NaN or infinite, so no token can be sampled.
    #[error("the model's logits are not finite (NaN or infinity): its file is damaged; fetch it again")]
    NotFinite,
    /// Reading a file or starting a thread failed.
    #[error("{0}")]
    Io(String),
    /// The device failed.
    #[error("{message}")]
    Device {
        /// The driver's error and the call that failed.
        message: String,
        /// Whether this process cannot use the device any more (a sticky CUDA error).
        sticky: bool,
    },
}

impl ModelError {
    /// The kind, from which the exit code and the retry behaviour follow.
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
