//! Chooses a front end and maps its result to an exit code.

use std::process::ExitCode;

use chatnap::cli::{self, Failure, Invocation, commands};
use chatnap::{oneshot, tui};

fn main() -> ExitCode {
    ExitCode::from(run().unwrap_or_else(|failure| failure.report()))
}

fn run() -> Result<u8, Failure> {
    match cli::from_process()? {
        Invocation::Interactive { resolved, resume } => tui::run(resolved.settings, resume),
        Invocation::OneShot(resolved, one_shot) => oneshot::run(&resolved.settings, &one_shot),
        Invocation::Command(resolved, command) => commands::run(&resolved, command).map(|()| 0),
    }
}
