//! Chooses a front end and maps its result to an exit code.

use std::process::ExitCode;

use chatnap::cli::{self, Failure, Invocation, commands};
use chatnap::{oneshot, tui};

fn main() -> ExitCode {
    ExitCode::from(run().unwrap_or_else(|failure| failure.report()))
}

fn run() -> Result<u8, Failure> {
    let invocation = cli::from_process()?;
    let warnings = cli::warnings();
    match invocation {
        Invocation::Interactive { resolved, resume } => tui::run(resolved.settings, resume, warnings),
        Invocation::OneShot(resolved, one_shot) => {
            if !one_shot.quiet {
                cli::warn(&warnings);
            }
            oneshot::run(&resolved.settings, &one_shot)
        }
        Invocation::Command(resolved, command) => {
            cli::warn(&warnings);
            commands::run(&resolved, command).map(|()| 0)
        }
    }
}
