//! How a run fails: the exit code and the message to the user.

use std::io::Write;

use serde_json::json;

use crate::protocol::{EngineError, ErrorKind};
use crate::sanitize::{self, sanitize};

/// Exit codes, as scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Answered; also help, and a closed stdout.
    Ok = 0,
    /// Any failure without its own code.
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

/// Why a run ended without the requested result. Help and version are failures too, with code 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// The message to the user; may quote foreign text.
    pub message: String,
    /// Print it on stdout as JSON too.
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

    /// A failure with exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// A requested text, such as help, that ends the run at once.
    pub(crate) fn help(text: impl Into<String>) -> Self {
        Self::new(Code::Ok, text)
    }

    /// The same failure, printed on stdout as JSON too if `json` is true.
    pub fn with_json(self, json: bool) -> Self {
        Self { json: json || self.json, ..self }
    }

    /// The failure of a process that cannot allocate memory.
    pub fn out_of_memory() -> Self {
        let message = "There is not enough memory: the system refused to give this process more. What was stored is \
                       kept. Use a smaller model or a smaller --context-length, or raise the limit (ulimit -v).";
        Self::new(Code::OutOfMemory, message)
    }

    /// The texts for stdout (JSON if `json` is true, else empty) and for stderr.
    pub fn lines(&self, json: bool) -> (String, String) {
        let object = json!({"error": {"code": self.code as u8, "message": self.message}});
        let stdout = if json { sanitize::json(&object) + "\n" } else { String::new() };
        (stdout, format!("chatnap: {}\n", sanitize(&self.message)))
    }

    /// Prints the message, help on stdout and errors on stderr, and returns the exit code.
    pub fn report(&self) -> u8 {
        if self.code == Code::Ok {
            // If stdout is closed, nothing can be reported there.
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
