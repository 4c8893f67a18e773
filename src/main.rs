//! Chooses a front end and maps its result to an exit code.

use std::process::ExitCode;

use chatnap::cli::{self, Failure, Invocation, commands};

fn main() -> ExitCode {
    ExitCode::from(run().unwrap_or_else(|failure| failure.report()))
}

fn run() -> Result<u8, Failure> {
    match cli::from_process()? {
        Invocation::Interactive { .. } => Err(Failure::usage("The terminal interface is not built yet.")),
        Invocation::OneShot(..) => Err(Failure::usage("One-shot answers are not built yet.")),
        Invocation::Command(resolved, command) => commands::run(&resolved, command).map(|()| 0),
    }
}
