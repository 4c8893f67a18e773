//! Chooses a front end and maps its result to an exit code.

use std::process::ExitCode;

use chatnap::cli::{self, Failure, Invocation, commands};
use chatnap::engine::crash;
use chatnap::{oneshot, tui};

#[global_allocator]
static ALLOCATOR: crash::Allocator = crash::Allocator;

fn main() -> ExitCode {
    let (stdout, stderr) = Failure::out_of_memory().lines(cli::asks_for_json(&std::env::args_os().collect::<Vec<_>>()));
    crash::say_out_of_memory(stdout.into_bytes(), stderr.into_bytes());
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
