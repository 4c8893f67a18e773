//! How a run ends badly: the exit code and what the user is told.

use std::io::Write;

use serde_json::json;

use crate::protocol::{EngineError, ErrorKind};
use crate::sanitize::{self, sanitize};

/// Exit codes, as scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Answered; also help, and a reader that went away.
    Ok = 0,
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command line, a setting or the input was wrong.
    Usage = 2,
    /// The model was not found or could not be fetched.
    ModelNotFound = 3,
    /// Host or device memory ran out.
    OutOfMemory = 4,
    /// The prompt does not fit the context.
    ContextOverflow = 5,
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted = 130,
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Failed | ErrorKind::Fatal => Self::Failed,
            ErrorKind::ModelNotFound => Self::ModelNotFound,
            ErrorKind::OutOfMemory => Self::OutOfMemory,
            ErrorKind::ContextOverflow => Self::ContextOverflow,
            ErrorKind::Cancelled => Self::Interrupted,
        }
    }
}

/// Why a run ended without what was asked for. Help is one too, with code 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What to tell the user; may quote foreign text.
    pub message: String,
    /// Tell it on stdout as JSON too.
    json: bool,
}

impl Failure {
    /// A failure with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), json: false }
    }

    /// The command line, a setting or the input was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Anything else went wrong.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// Text that was asked for and ends the run at once.
    pub(crate) fn help(text: impl Into<String>) -> Self {
        Self::new(Code::Ok, text)
    }

    /// The same, told on stdout as JSON too where `json` holds.
    pub fn with_json(self, json: bool) -> Self {
        Self { json: json || self.json, ..self }
    }

    /// The end of a process that cannot allocate memory.
    pub fn out_of_memory() -> Self {
        let message = "There is not enough memory: the system refused to give this process more. What was stored is \
                       kept. Use a smaller model or a smaller --context-length, or raise the limit (ulimit -v).";
        Self::new(Code::OutOfMemory, message)
    }

    /// What is written to stdout and to stderr, with JSON on stdout where `json` holds.
    pub fn lines(&self, json: bool) -> (String, String) {
        let object = json!({"error": {"code": self.code as u8, "message": self.message}});
        let stdout = if json { sanitize::json(&object) + "\n" } else { String::new() };
        (stdout, format!("chatnap: {}\n", sanitize(&self.message)))
    }

    /// Tells the user, on the stream where it belongs, and gives the exit code.
    pub fn report(&self) -> u8 {
        if self.code == Code::Ok {
            // If stdout is gone, nothing can be reported there.
            let _ = write_stdout(&self.message);
            return 0;
        }
        let (stdout, stderr) = self.lines(self.json);
        if !stdout.is_empty() {
            let _ = write_stdout(&stdout);
        }
        let _ = write!(std::io::stderr(), "{stderr}");
        self.code as u8
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(error.kind.into(), error.message)
    }
}

fn write_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
